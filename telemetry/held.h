// held.h -- why memory is held: a table whose rows add up to what is resident.
//
// PLACE IN THE SYSTEM: report --> held --> stats. Nothing is counted here.
//
// WHAT IT DECIDES
//   One row for each reason, with what the memory waits for. Free objects in
//   spans wait for their neighbours; the classes with most of them have rows of
//   their own, which tells a program which of its sizes are worth a look.
//
// LOCKING: as stats.h.
#ifndef TCX_TELEMETRY_HELD_H_
#define TCX_TELEMETRY_HELD_H_

#include <stdint.h>

#include "base/compiler.h"
#include "telemetry/stats.h"

TCX_BEGIN_DECLS

#define TCX_HELD_CLASSES 5  // that have a row
#define TCX_HELD_ROWS_MAX (TCX_HELD_CLASSES + 11)

struct tcx_held_row {
  const char *name;
  const char *why;
  uint64_t bytes;
  unsigned size_class;  // 0: not of one class
  uint64_t objects;     // of a class: those that the spans wait for
  uint64_t spans;
};

// Returns the number of rows. The bytes add up to stats->resident_bytes, unless
// other threads allocate and free meanwhile.
unsigned tcx_held_read(const struct tcx_stats *stats,
                       struct tcx_held_row rows[TCX_HELD_ROWS_MAX]);

TCX_END_DECLS

#endif  // TCX_TELEMETRY_HELD_H_

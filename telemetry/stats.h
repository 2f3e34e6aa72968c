// stats.h -- what tcx holds and did, collected from where each figure lives.
//
// PLACE IN THE SYSTEM
//   libc, the public API --> stats --> all tiers. Nothing is counted here:
//   stats.c asks the tiers, stats_report.c writes what it was told.
//
// THE IDENTITY (docs/statistics.md)
//   mapped = resident + released
//   resident = allocated + thread_cache + cpu_cache + run_cache +
//              transfer + central_free + span_tail + page_free + metadata
//   mapped is counted by the system allocator, resident and released by the
//   page source, the terms by the tier that holds the bytes; metadata by the
//   arena and the pagemap. No one of them is made up of the others, so that an
//   error in any tier breaks a sum. Live objects alone cannot be counted as
//   they come and go, since the fast paths count nothing: `allocated` is what
//   the tiers have handed out, less what lies in the caches of threads.
//
// LOCKING: takes the locks of the tiers in turn, never two at a time, so the
//   figures of a busy process are of slightly different moments. Call it with
//   no lock held.
#ifndef TCX_TELEMETRY_STATS_H_
#define TCX_TELEMETRY_STATS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/page_source.h"
#include "base/atomic.h"
#include "base/compiler.h"
#include "middle/object_source.h"

TCX_BEGIN_DECLS

// One field per line of stats.def, in its order.
struct tcx_stats {
#define TCX_STAT(kind, unit, name, text) uint64_t name;
#include "telemetry/stats.def"
#undef TCX_STAT
};

enum { TCX_STATS_FIELDS = sizeof(struct tcx_stats) / sizeof(uint64_t) };

// The lines of stats.def, as text; the i-th describes the i-th field.
struct tcx_stats_field {
  const char *name;
  const char *kind;  // "gauge", "counter"
  const char *unit;
};
extern TCX_HIDDEN const struct tcx_stats_field
    tcx_stats_fields[TCX_STATS_FIELDS];

// Which tiers to read; all stay for ever.
struct tcx_reclaimer_stats;
struct tcx_stats_sources {
  struct tcx_object_source *objects;
  struct tcx_page_source *pages;  // of this build, not what is around it
  // Objects that libc takes straight from the page source, in whole pages.
  void (*large)(uint64_t *live_bytes, uint64_t *allocations);
  // The limits, and what goes back by itself. NULL: neither.
  void (*reclaimer)(struct tcx_reclaimer_stats *out);
  // The background thread: how many were made, and their rounds. NULL: none.
  void (*background)(uint64_t *made, uint64_t *rounds);
};

// Called once, at start, after the settings are loaded: `stats` and
// `stats_signal` take effect here.
void tcx_stats_start(const struct tcx_stats_sources *sources);

// All 0 before the start.
void tcx_stats_read(struct tcx_stats *out);

// What a size class holds, in objects. Run classes have no spans to cut, and
// pass the middle by.
struct tcx_stats_class {
  uint64_t live_objects;
  uint64_t cached_objects;  // in the caches of threads
  uint64_t transfer_objects;
  uint64_t central_objects;
  uint64_t central_free_bytes;  // of these, what was not given back
  uint64_t spans;
  uint64_t spans_total;
  uint64_t transfer_hits;
  uint64_t transfer_misses;
};
// False: the class was never used.
bool tcx_stats_read_class(unsigned size_class, struct tcx_stats_class *out);

// The report, in lines of "tcx: NAME VALUE" and tables. `write` gets whole
// lines, all of them at once if there is memory for the text.
void tcx_stats_write(void (*write)(const char *text, size_t bytes, void *arg),
                     void *arg);

// -- a report when a signal asks for one --------------------------------------
// The handler only sets a flag. The next slow path of malloc in any thread, at
// the latest when one has allocated another MiB, or the end of the process
// finds it and writes the report: so a signal that comes in anywhere, under any
// lock, does no harm.

extern TCX_HIDDEN int tcx_stats_requested;
void tcx_stats_serve(void);

// Called by slow paths, before they take any lock.
static inline void tcx_stats_poll(void) {
  if (TCX_UNLIKELY(tcx_atomic_load_relaxed(&tcx_stats_requested) != 0))
    tcx_stats_serve();
}

// Objects that the lower tiers have served so far: a program linked with tcx
// can see that it runs on it. 0 before the first allocation.
TCX_EXPORT size_t tcx_served_objects(void);

TCX_END_DECLS

#endif  // TCX_TELEMETRY_STATS_H_

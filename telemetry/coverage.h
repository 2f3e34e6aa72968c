// coverage.h -- how much of the heap the kernel has put on huge pages.
//
// PLACE IN THE SYSTEM
//   report --> coverage --> /proc/self/smaps, which alone can tell
//   The back end knows what it asked for; not what it got.
//
// WHAT IT DECIDES
//   A mapping counts, whole, if a part of it is the heap's: of its first page
//   or of one of its huge pages the page map knows a span or the page source's
//   note. The program's own memory on huge pages does not count.
//
// LOCKING: none of tcx's. The kernel walks the process's page tables for it,
//   with a lock that page faults need: milliseconds per GiB, so only for who
//   asked for a report.
#ifndef TCX_TELEMETRY_COVERAGE_H_
#define TCX_TELEMETRY_COVERAGE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

struct tcx_coverage {
  uint64_t resident_bytes;  // of the heap's mappings, as the kernel counts
  uint64_t huge_bytes;      // of these, on huge pages
  uint64_t mappings;        // of the heap, with memory behind them
};

// 0, or an errno value where the file cannot be read.
int tcx_coverage_read(struct tcx_coverage *out);

// -- the parser, for tests ----------------------------------------------------

// Of a line no more is looked at; longer ones are those with a file's name.
#define TCX_COVERAGE_LINE_BYTES 80

struct tcx_coverage_reader {
  bool (*is_heap)(uintptr_t start, uintptr_t end);
  struct tcx_coverage sum;
  uintptr_t start;  // the mapping whose lines these are; start == end: none
  uintptr_t end;
  uint64_t resident_bytes;
  uint64_t huge_bytes;
  size_t line_bytes;
  char line[TCX_COVERAGE_LINE_BYTES];
};

// The text of smaps in pieces of any length. Lines of no known form change
// nothing.
void tcx_coverage_begin(struct tcx_coverage_reader *self,
                        bool (*is_heap)(uintptr_t start, uintptr_t end));
void tcx_coverage_add(struct tcx_coverage_reader *self, const char *text,
                      size_t bytes);
void tcx_coverage_end(struct tcx_coverage_reader *self);

TCX_END_DECLS

#endif  // TCX_TELEMETRY_COVERAGE_H_

// stats.h -- what tcx holds, collected from where each figure lives.
//
// THE IDENTITY: mapped = resident + released, and
//   resident = allocated + thread_cache + run_cache + transfer + central_free +
//              span_tail + page_free + metadata.
//
// LOCKING: takes the locks of the tiers in turn, never two at a time, so the
//   figures of a busy process are of slightly different moments.
#ifndef TCX_TELEMETRY_STATS_H_
#define TCX_TELEMETRY_STATS_H_

#include <stddef.h>
#include <stdint.h>

#include "backend/page_source.h"
#include "base/compiler.h"
#include "frontend/frontend.h"
#include "middle/object_source.h"

TCX_BEGIN_DECLS

struct tcx_stats {
  uint64_t mapped_bytes;
  uint64_t resident_bytes;
  uint64_t released_bytes;   // free, given back or never touched
  uint64_t allocated_bytes;  // of live objects, rounded to their class
  uint64_t thread_cache_bytes;
  uint64_t run_cache_bytes;
  uint64_t transfer_bytes;
  uint64_t central_free_bytes;
  uint64_t span_tail_bytes;
  uint64_t page_free_bytes;
  uint64_t metadata_bytes;
  uint64_t spans;           // cut up for small objects, now
  uint64_t served_objects;  // taken out of the lower tiers, since start
  uint64_t transfer_hits;
  uint64_t transfer_misses;
  uint64_t lock_waits;
  struct tcx_frontend_stats frontend;
  struct tcx_page_source_stats pages;
};

// Which tiers to read. Called once, at start. Also reads TCX_STATS: "exit"
// makes a report at the end of the process, on standard error or, with
// TCX_STATS_FILE, appended to that file.
void tcx_stats_start(struct tcx_object_source *objects,
                     struct tcx_page_source *pages);

void tcx_stats_read(struct tcx_stats *out);

// The report: lines of "tcx: NAME VALUE". `write` is called once a line or so.
void tcx_stats_write(void (*write)(const char *text, size_t bytes, void *arg),
                     void *arg);

// Objects that the lower tiers have served so far: a program linked with tcx
// can see that it runs on it. 0 before the first allocation.
TCX_EXPORT size_t tcx_served_objects(void);

TCX_END_DECLS

#endif  // TCX_TELEMETRY_STATS_H_

// hpaa.h -- the hugepage-aware page source.
//
// PLACE IN THE SYSTEM
//   central free list, large objects --(spans)--> hpaa --> filler, regions,
//   huge cache, map of unbacked huge pages --> huge source --> system allocator
//
// WHAT IT DECIDES
//   Which part serves a request (P: pages of a huge page, 2 MiB):
//     up to P/2        filler, which grows by a huge page where it must;
//     whole huge pages, or aligned beyond one
//                      raw: huge pages of the cache (memory behind them) or of
//                      the map (none, known zero);
//     the others       a hole in the filler (below P); else a region that has
//                      room (up to 16 P, libc/large.c asks for whole ones
//                      beyond); else raw, and the end of the last huge page is
//                      donated to the filler. When so much beside such ends is
//                      unused, of live runs and of dead ones, that the small
//                      allocations do not fill it, a new region instead. For
//                      what is small keeps the end when the run goes, and the
//                      next run of that length must go elsewhere.
//   Where the parts get memory: the cache first, then the map, then the system.
//   Where free memory goes: a tracker that became empty and whole free huge
//   pages to the cache, to the map when nothing is behind them.
//   In which order memory goes back: free huge pages, idle ones of regions,
//   free pages of huge pages that are broken already; then, if the caller wants
//   that much, more huge pages are broken.
//
// INVARIANTS (tcx_page_source_ops.check)
//   I1. mapped == in use + free + released, summed over all parts; in use is
//       the sum of the spans.
//   I2. The huge page of a span's first page tells its kind: it has a tracker
//       (filler), its note is a region, or neither (raw). The last huge page of
//       a raw span has a tracker exactly when the span does not fill it.
//   I3. A huge page is noted in the pagemap from when a part of it was first
//       handed out: as ours, as broken (and in no tracker), or its region.
//
// LOCKING: `lock` (rank PAGE_SOURCE) covers all; `release_lock` (rank RELEASE,
//   outer) makes giving back, breaking and mending one thread's work at a time.
//   madvise is called with no lock but that one: what is worked on is marked
//   in its part meanwhile. Growing calls the system under `lock`, as then all
//   threads wait for the same memory.
#ifndef TCX_BACKEND_HPAA_HPAA_H_
#define TCX_BACKEND_HPAA_HPAA_H_

#include "backend/head_stock.h"
#include "backend/hpaa/filler.h"
#include "backend/hpaa/huge_cache.h"
#include "backend/hpaa/huge_map.h"
#include "backend/hpaa/huge_nodes.h"
#include "backend/hpaa/huge_policy.h"
#include "backend/hpaa/huge_source.h"
#include "backend/hpaa/region_set.h"
#include "backend/page_source.h"
#include "base/fork.h"
#include "base/lock.h"

TCX_BEGIN_DECLS

// Unused ends of raw runs, from which on regions are made: a thirty-second of a
// region.
#define TCX_HPAA_SLACK_BYTES ((uint64_t)4 << 20)
// The longest run that a region takes.
#define TCX_HPAA_REGION_RUN_PAGES (16 * (size_t)TCX_HUGE_PAGES)
// The most that goes back in one step of a caller that has other work.
#define TCX_HPAA_RELEASE_STEP_BYTES ((size_t)32 << 20)

// What failed is tried again after this, twice as long each time.
#define TCX_HPAA_RETRY_MIN_MS 2000
#define TCX_HPAA_RETRY_MAX_MS 128000
#define TCX_HPAA_MEND_AGAIN_MS 10000
// Those of which parts are used are mended so long after memory was wanted of
// them; twice as long where it was wanted again soon after.
#define TCX_HPAA_MEND_USED_MIN_MS 60000
#define TCX_HPAA_MEND_USED_MAX_MS 600000

#define TCX_HPAA_FRESH_RUNS 8
#define TCX_HPAA_MENDS 64

struct tcx_hpaa_runs {
  unsigned count;
  struct tcx_huge_run runs[TCX_HPAA_FRESH_RUNS];
};

struct tcx_hpaa {
  struct tcx_page_source source;  // first
  struct tcx_lock lock;
  struct tcx_lock release_lock;
  struct tcx_fork_hooks release_hooks;
  struct tcx_huge_nodes nodes;
  struct tcx_huge_map unbacked;  // free huge pages without memory, known zero
  struct tcx_huge_cache cache;   // free huge pages with memory
  struct tcx_huge_source fresh;
  struct tcx_region_set regions;
  struct tcx_huge_policy policy;
  struct tcx_head_stock heads;
  struct tcx_tracker *trackers;  // spare, linked by next
  uint64_t in_use_pages;
  uint64_t raw_huge;  // whole huge pages of raw spans
  uint64_t spans_allocated;
  uint64_t spans_deallocated;
  uint32_t trackers_count;
  uint32_t mends_count;         // broken, free; to mend
  bool mends_lost;              // there may be more, from mends_from on
  bool wants_huge;              // the heap is worth huge pages
  bool has_failed;              // something is set aside, until retry_ms
  struct tcx_hpaa_runs young;   // came before it was
  struct tcx_hpaa_runs advise;  // the kernel is to be told of, without lock
  uint32_t advising;            // threads that do
  uint64_t retry_ms;            // the last one, where nothing is
  uint64_t retry_wait_ms;
  uint64_t mend_again_ms;  // not before, after the kernel refused
  uint64_t mends_from;     // huge page number
  bool is_tight;           // memory may not grow, as maintain was last told
  uint64_t mend_used_ms;   // no used ones before
  uint64_t mend_used_wait_ms;
  uint32_t mends[TCX_HPAA_MENDS];
  struct tcx_filler filler;  // large, so last
};

// Prepares `self`, static and zeroed, once; returns its page source. Registers
// fork hooks for release_lock, those of the table are the caller's.
struct tcx_page_source *tcx_hpaa_init(struct tcx_hpaa *self);

// Gives back what demand has not needed for its time, about `bytes_max` at
// most; mends a few broken huge pages, with `may_grow` also those with holes.
// Returns how many bytes went back.
size_t tcx_hpaa_maintain(struct tcx_hpaa *self, uint64_t now_ms,
                         size_t bytes_max, bool may_grow);
// When there may be something to maintain: now or later; UINT64_MAX: never, as
// things are.
uint64_t tcx_hpaa_due_ms(struct tcx_hpaa *self, uint64_t now_ms);

struct tcx_hpaa_stats {
  struct tcx_filler_stats filler;
  struct tcx_huge_cache_stats cache;
  struct tcx_huge_policy_stats policy;
  uint64_t unbacked_huge;
  uint64_t raw_huge;
  uint64_t regions;
  uint64_t region_used_pages;
  uint64_t region_free_pages;  // memory behind them
  uint64_t region_released_pages;
  uint64_t region_idle_huge;
  uint64_t waiting_bytes;  // mapped, but no huge page
};
void tcx_hpaa_read_stats(struct tcx_hpaa *self, uint64_t now_ms,
                         struct tcx_hpaa_stats *out);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HPAA_H_

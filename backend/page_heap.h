// page_heap.h -- the classic page heap: a page source by length and address.
//
// PLACE IN THE SYSTEM
//   central free list, large objects --(spans)--> page heap --> system
//   allocator
//
// WHAT IT DECIDES
//   Which free run serves a request: the shortest that fits, lowest address
//   first among the long ones (page_runs.h); runs with memory behind them
//   before released ones. Of a longer run the front is handed out, and a freed
//   run merges with its free neighbours on both sides at once, backed with
//   backed, released with released. Fresh memory has nothing behind it yet: it
//   enters as released, known zero. What to release: the longest runs first;
//   by demand what was free all through the last two seconds (low_water.h),
//   and no more than that. The kernel is not advised of huge pages here.
//
// INVARIANTS (tcx_page_source_ops.check)
//   I1. A span in state FREE is in `backed`, one in state RELEASED in
//       `released`, on the list or in the tree of its length.
//   I2. No two neighbours in the same of these states exist unmerged.
//   I3. mapped == in_use + busy + backed + released, in pages.
//   I4. First and last page of each free run point to its span in the pagemap.
//   I5. Free, backed memory is never known zero; released always is.
//   I6. `demand` is the low water of backed.pages.
//
// LOCKING: `lock` (rank PAGE_SOURCE) covers all but the atomic counters. It is
//   not held while memory is released: the run is BUSY meanwhile, which keeps
//   coalescing away, and accounted as free until it is released. `release_lock`
//   (rank RELEASE, outer) makes that one thread's work at a time.
//
// One page heap per process may take memory from the system allocator: pieces
// are neighbours, and a run merges with whatever free run lies beside it.
#ifndef TCX_BACKEND_PAGE_HEAP_H_
#define TCX_BACKEND_PAGE_HEAP_H_

#include "backend/head_stock.h"
#include "backend/low_water.h"
#include "backend/page_runs.h"
#include "backend/page_source.h"
#include "backend/system_allocator.h"
#include "base/fork.h"
#include "base/lock.h"

TCX_BEGIN_DECLS

struct tcx_page_heap {
  struct tcx_page_source source;  // first
  struct tcx_lock lock;
  struct tcx_lock release_lock;
  struct tcx_fork_hooks release_hooks;
  struct tcx_page_runs backed;
  struct tcx_page_runs released;
  struct tcx_low_water demand;
  struct tcx_head_stock heads;
  struct tcx_system_piece unregistered;  // committed, no pagemap leaf yet
  uint64_t mapped_pages;
  uint64_t in_use_pages;
  uint64_t busy_pages;
  uint64_t spans_allocated;
  uint64_t spans_deallocated;
};

// Prepares `self`, static or in metadata memory, once; returns its page source.
// Registers fork hooks for release_lock, those of the table are the caller's.
struct tcx_page_source *tcx_page_heap_init(struct tcx_page_heap *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_PAGE_HEAP_H_

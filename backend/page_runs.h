// page_runs.h -- free runs of one state, found by length.
//
// PLACE IN THE SYSTEM: the page heap has two, backed and released.
//
// WHAT IT DECIDES
//   Runs of up to TCX_PAGE_RUNS_LISTS pages are on a list for their exact
//   length, and a bitmap tells which lists have any. Longer ones are nodes of a
//   treap in order of (length, address), so that best fit, and the lowest
//   address of it, is a walk from the root and never along the runs.
//
// INVARIANTS (tcx_page_runs_check)
//   I1. Each run is on the list of its length, or in the treap when longer.
//   I2. Bit n of `nonempty` is set exactly when lists[n] has a run.
//   I3. The treap is in order by key and a heap by priority.
//   I4. `pages` is the sum of the runs' lengths.
//
// LOCKING: none; the owner's lock covers it.
#ifndef TCX_BACKEND_PAGE_RUNS_H_
#define TCX_BACKEND_PAGE_RUNS_H_

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

#define TCX_PAGE_RUNS_LISTS 128

struct tcx_page_runs {
  struct tcx_span lists[TCX_PAGE_RUNS_LISTS];  // heads; [n]: runs of n+1 pages
  uint64_t nonempty[TCX_PAGE_RUNS_LISTS / 64];
  struct tcx_span *tree;
  uint64_t pages;
  uint64_t random;  // priorities of the treap
};

void tcx_page_runs_init(struct tcx_page_runs *self);
void tcx_page_runs_insert(struct tcx_page_runs *self, struct tcx_span *run);
void tcx_page_runs_remove(struct tcx_page_runs *self, struct tcx_span *run);

// The shortest run of at least `pages`; NULL if there is none.
struct tcx_span *tcx_page_runs_best_fit(const struct tcx_page_runs *self,
                                        size_t pages);

// A run with `pages` at a multiple of `align_pages` in it. Looks at a bounded
// number of runs before it takes one that is long enough wherever it lies.
struct tcx_span *tcx_page_runs_aligned_fit(const struct tcx_page_runs *self,
                                           size_t pages, size_t align_pages);

// The longest run, of those the one with the highest address (treap only).
struct tcx_span *tcx_page_runs_longest(const struct tcx_page_runs *self);

// Walks all runs; `check_run` (may be NULL) is called for each.
void tcx_page_runs_check(const struct tcx_page_runs *self,
                         void (*check_run)(const struct tcx_span *run));

TCX_END_DECLS

#endif  // TCX_BACKEND_PAGE_RUNS_H_

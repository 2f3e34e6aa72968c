// huge_policy.h -- what tcx asks of the kernel about huge pages, and when.
//
// PLACE IN THE SYSTEM
//   hpaa (fresh memory, subrelease, full huge pages) --> huge_policy -->
//   base/os (madvise), base/os_files (/sys, /proc)
//   No other file of the back end knows MADV_HUGEPAGE and its kin.
//
// WHAT IT DECIDES, by the kernel's setting for this process and by
// TCX_HUGEPAGES:
//
//   kernel    default              always     never
//   never     -                    -          -
//   madvise   asks from 32 MiB on  asks       -
//   always    asks from 4 MiB on,  asks       asks for none
//             below it for none
//
//   "asks" is MADV_HUGEPAGE on the memory of the heap, never on metadata and
//   slabs; by default on runs longer than half a huge page only when they are
//   used again. A heap below the mark is not worth it: 2 MiB at the first touch
//   are much for a small program. Where the kernel gives them anyway the heap
//   asks all the same, and at once, because a broken huge page could otherwise
//   not be mended (there is no way back to "neither"), and because what may be
//   a huge page without being asked for would go back in parts that do not.
//
//   BREAKING a huge page, so that the free pages in it can go back, is three
//   steps. Without the first, khugepaged fills it again; without the second,
//   RSS falls and the charge of the cgroup does not, because the kernel keeps
//   the whole folio until memory runs short:
//     1. MADV_NOHUGEPAGE on the 2 MiB;
//     2. MADV_COLD on one page of it: the kernel splits the folio there and
//        then (about 300 us);
//     3. MADV_DONTNEED on the free pages.
//   Steps 1 and 2 once for a huge page, step 3 for as many runs of pages as
//   there are, also later on.
//
//   THE BUDGET. A broken huge page between whole ones is a mapping of its own
//   and makes two of its neighbour. A process may have vm.max_map_count of
//   them; a quarter of that many huge pages may be broken at once.
//
//   MENDING: MADV_HUGEPAGE again, and where the page is full, MADV_COLLAPSE
//   (Linux 6.1), which makes it huge there and then. That fills the holes too,
//   so it is for pages that have none. A kernel that finds no memory for it is
//   left alone for a while, twice as long each time.
//
// INVARIANTS
//   I1. broken == breaks - mended; broken <= broken_max.
//   I2. Where no huge page can be, nothing is advised and nothing is counted as
//       broken.
//
// LOCKING: none. Breaking, releasing and mending under the owner's release
//   lock, never under a lock that allocation needs; advising by whoever owns
//   the memory. Statistics may be read at any time. Time is given.
#ifndef TCX_BACKEND_HPAA_HUGE_POLICY_H_
#define TCX_BACKEND_HPAA_HUGE_POLICY_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/hpaa/huge.h"
#include "base/knobs.h"

TCX_BEGIN_DECLS

// -- The machine --------------------------------------------------------------

enum tcx_huge_thp {
  TCX_HUGE_THP_NEVER,    // no memory of this process is on huge pages
  TCX_HUGE_THP_MADVISE,  // only what MADV_HUGEPAGE was called on
  TCX_HUGE_THP_ALWAYS
};

struct tcx_huge_machine {
  enum tcx_huge_thp thp;
  uint64_t mappings_max;  // vm.max_map_count
};

// As the kernel is set now, for pages of 2 MiB in this process.
void tcx_huge_machine_read(struct tcx_huge_machine *out);

// "always [madvise] never\n": the word in brackets, or `otherwise` where that
// is none of the three.
enum tcx_huge_thp tcx_huge_parse_enabled(const char *text, size_t bytes,
                                         enum tcx_huge_thp otherwise);

// -- The policy ---------------------------------------------------------------

struct tcx_huge_policy_stats {
  uint64_t advised_bytes;  // asked for as huge pages, since start
  uint64_t advise_failures;
  uint64_t broken;          // huge pages that are broken now
  uint64_t breaks;          // since start, like all that follows
  uint64_t breaks_refused;  // no budget, or the kernel had no mapping left
  uint64_t splits_failed;   // step 2: the charge will follow late
  uint64_t released_bytes;  // step 3
  uint64_t release_failures;
  uint64_t mended;
  uint64_t mend_failures;
  uint64_t collapsed;
  uint64_t collapse_failures;
};

struct tcx_huge_policy {
  struct tcx_huge_machine machine;
  uint64_t worth_bytes;  // UINT64_MAX: never
  int advice;            // from there on; 0: none
  int advice_below;      // under it; 0: none
  bool has_huge_pages;   // else there is nothing to break
  bool can_collapse;
  uint64_t broken_max;
  uint64_t break_again_ms;     // not before, after the kernel refused
  uint64_t collapse_again_ms;  // likewise
  uint64_t collapse_wait_ms;
  struct tcx_huge_policy_stats stats;
};

// `choice` is tcx_knobs.hugepages.
void tcx_huge_policy_init(struct tcx_huge_policy *self,
                          const struct tcx_huge_machine *machine,
                          uint64_t choice);

// Whether a heap of so many bytes asks for huge pages. When a heap grows to be
// worth it, its owner advises what there is already, broken huge pages aside.
static inline bool tcx_huge_policy_is_worth(const struct tcx_huge_policy *self,
                                            uint64_t heap_bytes) {
  return heap_bytes >= self->worth_bytes;
}

// Whether large runs are asked for as huge pages before anybody wrote to them:
// what is touched here and there only would take 2 MiB each time. Else when
// they are used a second time.
static inline bool tcx_huge_policy_asks_at_once(
    const struct tcx_huge_policy *self) {
  return self->worth_bytes == 0 || self->machine.thp == TCX_HUGE_THP_ALWAYS;
}

// Advises memory of the heap, which has `heap_bytes` with it. pre: whole huge
// pages, none of them broken. A refusal costs speed only, so it is counted and
// not told.
void tcx_huge_policy_advise(struct tcx_huge_policy *self,
                            struct tcx_huge_run run, uint64_t heap_bytes);

// -- Breaking -----------------------------------------------------------------

// Steps 1 and 2 for a whole huge page, of which the page of the system at
// `free_page` is free. False: not now, and it counts as before. After true the
// owner calls tcx_huge_policy_release as often as needed, and ends the break.
TCX_NODISCARD bool tcx_huge_policy_break_begin(struct tcx_huge_policy *self,
                                               uint64_t huge, void *free_page,
                                               uint64_t now_ms);
// The kernel may have forgotten that huge pages are kept out of a broken one.
void tcx_huge_policy_keep_out(struct tcx_huge_policy *self, uint64_t huge);
// Whether any page was released. If not, the huge page is mended again. Whether
// it is broken now: the owner keeps that in its tracker.
bool tcx_huge_policy_break_end(struct tcx_huge_policy *self, uint64_t huge,
                               bool has_released);

// Step 3, and how memory of any length goes back: MADV_DONTNEED. False: the
// kernel refused, the memory is as it was.
TCX_NODISCARD bool tcx_huge_policy_release(struct tcx_huge_policy *self,
                                           void *start, size_t bytes);

// -- Mending ------------------------------------------------------------------

enum tcx_huge_mended {
  TCX_HUGE_STILL_BROKEN,  // the kernel refused; try again later
  TCX_HUGE_MENDED,        // may become a huge page again
  TCX_HUGE_COLLAPSED      // is one
};

// Mends a broken huge page; with `is_full`, where nearly all of it is used, it
// becomes huge at once, if that is due.
enum tcx_huge_mended tcx_huge_policy_mend(struct tcx_huge_policy *self,
                                          uint64_t huge, bool is_full,
                                          uint64_t now_ms);

void tcx_huge_policy_read_stats(const struct tcx_huge_policy *self,
                                struct tcx_huge_policy_stats *out);
void tcx_huge_policy_check(const struct tcx_huge_policy *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HUGE_POLICY_H_

// filler.h -- packs runs of pages, shorter than a huge page, into huge pages.
//
// PLACE IN THE SYSTEM
//   hpaa --(short runs)--> filler; hpaa brings it huge pages, takes back those
//   that became empty, and does what the filler wants done to memory.
//
// WHAT IT DECIDES
//   Where a run goes: into the huge page whose longest free range is the
//   shortest that suffices, of equals the one with most allocations, so that
//   nearly empty ones drain and can leave whole. Single pages of many objects
//   (dense) live long as a group, the others (sparse) tend to die: they never
//   share a huge page. Intact huge pages come first, then the free ends of
//   large runs (donated), then broken ones, last those whose free pages all
//   have no memory behind them.
//   What to release: free pages of the huge page with the fewest used ones.
//   Where no huge page is broken by it, as many pages as were free all through
//   the last 2 seconds; an intact huge page is broken only for as many as were
//   free all through the last 30, and only if an eighth of it goes back, but
//   for any if the owner says so (a limit). One whose release gave nothing is
//   set aside until its owner says so.
//
// INVARIANTS (tcx_filler_check)
//   I1. A tracker is on the list of its family, density and index; `family` is
//       what tcx_filler_family_of() says; bits say which lists have any.
//   I2. It is on an idle list exactly when it has free pages with memory behind
//       them and is not pinned: that of its used pages, HUGE ones apart, or of
//       those set aside. It is on the list `mend` exactly when it is not HUGE,
//       not pinned, and nearly full.
//   I3. The map finds it. A tracker without used pages is pinned, or part of it
//       is released and part not.
//   I4. The statistics are sums over the trackers.
//   I5. A dense tracker's allocations are its used pages.
//   I6. The levels of `demand` are the free, backed pages that are neither
//       pinned nor set aside.
//
// LOCKING: none; the owner's lock covers it. Memory is worked on with the lock
//   dropped: between begin and end the tracker is pinned.
// Time is a parameter, in milliseconds of a clock that does not run backwards.
//   Where pages only become used, 0 does: their time counts as needed from the
//   call before until the next.
#ifndef TCX_BACKEND_HPAA_FILLER_H_
#define TCX_BACKEND_HPAA_FILLER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/hpaa/filler_demand.h"
#include "backend/hpaa/huge.h"
#include "backend/hpaa/tracker.h"
#include "backend/hpaa/tracker_map.h"
#include "backend/page_source.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// A single page of more objects than this is dense.
#define TCX_FILLER_SPARSE_OBJECTS 16

#define TCX_FILLER_KEEP_SECONDS 2    // pages not on a huge page
#define TCX_FILLER_BREAK_SECONDS 30  // pages on one
#define TCX_FILLER_BREAK_PAGES ((unsigned)TCX_HUGE_PAGES / 8)
// With so many free pages or fewer a huge page is mended. Not so many that it
// is broken again for them, but where its owner takes any: then it must wait.
#define TCX_FILLER_MEND_PAGES ((unsigned)TCX_HUGE_PAGES / 16)

static_assert(TCX_FILLER_BREAK_SECONDS < TCX_FILLER_DEMAND_SLOTS,
              "the peak of that many seconds is known");

// In the order in which they are searched. The last is on no search list.
enum tcx_filler_family {
  TCX_FILLER_REGULAR,
  TCX_FILLER_DONATED,   // nothing but the end of a large run is in it
  TCX_FILLER_PARTIAL,   // broken, or some free pages are released
  TCX_FILLER_RELEASED,  // all free pages are
  TCX_FILLER_PINNED,
};
#define TCX_FILLER_SEARCHED 4
#define TCX_FILLER_FAMILIES 5

// Sparse: 8 lists for each longest free range, by number of allocations. Dense:
// one for each number of free pages.
#define TCX_FILLER_CHUNKS 8
#define TCX_FILLER_LISTS ((size_t)(TCX_HUGE_PAGES + 1) * TCX_FILLER_CHUNKS)
#define TCX_FILLER_LIST_WORDS ((TCX_FILLER_LISTS + 63) / 64)
#define TCX_FILLER_TOP_WORDS ((TCX_FILLER_LIST_WORDS + 63) / 64)

struct tcx_filler_lists {
  uint64_t top[TCX_FILLER_TOP_WORDS];        // which words are not 0
  uint64_t nonempty[TCX_FILLER_LIST_WORDS];  // which lists
  struct tcx_tracker *first[TCX_FILLER_LISTS];
};

struct tcx_filler_queue {
  struct tcx_tracker *first;
  struct tcx_tracker *last;
};

// By used pages.
#define TCX_FILLER_BUCKETS \
  ((unsigned)(TCX_HUGE_PAGES < 32 ? TCX_HUGE_PAGES : 32))

// Places on idle lists: 0 none, then by used pages, of HUGE ones after the
// others, last those set aside.
#define TCX_FILLER_PLACES (2 + 2 * TCX_FILLER_BUCKETS)
#define TCX_FILLER_PLACE_ASIDE (TCX_FILLER_PLACES - 1)

// Trackers by their longest free range (dense: free pages): [0] none, [i] from
// 2^(i-1) to 2^i - 1 pages.
#define TCX_FILLER_HISTOGRAM 11
static_assert(TCX_HUGE_PAGES < (1u << (TCX_FILLER_HISTOGRAM - 1)),
              "the longest range has its place");

struct tcx_filler_family_stats {
  uint64_t trackers;
  uint64_t free_pages;      // with memory behind them
  uint64_t released_pages;  // free, without
};

struct tcx_filler_stats {
  uint64_t used_pages;       // handed out, ends of large runs included
  uint64_t free_pages;       // free, memory behind them
  uint64_t released_pages;   // free, no memory behind them
  uint64_t pinned_pages;     // of free_pages: in pinned ones or set aside
  uint64_t huge_free_pages;  // of free_pages: in HUGE ones, but not those
  uint64_t donated_pages;    // of used_pages: ends of live large runs
  uint64_t slack_pages;      // free ones beside those, and beside where such
                             // ends were: what is left keeps the huge page
  uint64_t trackers;
  uint64_t huge_trackers;
  uint64_t broken_trackers;
  // By density: [0] sparse, [1] dense. Counted when they are read.
  struct tcx_filler_family_stats families[TCX_FILLER_FAMILIES][2];
  uint64_t histogram[2][TCX_FILLER_HISTOGRAM];
  uint64_t pages_released;  // events since start
  uint64_t huge_broken;
  uint64_t huge_mended;
};

// Large: 16 KiB to 270 KiB of lists, touched by use, and the map. Static or in
// zeroed memory: zeroed is ready.
struct tcx_filler {
  struct tcx_filler_demand demand[2];  // free pages; [1]: of HUGE ones
  struct tcx_filler_stats stats;
  uint64_t idle_nonempty[2];  // of the buckets; [1]: of HUGE ones
  struct tcx_filler_queue idle[TCX_FILLER_PLACES];
  struct tcx_filler_queue mend;  // nearly full, not HUGE
  struct tcx_tracker *pinned;
  struct tcx_filler_lists lists[TCX_FILLER_SEARCHED][2];
  struct tcx_tracker_map map;
};

// What was handed out.
struct tcx_filler_grant {
  uint64_t page;
  uint32_t released_pages;  // of them, that had no memory behind them
  bool is_zero;             // all of them are known to be
};

// Whether the filler would put it among dense ones.
static inline bool tcx_filler_is_dense(const struct tcx_page_request *request) {
  return request->pages == 1 && request->align_pages == 1 &&
         request->objects > TCX_FILLER_SPARSE_OBJECTS;
}

// Room to find trackers of these huge pages. Before any of them is added.
// False: no memory. Takes a lock of rank METADATA.
TCX_NODISCARD bool tcx_filler_reserve(struct tcx_filler *self,
                                      struct tcx_huge_run run);

// -- Runs ---------------------------------------------------------------------

// Finds a place among the huge pages that are here. False: there is none.
TCX_NODISCARD bool tcx_filler_allocate(struct tcx_filler *self,
                                       const struct tcx_page_request *request,
                                       uint64_t now_ms,
                                       struct tcx_filler_grant *out);

// A new huge page, its tracker from tcx_tracker_init(), with the first run in
// it. pages, align_pages <= TCX_HUGE_PAGES.
void tcx_filler_add(struct tcx_filler *self, struct tcx_tracker *tracker,
                    const struct tcx_page_request *request, uint64_t now_ms,
                    struct tcx_filler_grant *out);

// The last huge page of a large run, whose first `head_pages` belong to the
// run: the rest is here to use. 0 < head_pages < TCX_HUGE_PAGES.
void tcx_filler_donate(struct tcx_filler *self, struct tcx_tracker *tracker,
                       unsigned head_pages, uint64_t now_ms,
                       struct tcx_filler_grant *out);

// The same in a huge page, by its first page, that is here already: what was
// donated of it outlived its large run. False: there is none, or its front is
// not free, or not to be had now.
TCX_NODISCARD bool tcx_filler_retake(struct tcx_filler *self, uint64_t page,
                                     unsigned head_pages, uint64_t now_ms,
                                     struct tcx_filler_grant *out);

// Takes back a whole run; a donated huge page's head when its large run is
// freed, by the huge page's first page and head_pages. Returns the tracker when
// its huge page is all free, and all of it has memory behind it or none: the
// filler knows it no more, it is the owner's.
TCX_NODISCARD struct tcx_tracker *tcx_filler_free(struct tcx_filler *self,
                                                  uint64_t page, unsigned pages,
                                                  uint64_t now_ms);

// The same for a run whose pages were moved away (mremap): it reads as zero,
// and no memory is behind it.
TCX_NODISCARD struct tcx_tracker *tcx_filler_free_moved(struct tcx_filler *self,
                                                        uint64_t page,
                                                        unsigned pages,
                                                        uint64_t now_ms);

// The same for a run of which some pages were given back while it was in use.
// pre: its huge page is not HUGE.
TCX_NODISCARD struct tcx_tracker *tcx_filler_free_released(
    struct tcx_filler *self, uint64_t page, unsigned pages,
    const struct tcx_tracker_bits *released, uint64_t now_ms);

// Makes a run (or a head) longer by the pages behind it; `out` says what these
// are. False: they are not free, or not to be had now; nothing changed.
TCX_NODISCARD bool tcx_filler_grow(struct tcx_filler *self, uint64_t page,
                                   unsigned pages, unsigned new_pages,
                                   uint64_t now_ms,
                                   struct tcx_filler_grant *out);
// Takes back its end. 0 < new_pages < pages.
void tcx_filler_shrink(struct tcx_filler *self, uint64_t page, unsigned pages,
                       unsigned new_pages, uint64_t now_ms);

// The tracker of the huge page that a page lies in; NULL: it is not here.
struct tcx_tracker *tcx_filler_tracker_of(const struct tcx_filler *self,
                                          uint64_t page);

// -- Release ------------------------------------------------------------------
//
//   lock; begin; unlock;
//   if is_huge, break the huge page; while next: madvise, and done on success;
//   lock; tracker = end; if not NULL, it is the owner's, as from free

enum tcx_filler_release_kind {
  TCX_FILLER_RELEASE_UNNEEDED,  // what demand has not needed, as said above
  TCX_FILLER_RELEASE_CHEAP,     // anything of those that are not HUGE
  TCX_FILLER_RELEASE_ALL,       // anything
};

struct tcx_filler_release {
  struct tcx_tracker *tracker;
  bool is_huge;                  // it must be broken first
  uint32_t total_pages;          // to release
  uint32_t done_pages;           // released
  struct tcx_tracker_bits todo;  // not yet handed out by next
  struct tcx_tracker_bits done;
};

// Chooses one tracker, and pins it. False: there is nothing (more) to release.
TCX_NODISCARD bool tcx_filler_begin_release(struct tcx_filler *self,
                                            enum tcx_filler_release_kind kind,
                                            uint64_t now_ms,
                                            struct tcx_filler_release *work);
// The next range to release, in pages; takes no lock. False: that was all.
bool tcx_filler_release_next(struct tcx_filler_release *work, uint64_t *page,
                             uint64_t *pages);
void tcx_filler_release_done(struct tcx_filler_release *work, uint64_t page,
                             uint64_t pages);
// is_broken: huge pages are kept out from now on. Where nothing was done the
// tracker is set aside. Returns the tracker as tcx_filler_free does.
TCX_NODISCARD struct tcx_tracker *tcx_filler_end_release(
    struct tcx_filler *self, const struct tcx_filler_release *work,
    bool is_broken, uint64_t now_ms);

// Those set aside are candidates again.
void tcx_filler_retry(struct tcx_filler *self, uint64_t now_ms);

// When begin_release(UNNEEDED) may next find something, should demand stay as
// it is: now_ms or later; TCX_FILLER_DEMAND_NEVER: nothing to wait for.
uint64_t tcx_filler_release_due(const struct tcx_filler *self, uint64_t now_ms);

// -- Mending ------------------------------------------------------------------

// A tracker that is nearly full and not HUGE, pinned; NULL: there is none.
// After a failure the next call returns another, if there is one.
TCX_NODISCARD struct tcx_tracker *tcx_filler_begin_mend(struct tcx_filler *self,
                                                        uint64_t now_ms);
static inline bool tcx_filler_has_to_mend(const struct tcx_filler *self) {
  return self->mend.last != NULL;
}
// is_mended: it is on a huge page, or will be. Returns as end_release does.
TCX_NODISCARD struct tcx_tracker *tcx_filler_end_mend(
    struct tcx_filler *self, struct tcx_tracker *tracker, bool is_mended,
    uint64_t now_ms);

// Its huge page, not pinned, was broken before it came, and turns out to be so
// still.
void tcx_filler_set_broken(struct tcx_filler *self, struct tcx_tracker *tracker,
                           uint64_t now_ms);

// -- Parts of live spans ------------------------------------------------------

// Bytes of a run in use are offered, or were given back (`are_holes`): then its
// huge page is not mended until the run is free.
void tcx_filler_note_parts(struct tcx_filler *self, struct tcx_tracker *tracker,
                           size_t offset, size_t bytes, bool are_holes);
// Around breaking a huge page for them: the tracker is pinned meanwhile. pre:
// a run of it is in use all the time, and it is not broken. If `is_broken`,
// nothing counts as offered after the end; but where it has holes, all that is
// noted stays.
void tcx_filler_begin_break(struct tcx_filler *self,
                            struct tcx_tracker *tracker, uint64_t now_ms);
void tcx_filler_end_break(struct tcx_filler *self, struct tcx_tracker *tracker,
                          bool is_broken, uint64_t now_ms);

// -- Statistics ---------------------------------------------------------------

void tcx_filler_read_stats(const struct tcx_filler *self,
                           struct tcx_filler_stats *out);
void tcx_filler_check(const struct tcx_filler *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_FILLER_H_

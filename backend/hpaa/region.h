// region.h -- runs of pages that neither fill huge pages nor fit into one.
//
// PLACE IN THE SYSTEM
//   hpaa --(runs between half a huge page and a few)--> region set --> regions
//   Without regions a program of 1.1 MiB blocks would pay 2 MiB for each.
//
// WHAT IT DECIDES
//   A region is 64 neighbouring huge pages, taken as one run without memory
//   behind it; only the huge pages that its runs touch get any. Within a
//   region the lowest run that fits is taken, found by a tree over its huge
//   pages that knows the longest free range below each node. What to release
//   first: the highest huge page with nothing in use; only then, and when told
//   to, free pages beside pages in use. That breaks the huge page; it is worth
//   it for an eighth of one, or where that is broken already.
//
// INVARIANTS (tcx_region_check)
//   I1. `released` is a subset of `free`: free pages with nothing behind them,
//       which read as zero.
//   I2. used[h] and released_of[h] are the numbers of not free, and of
//       released, pages of huge page h; pages being released are not free.
//   I3. Bit h of `idle`: nothing of h is used and some of it is not released.
//       Bit h of `breakable`: some of h is used and some free, not released;
//       `part_pages` is how many of all these. Bit h of `worth`: so many that
//       it is worth breaking it.
//   I4. Each node of the tree describes the huge pages below it.
//
// LOCKING: none; the owner's lock covers it.
#ifndef TCX_BACKEND_HPAA_REGION_H_
#define TCX_BACKEND_HPAA_REGION_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/hpaa/huge.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_REGION_HUGE_PAGES 64
#define TCX_REGION_PAGES (TCX_REGION_HUGE_PAGES * (size_t)TCX_HUGE_PAGES)
#define TCX_REGION_WORDS (TCX_REGION_PAGES / 64)

// Free pages at the start, at the end, and in the longest range of a part.
struct tcx_region_node {
  uint16_t prefix;
  uint16_t suffix;
  uint16_t longest;
};

static_assert(TCX_REGION_PAGES <= UINT16_MAX, "a node's numbers have 16 bits");
static_assert((TCX_REGION_HUGE_PAGES & (TCX_REGION_HUGE_PAGES - 1)) == 0,
              "the tree is a full one");

#define TCX_REGION_BREAK_PAGES ((size_t)TCX_HUGE_PAGES / 8)

// Lists of the region set that a region may be on.
enum tcx_region_list {
  TCX_REGION_FIT,        // of its longest free range; always
  TCX_REGION_IDLE,       // has idle huge pages
  TCX_REGION_WORTH,      // has some that are worth breaking
  TCX_REGION_BREAKABLE,  // has breakable ones
  TCX_REGION_LISTS
};

struct tcx_region {
  struct tcx_region *next[TCX_REGION_LISTS];
  struct tcx_region *prev[TCX_REGION_LISTS];
  uint64_t first_huge;
  uint64_t idle;
  uint64_t worth;
  uint64_t breakable;
  uint64_t broken;      // where huge pages are kept out; the owner says
  uint64_t advised;     // where they were asked for; the owner says
  uint32_t used_pages;  // without those being released
  uint32_t busy_pages;  // being released
  uint32_t released_pages;
  uint32_t part_pages;
  uint16_t bucket;  // of the region set, as the next
  bool is_aside;    // a release gave nothing
  uint16_t used[TCX_REGION_HUGE_PAGES];
  uint16_t released_of[TCX_REGION_HUGE_PAGES];
  uint64_t free[TCX_REGION_WORDS];
  uint64_t released[TCX_REGION_WORDS];
  struct tcx_region_node tree[2 * TCX_REGION_HUGE_PAGES];  // [1]: root
};

// A range of a region's pages that is to be released.
struct tcx_region_range {
  uint64_t first_page;  // page number
  size_t pages;
  size_t backed_pages;  // of them; what goes back by it
  bool breaks;          // it is not a whole huge page
};

// All pages free, nothing behind any.
void tcx_region_init(struct tcx_region *self, uint64_t first_huge);

static inline size_t tcx_region_longest(const struct tcx_region *self) {
  return self->tree[1].longest;
}

static inline uint64_t tcx_region_first_page(const struct tcx_region *self) {
  return tcx_page_of_huge(self->first_huge);
}

// Free pages with memory behind them, those being released included.
static inline size_t tcx_region_backed_pages(const struct tcx_region *self) {
  return TCX_REGION_PAGES - self->used_pages - self->released_pages;
}

// Whether there is a place for so many pages, the first at a multiple of
// `align_pages`, a power of two, at most a huge page: by ranges that have one
// wherever they start, or at the start of a huge page.
bool tcx_region_fits(const struct tcx_region *self, size_t pages,
                     size_t align_pages);

// First page of the lowest such place. pre: 0 < pages, and it fits.
// `*is_zero`: nothing was behind any of it.
uint64_t tcx_region_allocate(struct tcx_region *self, size_t pages,
                             size_t align_pages, bool *is_zero);

// Takes these very pages, if all are free and in the region.
TCX_NODISCARD bool tcx_region_take(struct tcx_region *self, uint64_t first_page,
                                   size_t pages);

// Any part of what was allocated. `is_released`: it reads as zero and nothing
// is behind it.
void tcx_region_free(struct tcx_region *self, uint64_t first_page, size_t pages,
                     bool is_released);

// Free, backed pages of a huge page of the region.
static inline size_t tcx_region_backed_of(const struct tcx_region *self,
                                          size_t huge) {
  return TCX_HUGE_PAGES - self->used[huge] - self->released_of[huge];
}

// Chooses what to release, of huge pages with bits in `candidates`: the highest
// one, if it is idle; else a free range in the highest that has one, in
// multiples of `unit_pages`, the system's pages. It is in use until
// tcx_region_release_end. False: there is nothing.
TCX_NODISCARD bool tcx_region_release_begin(struct tcx_region *self,
                                            uint64_t candidates,
                                            size_t unit_pages,
                                            struct tcx_region_range *range);
// `is_released`: the system took it.
void tcx_region_release_end(struct tcx_region *self,
                            const struct tcx_region_range *range,
                            bool is_released);

// Stops the process where I1..I4 do not hold.
void tcx_region_check(const struct tcx_region *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_REGION_H_

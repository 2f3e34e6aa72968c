// region_set.h -- all regions of a back end, by their longest free range.
//
// PLACE IN THE SYSTEM: hpaa --(runs)--> region set --> regions (region.h)
//
// WHAT IT DECIDES
//   Which region serves a request: the one whose longest free range is the
//   shortest that suffices, as a rule (lists, four for each doubling), so that
//   the others get a chance to become empty. What to give back: idle huge pages
//   that demand did not come for within the last two seconds; parts of others,
//   as many as were free all through the last 30, where it is worth it. A
//   region where that failed is set aside until its owner says so.
//
// INVARIANTS (tcx_region_set_check)
//   I1. Each region is on the list of its longest free range; on the list of
//       idle (worth, breakable) ones exactly when it has such huge pages and is
//       not set aside.
//   I2. The counts are the sums over all regions, and the levels of demand.
//
// LOCKING: none; the owner's lock covers it. Time is given, in ms; 0 does where
//   pages only become used, as in filler.h.
#ifndef TCX_BACKEND_HPAA_REGION_SET_H_
#define TCX_BACKEND_HPAA_REGION_SET_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/hpaa/filler_demand.h"
#include "backend/hpaa/region.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_REGION_BUCKETS 64
#define TCX_REGION_KEEP_SECONDS 2    // idle huge pages
#define TCX_REGION_BREAK_SECONDS 30  // parts

struct tcx_region_set {
  struct tcx_region *fit[TCX_REGION_BUCKETS];
  struct tcx_region *first[TCX_REGION_LISTS];  // but of FIT
  uint64_t nonempty;                           // bit b: fit[b] has any
  uint64_t regions;
  uint64_t used_pages;
  uint64_t released_pages;
  uint64_t idle_huge;  // huge pages
  uint64_t part_pages;
  uint64_t aside;  // regions
  struct tcx_filler_demand idle_demand;
  struct tcx_filler_demand part_demand;
};

void tcx_region_set_init(struct tcx_region_set *self);

// A region of its own memory, initialised, joins.
void tcx_region_set_add(struct tcx_region_set *self, struct tcx_region *region);
// It leaves. pre: nothing of it is used or being released.
void tcx_region_set_remove(struct tcx_region_set *self,
                           struct tcx_region *region);

// A run of pages as by tcx_region_allocate; 0: no region has room, or of those
// with a range that is long enough none of the first few has an aligned place.
// `*region`: where it lies.
TCX_NODISCARD uint64_t tcx_region_set_allocate(struct tcx_region_set *self,
                                               size_t pages, size_t align_pages,
                                               uint64_t now_ms,
                                               struct tcx_region **region,
                                               bool *is_zero);
// As tcx_region_take, _free.
TCX_NODISCARD bool tcx_region_set_take(struct tcx_region_set *self,
                                       struct tcx_region *region,
                                       uint64_t first_page, size_t pages,
                                       uint64_t now_ms);
void tcx_region_set_free(struct tcx_region_set *self, struct tcx_region *region,
                         uint64_t first_page, size_t pages, bool is_released,
                         uint64_t now_ms);

enum tcx_region_release {
  TCX_REGION_RELEASE_UNNEEDED,  // what demand has not needed, as said above
  TCX_REGION_RELEASE_IDLE,      // any idle huge page
  TCX_REGION_RELEASE_ALL,       // anything
};

// Chooses what to release, idle huge pages before all others; as
// tcx_region_release_begin. NULL: there is nothing.
TCX_NODISCARD struct tcx_region *tcx_region_set_release_begin(
    struct tcx_region_set *self, enum tcx_region_release kind,
    size_t unit_pages, uint64_t now_ms, struct tcx_region_range *range);
// Not is_released: the region is set aside.
void tcx_region_set_release_end(struct tcx_region_set *self,
                                struct tcx_region *region,
                                const struct tcx_region_range *range,
                                bool is_released, uint64_t now_ms);
// Those set aside are candidates again.
void tcx_region_set_retry(struct tcx_region_set *self, uint64_t now_ms);

// When release_begin(UNNEEDED) may next find something, should demand stay as
// it is: now_ms or later; UINT64_MAX: there is nothing to wait for.
uint64_t tcx_region_set_due_ms(const struct tcx_region_set *self,
                               uint64_t now_ms);

// Free pages with memory behind them, those being released included.
static inline uint64_t tcx_region_set_backed_pages(
    const struct tcx_region_set *self) {
  return self->regions * TCX_REGION_PAGES - self->used_pages -
         self->released_pages;
}

// Whether nothing is behind any page of a region: then it may leave.
static inline bool tcx_region_is_released(const struct tcx_region *region) {
  return region->released_pages == TCX_REGION_PAGES;
}

void tcx_region_set_check(const struct tcx_region_set *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_REGION_SET_H_

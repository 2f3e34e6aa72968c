// filler_internal.h -- what the files of the filler share.
//
// Whatever changes a tracker stands between tcx_filler_share_of and
// tcx_filler_changed, which keeps the sums, and puts it on the lists where it
// belongs then.
#ifndef TCX_BACKEND_HPAA_FILLER_INTERNAL_H_
#define TCX_BACKEND_HPAA_FILLER_INTERNAL_H_

#include "backend/hpaa/filler.h"
#include "base/bits.h"
#include "base/check.h"

TCX_BEGIN_DECLS

// `family` of a tracker that is on no list yet.
#define TCX_FILLER_NOWHERE 255

static inline unsigned tcx_filler_density(const struct tcx_tracker *tracker) {
  return (tracker->flags & TCX_TRACKER_DENSE) != 0 ? 1 : 0;
}

static inline bool tcx_filler_is_huge(const struct tcx_tracker *tracker) {
  return (tracker->flags & TCX_TRACKER_HUGE) != 0;
}

static inline bool tcx_filler_is_pinned(const struct tcx_tracker *tracker) {
  return (tracker->flags & TCX_TRACKER_PINNED) != 0;
}

// -- Where a tracker belongs, by its state ------------------------------------

static inline enum tcx_filler_family tcx_filler_family_of(
    const struct tcx_tracker *tracker) {
  if (tcx_filler_is_pinned(tracker))
    return TCX_FILLER_PINNED;
  unsigned free_pages = tcx_tracker_free_pages(tracker);
  if (tracker->released_pages != 0) {
    return tracker->released_pages == free_pages ? TCX_FILLER_RELEASED
                                                 : TCX_FILLER_PARTIAL;
  }
  if ((tracker->flags & TCX_TRACKER_BROKEN) != 0)
    return TCX_FILLER_PARTIAL;
  if (tracker->head_pages != 0 && tracker->allocations == 1)
    return TCX_FILLER_DONATED;
  return TCX_FILLER_REGULAR;
}

// More allocations come first: 7 for one, 6 for two, 5 for three and four ...
// 0 for more than 64.
static inline unsigned tcx_filler_chunk_of(unsigned allocations) {
  const unsigned last = TCX_FILLER_CHUNKS - 1;
  if (allocations <= 1)
    return last;
  unsigned steps = tcx_highest_bit(allocations - 1) + 1;
  return steps < last ? last - steps : 0;
}

static inline unsigned tcx_filler_index_of(const struct tcx_tracker *tracker) {
  if (tcx_filler_is_pinned(tracker))
    return 0;
  if (tcx_filler_density(tracker) == 1)
    return tcx_tracker_free_pages(tracker);
  return tracker->longest_pages * TCX_FILLER_CHUNKS +
         tcx_filler_chunk_of(tracker->allocations);
}

static inline unsigned tcx_filler_idle_place_of(
    const struct tcx_tracker *tracker) {
  if (tcx_filler_is_pinned(tracker) || tcx_tracker_idle_pages(tracker) == 0)
    return 0;
  if ((tracker->flags & TCX_TRACKER_ASIDE) != 0)
    return TCX_FILLER_PLACE_ASIDE;
  TCX_ASSERT(tracker->used_pages < TCX_HUGE_PAGES);
  unsigned bucket =
      tracker->used_pages * TCX_FILLER_BUCKETS / (unsigned)TCX_HUGE_PAGES;
  return 1 + bucket + (tcx_filler_is_huge(tracker) ? TCX_FILLER_BUCKETS : 0);
}

static inline bool tcx_filler_is_to_mend(const struct tcx_tracker *tracker) {
  // One whose spans have given memory back is not full, whatever it says.
  return (tracker->flags & (TCX_TRACKER_HUGE | TCX_TRACKER_PINNED)) == 0 &&
         tcx_tracker_free_pages(tracker) <= TCX_FILLER_MEND_PAGES &&
         !tracker->has_holes;
}

// Whether it is for its owner to keep.
static inline bool tcx_filler_leaves(const struct tcx_tracker *tracker) {
  return tracker->used_pages == 0 && !tcx_filler_is_pinned(tracker) &&
         (tracker->released_pages == 0 ||
          tracker->released_pages == TCX_HUGE_PAGES);
}

// -- Sums ---------------------------------------------------------------------

// What a tracker adds to the sums.
struct tcx_filler_share {
  uint16_t used_pages;
  uint16_t released_pages;
  uint16_t head_pages;
  bool was_donated;
  uint8_t flags;
};

static inline struct tcx_filler_share tcx_filler_share_of(
    const struct tcx_tracker *tracker) {
  struct tcx_filler_share share = {tracker->used_pages, tracker->released_pages,
                                   tracker->head_pages, tracker->was_donated,
                                   tracker->flags};
  return share;
}

// Adds it `sign` times: 1 or (uint64_t)-1.
void tcx_filler_add_share(struct tcx_filler_stats *stats,
                          const struct tcx_filler_share *share, uint64_t sign);

void tcx_filler_changed(struct tcx_filler *self, struct tcx_tracker *tracker,
                        const struct tcx_filler_share *was, uint64_t now_ms);
// A tracker comes.
void tcx_filler_enter(struct tcx_filler *self, struct tcx_tracker *tracker,
                      uint64_t now_ms);
// Instead of tcx_filler_changed: it leaves.
void tcx_filler_leave(struct tcx_filler *self, struct tcx_tracker *tracker,
                      const struct tcx_filler_share *was, uint64_t now_ms);

// Free pages that may be released: of HUGE trackers, of the others.
static inline uint64_t tcx_filler_idle_pages(const struct tcx_filler *self,
                                             bool is_huge) {
  const struct tcx_filler_stats *stats = &self->stats;
  return is_huge
             ? stats->huge_free_pages
             : stats->free_pages - stats->pinned_pages - stats->huge_free_pages;
}

void tcx_filler_queue_push(struct tcx_filler_queue *queue,
                           struct tcx_tracker *tracker,
                           enum tcx_tracker_queue which);
void tcx_filler_queue_remove(struct tcx_filler_queue *queue,
                             struct tcx_tracker *tracker,
                             enum tcx_tracker_queue which);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_FILLER_INTERNAL_H_

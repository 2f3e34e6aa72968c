// filler_lists.c -- how a tracker gets to where it belongs; the sums.
#include "backend/hpaa/filler_internal.h"
#include "base/bits.h"
#include "base/check.h"

static_assert(TCX_FILLER_LISTS <= UINT16_MAX, "an index fits 16 bits");
static_assert(TCX_FILLER_PLACE_ASIDE <= UINT8_MAX, "a place fits 8 bits");

// -- Search lists -------------------------------------------------------------

// pre: it is not pinned.
static struct tcx_filler_lists *lists_of(struct tcx_filler *self,
                                         const struct tcx_tracker *tracker) {
  TCX_ASSERT(tracker->family < TCX_FILLER_SEARCHED);
  TCX_ASSERT(tracker->index < TCX_FILLER_LISTS);
  return &self->lists[tracker->family][tcx_filler_density(tracker)];
}

// Where the list begins that it belongs to.
static struct tcx_tracker **first_of(struct tcx_filler *self,
                                     const struct tcx_tracker *tracker) {
  return tracker->family == TCX_FILLER_PINNED
             ? &self->pinned
             : &lists_of(self, tracker)->first[tracker->index];
}

// Whether that list has any.
static void mark_list(struct tcx_filler *self,
                      const struct tcx_tracker *tracker, bool has_any) {
  if (tracker->family == TCX_FILLER_PINNED)
    return;
  struct tcx_filler_lists *lists = lists_of(self, tracker);
  unsigned word = tracker->index / 64;
  uint64_t bit = UINT64_C(1) << (tracker->index % 64);
  uint64_t word_bit = UINT64_C(1) << (word % 64);
  if (has_any) {
    lists->nonempty[word] |= bit;
    lists->top[word / 64] |= word_bit;
    return;
  }
  lists->nonempty[word] &= ~bit;
  if (lists->nonempty[word] == 0)
    lists->top[word / 64] &= ~word_bit;
}

static void unlist(struct tcx_filler *self, struct tcx_tracker *tracker) {
  struct tcx_tracker *next = tracker->next;
  if (next != NULL)
    next->prev = tracker->prev;
  if (tracker->prev != NULL) {
    tracker->prev->next = next;
    return;
  }
  struct tcx_tracker **first = first_of(self, tracker);
  TCX_ASSERT(*first == tracker);
  *first = next;
  if (next == NULL)
    mark_list(self, tracker, false);
}

static void list(struct tcx_filler *self, struct tcx_tracker *tracker) {
  struct tcx_tracker **first = first_of(self, tracker);
  struct tcx_tracker *next = *first;
  tracker->prev = NULL;
  tracker->next = next;
  *first = tracker;
  if (next != NULL) {
    next->prev = tracker;
  } else {
    mark_list(self, tracker, true);
  }
}

// -- Queues -------------------------------------------------------------------

void tcx_filler_queue_push(struct tcx_filler_queue *queue,
                           struct tcx_tracker *tracker,
                           enum tcx_tracker_queue which) {
  struct tcx_tracker_link *link = &tracker->links[which];
  link->prev = NULL;
  link->next = queue->first;
  if (queue->first != NULL) {
    queue->first->links[which].prev = tracker;
  } else {
    queue->last = tracker;
  }
  queue->first = tracker;
}

void tcx_filler_queue_remove(struct tcx_filler_queue *queue,
                             struct tcx_tracker *tracker,
                             enum tcx_tracker_queue which) {
  struct tcx_tracker_link *link = &tracker->links[which];
  if (link->next != NULL) {
    link->next->links[which].prev = link->prev;
  } else {
    TCX_ASSERT(queue->last == tracker);
    queue->last = link->prev;
  }
  if (link->prev != NULL) {
    link->prev->links[which].next = link->next;
  } else {
    TCX_ASSERT(queue->first == tracker);
    queue->first = link->next;
  }
}

static void mark_idle(struct tcx_filler *self, unsigned place, bool has_any) {
  if (place == TCX_FILLER_PLACE_ASIDE)
    return;
  uint64_t *nonempty = &self->idle_nonempty[(place - 1) / TCX_FILLER_BUCKETS];
  uint64_t bit = UINT64_C(1) << (place - 1) % TCX_FILLER_BUCKETS;
  *nonempty = has_any ? *nonempty | bit : *nonempty & ~bit;
}

static void leave_idle(struct tcx_filler *self, struct tcx_tracker *tracker) {
  unsigned place = tracker->idle_place;
  if (place == 0)
    return;
  tcx_filler_queue_remove(&self->idle[place], tracker, TCX_TRACKER_IDLE);
  if (self->idle[place].first == NULL)
    mark_idle(self, place, false);
  tracker->idle_place = 0;
}

static void enter_idle(struct tcx_filler *self, struct tcx_tracker *tracker,
                       unsigned place) {
  TCX_ASSERT(place > 0 && place < TCX_FILLER_PLACES);
  tcx_filler_queue_push(&self->idle[place], tracker, TCX_TRACKER_IDLE);
  mark_idle(self, place, true);
  tracker->idle_place = (uint8_t)place;
}

static void set_to_mend(struct tcx_filler *self, struct tcx_tracker *tracker,
                        bool is_to_mend) {
  if (is_to_mend == (tracker->is_to_mend != 0))
    return;
  if (is_to_mend) {
    tcx_filler_queue_push(&self->mend, tracker, TCX_TRACKER_MEND);
  } else {
    tcx_filler_queue_remove(&self->mend, tracker, TCX_TRACKER_MEND);
  }
  tracker->is_to_mend = is_to_mend ? 1 : 0;
}

// -- Sums ---------------------------------------------------------------------

static unsigned idle_of(const struct tcx_filler_share *share) {
  return (unsigned)TCX_HUGE_PAGES - share->used_pages - share->released_pages;
}

void tcx_filler_add_share(struct tcx_filler_stats *stats,
                          const struct tcx_filler_share *share, uint64_t sign) {
  uint64_t idle_pages = idle_of(share);
  stats->used_pages += sign * share->used_pages;
  stats->free_pages += sign * idle_pages;
  stats->released_pages += sign * share->released_pages;
  stats->donated_pages += sign * share->head_pages;
  if (share->head_pages != 0 || share->was_donated)
    stats->slack_pages += sign * (TCX_HUGE_PAGES - share->used_pages);
  bool is_huge = (share->flags & TCX_TRACKER_HUGE) != 0;
  if ((share->flags & (TCX_TRACKER_PINNED | TCX_TRACKER_ASIDE)) != 0) {
    stats->pinned_pages += sign * idle_pages;
  } else if (is_huge) {
    stats->huge_free_pages += sign * idle_pages;
  }
  stats->trackers += sign;
  stats->huge_trackers += is_huge ? sign : 0;
  if ((share->flags & TCX_TRACKER_BROKEN) != 0)
    stats->broken_trackers += sign;
}

static void note_demand(struct tcx_filler *self, bool is_huge,
                        uint64_t now_ms) {
  tcx_filler_demand_set(&self->demand[is_huge ? 1 : 0],
                        tcx_filler_idle_pages(self, is_huge), now_ms);
}

static void count_rare(struct tcx_filler *self,
                       const struct tcx_filler_share *was,
                       const struct tcx_filler_share *is, uint64_t now_ms) {
  if (was != NULL)
    tcx_filler_add_share(&self->stats, was, (uint64_t)-1);
  if (is != NULL)
    tcx_filler_add_share(&self->stats, is, 1);
  note_demand(self, false, now_ms);
  note_demand(self, true, now_ms);
}

// Most changes are of used pages alone.
static void count_change(struct tcx_filler *self,
                         const struct tcx_filler_share *was,
                         const struct tcx_tracker *tracker, uint64_t now_ms) {
  struct tcx_filler_share is = tcx_filler_share_of(tracker);
  const unsigned apart = TCX_TRACKER_PINNED | TCX_TRACKER_ASIDE;
  if (TCX_UNLIKELY(was->flags != is.flags || (is.flags & apart) != 0 ||
                   was->released_pages != is.released_pages ||
                   was->was_donated || is.was_donated ||
                   (was->head_pages | is.head_pages) != 0)) {
    count_rare(self, was, &is, now_ms);
    return;
  }
  bool is_huge = tcx_filler_is_huge(tracker);
  uint64_t more_used = (uint64_t)is.used_pages - was->used_pages;
  self->stats.used_pages += more_used;
  self->stats.free_pages -= more_used;
  if (is_huge)
    self->stats.huge_free_pages -= more_used;
  note_demand(self, is_huge, now_ms);
}

// -- Changes ------------------------------------------------------------------

static void relist(struct tcx_filler *self, struct tcx_tracker *tracker) {
  enum tcx_filler_family family = tcx_filler_family_of(tracker);
  unsigned index = tcx_filler_index_of(tracker);
  if (family != tracker->family || index != tracker->index) {
    if (tracker->family != TCX_FILLER_NOWHERE)
      unlist(self, tracker);
    tracker->family = (uint8_t)family;
    tracker->index = (uint16_t)index;
    list(self, tracker);
  }
  unsigned place = tcx_filler_idle_place_of(tracker);
  if (place != tracker->idle_place) {
    leave_idle(self, tracker);
    if (place != 0)
      enter_idle(self, tracker, place);
  }
  set_to_mend(self, tracker, tcx_filler_is_to_mend(tracker));
}

void tcx_filler_changed(struct tcx_filler *self, struct tcx_tracker *tracker,
                        const struct tcx_filler_share *was, uint64_t now_ms) {
  TCX_ASSERT(!tcx_filler_leaves(tracker));
  // Nothing is left that was refused.
  if (tcx_tracker_idle_pages(tracker) == 0)
    tracker->flags &= (uint8_t)~TCX_TRACKER_ASIDE;
  relist(self, tracker);
  count_change(self, was, tracker, now_ms);
}

void tcx_filler_enter(struct tcx_filler *self, struct tcx_tracker *tracker,
                      uint64_t now_ms) {
  TCX_ASSERT(tcx_tracker_map_get(&self->map, tracker->huge) == NULL);
  tracker->allocations = 1;
  tracker->family = TCX_FILLER_NOWHERE;
  tcx_tracker_map_set(&self->map, tracker->huge, tracker);
  relist(self, tracker);
  struct tcx_filler_share is = tcx_filler_share_of(tracker);
  count_rare(self, NULL, &is, now_ms);
}

void tcx_filler_leave(struct tcx_filler *self, struct tcx_tracker *tracker,
                      const struct tcx_filler_share *was, uint64_t now_ms) {
  unlist(self, tracker);
  leave_idle(self, tracker);
  set_to_mend(self, tracker, false);
  tracker->family = TCX_FILLER_NOWHERE;
  tcx_tracker_map_set(&self->map, tracker->huge, NULL);
  count_rare(self, was, NULL, now_ms);
}

// filler_check.c -- the filler's statistics and the walk of its invariants.
#include <string.h>

#include "backend/hpaa/filler_internal.h"
#include "base/bits.h"
#include "base/check.h"

static unsigned histogram_of(const struct tcx_tracker *tracker) {
  unsigned longest = tracker->longest_pages;
  return longest == 0 ? 0 : tcx_highest_bit(longest) + 1;
}

// Of the trackers of a list, what is counted when it is read.
static void read_list(const struct tcx_tracker *first,
                      struct tcx_filler_stats *out) {
  for (const struct tcx_tracker *t = first; t != NULL; t = t->next) {
    unsigned density = tcx_filler_density(t);
    struct tcx_filler_family_stats *family = &out->families[t->family][density];
    family->trackers++;
    family->free_pages += tcx_tracker_idle_pages(t);
    family->released_pages += t->released_pages;
    out->histogram[density][histogram_of(t)]++;
  }
}

static void read_lists(const struct tcx_filler_lists *lists,
                       struct tcx_filler_stats *out) {
  for (size_t w = 0; w < TCX_FILLER_LIST_WORDS; w++) {
    uint64_t bits = lists->nonempty[w];
    for (; bits != 0; bits &= bits - 1)
      read_list(lists->first[w * 64 + tcx_lowest_bit(bits)], out);
  }
}

void tcx_filler_read_stats(const struct tcx_filler *self,
                           struct tcx_filler_stats *out) {
  *out = self->stats;
  for (unsigned f = 0; f < TCX_FILLER_SEARCHED; f++) {
    read_lists(&self->lists[f][0], out);
    read_lists(&self->lists[f][1], out);
  }
  read_list(self->pinned, out);
}

// What is counted while all trackers are walked.
struct walk {
  struct tcx_filler_stats stats;
  uint64_t idle;  // trackers that must be on an idle list
  uint64_t mend;  // on that list
};

static void check_tracker(const struct tcx_filler *self,
                          const struct tcx_tracker *tracker,
                          struct walk *walk) {
  tcx_tracker_check(tracker);
  TCX_CHECK(tcx_tracker_map_get(&self->map, tracker->huge) == tracker);
  TCX_CHECK(tracker->family == tcx_filler_family_of(tracker));
  TCX_CHECK(tracker->index == tcx_filler_index_of(tracker));
  TCX_CHECK(!tcx_filler_leaves(tracker));
  TCX_CHECK(tracker->allocations <= tracker->used_pages);
  TCX_CHECK((tracker->allocations == 0) == (tracker->used_pages == 0));
  TCX_CHECK(tracker->head_pages == 0 || !tracker->was_donated);
  TCX_CHECK(tracker->head_pages == 0 ||
            !tcx_tracker_is_free(tracker, 0, tracker->head_pages));
  if (tcx_filler_density(tracker) == 1) {
    TCX_CHECK(tracker->allocations == tracker->used_pages);
    TCX_CHECK(tracker->head_pages == 0);
  }
  unsigned place = tcx_filler_idle_place_of(tracker);
  TCX_CHECK(tracker->idle_place == place);
  walk->idle += place != 0;
  TCX_CHECK((tracker->is_to_mend != 0) == tcx_filler_is_to_mend(tracker));
  walk->mend += tracker->is_to_mend;
  struct tcx_filler_share share = tcx_filler_share_of(tracker);
  tcx_filler_add_share(&walk->stats, &share, 1);
}

static void check_list(const struct tcx_filler *self,
                       const struct tcx_tracker *first, unsigned family,
                       unsigned density, size_t index, struct walk *walk) {
  const struct tcx_tracker *before = NULL;
  for (const struct tcx_tracker *t = first; t != NULL; t = t->next) {
    TCX_CHECK(t->prev == before);
    TCX_CHECK(t->family == family && t->index == index);
    TCX_CHECK(family == TCX_FILLER_PINNED || tcx_filler_density(t) == density);
    check_tracker(self, t, walk);
    before = t;
  }
}

static void check_lists(const struct tcx_filler *self, unsigned family,
                        unsigned density, struct walk *walk) {
  const struct tcx_filler_lists *lists = &self->lists[family][density];
  for (size_t w = 0; w < TCX_FILLER_LIST_WORDS; w++) {
    bool is_marked = (lists->top[w / 64] >> (w % 64) & 1) != 0;
    TCX_CHECK(is_marked == (lists->nonempty[w] != 0));
  }
  for (size_t i = 0; i < TCX_FILLER_LISTS; i++) {
    bool is_marked = (lists->nonempty[i / 64] >> (i % 64) & 1) != 0;
    TCX_CHECK(is_marked == (lists->first[i] != NULL));
    if (is_marked)
      check_list(self, lists->first[i], family, density, i, walk);
  }
}

// Returns how many are in it. That each belongs there, check_tracker() saw.
static uint64_t check_queue(const struct tcx_filler_queue *queue,
                            enum tcx_tracker_queue which, unsigned idle_place) {
  uint64_t count = 0;
  const struct tcx_tracker *before = NULL;
  const struct tcx_tracker *at = queue->first;
  for (; at != NULL; at = at->links[which].next) {
    TCX_CHECK(at->links[which].prev == before);
    TCX_CHECK(which != TCX_TRACKER_IDLE || at->idle_place == idle_place);
    TCX_CHECK(which != TCX_TRACKER_IDLE ||
              idle_place == TCX_FILLER_PLACE_ASIDE ||
              tcx_filler_is_huge(at) == (idle_place > TCX_FILLER_BUCKETS));
    TCX_CHECK(which != TCX_TRACKER_MEND || at->is_to_mend != 0);
    before = at;
    count++;
  }
  TCX_CHECK(queue->last == before);
  return count;
}

void tcx_filler_check(const struct tcx_filler *self) {
  struct walk walk;
  memset(&walk, 0, sizeof(walk));
  for (unsigned f = 0; f < TCX_FILLER_SEARCHED; f++) {
    check_lists(self, f, 0, &walk);
    check_lists(self, f, 1, &walk);
  }
  check_list(self, self->pinned, TCX_FILLER_PINNED, 0, 0, &walk);
  uint64_t idle = 0;
  for (unsigned place = 1; place < TCX_FILLER_PLACES; place++) {
    uint64_t count = check_queue(&self->idle[place], TCX_TRACKER_IDLE, place);
    unsigned bucket = (place - 1) % TCX_FILLER_BUCKETS;
    bool is_marked =
        place != TCX_FILLER_PLACE_ASIDE &&
        (self->idle_nonempty[(place - 1) / TCX_FILLER_BUCKETS] >> bucket & 1) !=
            0;
    TCX_CHECK(place == TCX_FILLER_PLACE_ASIDE || is_marked == (count != 0));
    idle += count;
  }
  TCX_CHECK(idle == walk.idle);
  TCX_CHECK(check_queue(&self->mend, TCX_TRACKER_MEND, 0) == walk.mend);
  // Events are counted where they happen.
  walk.stats.pages_released = self->stats.pages_released;
  walk.stats.huge_broken = self->stats.huge_broken;
  walk.stats.huge_mended = self->stats.huge_mended;
  TCX_CHECK(memcmp(&walk.stats, &self->stats, sizeof(walk.stats)) == 0);
  TCX_CHECK(self->demand[0].level == tcx_filler_idle_pages(self, false));
  TCX_CHECK(self->demand[1].level == tcx_filler_idle_pages(self, true));
}

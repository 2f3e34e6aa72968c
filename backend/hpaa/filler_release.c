// filler_release.c -- what goes back to the system, and what is mended.
#include <string.h>

#include "backend/hpaa/filler_internal.h"
#include "base/bits.h"
#include "base/check.h"

// -- Choice -------------------------------------------------------------------

// Of the trackers with the fewest used pages, the one that came among them
// first.
static struct tcx_tracker *candidate(const struct tcx_filler *self,
                                     bool is_huge) {
  uint64_t nonempty = self->idle_nonempty[is_huge ? 1 : 0];
  if (nonempty == 0)
    return NULL;
  unsigned place = 1 + (is_huge ? TCX_FILLER_BUCKETS : 0);
  place += tcx_lowest_bit(nonempty);
  struct tcx_tracker *tracker = self->idle[place].last;
  TCX_ASSERT(tracker != NULL);
  return tracker;
}

// For how long as many pages as it has idle must have been idle, in seconds.
static unsigned wait_seconds(bool is_huge) {
  return is_huge ? TCX_FILLER_BREAK_SECONDS : TCX_FILLER_KEEP_SECONDS;
}

// When so many pages will not have been needed for long enough.
static uint64_t due_ms(const struct tcx_filler *self,
                       const struct tcx_tracker *tracker, uint64_t now_ms) {
  bool is_huge = tcx_filler_is_huge(tracker);
  unsigned idle_pages = tcx_tracker_idle_pages(tracker);
  if (is_huge && idle_pages < TCX_FILLER_BREAK_PAGES)
    return TCX_FILLER_DEMAND_NEVER;
  return tcx_filler_demand_due(&self->demand[is_huge ? 1 : 0],
                               wait_seconds(is_huge), idle_pages, now_ms);
}

static struct tcx_tracker *choose(const struct tcx_filler *self,
                                  enum tcx_filler_release_kind kind,
                                  uint64_t now_ms) {
  for (unsigned i = 0; i < 2; i++) {
    bool is_huge = i == 1;
    struct tcx_tracker *tracker = candidate(self, is_huge);
    if (tracker == NULL || (is_huge && kind == TCX_FILLER_RELEASE_CHEAP))
      continue;
    if (kind != TCX_FILLER_RELEASE_UNNEEDED ||
        due_ms(self, tracker, now_ms) <= now_ms) {
      return tracker;
    }
  }
  return NULL;
}

uint64_t tcx_filler_release_due(const struct tcx_filler *self,
                                uint64_t now_ms) {
  uint64_t due = TCX_FILLER_DEMAND_NEVER;
  for (unsigned i = 0; i < 2; i++) {
    const struct tcx_tracker *tracker = candidate(self, i == 1);
    uint64_t its_due = tracker != NULL ? due_ms(self, tracker, now_ms)
                                       : TCX_FILLER_DEMAND_NEVER;
    if (its_due < due)
      due = its_due;
  }
  return due;
}

// -- Pins ---------------------------------------------------------------------

// Its idle pages are not to be had, and were not needed by that.
static void pin(struct tcx_filler *self, struct tcx_tracker *tracker,
                uint64_t now_ms) {
  TCX_ASSERT(!tcx_filler_is_pinned(tracker));
  if ((tracker->flags & TCX_TRACKER_ASIDE) == 0) {
    tcx_filler_demand_take(&self->demand[tcx_filler_is_huge(tracker) ? 1 : 0],
                           tcx_tracker_idle_pages(tracker), now_ms);
  }
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  tracker->flags |= TCX_TRACKER_PINNED;
  tcx_filler_changed(self, tracker, &was, now_ms);
}

// Ends a change. Returns the tracker if it leaves. Pages that are idle
// still count as idle from now on.
static struct tcx_tracker *unpin(struct tcx_filler *self,
                                 struct tcx_tracker *tracker,
                                 const struct tcx_filler_share *was,
                                 uint64_t now_ms) {
  TCX_ASSERT(tcx_filler_is_pinned(tracker));
  tracker->flags &= (uint8_t)~TCX_TRACKER_PINNED;
  if (tcx_filler_leaves(tracker)) {
    tcx_filler_leave(self, tracker, was, now_ms);
    return tracker;
  }
  tcx_filler_changed(self, tracker, was, now_ms);
  return NULL;
}

// -- Release ------------------------------------------------------------------

bool tcx_filler_begin_release(struct tcx_filler *self,
                              enum tcx_filler_release_kind kind,
                              uint64_t now_ms,
                              struct tcx_filler_release *work) {
  struct tcx_tracker *tracker = choose(self, kind, now_ms);
  if (tracker == NULL)
    return false;
  memset(work, 0, sizeof(*work));
  work->tracker = tracker;
  work->is_huge = tcx_filler_is_huge(tracker);
  work->total_pages = tcx_tracker_backed_free(tracker, &work->todo);
  TCX_ASSERT(work->total_pages > 0);
  pin(self, tracker, now_ms);
  return true;
}

bool tcx_filler_release_next(struct tcx_filler_release *work, uint64_t *page,
                             uint64_t *pages) {
  unsigned first = 0;
  unsigned count = 0;
  if (!tcx_tracker_next_range(&work->todo, &first, &count))
    return false;
  tcx_tracker_clear_range(&work->todo, first, count);
  *page = tcx_page_of_huge(work->tracker->huge) + first;
  *pages = count;
  return true;
}

void tcx_filler_release_done(struct tcx_filler_release *work, uint64_t page,
                             uint64_t pages) {
  TCX_ASSERT(tcx_huge_of_page(page) == work->tracker->huge);
  TCX_ASSERT(work->done_pages + pages <= work->total_pages);
  tcx_tracker_set_range(&work->done, (unsigned)(page % TCX_HUGE_PAGES),
                        (unsigned)pages);
  work->done_pages += (uint32_t)pages;
}

struct tcx_tracker *tcx_filler_end_release(
    struct tcx_filler *self, const struct tcx_filler_release *work,
    bool is_broken, uint64_t now_ms) {
  struct tcx_tracker *tracker = work->tracker;
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  if (work->done_pages > 0 || is_broken)
    tracker->flags &= (uint8_t)~TCX_TRACKER_HUGE;
  if (is_broken && (tracker->flags & TCX_TRACKER_BROKEN) == 0) {
    tracker->flags |= TCX_TRACKER_BROKEN;
    self->stats.huge_broken++;
  }
  if (work->done_pages > 0) {
    tcx_tracker_set_released(tracker, &work->done);
    self->stats.pages_released += work->done_pages;
  } else {
    tracker->flags |= TCX_TRACKER_ASIDE;
  }
  return unpin(self, tracker, &was, now_ms);
}

void tcx_filler_retry(struct tcx_filler *self, uint64_t now_ms) {
  const struct tcx_filler_queue *aside = &self->idle[TCX_FILLER_PLACE_ASIDE];
  while (aside->last != NULL) {
    struct tcx_tracker *tracker = aside->last;
    struct tcx_filler_share was = tcx_filler_share_of(tracker);
    tracker->flags &= (uint8_t)~TCX_TRACKER_ASIDE;
    tcx_filler_changed(self, tracker, &was, now_ms);
  }
}

// -- Mending ------------------------------------------------------------------

struct tcx_tracker *tcx_filler_begin_mend(struct tcx_filler *self,
                                          uint64_t now_ms) {
  struct tcx_tracker *tracker = self->mend.last;
  if (tracker != NULL)
    pin(self, tracker, now_ms);
  return tracker;
}

struct tcx_tracker *tcx_filler_end_mend(struct tcx_filler *self,
                                        struct tcx_tracker *tracker,
                                        bool is_mended, uint64_t now_ms) {
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  if (is_mended) {
    tcx_tracker_set_backed(tracker);
    tracker->flags &= (uint8_t)~TCX_TRACKER_BROKEN;
    tracker->flags |= TCX_TRACKER_HUGE;
    self->stats.huge_mended++;
  }
  return unpin(self, tracker, &was, now_ms);
}

void tcx_filler_set_broken(struct tcx_filler *self, struct tcx_tracker *tracker,
                           uint64_t now_ms) {
  TCX_ASSERT(!tcx_filler_is_pinned(tracker));
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  tracker->flags &= (uint8_t)~TCX_TRACKER_HUGE;
  tracker->flags |= TCX_TRACKER_BROKEN;
  tcx_filler_changed(self, tracker, &was, now_ms);
}

// -- Parts of live spans ------------------------------------------------------

void tcx_filler_note_parts(struct tcx_filler *self, struct tcx_tracker *tracker,
                           size_t offset, size_t bytes, bool are_holes) {
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  tcx_tracker_set_parts(tracker, offset, bytes, are_holes);
  tcx_filler_changed(self, tracker, &was, 0);
}

void tcx_filler_begin_break(struct tcx_filler *self,
                            struct tcx_tracker *tracker, uint64_t now_ms) {
  pin(self, tracker, now_ms);
}

void tcx_filler_end_break(struct tcx_filler *self, struct tcx_tracker *tracker,
                          bool is_broken, uint64_t now_ms) {
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  if (is_broken) {
    if (!tracker->has_holes)
      tcx_tracker_clear_parts(tracker, 0, TCX_HUGE_BYTES);
    tracker->flags &= (uint8_t)~TCX_TRACKER_HUGE;
    tracker->flags |= TCX_TRACKER_BROKEN;
    self->stats.huge_broken++;
  }
  struct tcx_tracker *gone = unpin(self, tracker, &was, now_ms);
  TCX_CHECK(gone == NULL);
}

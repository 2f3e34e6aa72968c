// filler.c -- runs in and out. See filler.h.
#include "backend/hpaa/filler.h"

#include <string.h>

#include "backend/hpaa/filler_internal.h"
#include "base/bits.h"
#include "base/check.h"

bool tcx_filler_reserve(struct tcx_filler *self, struct tcx_huge_run run) {
  return tcx_tracker_map_ensure(&self->map, run);
}

struct tcx_tracker *tcx_filler_tracker_of(const struct tcx_filler *self,
                                          uint64_t page) {
  return tcx_tracker_map_get(&self->map, tcx_huge_of_page(page));
}

static unsigned index_in_huge(uint64_t page) {
  return (unsigned)(page % TCX_HUGE_PAGES);
}

// Pages of a tracker become used, within a change.
static void mark(struct tcx_tracker *tracker, unsigned first, unsigned pages,
                 struct tcx_filler_grant *out) {
  struct tcx_tracker_taken taken = tcx_tracker_mark(tracker, first, pages);
  out->page = tcx_page_of_huge(tracker->huge) + first;
  out->released_pages = taken.released_pages;
  out->is_zero = taken.is_zero;
}

// -- Allocation ---------------------------------------------------------------

// A tracker of the first list at or after `index` that has any, or NULL.
static struct tcx_tracker *first_from(const struct tcx_filler_lists *lists,
                                      size_t index) {
  size_t word = index / 64;
  uint64_t bits = lists->nonempty[word] & (~UINT64_C(0) << (index % 64));
  if (bits == 0) {
    // The next word that has any; the last of all has no next.
    size_t top = ++word / 64;
    if (top >= TCX_FILLER_TOP_WORDS)
      return NULL;
    uint64_t words = lists->top[top] & (~UINT64_C(0) << (word % 64));
    while (words == 0) {
      if (++top >= TCX_FILLER_TOP_WORDS)
        return NULL;
      words = lists->top[top];
    }
    word = top * 64 + tcx_lowest_bit(words);
    bits = lists->nonempty[word];
  }
  return lists->first[word * 64 + tcx_lowest_bit(bits)];
}

// The free range that surely has the run in it, wherever the range lies.
static size_t range_needed(const struct tcx_page_request *request) {
  return request->pages + request->align_pages - 1;
}

bool tcx_filler_allocate(struct tcx_filler *self,
                         const struct tcx_page_request *request,
                         uint64_t now_ms, struct tcx_filler_grant *out) {
  TCX_ASSERT(request->pages > 0);
  if (request->pages > TCX_HUGE_PAGES ||
      range_needed(request) > TCX_HUGE_PAGES) {
    return false;
  }
  unsigned density = tcx_filler_is_dense(request) ? 1 : 0;
  size_t index = density == 1 ? 1 : range_needed(request) * TCX_FILLER_CHUNKS;
  struct tcx_tracker *tracker = NULL;
  for (unsigned f = 0; tracker == NULL && f < TCX_FILLER_SEARCHED; f++) {
    tracker = first_from(&self->lists[f][density], index);
  }
  if (tracker == NULL)
    return false;
  unsigned first = 0;
  bool is_found = tcx_tracker_find(tracker, (unsigned)request->pages,
                                   (unsigned)request->align_pages, &first);
  TCX_CHECK(is_found);
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  mark(tracker, first, (unsigned)request->pages, out);
  tracker->allocations++;
  tcx_filler_changed(self, tracker, &was, now_ms);
  return true;
}

void tcx_filler_add(struct tcx_filler *self, struct tcx_tracker *tracker,
                    const struct tcx_page_request *request, uint64_t now_ms,
                    struct tcx_filler_grant *out) {
  TCX_ASSERT(tracker->used_pages == 0);
  TCX_ASSERT(request->pages > 0 && request->pages <= TCX_HUGE_PAGES);
  TCX_ASSERT(request->align_pages <= TCX_HUGE_PAGES);
  if (tcx_filler_is_dense(request))
    tracker->flags |= TCX_TRACKER_DENSE;
  mark(tracker, 0, (unsigned)request->pages, out);
  tcx_filler_enter(self, tracker, now_ms);
}

void tcx_filler_donate(struct tcx_filler *self, struct tcx_tracker *tracker,
                       unsigned head_pages, uint64_t now_ms,
                       struct tcx_filler_grant *out) {
  TCX_ASSERT(tracker->used_pages == 0);
  TCX_ASSERT(head_pages > 0 && head_pages < TCX_HUGE_PAGES);
  mark(tracker, 0, head_pages, out);
  tracker->head_pages = (uint16_t)head_pages;
  tcx_filler_enter(self, tracker, now_ms);
}

bool tcx_filler_retake(struct tcx_filler *self, uint64_t page,
                       unsigned head_pages, uint64_t now_ms,
                       struct tcx_filler_grant *out) {
  struct tcx_tracker *tracker = tcx_filler_tracker_of(self, page);
  if (tracker == NULL || tracker->head_pages != 0 ||
      (tracker->flags & (TCX_TRACKER_DENSE | TCX_TRACKER_PINNED)) != 0 ||
      !tcx_tracker_is_free(tracker, 0, head_pages)) {
    return false;
  }
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  mark(tracker, 0, head_pages, out);
  tracker->head_pages = (uint16_t)head_pages;
  tracker->was_donated = false;
  tracker->allocations++;
  tcx_filler_changed(self, tracker, &was, now_ms);
  return true;
}

// -- Free, resize -------------------------------------------------------------

static bool is_head(const struct tcx_tracker *tracker, unsigned first) {
  return first == 0 && tracker->head_pages != 0;
}

// `released`: of its pages, those that nothing is behind; NULL: none.
static struct tcx_tracker *free_run(struct tcx_filler *self, uint64_t page,
                                    unsigned pages,
                                    const struct tcx_tracker_bits *released,
                                    uint64_t now_ms) {
  struct tcx_tracker *tracker = tcx_filler_tracker_of(self, page);
  TCX_CHECK(tracker != NULL);
  TCX_CHECK(tracker->allocations > 0);
  unsigned first = index_in_huge(page);
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  tcx_tracker_unmark(tracker, first, pages);
  if (released != NULL) {
    tracker->flags &= (uint8_t)~TCX_TRACKER_HUGE;
    tcx_tracker_set_released(tracker, released);
  }
  tracker->allocations--;
  if (is_head(tracker, first)) {
    TCX_ASSERT(pages == tracker->head_pages);
    tracker->was_donated = true;
    tracker->head_pages = 0;
  }
  TCX_ASSERT((tracker->used_pages == 0) == (tracker->allocations == 0));
  if (tcx_filler_leaves(tracker)) {
    tcx_filler_leave(self, tracker, &was, now_ms);
    return tracker;
  }
  tcx_filler_changed(self, tracker, &was, now_ms);
  return NULL;
}

struct tcx_tracker *tcx_filler_free(struct tcx_filler *self, uint64_t page,
                                    unsigned pages, uint64_t now_ms) {
  return free_run(self, page, pages, NULL, now_ms);
}

struct tcx_tracker *tcx_filler_free_moved(struct tcx_filler *self,
                                          uint64_t page, unsigned pages,
                                          uint64_t now_ms) {
  struct tcx_tracker_bits bits;
  memset(&bits, 0, sizeof(bits));
  tcx_tracker_set_range(&bits, index_in_huge(page), pages);
  return free_run(self, page, pages, &bits, now_ms);
}

struct tcx_tracker *tcx_filler_free_released(
    struct tcx_filler *self, uint64_t page, unsigned pages,
    const struct tcx_tracker_bits *released, uint64_t now_ms) {
  return free_run(self, page, pages, released, now_ms);
}

static void set_length(struct tcx_tracker *tracker, unsigned first,
                       unsigned pages, unsigned new_pages) {
  if (is_head(tracker, first)) {
    TCX_ASSERT(tracker->head_pages == pages);
    tracker->head_pages = (uint16_t)new_pages;
  }
  (void)pages;
}

bool tcx_filler_grow(struct tcx_filler *self, uint64_t page, unsigned pages,
                     unsigned new_pages, uint64_t now_ms,
                     struct tcx_filler_grant *out) {
  TCX_ASSERT(pages > 0 && new_pages > pages);
  struct tcx_tracker *tracker = tcx_filler_tracker_of(self, page);
  TCX_CHECK(tracker != NULL);
  unsigned first = index_in_huge(page);
  // A dense one has single pages only; the pages of a pinned one may be on
  // their way back to the system.
  if ((tracker->flags & (TCX_TRACKER_DENSE | TCX_TRACKER_PINNED)) != 0 ||
      !tcx_tracker_is_free(tracker, first + pages, new_pages - pages)) {
    return false;
  }
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  mark(tracker, first + pages, new_pages - pages, out);
  set_length(tracker, first, pages, new_pages);
  tcx_filler_changed(self, tracker, &was, now_ms);
  return true;
}

void tcx_filler_shrink(struct tcx_filler *self, uint64_t page, unsigned pages,
                       unsigned new_pages, uint64_t now_ms) {
  TCX_ASSERT(new_pages > 0 && new_pages < pages);
  struct tcx_tracker *tracker = tcx_filler_tracker_of(self, page);
  TCX_CHECK(tracker != NULL);
  unsigned first = index_in_huge(page);
  struct tcx_filler_share was = tcx_filler_share_of(tracker);
  tcx_tracker_unmark(tracker, first + new_pages, pages - new_pages);
  set_length(tracker, first, pages, new_pages);
  tcx_filler_changed(self, tracker, &was, now_ms);
}

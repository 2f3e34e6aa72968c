// hpaa_resize.c -- spans longer and shorter where they are.
//
// A raw span is whole huge pages, and a tail in a last one that has a tracker.
// A span at the front of a huge page, in the filler, is the same with no whole
// one: so both grow, and a raw span shrinks, by the same steps.
#include "backend/hpaa/hpaa_internal.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "pagemap/pagemap.h"

// A run from the start of a huge page on, in huge pages.
struct shape {
  uint64_t first;
  uint64_t count;  // the last, partial one included
  uint64_t whole;
  unsigned tail;  // pages in the last one; 0: it is whole
};

static struct shape shape_of(uint64_t page, size_t pages) {
  return (struct shape){
      .first = tcx_huge_of_page(page),
      .count = (pages + TCX_HPAA_P - 1) / TCX_HPAA_P,
      .whole = pages / TCX_HPAA_P,
      .tail = (unsigned)(pages % TCX_HPAA_P),
  };
}

static uint64_t last_of(const struct shape *shape) {
  return shape->first + shape->count - 1;
}

static uint64_t last_page_of(const struct shape *shape) {
  return tcx_page_of_huge(last_of(shape));
}

static bool reserve_last(struct tcx_hpaa *hpaa, const struct shape *shape) {
  struct tcx_huge_run last = {last_of(shape), 1};
  return shape->tail == 0 || tcx_filler_reserve(&hpaa->filler, last);
}

static void note_whole(struct tcx_hpaa *hpaa, const struct shape *from,
                       const struct shape *to) {
  hpaa->raw_huge += to->whole - from->whole;
  struct tcx_huge_run whole = {to->first, to->whole};
  tcx_hpaa_note_ours(whole);
}

// -- Longer -------------------------------------------------------------------

// Whether nothing but the span's tail is in its last huge page, nobody works on
// that, and it is no span of small objects.
static bool owns_last(struct tcx_hpaa *hpaa, const struct shape *shape) {
  if (shape->tail == 0)
    return true;
  const struct tcx_tracker *last =
      tcx_filler_tracker_of(&hpaa->filler, last_page_of(shape));
  return last->used_pages == shape->tail &&
         (last->flags & (TCX_TRACKER_PINNED | TCX_TRACKER_DENSE)) == 0;
}

static bool grow_in_filler(struct tcx_hpaa *hpaa, uint64_t page, size_t pages,
                           size_t new_pages, uint64_t now_ms) {
  struct tcx_filler_grant grant;
  return tcx_hpaa_offset(page) + new_pages <= TCX_HPAA_P &&
         tcx_filler_grow(&hpaa->filler, page, (unsigned)pages,
                         (unsigned)new_pages, now_ms, &grant);
}

// The last huge page leaves the filler, and stays the span's: all of it, or it
// would not leave where a part has no memory behind it.
static void free_last(struct tcx_hpaa *hpaa, const struct shape *shape,
                      uint64_t now_ms) {
  bool is_all = grow_in_filler(hpaa, last_page_of(shape), shape->tail,
                               TCX_HPAA_P, now_ms);
  TCX_CHECK(is_all);
  struct tcx_tracker *tracker =
      tcx_filler_free(&hpaa->filler, last_page_of(shape), TCX_HPAA_P, now_ms);
  TCX_CHECK(tracker != NULL);
  tcx_hpaa_retire(hpaa, tracker);
}

static bool grow_raw(struct tcx_hpaa *hpaa, const struct shape *from,
                     const struct shape *to, uint64_t now_ms) {
  if (from->count == to->count && to->tail != 0) {
    return grow_in_filler(hpaa, last_page_of(from), from->tail, to->tail,
                          now_ms);
  }
  struct tcx_huge_run more = {from->first + from->count,
                              to->count - from->count};
  bool last_is_backed = false;
  if (!owns_last(hpaa, from) || !reserve_last(hpaa, to) ||
      !tcx_hpaa_take_at(hpaa, more, now_ms, &last_is_backed)) {
    return false;
  }
  if (from->tail != 0)
    free_last(hpaa, from, now_ms);
  if (to->tail != 0) {
    (void)tcx_hpaa_donate(hpaa, last_of(to), to->tail, last_is_backed, now_ms);
  }
  note_whole(hpaa, from, to);
  return true;
}

static bool grow(struct tcx_hpaa *hpaa, const struct tcx_span *span,
                 size_t pages, uint64_t now_ms) {
  uint64_t page = span->first_page;
  struct tcx_region *region = tcx_hpaa_region_of(tcx_huge_of_page(page));
  if (region != NULL) {
    return tcx_region_set_take(&hpaa->regions, region, page + span->pages,
                               pages - span->pages, now_ms);
  }
  if (tcx_hpaa_offset(page) != 0)
    return grow_in_filler(hpaa, page, span->pages, pages, now_ms);
  struct shape from = shape_of(page, span->pages);
  struct shape to = shape_of(page, pages);
  return grow_raw(hpaa, &from, &to, now_ms);
}

// -- Shorter ------------------------------------------------------------------

static bool shrink_raw(struct tcx_hpaa *hpaa, const struct shape *from,
                       const struct shape *to, uint64_t now_ms) {
  if (from->count == to->count && from->tail != 0) {
    tcx_filler_shrink(&hpaa->filler, last_page_of(from), from->tail, to->tail,
                      now_ms);
    return true;
  }
  if (!reserve_last(hpaa, to))
    return false;
  if (from->tail != 0) {
    tcx_hpaa_absorb(
        hpaa,
        tcx_filler_free(&hpaa->filler, last_page_of(from), from->tail, now_ms),
        now_ms);
  }
  struct tcx_huge_run rest = {to->first + to->count, from->whole - to->count};
  if (from->whole > to->count)
    tcx_hpaa_put(hpaa, rest, true, now_ms);
  if (to->tail != 0)
    (void)tcx_hpaa_donate(hpaa, last_of(to), to->tail, true, now_ms);
  note_whole(hpaa, from, to);
  return true;
}

static bool shrink(struct tcx_hpaa *hpaa, const struct tcx_span *span,
                   size_t pages, uint64_t now_ms) {
  uint64_t page = span->first_page;
  struct tcx_region *region = tcx_hpaa_region_of(tcx_huge_of_page(page));
  if (tcx_filler_tracker_of(&hpaa->filler, page) != NULL) {
    tcx_filler_shrink(&hpaa->filler, page, span->pages, (unsigned)pages,
                      now_ms);
    return true;
  }
  if (region != NULL) {
    tcx_region_set_free(&hpaa->regions, region, page + pages,
                        span->pages - pages, false, now_ms);
    return true;
  }
  struct shape from = shape_of(page, span->pages);
  struct shape to = shape_of(page, pages);
  return shrink_raw(hpaa, &from, &to, now_ms);
}

bool tcx_hpaa_resize(struct tcx_page_source *source, struct tcx_span *span,
                     size_t pages) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  size_t old_pages = span->pages;
  if (pages == old_pages)
    return true;
  if (pages > TCX_HPAA_PAGES_MAX / 2)
    return false;
  uint64_t now_ms = tcx_clock_ms();
  if (!tcx_hpaa_lock(hpaa))
    return false;
  if (pages > old_pages)
    tcx_hpaa_check_worth(hpaa, pages - old_pages);
  bool is_done = pages > old_pages ? grow(hpaa, span, pages, now_ms)
                                   : shrink(hpaa, span, pages, now_ms);
  if (is_done) {
    tcx_pagemap_clear_ends(span);
    span->pages = (uint32_t)pages;
    span->flags = 0;
    tcx_pagemap_set_ends(span);
    tcx_counter_add(&hpaa->in_use_pages, (uint64_t)pages - old_pages);
  }
  tcx_hpaa_unlock(hpaa);
  return is_done;
}

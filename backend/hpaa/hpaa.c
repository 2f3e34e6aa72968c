// hpaa.c -- which part serves a request. See hpaa.h.
#include "backend/hpaa/hpaa.h"

#include "backend/hpaa/hpaa_internal.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "pagemap/pagemap.h"

static_assert(TCX_HPAA_REGION_RUN_PAGES <= TCX_REGION_PAGES,
              "a region has room for a run of them");

// Taking needs no clock: what is taken counts as needed until the next free.
#define NO_TIME 0

// Where a span will lie.
struct place {
  uint64_t page;
  bool is_zero;
};

// -- Filler -------------------------------------------------------------------

static bool place_in_hole(struct tcx_hpaa *hpaa,
                          const struct tcx_page_request *request,
                          uint64_t now_ms, struct place *out) {
  struct tcx_filler_grant grant;
  if (!tcx_filler_allocate(&hpaa->filler, request, now_ms, &grant))
    return false;
  *out = (struct place){grant.page, grant.is_zero};
  return true;
}

static bool place_in_filler(struct tcx_hpaa *hpaa,
                            const struct tcx_page_request *request,
                            uint64_t now_ms, struct place *out) {
  if (place_in_hole(hpaa, request, now_ms, out))
    return true;
  bool is_backed = false;
  struct tcx_huge_run run = tcx_hpaa_take(hpaa, 1, 1, now_ms, &is_backed);
  if (run.count == 0)
    return false;
  if (!tcx_filler_reserve(&hpaa->filler, run)) {
    tcx_hpaa_put(hpaa, run, is_backed, now_ms);
    return false;
  }
  struct tcx_filler_grant grant;
  tcx_filler_add(&hpaa->filler,
                 tcx_hpaa_new_tracker(hpaa, run.first, is_backed, true),
                 request, now_ms, &grant);
  *out = (struct place){grant.page, grant.is_zero};
  return true;
}

// -- Raw ----------------------------------------------------------------------

// Whole huge pages, and the front of the next one, which is in the filler: what
// a large run was made of, when its donated end is still in use. Walks all that
// is free, so it is the last resort.
static bool place_again(struct tcx_hpaa *hpaa, size_t pages, uint64_t align,
                        uint64_t now_ms, struct place *out) {
  uint64_t count = pages / TCX_HPAA_P;
  unsigned tail = (unsigned)(pages % TCX_HPAA_P);
  uint64_t first = 0;  // of neighbours that are free
  uint64_t end = 0;
  if (tail == 0 || count == 0)
    return false;
  for (;;) {
    struct tcx_huge_run run = tcx_hpaa_next_free(hpaa, end);
    if (run.count == 0)
      return false;
    if (run.first != end)
      first = run.first;
    end = tcx_huge_run_end(run);
    struct tcx_filler_grant grant;
    if (end - first < count || (end - count) % align != 0 ||
        !tcx_filler_retake(&hpaa->filler, tcx_page_of_huge(end), tail, now_ms,
                           &grant)) {
      continue;
    }
    struct tcx_huge_run whole = {end - count, count};
    bool is_backed;
    bool is_taken = tcx_hpaa_take_at(hpaa, whole, now_ms, &is_backed);
    TCX_CHECK(is_taken);
    *out = (struct place){tcx_page_of_huge(whole.first), false};
    hpaa->raw_huge += count;
    tcx_hpaa_note_ours(whole);
    return true;
  }
}

static bool place_raw(struct tcx_hpaa *hpaa, size_t pages, size_t align_pages,
                      uint64_t now_ms, struct place *out) {
  uint64_t count = (pages + TCX_HPAA_P - 1) / TCX_HPAA_P;
  uint64_t align = tcx_max_size(align_pages / TCX_HPAA_P, 1);
  bool is_backed = false;
  struct tcx_huge_run run =
      tcx_hpaa_take(hpaa, count, align, now_ms, &is_backed);
  if (run.count == 0)
    return place_again(hpaa, pages, align, now_ms, out);
  struct tcx_huge_run whole = {run.first, pages / TCX_HPAA_P};
  struct tcx_huge_run last = {run.first + count - 1, 1};
  bool has_tail = pages % TCX_HPAA_P != 0;
  if (has_tail && !tcx_filler_reserve(&hpaa->filler, last)) {
    tcx_hpaa_put(hpaa, run, is_backed, now_ms);
    return false;
  }
  *out = (struct place){tcx_page_of_huge(run.first), !is_backed};
  if (has_tail) {
    bool is_tail_zero = tcx_hpaa_donate(hpaa, last.first, pages % TCX_HPAA_P,
                                        is_backed, now_ms);
    out->is_zero = out->is_zero && is_tail_zero;
  }
  hpaa->raw_huge += whole.count;
  tcx_hpaa_note_ours(whole);
  // A large run that nobody wrote to before may be touched here and there only.
  if (is_backed)
    tcx_hpaa_advise(hpaa, whole);
  return true;
}

// -- Regions ------------------------------------------------------------------

static bool place_in_region(struct tcx_hpaa *hpaa, size_t pages,
                            size_t align_pages, uint64_t now_ms,
                            struct place *out) {
  struct tcx_region *region;
  bool is_zero = false;
  uint64_t page = tcx_region_set_allocate(&hpaa->regions, pages, align_pages,
                                          now_ms, &region, &is_zero);
  if (page == 0)
    return false;
  *out = (struct place){page, is_zero};
  // As raw runs.
  if (!is_zero)
    tcx_hpaa_advise(hpaa, tcx_huge_run_around(page, pages));
  return true;
}

// Whether the ends of more raw runs would be of no use to anybody.
static bool has_slack(const struct tcx_hpaa *hpaa) {
  return hpaa->filler.stats.slack_pages << TCX_PAGE_SHIFT >=
         TCX_HPAA_SLACK_BYTES;
}

static bool place_between(struct tcx_hpaa *hpaa, size_t pages,
                          size_t align_pages, uint64_t now_ms,
                          struct place *out) {
  if (place_in_region(hpaa, pages, align_pages, now_ms, out))
    return true;
  if (has_slack(hpaa) && tcx_hpaa_add_region(hpaa) &&
      place_in_region(hpaa, pages, align_pages, now_ms, out)) {
    return true;
  }
  return place_raw(hpaa, pages, 1, now_ms, out);
}

// -- The table's entries ------------------------------------------------------

static bool place(struct tcx_hpaa *hpaa, const struct tcx_page_request *request,
                  uint64_t now_ms, struct place *out) {
  size_t pages = request->pages;
  size_t align_pages = request->align_pages;
  bool fits_filler = align_pages <= TCX_HPAA_P;
  if (fits_filler && pages <= TCX_HPAA_P / 2)
    return place_in_filler(hpaa, request, now_ms, out);
  if (fits_filler && pages < TCX_HPAA_P &&
      place_in_hole(hpaa, request, now_ms, out)) {
    return true;
  }
  bool is_between = fits_filler && pages % TCX_HPAA_P != 0 &&
                    pages <= TCX_HPAA_REGION_RUN_PAGES;
  return is_between ? place_between(hpaa, pages, align_pages, now_ms, out)
                    : place_raw(hpaa, pages, align_pages, now_ms, out);
}

// NULL: no memory.
static struct tcx_span *allocate_one(struct tcx_hpaa *hpaa,
                                     const struct tcx_page_request *request) {
  tcx_hpaa_check_worth(hpaa, request->pages);
  struct place found;
  if (!place(hpaa, request, NO_TIME, &found))
    return NULL;
  struct tcx_span *span = tcx_head_stock_get(&hpaa->heads);
  *span = (struct tcx_span){
      .first_page = found.page,
      .pages = (uint32_t)request->pages,
      .state = TCX_SPAN_LARGE,
      .flags = found.is_zero ? TCX_SPAN_ZERO : 0,
  };
  tcx_pagemap_set_ends(span);
  tcx_counter_add(&hpaa->in_use_pages, request->pages);
  tcx_counter_add(&hpaa->spans_allocated, 1);
  return span;
}

// More than one as long as none has to wait for memory or for the kernel.
static bool may_go_on(const struct tcx_hpaa *hpaa) {
  return hpaa->heads.count > 0 && hpaa->trackers != NULL &&
         hpaa->advise.count == 0;
}

struct tcx_span *tcx_hpaa_allocate(struct tcx_page_source *source,
                                   const struct tcx_page_request *request) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  if (request->pages > TCX_HPAA_PAGES_MAX / 2 ||
      request->align_pages > TCX_HPAA_PAGES_MAX / 2) {
    return NULL;
  }
  if (!tcx_hpaa_lock(hpaa))
    return NULL;
  struct tcx_span *spans = allocate_one(hpaa, request);
  struct tcx_span *last = spans;
  for (unsigned i = 0; i < request->more && last != NULL && may_go_on(hpaa);
       i++) {
    last->next = allocate_one(hpaa, request);
    last = last->next;
  }
  tcx_hpaa_unlock(hpaa);
  return spans;
}

static void free_raw(struct tcx_hpaa *hpaa, uint64_t page, size_t pages,
                     bool is_moved, uint64_t now_ms) {
  struct tcx_huge_run whole = {tcx_huge_of_page(page), pages / TCX_HPAA_P};
  unsigned tail = (unsigned)(pages % TCX_HPAA_P);
  TCX_ASSERT(tcx_hpaa_offset(page) == 0);
  TCX_ASSERT(hpaa->raw_huge >= whole.count);
  hpaa->raw_huge -= whole.count;
  tcx_hpaa_put(hpaa, whole, !is_moved, now_ms);
  if (tail != 0) {
    tcx_hpaa_absorb(
        hpaa,
        tcx_hpaa_free_in_filler(hpaa, tcx_page_of_huge(tcx_huge_run_end(whole)),
                                tail, is_moved, now_ms),
        now_ms);
  }
}

// A sample, for assertions. Reading gives the pages no memory of their own.
static bool reads_zero(const struct tcx_span *span) {
  size_t pages = tcx_min_size(span->pages, 64);
  for (size_t i = 0; i < pages; i++) {
    const char *page = tcx_span_start(span) + i * TCX_PAGE_SIZE;
    if (*(const uint64_t *)(const void *)page != 0)
      return false;
  }
  return true;
}

static void take_back(struct tcx_hpaa *hpaa, struct tcx_span *span,
                      uint64_t now_ms) {
  uint64_t page = span->first_page;
  size_t pages = span->pages;
  bool is_moved = (span->flags & TCX_SPAN_MOVED) != 0;
  TCX_ASSERT(!is_moved || reads_zero(span));
  TCX_ASSERT(tcx_pagemap_span_of_page(page) == span);
  TCX_ASSERT(hpaa->in_use_pages >= pages);
  tcx_pagemap_clear_ends(span);
  tcx_counter_add(&hpaa->in_use_pages, -(uint64_t)pages);
  tcx_counter_add(&hpaa->spans_deallocated, 1);
  struct tcx_region *region;
  if (TCX_UNLIKELY(span->released_words != 0)) {
    tcx_hpaa_absorb(hpaa, tcx_hpaa_free_parted(hpaa, span, now_ms), now_ms);
  } else if (tcx_filler_tracker_of(&hpaa->filler, page) != NULL) {
    tcx_hpaa_absorb(
        hpaa,
        tcx_hpaa_free_in_filler(hpaa, page, (unsigned)pages, is_moved, now_ms),
        now_ms);
  } else if ((region = tcx_hpaa_region_of(tcx_huge_of_page(page))) != NULL) {
    tcx_region_set_free(&hpaa->regions, region, page, pages, is_moved, now_ms);
    if (tcx_region_is_released(region))
      tcx_hpaa_drop_region(hpaa, region);
  } else {
    free_raw(hpaa, page, pages, is_moved, now_ms);
  }
  tcx_head_stock_put(&hpaa->heads, span);
}

void tcx_hpaa_deallocate(struct tcx_page_source *source,
                         struct tcx_span *spans) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  uint64_t now_ms = tcx_clock_ms();
  tcx_lock_acquire(&hpaa->lock);
  while (spans != NULL) {
    struct tcx_span *span = spans;
    spans = span->next;
    take_back(hpaa, span, now_ms);
  }
  tcx_lock_release(&hpaa->lock);
}

// page_heap_release.c -- free memory back to the system, longest runs first.
#include "backend/page_heap_internal.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

// What is released at once: not by demand, it is whole huge pages of the system
// where it can be, so that not more of them are broken than must be.
struct extent {
  size_t pages;
  size_t unit_pages;  // multiple of it, by taking more
};

static size_t system_page_pages(void) {
  return tcx_max_size(tcx_os_page_size() >> TCX_PAGE_SHIFT, 1);
}

// Cuts from the longest backed run what is to be released: whole pages of the
// system, at most about `extent`, from its end. It is BUSY then and on no list.
// NULL: there is none (parts of system pages cannot go).
static struct tcx_span *take_for_release(struct tcx_page_heap *heap,
                                         struct extent extent) {
  struct tcx_span *run = tcx_page_runs_longest(&heap->backed);
  if (run == NULL || extent.pages == 0) {
    return NULL;
  }
  size_t unit = system_page_pages();
  uint64_t first = tcx_align_up(run->first_page, unit);
  uint64_t end = tcx_align_down(run->first_page + run->pages, unit);
  if (first >= end) {
    return NULL;
  }
  if (end - first > extent.pages) {
    uint64_t start = tcx_align_down(end - extent.pages, extent.unit_pages);
    first = tcx_max_size(first, start);
  }
  tcx_page_heap_delist(heap, run);
  if (first > run->first_page) {
    struct tcx_span *front = run;
    run = tcx_page_heap_cut(heap, front, first - front->first_page);
    tcx_page_heap_enlist(heap, front);
  }
  struct tcx_span *rest = tcx_page_heap_cut(heap, run, end - first);
  if (rest != NULL) {
    tcx_page_heap_enlist(heap, rest);
  }
  tcx_page_heap_set_state(run, TCX_SPAN_BUSY);
  tcx_pagemap_set_ends(run);
  tcx_counter_add(&heap->busy_pages, run->pages);
  tcx_low_water_drop(&heap->demand, run->pages);
  return run;
}

// How much at most, of what demand does not need when `is_due`.
static struct extent choose_extent(struct tcx_page_heap *heap, size_t bytes,
                                   bool is_due) {
  struct extent extent = {((bytes - 1) >> TCX_PAGE_SHIFT) + 1,
                          system_page_pages()};
  if (is_due) {
    uint64_t spare = tcx_low_water_spare(&heap->demand, heap->backed.pages);
    extent.pages = tcx_min_size(extent.pages, spare);
  } else {
    size_t huge_pages = TCX_HUGE_PAGE_SIZE >> TCX_PAGE_SHIFT;
    extent.unit_pages = tcx_max_size(extent.unit_pages, huge_pages);
  }
  return extent;
}

// Releases one run. Returns its bytes, 0 when there is none or it failed.
static size_t release_one(struct tcx_page_heap *heap, size_t bytes, bool is_due,
                          uint64_t now_ms) {
  if (!tcx_page_heap_lock(heap)) {
    return 0;
  }
  tcx_page_heap_note_time(heap, now_ms);
  struct tcx_span *run =
      take_for_release(heap, choose_extent(heap, bytes, is_due));
  tcx_lock_release(&heap->lock);
  if (run == NULL) {
    return 0;
  }
  size_t released = tcx_span_bytes(run);
  int error = tcx_os_release(tcx_span_start(run), released);
  tcx_lock_acquire(&heap->lock);
  tcx_counter_add(&heap->busy_pages, -(uint64_t)run->pages);
  tcx_pagemap_clear_ends(run);
  // When the system refused, the memory is still there and not known zero.
  tcx_page_heap_set_state(run, error == 0 ? TCX_SPAN_RELEASED : TCX_SPAN_FREE);
  tcx_page_heap_insert(heap, run);
  tcx_lock_release(&heap->lock);
  return error == 0 ? released : 0;
}

static size_t release_runs(struct tcx_page_heap *heap, size_t bytes,
                           bool is_due, uint64_t now_ms) {
  size_t released = 0;
  while (released < bytes) {
    size_t step = release_one(heap, bytes - released, is_due, now_ms);
    if (step == 0) {
      break;
    }
    released += step;
  }
  return released;
}

// All that is free is kept whole.
size_t tcx_page_heap_release(struct tcx_page_source *source, size_t bytes,
                             enum tcx_page_release kind) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  (void)kind;
  tcx_lock_acquire(&heap->release_lock);
  size_t released = release_runs(heap, bytes, false, tcx_clock_ms());
  tcx_lock_release(&heap->release_lock);
  return released;
}

// -- By demand ----------------------------------------------------------------

size_t tcx_page_heap_maintain(struct tcx_page_source *source, uint64_t now_ms,
                              size_t bytes_max, bool may_grow) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  (void)may_grow;
  tcx_lock_acquire(&heap->release_lock);
  size_t released = release_runs(heap, bytes_max, true, now_ms);
  if (released < bytes_max) {
    // What is left could not go: parts of system pages, or the system refused.
    // It is tried again after the time to keep, not at once.
    tcx_lock_acquire(&heap->lock);
    tcx_page_heap_note_time(heap, now_ms);
    uint64_t left = tcx_low_water_spare(&heap->demand, heap->backed.pages);
    tcx_low_water_drop(&heap->demand, left);
    tcx_lock_release(&heap->lock);
  }
  tcx_lock_release(&heap->release_lock);
  return released;
}

uint64_t tcx_page_heap_due_ms(struct tcx_page_source *source, uint64_t now_ms) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  tcx_lock_acquire(&heap->lock);
  tcx_page_heap_note_time(heap, now_ms);
  uint64_t due_ms =
      tcx_low_water_due_ms(&heap->demand, heap->backed.pages, now_ms);
  tcx_lock_release(&heap->lock);
  return due_ms;
}

// -- Parts of spans in use ----------------------------------------------------

// Once the span is freed it counts as backed, whole: what was released of it is
// not looked up. Giving that back once more costs little.
bool tcx_page_heap_release_part(struct tcx_page_source *source,
                                const struct tcx_span *span, void *start,
                                size_t bytes, uint64_t now_ms) {
  (void)source;
  (void)span;
  (void)now_ms;
  TCX_ASSERT(span->state == TCX_SPAN_SMALL);
  TCX_ASSERT((char *)start >= tcx_span_start(span));
  TCX_ASSERT((char *)start + bytes <=
             tcx_span_start(span) + tcx_span_bytes(span));
  TCX_ASSERT((uintptr_t)start % tcx_os_page_size() == 0);
  TCX_ASSERT(bytes > 0 && bytes % tcx_os_page_size() == 0);
  return tcx_os_release(start, bytes) == 0;
}

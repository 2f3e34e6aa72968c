// page_heap_release.c -- free memory back to the system, longest runs first.
#include "backend/page_heap_internal.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

// Cuts from the longest backed run what is to be released: whole pages of the
// system, at most about `bytes`, from its end. It is BUSY then and on no list.
// NULL: there is none (parts of system pages cannot go).
static struct tcx_span *take_for_release(struct tcx_page_heap *heap,
                                         size_t bytes) {
  struct tcx_span *run = tcx_page_runs_longest(&heap->backed);
  if (run == NULL) {
    return NULL;
  }
  size_t unit = tcx_os_page_size() >> TCX_PAGE_SHIFT;
  unit = tcx_max_size(unit, 1);
  uint64_t first = tcx_align_up(run->first_page, unit);
  uint64_t end = tcx_align_down(run->first_page + run->pages, unit);
  if (first >= end) {
    return NULL;
  }
  // Not more huge pages than asked for are broken or lost.
  size_t huge_pages = TCX_HUGE_PAGE_SIZE >> TCX_PAGE_SHIFT;
  size_t wanted = ((bytes - 1) >> TCX_PAGE_SHIFT) + 1;
  if (end - first > wanted) {
    uint64_t start =
        tcx_align_down(end - wanted, tcx_max_size(unit, huge_pages));
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
  return run;
}

// Releases one run. Returns its bytes, 0 when there is none or it failed.
static size_t release_one(struct tcx_page_heap *heap, size_t bytes) {
  if (!tcx_page_heap_lock(heap)) {
    return 0;
  }
  struct tcx_span *run = take_for_release(heap, bytes);
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

size_t tcx_page_heap_release(struct tcx_page_source *source, size_t bytes) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  size_t released = 0;
  tcx_lock_acquire(&heap->release_lock);
  while (released < bytes) {
    size_t step = release_one(heap, bytes - released);
    if (step == 0) {
      break;
    }
    released += step;
  }
  tcx_lock_release(&heap->release_lock);
  return released;
}

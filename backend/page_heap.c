// page_heap.c -- allocate, grow, deallocate, resize. See page_heap.h.
#include "backend/page_heap.h"

#include "backend/page_heap_internal.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/config.h"
#include "pagemap/pagemap.h"

static_assert(offsetof(struct tcx_page_heap, source) == 0,
              "a page source is the start of its implementation");

// -- Allocation ---------------------------------------------------------------

// Makes committed memory free runs. False: no memory for the pagemap; the piece
// is kept for the next time.
static bool register_piece(struct tcx_page_heap *heap) {
  struct tcx_system_piece piece = heap->unregistered;
  if (!tcx_pagemap_ensure((uintptr_t)piece.start, piece.bytes)) {
    return false;
  }
  heap->unregistered.start = NULL;
  size_t pages = piece.bytes >> TCX_PAGE_SHIFT;
  tcx_counter_add(&heap->mapped_pages, pages);
  tcx_page_heap_insert(heap, tcx_page_heap_new_run(
                                 heap, (uintptr_t)piece.start >> TCX_PAGE_SHIFT,
                                 pages, TCX_SPAN_RELEASED));
  return true;
}

// Under the lock, so that threads that find nothing do not all grow the heap.
static bool grow(struct tcx_page_heap *heap, size_t pages) {
  if (heap->unregistered.start == NULL) {
    heap->unregistered = tcx_system_allocate(pages << TCX_PAGE_SHIFT);
    if (heap->unregistered.start == NULL) {
      return false;
    }
  }
  return register_piece(heap);
}

static struct tcx_span *find(struct tcx_page_heap *heap, size_t pages,
                             size_t align_pages) {
  if (align_pages == 1) {
    struct tcx_span *run = tcx_page_runs_best_fit(&heap->backed, pages);
    return run != NULL ? run : tcx_page_runs_best_fit(&heap->released, pages);
  }
  struct tcx_span *run =
      tcx_page_runs_aligned_fit(&heap->backed, pages, align_pages);
  if (run != NULL) {
    return run;
  }
  return tcx_page_runs_aligned_fit(&heap->released, pages, align_pages);
}

// Takes the aligned part out of a free run and puts the ends back. Those have
// no free neighbour of their state, or they would have been one run with it.
static struct tcx_span *carve(struct tcx_page_heap *heap, struct tcx_span *run,
                              size_t pages, size_t align_pages) {
  uint8_t flags = run->flags & TCX_SPAN_ZERO;
  tcx_page_heap_delist(heap, run);
  size_t skip = tcx_align_up(run->first_page, align_pages) - run->first_page;
  if (skip > 0) {
    struct tcx_span *front = run;
    run = tcx_page_heap_cut(heap, front, skip);
    tcx_page_heap_enlist(heap, front);
  }
  struct tcx_span *rest = tcx_page_heap_cut(heap, run, pages);
  if (rest != NULL) {
    tcx_page_heap_enlist(heap, rest);
  }
  *run = (struct tcx_span){.first_page = run->first_page,
                           .pages = run->pages,
                           .state = TCX_SPAN_LARGE,
                           .flags = flags};
  tcx_pagemap_set_ends(run);
  return run;
}

static struct tcx_span *heap_allocate(struct tcx_page_source *source,
                                      const struct tcx_page_request *request) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  size_t pages = request->pages;
  size_t align_pages = request->align_pages;
  if (pages > TCX_PAGE_HEAP_PAGES_MAX / 2 ||
      align_pages > TCX_PAGE_HEAP_PAGES_MAX / 2) {
    return NULL;
  }
  if (!tcx_page_heap_lock(heap)) {
    return NULL;
  }
  tcx_page_heap_note_time(heap, tcx_clock_ms());
  struct tcx_span *run = find(heap, pages, align_pages);
  // Twice: a piece kept from a failure before may be too small.
  for (int i = 0; i < 2 && run == NULL; i++) {
    if (!grow(heap, pages + align_pages - 1)) {
      break;
    }
    run = find(heap, pages, align_pages);
    // Growing used up a head.
    if (run != NULL && heap->heads.count < 2) {
      struct tcx_span *heads = tcx_head_stock_make();
      if (heads == NULL) {
        run = NULL;
        break;
      }
      tcx_head_stock_add(&heap->heads, heads);
    }
  }
  if (run != NULL) {
    run = carve(heap, run, pages, align_pages);
    tcx_page_heap_note_taken(heap);
    tcx_counter_add(&heap->in_use_pages, pages);
    tcx_counter_add(&heap->spans_allocated, 1);
  }
  tcx_lock_release(&heap->lock);
  return run;
}

// A sample, for assertions. Reading gives the pages no memory of their own.
static bool reads_zero(const struct tcx_span *span) {
  size_t pages = tcx_min_size(span->pages, 64);
  for (size_t i = 0; i < pages; i++) {
    const char *page = tcx_span_start(span) + i * TCX_PAGE_SIZE;
    if (*(const uint64_t *)(const void *)page != 0) {
      return false;
    }
  }
  return true;
}

// Caller holds the lock, and has noted the time.
static void take_back(struct tcx_page_heap *heap, struct tcx_span *span) {
  TCX_ASSERT(tcx_pagemap_span_of_page(span->first_page) == span);
  TCX_ASSERT(heap->in_use_pages >= span->pages);
  tcx_counter_add(&heap->in_use_pages, -(uint64_t)span->pages);
  tcx_counter_add(&heap->spans_deallocated, 1);
  tcx_pagemap_clear_ends(span);
  span->released_words = 0;
  bool is_moved = (span->flags & TCX_SPAN_MOVED) != 0;
  TCX_ASSERT(!is_moved || reads_zero(span));
  tcx_page_heap_set_state(span, is_moved ? TCX_SPAN_RELEASED : TCX_SPAN_FREE);
  tcx_page_heap_insert(heap, span);
}

static void heap_deallocate(struct tcx_page_source *source,
                            struct tcx_span *spans) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  tcx_lock_acquire(&heap->lock);
  tcx_page_heap_note_time(heap, tcx_clock_ms());
  while (spans != NULL) {
    struct tcx_span *span = spans;
    spans = span->next;
    take_back(heap, span);
  }
  tcx_lock_release(&heap->lock);
}

// -- Resize -------------------------------------------------------------------

static void shrink(struct tcx_page_heap *heap, struct tcx_span *span,
                   size_t pages) {
  tcx_pagemap_clear_ends(span);
  struct tcx_span *rest = tcx_page_heap_cut(heap, span, pages);
  tcx_pagemap_set_ends(span);
  tcx_counter_add(&heap->in_use_pages, -(uint64_t)rest->pages);
  tcx_page_heap_set_state(rest, TCX_SPAN_FREE);
  tcx_page_heap_insert(heap, rest);
}

// Pages behind the span may be a backed and a released run in turn.
static bool grow_in_place(struct tcx_page_heap *heap, struct tcx_span *span,
                          size_t pages) {
  size_t missing = pages - span->pages;
  size_t found = 0;
  while (found < missing) {
    struct tcx_span *next =
        tcx_pagemap_span_of_page(span->first_page + span->pages + found);
    if (next == NULL || (tcx_page_heap_state(next) != TCX_SPAN_FREE &&
                         tcx_page_heap_state(next) != TCX_SPAN_RELEASED)) {
      return false;
    }
    found += next->pages;
  }
  tcx_pagemap_clear_ends(span);
  while (span->pages < pages) {
    struct tcx_span *next =
        tcx_pagemap_span_of_page(span->first_page + span->pages);
    tcx_page_heap_delist(heap, next);
    size_t taken = tcx_min_size(next->pages, pages - span->pages);
    struct tcx_span *rest = tcx_page_heap_cut(heap, next, taken);
    if (rest != NULL) {
      tcx_page_heap_enlist(heap, rest);
    }
    tcx_head_stock_put(&heap->heads, next);
    span->pages += (uint32_t)taken;
  }
  tcx_pagemap_set_ends(span);
  tcx_counter_add(&heap->in_use_pages, missing);
  tcx_page_heap_note_taken(heap);
  return true;
}

static bool heap_resize(struct tcx_page_source *source, struct tcx_span *span,
                        size_t pages) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  if (pages == span->pages) {
    return true;
  }
  if (pages > TCX_PAGE_HEAP_PAGES_MAX / 2 || !tcx_page_heap_lock(heap)) {
    return false;
  }
  tcx_page_heap_note_time(heap, tcx_clock_ms());
  bool ok = true;
  if (pages < span->pages) {
    shrink(heap, span, pages);
  } else {
    ok = grow_in_place(heap, span, pages);
  }
  if (ok) {
    span->flags = 0;
  }
  tcx_lock_release(&heap->lock);
  return ok;
}

// -- Statistics, fork, table --------------------------------------------------

static void heap_stats(struct tcx_page_source *source,
                       struct tcx_page_source_stats *out) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  *out = (struct tcx_page_source_stats){0};
  tcx_lock_acquire(&heap->lock);
  out->mapped_bytes = heap->mapped_pages << TCX_PAGE_SHIFT;
  out->in_use_bytes = heap->in_use_pages << TCX_PAGE_SHIFT;
  out->free_bytes = (heap->backed.pages + heap->busy_pages) << TCX_PAGE_SHIFT;
  out->kept_bytes = out->free_bytes;
  out->released_bytes = heap->released.pages << TCX_PAGE_SHIFT;
  // Made usable, but not yet in the pagemap for want of memory.
  if (heap->unregistered.start != NULL) {
    out->mapped_bytes += heap->unregistered.bytes;
    out->released_bytes += heap->unregistered.bytes;
  }
  out->spans_allocated = heap->spans_allocated;
  out->spans_deallocated = heap->spans_deallocated;
  out->lock_waits = heap->lock.waits;
  tcx_lock_release(&heap->lock);
}

// The release lock is of a lower rank; it has hooks of its own.
static void heap_fork_prepare(struct tcx_page_source *source) {
  tcx_lock_acquire(&tcx_page_heap_of(source)->lock);
}

static void heap_fork_parent(struct tcx_page_source *source) {
  tcx_lock_release(&tcx_page_heap_of(source)->lock);
}

static void heap_fork_child(struct tcx_page_source *source) {
  tcx_lock_reset_in_child(&tcx_page_heap_of(source)->lock);
}

static const struct tcx_page_source_ops heap_ops = {
    .name = "page heap",
    .allocate = heap_allocate,
    .deallocate = heap_deallocate,
    .resize = heap_resize,
    .release = tcx_page_heap_release,
    .maintain = tcx_page_heap_maintain,
    .due_ms = tcx_page_heap_due_ms,
    .release_part = tcx_page_heap_release_part,
    .stats = heap_stats,
    .fork_prepare = heap_fork_prepare,
    .fork_parent = heap_fork_parent,
    .fork_child = heap_fork_child,
    .check = tcx_page_heap_check,
};

struct tcx_page_source *tcx_page_heap_init(struct tcx_page_heap *self) {
  *self = (struct tcx_page_heap){.source = {&heap_ops}};
  tcx_lock_init(&self->lock, TCX_LOCK_RANK_PAGE_SOURCE);
  tcx_lock_init(&self->release_lock, TCX_LOCK_RANK_RELEASE);
  tcx_page_runs_init(&self->backed);
  tcx_page_runs_init(&self->released);
  tcx_low_water_init(&self->demand, tcx_clock_ms());
  self->release_hooks = (struct tcx_fork_hooks){
      TCX_LOCK_RANK_RELEASE, &self->release_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&self->release_hooks);
  return &self->source;
}

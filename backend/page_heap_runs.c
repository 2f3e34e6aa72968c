// page_heap_runs.c -- the lock; cutting and merging free runs, the check.
#include "backend/page_heap_internal.h"
#include "base/check.h"
#include "pagemap/pagemap.h"

bool tcx_page_heap_lock(struct tcx_page_heap *heap) {
  tcx_lock_acquire(&heap->lock);
  while (TCX_UNLIKELY(heap->heads.count < TCX_PAGE_HEAP_HEADS_NEEDED)) {
    tcx_lock_release(&heap->lock);
    struct tcx_span *heads = tcx_head_stock_make();
    if (heads == NULL) {
      return false;
    }
    tcx_lock_acquire(&heap->lock);
    tcx_head_stock_add(&heap->heads, heads);
  }
  return true;
}

struct tcx_span *tcx_page_heap_new_run(struct tcx_page_heap *heap,
                                       uint64_t first_page, size_t pages,
                                       enum tcx_span_state state) {
  struct tcx_span *run = tcx_head_stock_get(&heap->heads);
  TCX_ASSERT(pages > 0 && pages <= TCX_PAGE_HEAP_PAGES_MAX);
  *run = (struct tcx_span){
      .first_page = first_page, .pages = (uint32_t)pages, .state = state};
  return run;
}

// -- Free runs ----------------------------------------------------------------

static struct tcx_page_runs *runs_of(struct tcx_page_heap *heap,
                                     unsigned state) {
  TCX_ASSERT(state == TCX_SPAN_FREE || state == TCX_SPAN_RELEASED);
  return state == TCX_SPAN_FREE ? &heap->backed : &heap->released;
}

void tcx_page_heap_enlist(struct tcx_page_heap *heap, struct tcx_span *run) {
  run->flags = run->state == TCX_SPAN_RELEASED ? TCX_SPAN_ZERO : 0;
  tcx_pagemap_set_ends(run);
  tcx_page_runs_insert(runs_of(heap, run->state), run);
}

void tcx_page_heap_delist(struct tcx_page_heap *heap, struct tcx_span *run) {
  tcx_page_runs_remove(runs_of(heap, run->state), run);
  tcx_pagemap_clear_ends(run);
}

// The run that ends (starts) beside `page`, if it is in the same free state and
// the two together are not too long for one head.
static struct tcx_span *mergeable(uint64_t page, const struct tcx_span *run) {
  struct tcx_span *other = tcx_pagemap_span_of_page(page);
  if (other == NULL || tcx_page_heap_state(other) != run->state) {
    return NULL;
  }
  return (size_t)other->pages + run->pages <= TCX_PAGE_HEAP_PAGES_MAX ? other
                                                                      : NULL;
}

void tcx_page_heap_insert(struct tcx_page_heap *heap, struct tcx_span *run) {
  TCX_ASSERT(tcx_lock_is_held(&heap->lock));
  struct tcx_span *before = mergeable(run->first_page - 1, run);
  if (before != NULL) {
    tcx_page_heap_delist(heap, before);
    run->first_page = before->first_page;
    run->pages += before->pages;
    tcx_head_stock_put(&heap->heads, before);
  }
  struct tcx_span *after = mergeable(run->first_page + run->pages, run);
  if (after != NULL) {
    tcx_page_heap_delist(heap, after);
    run->pages += after->pages;
    tcx_head_stock_put(&heap->heads, after);
  }
  tcx_page_heap_enlist(heap, run);
}

struct tcx_span *tcx_page_heap_cut(struct tcx_page_heap *heap,
                                   struct tcx_span *run, size_t pages) {
  TCX_ASSERT(pages > 0 && pages <= run->pages);
  if (pages == run->pages) {
    return NULL;
  }
  struct tcx_span *rest =
      tcx_page_heap_new_run(heap, run->first_page + pages, run->pages - pages,
                            tcx_page_heap_state(run));
  run->pages = (uint32_t)pages;
  return rest;
}

// -- Check --------------------------------------------------------------------

static void check_neighbour(const struct tcx_span *run, uint64_t page) {
  const struct tcx_span *other = tcx_pagemap_span_of_page(page);
  bool is_free = other != NULL && tcx_page_heap_state(other) == run->state;
  TCX_CHECK(!is_free ||
            (size_t)other->pages + run->pages > TCX_PAGE_HEAP_PAGES_MAX);
}

static void check_run(const struct tcx_span *run) {
  uint64_t last = run->first_page + run->pages - 1;
  TCX_CHECK(tcx_pagemap_span_of_page(run->first_page) == run);
  TCX_CHECK(tcx_pagemap_span_of_page(last) == run);
  TCX_CHECK(run->released_words == 0);
  check_neighbour(run, run->first_page - 1);
  check_neighbour(run, last + 1);
}

static void check_backed(const struct tcx_span *run) {
  TCX_CHECK(run->state == TCX_SPAN_FREE);
  TCX_CHECK(run->flags == 0);
  check_run(run);
}

static void check_released(const struct tcx_span *run) {
  TCX_CHECK(run->state == TCX_SPAN_RELEASED);
  TCX_CHECK(run->flags == TCX_SPAN_ZERO);
  check_run(run);
}

void tcx_page_heap_check(struct tcx_page_source *source) {
  struct tcx_page_heap *heap = tcx_page_heap_of(source);
  tcx_lock_acquire(&heap->lock);
  tcx_page_runs_check(&heap->backed, check_backed);
  tcx_page_runs_check(&heap->released, check_released);
  tcx_low_water_check(&heap->demand, heap->backed.pages);
  uint64_t pages = heap->in_use_pages + heap->busy_pages;
  pages += heap->backed.pages + heap->released.pages;
  TCX_CHECK(pages == heap->mapped_pages);
  tcx_head_stock_check(&heap->heads);
  tcx_lock_release(&heap->lock);
}

// runs.c -- blocks of the run classes. See runs.h.
#include "frontend/runs.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/config.h"
#include "frontend/slab_internal.h"
#include "pagemap/pagemap.h"

#define RUN_BUDGET_MIN (4 * TCX_MIB)
#define RUN_BUDGET_MAX (16 * TCX_MIB)

// By class; atomic, as every thread makes and drops blocks.
static struct tcx_run_stats counts[TCX_SIZE_CLASS_COUNT - TCX_RUN_CLASS_FIRST];

static struct tcx_run_stats *counts_of(unsigned size_class) {
  TCX_ASSERT(size_class >= TCX_RUN_CLASS_FIRST);
  return &counts[size_class - TCX_RUN_CLASS_FIRST];
}

// From now on the span is a block of the class, or of none.
static void set_class(struct tcx_span *span, unsigned size_class) {
  unsigned before = span->size_class;
  if (before != 0)
    tcx_atomic_fetch_sub_relaxed(&counts_of(before)->blocks, 1);
  span->size_class = (uint8_t)size_class;
  tcx_pagemap_set_run(tcx_span_start(span), size_class);
  if (size_class == 0)
    return;
  tcx_atomic_fetch_add_relaxed(&counts_of(size_class)->blocks, 1);
  tcx_atomic_fetch_add_relaxed(&counts_of(size_class)->blocks_total, 1);
}

void *tcx_run_allocate(struct tcx_page_source *pages, unsigned size_class,
                       bool *zeroed) {
  const struct tcx_size_class *row = &tcx_size_classes[size_class];
  struct tcx_span *span = tcx_page_source_allocate(pages, row->pages, 1, 1);
  if (span == NULL)
    return NULL;
  *zeroed = (span->flags & TCX_SPAN_ZERO) != 0;
  span->flags = 0;
  set_class(span, size_class);
  return tcx_span_start(span);
}

void tcx_run_deallocate(struct tcx_page_source *pages, void *object) {
  struct tcx_span *span = tcx_pagemap_span_of(object);
  TCX_CHECK(span != NULL && span->state == TCX_SPAN_LARGE);
  TCX_ASSERT(span->size_class != 0);
  set_class(span, 0);
  tcx_page_source_deallocate(pages, span);
}

bool tcx_run_resize(struct tcx_page_source *pages, struct tcx_span *span,
                    unsigned size_class, size_t span_pages) {
  TCX_ASSERT(span->state == TCX_SPAN_LARGE);
  if (span->pages != span_pages &&
      !tcx_page_source_resize(pages, span, span_pages)) {
    return false;
  }
  if (span->size_class != size_class)
    set_class(span, size_class);
  return true;
}

void tcx_run_read_stats(unsigned size_class, struct tcx_run_stats *out) {
  const struct tcx_run_stats *from = counts_of(size_class);
  out->blocks = tcx_atomic_load_relaxed(&from->blocks);
  out->blocks_total = tcx_atomic_load_relaxed(&from->blocks_total);
}

uint64_t tcx_run_budget(struct tcx_page_source *pages) {
  struct tcx_page_source_stats stats;
  pages->ops->stats(pages, &stats);
  uint64_t budget = stats.in_use_bytes / 32;
  if (budget < RUN_BUDGET_MIN)
    return RUN_BUDGET_MIN;
  return budget < RUN_BUDGET_MAX ? budget : RUN_BUDGET_MAX;
}

// Drops what the slab holds of another class, and the room for it.
static void class_drop(struct tcx_slab *self, unsigned size_class) {
  tcx_slab_wire_remove(self, size_class);
  size_t count = tcx_slab_count(self, size_class);
  self->headers[size_class].top -= count;
  tcx_slab_give_down(self, size_class, self->headers[size_class].top + 1,
                     count);
  tcx_slab_set_capacity(self, size_class, 0);
}

static bool fits(const struct tcx_slab *self, uint64_t budget, size_t size) {
  uint64_t all = tcx_atomic_load_relaxed(&self->sources->run_bytes);
  return self->run_bytes + size <= budget &&
         all + size <= TCX_RUN_SHARES * budget;
}

void tcx_slab_run_room(struct tcx_slab *self, unsigned size_class) {
  if (tcx_slab_capacity(self, size_class) >= TCX_SLAB_RUNS_MAX)
    return;
  size_t size = tcx_size_classes[size_class].size;
  uint64_t budget = tcx_run_budget(self->sources->pages);
  unsigned other = TCX_SIZE_CLASS_COUNT;
  while (!fits(self, budget, size) && --other >= TCX_RUN_CLASS_FIRST) {
    if (other != size_class && tcx_slab_capacity(self, other) > 0)
      class_drop(self, other);
  }
  if (fits(self, budget, size))
    (void)tcx_slab_reserve_run(self, size_class);
}

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

void *tcx_run_allocate(struct tcx_page_source *pages, unsigned size_class,
                       bool *zeroed) {
  const struct tcx_size_class *row = &tcx_size_classes[size_class];
  struct tcx_span *span = tcx_page_source_allocate(pages, row->pages, 1, 1);
  if (span == NULL)
    return NULL;
  *zeroed = (span->flags & TCX_SPAN_ZERO) != 0;
  span->flags = 0;
  span->size_class = (uint8_t)size_class;
  tcx_pagemap_set_run(tcx_span_start(span), size_class);
  tcx_atomic_fetch_add_relaxed(&counts_of(size_class)->blocks, 1);
  tcx_atomic_fetch_add_relaxed(&counts_of(size_class)->blocks_total, 1);
  return tcx_span_start(span);
}

void tcx_run_deallocate(struct tcx_page_source *pages, void *object) {
  struct tcx_span *span = tcx_pagemap_span_of(object);
  TCX_CHECK(span != NULL && span->state == TCX_SPAN_LARGE);
  tcx_atomic_fetch_sub_relaxed(&counts_of(span->size_class)->blocks, 1);
  tcx_pagemap_set_run(object, 0);
  span->size_class = 0;
  tcx_page_source_deallocate(pages, span);
}

void tcx_run_read_stats(unsigned size_class, struct tcx_run_stats *out) {
  const struct tcx_run_stats *from = counts_of(size_class);
  out->blocks = tcx_atomic_load_relaxed(&from->blocks);
  out->blocks_total = tcx_atomic_load_relaxed(&from->blocks_total);
}

bool tcx_run_budget_allows(const struct tcx_slab_sources *sources,
                           size_t bytes) {
  struct tcx_page_source_stats stats;
  sources->pages->ops->stats(sources->pages, &stats);
  uint64_t limit = stats.in_use_bytes / 32;
  if (limit < RUN_BUDGET_MIN)
    limit = RUN_BUDGET_MIN;
  if (limit > RUN_BUDGET_MAX)
    limit = RUN_BUDGET_MAX;
  return tcx_atomic_load_relaxed(&sources->run_bytes) + bytes <= limit;
}

// Drops what the slab holds of all other run classes, and their capacity.
static void other_runs_drop(struct tcx_slab *self, unsigned except) {
  for (unsigned i = TCX_RUN_CLASS_FIRST; i < TCX_SIZE_CLASS_COUNT; i++) {
    if (i == except || self->rows[i].begin == NULL)
      continue;
    tcx_slab_wire_remove(self, i);
    size_t count = tcx_slab_count(self, i);
    self->headers[i].top -= count;
    tcx_slab_give_down(self, i, self->headers[i].top + 1, count);
    tcx_slab_set_capacity(self, i, 0);
  }
}

void tcx_slab_run_room(struct tcx_slab *self, unsigned size_class) {
  size_t size = tcx_size_classes[size_class].size;
  if (!tcx_run_budget_allows(self->sources, size)) {
    other_runs_drop(self, size_class);
    if (!tcx_run_budget_allows(self->sources, size))
      return;
  }
  (void)tcx_slab_reserve_run(self, size_class);
}

// central_source.c -- see central_source.h.
#include "middle/central_source.h"

#include "base/lock.h"

static struct tcx_central_source *self_of(struct tcx_object_source *source) {
  return (struct tcx_central_source *)source;
}

static unsigned remove_range(struct tcx_object_source *source,
                             unsigned size_class, void **batch,
                             unsigned count) {
  return tcx_central_freelist_remove_range(&self_of(source)->lists[size_class],
                                           batch, count);
}

static void insert_range(struct tcx_object_source *source, unsigned size_class,
                         void *const *batch, unsigned count) {
  tcx_central_freelist_insert_range(&self_of(source)->lists[size_class], batch,
                                    count);
}

// Nothing is cached here but what hardening keeps.
static void trim(struct tcx_object_source *source, bool all) {
  for (unsigned i = 1; all && i < TCX_RUN_CLASS_FIRST; i++)
    tcx_central_freelist_trim(&self_of(source)->lists[i]);
}

void tcx_central_source_fill_stats(const struct tcx_central_freelist *list,
                                   struct tcx_object_source_stats *out) {
  const struct tcx_size_class *row = &tcx_size_classes[list->size_class];
  struct tcx_central_freelist_stats stats;
  tcx_central_freelist_read_stats(list, &stats);
  out->spans = stats.spans;
  out->spans_total = stats.spans_total;
  out->central_objects = stats.free_objects;
  out->lock_waits = stats.lock_waits;
  out->span_tail_bytes = stats.spans * (row->pages * (uint64_t)TCX_PAGE_SIZE -
                                        (uint64_t)row->objects * row->size);
}

static void stats(struct tcx_object_source *source, unsigned size_class,
                  struct tcx_object_source_stats *out) {
  const struct tcx_central_freelist *list = &self_of(source)->lists[size_class];
  struct tcx_central_freelist_stats numbers;
  tcx_central_freelist_read_stats(list, &numbers);
  tcx_central_source_fill_stats(list, out);
  out->out_objects = numbers.out_objects;
  out->transfer_objects = 0;
  out->transfer_hits = 0;
  out->transfer_misses = 0;
}

static void fork_prepare(struct tcx_object_source *source) {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    tcx_lock_acquire(&self_of(source)->lists[i].lock);
  }
}

static void fork_parent(struct tcx_object_source *source) {
  for (unsigned i = TCX_RUN_CLASS_FIRST - 1; i > 0; i--) {
    tcx_lock_release(&self_of(source)->lists[i].lock);
  }
}

static void fork_child(struct tcx_object_source *source) {
  for (unsigned i = TCX_RUN_CLASS_FIRST - 1; i > 0; i--) {
    tcx_lock_reset_in_child(&self_of(source)->lists[i].lock);
  }
}

static void check(struct tcx_object_source *source) {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    tcx_central_freelist_check(&self_of(source)->lists[i]);
  }
}

static const struct tcx_object_source_ops ops = {
    .name = "central_freelist",
    .remove_range = remove_range,
    .insert_range = insert_range,
    .trim = trim,
    .stats = stats,
    .fork_prepare = fork_prepare,
    .fork_parent = fork_parent,
    .fork_child = fork_child,
    .check = check,
};

struct tcx_object_source *tcx_central_source_init(
    struct tcx_central_source *self, struct tcx_page_source *pages) {
  self->source.ops = &ops;
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    tcx_central_freelist_init(&self->lists[i], pages, i);
  }
  return &self->source;
}

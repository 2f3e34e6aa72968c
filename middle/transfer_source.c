// transfer_source.c -- see transfer_source.h.
#include "middle/transfer_source.h"

#include "base/atomic.h"
#include "base/check.h"
#include "base/lock.h"
#include "middle/central_source.h"

static struct tcx_transfer_source_class *class_of(
    struct tcx_object_source *source, unsigned size_class) {
  return &((struct tcx_transfer_source *)source)->classes[size_class];
}

static unsigned remove_range(struct tcx_object_source *source,
                             unsigned size_class, void **batch,
                             unsigned count) {
  return tcx_transfer_cache_remove_range(&class_of(source, size_class)->cache,
                                         batch, count);
}

static void insert_range(struct tcx_object_source *source, unsigned size_class,
                         void *const *batch, unsigned count) {
  tcx_transfer_cache_insert_range(&class_of(source, size_class)->cache, batch,
                                  count);
}

static void trim(struct tcx_object_source *source, bool all) {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    tcx_transfer_cache_trim(&class_of(source, i)->cache, all);
  }
}

static struct tcx_central_freelist *list_of(struct tcx_object_source *source,
                                            unsigned size_class) {
  return &class_of(source, size_class)->list;
}

static size_t release(struct tcx_object_source *source, uint64_t now_ms,
                      size_t bytes_max, bool is_now) {
  struct tcx_transfer_source *self = (struct tcx_transfer_source *)source;
  return tcx_central_source_release(source, list_of, &self->release_class,
                                    now_ms, bytes_max, is_now);
}

static uint64_t release_due_ms(struct tcx_object_source *source,
                               uint64_t now_ms) {
  return tcx_central_source_release_due_ms(source, list_of, now_ms);
}

static uint64_t released_bytes(struct tcx_object_source *source) {
  return tcx_atomic_load_relaxed(
      &((struct tcx_transfer_source *)source)->released_bytes);
}

static void stats(struct tcx_object_source *source, unsigned size_class,
                  struct tcx_object_source_stats *out) {
  const struct tcx_transfer_source_class *tiers = class_of(source, size_class);
  struct tcx_transfer_cache_stats cache;
  tcx_transfer_cache_read_stats(&tiers->cache, &cache);
  tcx_central_source_fill_stats(&tiers->list, out);
  out->out_objects = cache.out_objects;
  out->transfer_objects = cache.objects;
  out->transfer_hits = cache.hits;
  out->transfer_misses = cache.misses;
  out->lock_waits += cache.lock_waits;
}

static void fork_prepare(struct tcx_object_source *source) {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    tcx_lock_acquire(&class_of(source, i)->cache.lock);
  }
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    tcx_lock_acquire(&class_of(source, i)->list.lock);
  }
}

static void fork_parent(struct tcx_object_source *source) {
  for (unsigned i = TCX_RUN_CLASS_FIRST - 1; i > 0; i--) {
    tcx_lock_release(&class_of(source, i)->list.lock);
  }
  for (unsigned i = TCX_RUN_CLASS_FIRST - 1; i > 0; i--) {
    tcx_lock_release(&class_of(source, i)->cache.lock);
  }
}

static void fork_child(struct tcx_object_source *source) {
  for (unsigned i = TCX_RUN_CLASS_FIRST - 1; i > 0; i--) {
    tcx_lock_reset_in_child(&class_of(source, i)->list.lock);
  }
  for (unsigned i = TCX_RUN_CLASS_FIRST - 1; i > 0; i--) {
    tcx_lock_reset_in_child(&class_of(source, i)->cache.lock);
  }
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++)
    tcx_central_freelist_release_in_child(&class_of(source, i)->list);
}

static void check(struct tcx_object_source *source) {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    tcx_transfer_cache_check(&class_of(source, i)->cache);
    tcx_central_freelist_check(&class_of(source, i)->list);
  }
}

static const struct tcx_object_source_ops ops = {
    .name = "transfer_cache",
    .remove_range = remove_range,
    .insert_range = insert_range,
    .trim = trim,
    .release = release,
    .release_due_ms = release_due_ms,
    .released_bytes = released_bytes,
    .stats = stats,
    .fork_prepare = fork_prepare,
    .fork_parent = fork_parent,
    .fork_child = fork_child,
    .check = check,
};

struct tcx_object_source *tcx_transfer_source_init(
    struct tcx_transfer_source *self, struct tcx_page_source *pages) {
  self->source.ops = &ops;
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    struct tcx_transfer_source_class *tiers = &self->classes[i];
    tcx_central_freelist_init(&tiers->list, pages, i);
    tiers->list.released_sum = &self->released_bytes;
    tcx_transfer_cache_init(&tiers->cache, &tiers->list);
  }
  return &self->source;
}

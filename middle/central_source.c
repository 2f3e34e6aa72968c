// central_source.c -- see central_source.h.
#include "middle/central_source.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/lock.h"

#define ROUNDS_MAX 6
// As many spans are looked at in one call, or half a millisecond: it may be
// inside of a malloc, and of a heap of many spans there may be nothing that can
// go. The rounds after it go on.
#define LOOKS_MAX 4096

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

// -- memory under free objects ------------------------------------------------

// Those before it are too small.
static unsigned first_release_class(void) {
  return tcx_size_class_of(TCX_CENTRAL_RELEASE_SIZE_MIN);
}

// Once around, as far as `bytes_max` and *looks_max go. *is_busy: others are at
// a class.
static size_t release_round(struct tcx_object_source *source,
                            tcx_central_source_list list_of, unsigned *at,
                            uint64_t now_ms, size_t bytes_max,
                            size_t *looks_max, bool is_now, bool *is_busy) {
  const unsigned first = first_release_class();
  const unsigned classes = TCX_RUN_CLASS_FIRST - first;
  size_t released = 0;
  for (unsigned i = 0; i < classes && released < bytes_max; i++) {
    bool is_done = false;
    released += tcx_central_freelist_release(list_of(source, first + *at),
                                             now_ms, bytes_max - released,
                                             looks_max, is_now, &is_done);
    if (!is_done && (released >= bytes_max || *looks_max == 0))
      break;
    *is_busy |= !is_done;
    *at = (*at + 1) % classes;
  }
  return released;
}

// Once around, or a part of that. With is_now all of it, and twice: what a huge
// page was not broken for at first may be more than enough when the last class
// has offered its part; and a few times more while others are at work, who may
// not give back all.
size_t tcx_central_source_release(struct tcx_object_source *source,
                                  tcx_central_source_list list_of,
                                  uint32_t *release_class, uint64_t now_ms,
                                  size_t bytes_max, bool is_now) {
  const unsigned first = first_release_class();
  const unsigned classes = TCX_RUN_CLASS_FIRST - first;
  unsigned at = tcx_atomic_load_relaxed(release_class) % classes;
  size_t released = 0;
  size_t looks_max = is_now ? SIZE_MAX : LOOKS_MAX;
  unsigned rounds = is_now ? 2 : 1;
  for (unsigned i = 0; i < rounds && released < bytes_max; i++) {
    bool is_busy = false;
    released +=
        release_round(source, list_of, &at, now_ms, bytes_max - released,
                      &looks_max, is_now, &is_busy);
    if (is_busy && rounds < ROUNDS_MAX)
      rounds++;
  }
  for (unsigned i = first; released > 0 && i < TCX_RUN_CLASS_FIRST; i++)
    tcx_central_freelist_offer_again(list_of(source, i));
  tcx_atomic_store_relaxed(release_class, at);
  return released;
}

uint64_t tcx_central_source_release_due_ms(struct tcx_object_source *source,
                                           tcx_central_source_list list_of,
                                           uint64_t now_ms) {
  uint64_t due_ms = UINT64_MAX;
  for (unsigned i = first_release_class(); i < TCX_RUN_CLASS_FIRST; i++) {
    uint64_t its_due_ms =
        tcx_central_freelist_release_due_ms(list_of(source, i), now_ms);
    due_ms = tcx_min_size(due_ms, its_due_ms);
  }
  return due_ms;
}

static struct tcx_central_freelist *list_of(struct tcx_object_source *source,
                                            unsigned size_class) {
  return &self_of(source)->lists[size_class];
}

static size_t release(struct tcx_object_source *source, uint64_t now_ms,
                      size_t bytes_max, bool is_now) {
  return tcx_central_source_release(source, list_of,
                                    &self_of(source)->release_class, now_ms,
                                    bytes_max, is_now);
}

static uint64_t release_due_ms(struct tcx_object_source *source,
                               uint64_t now_ms) {
  return tcx_central_source_release_due_ms(source, list_of, now_ms);
}

static uint64_t released_bytes(struct tcx_object_source *source) {
  return tcx_atomic_load_relaxed(&self_of(source)->released_bytes);
}

// -- statistics, fork, check --------------------------------------------------

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
  out->released_bytes = stats.released_bytes;
  out->released_tail_bytes = stats.released_tail_bytes;
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
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++)
    tcx_central_freelist_release_in_child(&self_of(source)->lists[i]);
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
    .release = release,
    .release_due_ms = release_due_ms,
    .released_bytes = released_bytes,
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
    self->lists[i].released_sum = &self->released_bytes;
  }
  return &self->source;
}

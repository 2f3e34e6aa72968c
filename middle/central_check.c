// central_check.c -- statistics and invariants of the central free list.
#include "base/atomic.h"
#include "base/check.h"
#include "middle/central_internal.h"
#include "pagemap/pagemap.h"

void tcx_central_freelist_read_stats(const struct tcx_central_freelist *self,
                                     struct tcx_central_freelist_stats *out) {
  out->spans = tcx_atomic_load_relaxed(&self->spans);
  out->spans_total = tcx_atomic_load_relaxed(&self->spans_total);
  out->free_objects = tcx_atomic_load_relaxed(&self->free_objects);
  out->out_objects = tcx_atomic_load_relaxed(&self->out_objects);
  out->lock_waits = tcx_atomic_load_relaxed(&self->lock.waits);
  out->released_bytes = tcx_atomic_load_relaxed(&self->release.bytes);
  out->released_tail_bytes = tcx_atomic_load_relaxed(&self->release.tail_bytes);
}

// What the walk adds up.
struct sums {
  uint64_t free_objects;
  uint64_t idle_spans;
  struct tcx_central_released released;
};

static void check_span(const struct tcx_central_freelist *self,
                       const struct tcx_span *span, struct sums *sums) {
  tcx_span_check(span);
  TCX_CHECK(span->size_class == self->size_class);
  TCX_CHECK(tcx_pagemap_span_of(tcx_span_start(span)) == span);
  TCX_CHECK(tcx_pagemap_class_byte(tcx_span_start(span)) ==
            (tcx_pagemap_classes_are_hidden() ? 0 : 2 * self->size_class));
  TCX_CHECK((span->released_words & ~tcx_central_free_parts(span)) == 0);
  struct tcx_central_released released =
      tcx_central_released_of(span, span->released_words);
  sums->released.bytes += released.bytes;
  sums->released.tail_bytes += released.tail_bytes;
  sums->free_objects += tcx_central_row(self)->objects - span->allocated;
}

// I1 of one list.
static void check_list(const struct tcx_central_freelist *self, unsigned bucket,
                       struct sums *sums) {
  const unsigned objects = tcx_central_row(self)->objects;
  const struct tcx_span *prev = NULL;
  for (const struct tcx_span *span = self->lists[bucket]; span != NULL;
       span = span->next) {
    check_span(self, span, sums);
    TCX_CHECK(span->prev == prev);
    TCX_CHECK(self->release.is_walking || tcx_central_is_looked(self, span));
    TCX_CHECK(span->allocated < objects);
    TCX_CHECK(span->bucket == bucket);
    TCX_CHECK(bucket == tcx_central_bucket_for(span->allocated, objects));
    sums->idle_spans += span->allocated == 0;
    prev = span;
  }
}

// I5. Of full spans, which are on no list, only tails are released.
static void check_released(const struct tcx_central_freelist *self,
                           const struct tcx_central_released *listed) {
  const struct tcx_central_release *all = &self->release;
  TCX_CHECK(listed->tail_bytes <= all->tail_bytes);
  TCX_CHECK(listed->bytes - listed->tail_bytes == all->bytes - all->tail_bytes);
}

void tcx_central_freelist_check(struct tcx_central_freelist *self) {
  tcx_lock_acquire(&self->lock);
  struct sums sums = {0, 0, {0, 0}};
  for (unsigned i = 0; i < TCX_CENTRAL_FREELIST_BUCKETS; i++) {
    TCX_CHECK(((self->nonempty_mask >> i & 1) != 0) ==
              (self->lists[i] != NULL));
    check_list(self, i, &sums);
  }
  if (self->release.busy != NULL) {
    TCX_CHECK(self->release.busy->bucket == TCX_CENTRAL_BUSY);
    check_span(self, self->release.busy, &sums);
  }
  TCX_CHECK(self->nonempty_mask >> TCX_CENTRAL_FREELIST_BUCKETS == 0);
  TCX_CHECK(sums.free_objects == self->free_objects);
  TCX_CHECK(sums.idle_spans == self->idle_spans);
  TCX_CHECK(sums.idle_spans == 0 || self->is_hardened);
  TCX_CHECK(self->spans * tcx_central_row(self)->objects ==
            self->free_objects + self->out_objects);
  check_released(self, &sums.released);
  tcx_lock_release(&self->lock);
}

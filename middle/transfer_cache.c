// transfer_cache.c -- see transfer_cache.h.
#include "middle/transfer_cache.h"

#include <string.h>

#include "backend/metadata.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "pagemap/pagemap.h"

#define BATCHES_MAX 64u
#define BATCHES_FIRST 4u
#define CLASS_BYTES_MAX TCX_MIB

static_assert(BATCHES_MAX * TCX_BATCH_MAX <= UINT16_MAX,
              "the water marks have 16 bits");

static size_t slots_bytes(uint32_t capacity) {
  return capacity * sizeof(void *);
}

unsigned tcx_transfer_cache_max_objects(unsigned size_class) {
  const struct tcx_size_class *row = &tcx_size_classes[size_class];
  size_t batches = CLASS_BYTES_MAX / ((size_t)row->size * row->batch);
  batches = tcx_max_size(1, tcx_min_size(batches, BATCHES_MAX));
  return (unsigned)batches * row->batch;
}

void tcx_transfer_cache_init(struct tcx_transfer_cache *self,
                             struct tcx_central_freelist *central) {
  tcx_lock_init(&self->lock, TCX_LOCK_RANK_TRANSFER_CACHE);
  self->central = central;
  self->max_objects = tcx_transfer_cache_max_objects(central->size_class);
  uint32_t first = BATCHES_FIRST * tcx_size_classes[central->size_class].batch;
  self->first_capacity = (uint32_t)tcx_min_size(first, self->max_objects);
}

// -- the array; the caller holds the lock -------------------------------------

// Gives the array another length, at least `used`; 0: none. Without memory it
// stays as it is.
static void set_capacity(struct tcx_transfer_cache *self, uint32_t capacity) {
  TCX_ASSERT(capacity >= self->used && capacity <= self->max_objects);
  void **slots = NULL;
  if (capacity > 0) {
    slots = (void **)tcx_metadata_allocate(slots_bytes(capacity));
    if (slots == NULL) {
      return;
    }
  }
  if (self->used > 0) {
    memcpy(slots, self->slots, slots_bytes(self->used));
  }
  if (self->slots != NULL) {
    tcx_metadata_free(self->slots, slots_bytes(self->capacity));
  }
  self->slots = slots;
  tcx_atomic_store_relaxed(&self->capacity, capacity);
}

static TCX_NOINLINE void grow(struct tcx_transfer_cache *self) {
  if (self->capacity == 0) {
    set_capacity(self, self->first_capacity);
  } else if (self->wanted && self->capacity < self->max_objects) {
    size_t doubled = 2 * (size_t)self->capacity;
    set_capacity(self, (uint32_t)tcx_min_size(doubled, self->max_objects));
  }
  self->wanted = 0;
}

// At a trim: a class that had no object here since the last one needs no array,
// one that never came near the end of it needs half.
static void shrink(struct tcx_transfer_cache *self) {
  uint32_t half = self->capacity / 2;
  if (self->high_water == 0) {
    set_capacity(self, 0);
  } else if (half >= self->first_capacity && self->high_water <= half) {
    set_capacity(self, half);
  }
}

// -- batches ------------------------------------------------------------------

unsigned tcx_transfer_cache_remove_range(struct tcx_transfer_cache *self,
                                         void **batch, unsigned count) {
  TCX_ASSERT(count > 0 && count <= TCX_BATCH_MAX);
  tcx_lock_acquire(&self->lock);
  uint32_t used = self->used;
  unsigned moved = count < used ? count : used;
  if (moved > 0) {
    used -= moved;
    memcpy(batch, self->slots + used, slots_bytes(moved));
    tcx_atomic_store_relaxed(&self->used, used);
    tcx_counter_add(&self->out_by_hits, moved);
    if (used < self->low_water) {
      self->low_water = (uint16_t)used;
    }
  }
  if (TCX_LIKELY(moved == count)) {
    tcx_counter_add(&self->hits, 1);
    tcx_lock_release(&self->lock);
    return count;
  }
  tcx_counter_add(&self->misses, 1);
  self->wanted = 1;
  tcx_lock_release(&self->lock);

  unsigned more = tcx_central_freelist_remove_range(
      self->central, batch + moved, count - moved);
  tcx_atomic_fetch_add_relaxed(&self->out_by_misses, more);
  return moved + more;
}

void tcx_transfer_cache_insert_range(struct tcx_transfer_cache *self,
                                     void *const *batch, unsigned count) {
  TCX_ASSERT(count > 0 && count <= TCX_BATCH_MAX);
  tcx_lock_acquire(&self->lock);
  if (TCX_UNLIKELY(count > self->capacity - self->used)) {
    grow(self);
  }
  uint32_t room = self->capacity - self->used;
  unsigned moved = count < room ? count : room;
  if (moved > 0) {
    memcpy(self->slots + self->used, batch, slots_bytes(moved));
    uint32_t used = self->used + moved;
    tcx_atomic_store_relaxed(&self->used, used);
    tcx_counter_add(&self->out_by_hits, -(uint64_t)moved);
    if (used > self->high_water) {
      self->high_water = (uint16_t)used;
    }
  }
  if (TCX_LIKELY(moved == count)) {
    tcx_counter_add(&self->hits, 1);
    tcx_lock_release(&self->lock);
    return;
  }
  tcx_counter_add(&self->misses, 1);
  tcx_lock_release(&self->lock);

  tcx_atomic_fetch_sub_relaxed(&self->out_by_misses, count - moved);
  tcx_central_freelist_insert_range(self->central, batch + moved,
                                    count - moved);
}

// -- decay --------------------------------------------------------------------

// Takes up to `count` of the oldest objects that a trim may take: all of them,
// or those under the low-water mark. Caller holds the lock.
static unsigned take_oldest(struct tcx_transfer_cache *self, bool all,
                            void **batch, unsigned count) {
  uint32_t available = all ? self->used : self->low_water;
  unsigned moved = available < count ? available : count;
  if (moved == 0) {
    return 0;
  }
  uint32_t rest = self->used - moved;
  memcpy(batch, self->slots, slots_bytes(moved));
  memmove(self->slots, self->slots + moved, slots_bytes(rest));
  tcx_atomic_store_relaxed(&self->used, rest);
  uint32_t low = self->low_water;
  self->low_water = (uint16_t)(moved < low ? low - moved : 0);
  return moved;
}

void tcx_transfer_cache_trim(struct tcx_transfer_cache *self, bool all) {
  if (tcx_atomic_load_relaxed(&self->capacity) == 0) {
    return;
  }
  void *batch[TCX_BATCH_MAX];
  // What others insert meanwhile is not waited for.
  uint32_t taken = 0;
  unsigned moved;
  do {
    tcx_lock_acquire(&self->lock);
    moved = take_oldest(self, all, batch, TCX_BATCH_MAX);
    tcx_lock_release(&self->lock);
    if (moved > 0) {
      tcx_central_freelist_insert_range(self->central, batch, moved);
      taken += moved;
    }
  } while (moved == TCX_BATCH_MAX && taken < self->max_objects);

  tcx_lock_acquire(&self->lock);
  if (all && self->used == 0) {
    set_capacity(self, 0);
  } else {
    shrink(self);
  }
  self->low_water = (uint16_t)self->used;
  self->high_water = (uint16_t)self->used;
  tcx_lock_release(&self->lock);
}

// -- looking ------------------------------------------------------------------

void tcx_transfer_cache_read_stats(const struct tcx_transfer_cache *self,
                                   struct tcx_transfer_cache_stats *out) {
  out->objects = tcx_atomic_load_relaxed(&self->used);
  out->out_objects = tcx_atomic_load_relaxed(&self->out_by_hits) +
                     tcx_atomic_load_relaxed(&self->out_by_misses);
  out->hits = tcx_atomic_load_relaxed(&self->hits);
  out->misses = tcx_atomic_load_relaxed(&self->misses);
  out->lock_waits = tcx_atomic_load_relaxed(&self->lock.waits);
}

void tcx_transfer_cache_check(struct tcx_transfer_cache *self) {
  tcx_lock_acquire(&self->lock);
  TCX_CHECK(self->low_water <= self->used);
  TCX_CHECK(self->used <= self->high_water);
  TCX_CHECK(self->high_water <= self->capacity);
  TCX_CHECK(self->capacity <= self->max_objects);
  TCX_CHECK((self->slots == NULL) == (self->capacity == 0));
  const struct tcx_size_class *row =
      &tcx_size_classes[self->central->size_class];
  for (uint32_t i = 0; i < self->used; i++) {
    const char *object = (const char *)self->slots[i];
    const struct tcx_span *span = tcx_pagemap_span_of(object);
    TCX_CHECK(span != NULL && span->size_class == self->central->size_class);
    size_t offset = (size_t)(object - tcx_span_start(span));
    TCX_CHECK(tcx_object_offset_is_exact(row, (uint32_t)offset));
  }
  tcx_lock_release(&self->lock);
}

// central_freelist.c -- see central_freelist.h.
#include "middle/central_freelist.h"

#include <string.h>

#include "backend/metadata.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/knobs.h"
#include "base/log.h"
#include "base/os.h"
#include "middle/central_internal.h"
#include "pagemap/pagemap.h"

#define BUCKETS TCX_CENTRAL_FREELIST_BUCKETS
#define NO_BUCKET TCX_CENTRAL_NO_BUCKET
#define INLINE_OBJECTS (64u * TCX_SPAN_INLINE_WORDS)

static_assert(TCX_BATCH_MAX <= INLINE_OBJECTS,
              "a batch never needs two spans with bitmaps of their own");

// Empty spans that hardening keeps: this many bytes, or one.
#define IDLE_BYTES_MAX (128 * TCX_KIB)

// The stack that follows the message is that of whoever pushed it down to here.
#define LATE "; found late, TCX_HARDEN=1 finds it at once"

// An object on its way back: where its free bit is.
struct place {
  struct tcx_span *span;
  uint32_t index;
};

// -- lists by how full a span is ----------------------------------------------

// With up to 16 objects a bucket per count; with more, one per doubling.
unsigned tcx_central_bucket_for(unsigned allocated, unsigned objects) {
  TCX_ASSERT(allocated < objects);
  if (allocated == 0)  // Idle, hardened only.
    return BUCKETS - 1;
  unsigned emptiness =
      objects <= 16 ? allocated : tcx_highest_bit(allocated) + 1;
  return emptiness < BUCKETS ? BUCKETS - emptiness : 0;
}

// At the front; but one without all of its memory goes behind the first, so
// that those with memory serve before it where that costs nothing.
static void list_push(struct tcx_central_freelist *self, struct tcx_span *span,
                      unsigned bucket) {
  struct tcx_span *head = self->lists[bucket];
  bool is_second = head != NULL && TCX_UNLIKELY(span->released_words != 0);
  struct tcx_span *prev = is_second ? head : NULL;
  struct tcx_span *next = is_second ? head->next : head;
  span->bucket = (uint8_t)bucket;
  tcx_central_set_looked(self, span);
  span->prev = prev;
  span->next = next;
  if (next != NULL) {
    next->prev = span;
  }
  if (prev != NULL) {
    prev->next = span;
  } else {
    self->lists[bucket] = span;
  }
  self->nonempty_mask |= 1u << bucket;
}

void tcx_central_unlist(struct tcx_central_freelist *self,
                        struct tcx_span *span) {
  if (TCX_UNLIKELY(self->release.cursor == span))
    self->release.cursor = span->next;
  if (span->next != NULL) {
    span->next->prev = span->prev;
  }
  if (span->prev != NULL) {
    span->prev->next = span->next;
  } else {
    self->lists[span->bucket] = span->next;
    if (span->next == NULL) {
      self->nonempty_mask &= ~(1u << span->bucket);
    }
  }
  span->bucket = NO_BUCKET;
}

// Empty ones included, which only hardening lists.
void tcx_central_relist(struct tcx_central_freelist *self,
                        struct tcx_span *span) {
  unsigned objects = tcx_central_row(self)->objects;
  unsigned bucket = NO_BUCKET;
  if (span->allocated < objects) {
    bucket = tcx_central_bucket_for(span->allocated, objects);
  }
  if (bucket == span->bucket || span->bucket == TCX_CENTRAL_BUSY) {
    return;
  }
  if (span->bucket != NO_BUCKET) {
    tcx_central_unlist(self, span);
  }
  if (bucket != NO_BUCKET) {
    list_push(self, span, bucket);
  }
}

// -- spans, without the lock --------------------------------------------------

static size_t bitmap_bytes(unsigned objects) {
  return tcx_span_bitmap_words(objects) * sizeof(uint64_t);
}

static void cut_up(struct tcx_central_freelist *self, struct tcx_span *span,
                   uint64_t *words) {
  if (self->is_hardened && (span->flags & TCX_SPAN_ZERO) == 0)
    memset(tcx_span_start(span), 0, tcx_span_bytes(span));
  tcx_span_init_objects(span, self->size_class, words);
  span->flags &= (uint8_t)~TCX_SPAN_ZERO;
  span->bucket = NO_BUCKET;
  span->released_words = 0;
  // The neighbours' owners read it under the page source's lock; both values
  // keep them from merging with this span.
  tcx_atomic_store_relaxed(&span->state, (uint8_t)TCX_SPAN_SMALL);
  tcx_pagemap_register_class(span, self->size_class);
}

// Spans whose objects are all free, on no list but linked by `next`: one, or as
// many as `objects` need and come at once. NULL: no memory.
static struct tcx_span *build_spans(struct tcx_central_freelist *self,
                                    unsigned objects) {
  const struct tcx_size_class *row = tcx_central_row(self);
  struct tcx_page_request request = {.pages = row->pages,
                                     .align_pages = 1,
                                     .objects = row->objects,
                                     .more = (objects - 1) / row->objects};
  uint64_t *words = NULL;
  if (row->objects > INLINE_OBJECTS) {
    TCX_ASSERT(request.more == 0);
    words = (uint64_t *)tcx_metadata_allocate(bitmap_bytes(row->objects));
    if (words == NULL)
      return NULL;
  }
  struct tcx_span *spans = tcx_page_source_request(self->pages, &request);
  if (spans == NULL && words != NULL)
    tcx_metadata_free(words, bitmap_bytes(row->objects));
  for (struct tcx_span *span = spans; span != NULL; span = span->next)
    cut_up(self, span, words);
  return spans;
}

// What the page source gets back.
static void make_whole(struct tcx_central_freelist *self,
                       struct tcx_span *span) {
  unsigned objects = tcx_central_row(self)->objects;
  TCX_ASSERT(span->allocated == 0);
  TCX_ASSERT(span->bucket == NO_BUCKET);
  tcx_pagemap_unregister_class(span);
  if (objects > INLINE_OBJECTS) {
    tcx_metadata_free(span->bitmap, bitmap_bytes(objects));
  }
  span->bitmap = NULL;
  span->size_class = 0;
  span->prev = NULL;
  TCX_ASSERT((span->flags & TCX_SPAN_ZERO) == 0);
  span->flags = 0;
  tcx_atomic_store_relaxed(&span->state, (uint8_t)TCX_SPAN_LARGE);
}

void tcx_central_destroy(struct tcx_central_freelist *self,
                         struct tcx_span *span) {
  make_whole(self, span);
  tcx_page_source_deallocate(self->pages, span);
}

// Spans that are linked by `next` alone.
static void destroy_all(struct tcx_central_freelist *self,
                        struct tcx_span *spans) {
  if (spans == NULL)
    return;
  for (struct tcx_span *span = spans; span != NULL; span = span->next)
    make_whole(self, span);
  tcx_page_source_deallocate_all(self->pages, spans);
}

// -- out ----------------------------------------------------------------------

void tcx_central_freelist_init(struct tcx_central_freelist *self,
                               struct tcx_page_source *pages,
                               unsigned size_class) {
  TCX_ASSERT(size_class > 0 && size_class < TCX_RUN_CLASS_FIRST);
  self->pages = pages;
  self->size_class = size_class;
  tcx_lock_init(&self->lock, TCX_LOCK_RANK_CENTRAL_FREELIST);
  self->is_hardened = tcx_atomic_load_relaxed(&tcx_knobs.harden) != 0;
  if (self->is_hardened)
    self->random = tcx_os_random() | 1;
  self->is_quiet = tcx_central_has_parts(self);
}

// xorshift64*. New spans are taken from without the lock, so two threads may
// get the same number once.
static uint64_t next_random(struct tcx_central_freelist *self) {
  uint64_t x = tcx_atomic_load_relaxed(&self->random);
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  tcx_atomic_store_relaxed(&self->random, x);
  return x * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned take_random(struct tcx_central_freelist *self,
                            struct tcx_span *span, void **batch,
                            unsigned count) {
  unsigned taken = 0;
  while (taken < count) {
    void *object = tcx_span_take_random(span, next_random(self));
    if (object == NULL)
      break;
    batch[taken++] = object;
  }
  return taken;
}

// Up to `count` free objects of a span that is new, or under the lock.
static unsigned take(struct tcx_central_freelist *self, struct tcx_span *span,
                     void **batch, unsigned count) {
  if (TCX_UNLIKELY(self->is_hardened))
    return take_random(self, span, batch, count);
  return tcx_span_take(span, batch, count);
}

// Takes from the listed spans, fullest first. Caller holds the lock.
static unsigned take_listed(struct tcx_central_freelist *self, void **batch,
                            unsigned count) {
  unsigned moved = 0;
  while (moved < count && self->nonempty_mask != 0) {
    struct tcx_span *span = self->lists[tcx_lowest_bit(self->nonempty_mask)];
    if (span->next != NULL) {
      __builtin_prefetch(span->next, 1);
    }
    if (TCX_UNLIKELY(span->allocated == 0))
      self->idle_spans--;
    unsigned taken = take(self, span, batch + moved, count - moved);
    tcx_central_set_age(span, 0);
    if (TCX_UNLIKELY(span->released_words != 0))
      tcx_central_release_taken(self, span, batch + moved, taken);
    moved += taken;
    tcx_central_relist(self, span);
  }
  // The next batch begins there, mostly after its head has grown cold.
  if (self->nonempty_mask != 0)
    __builtin_prefetch(self->lists[tcx_lowest_bit(self->nonempty_mask)], 1);
  tcx_counter_add(&self->free_objects, -(uint64_t)moved);
  tcx_counter_add(&self->out_objects, moved);
  self->moves++;
  return moved;
}

// Takes from new spans. Only the last of them can have objects left, so only
// that one is listed; the lock is taken once, after all calls for memory.
static TCX_NOINLINE unsigned take_new(struct tcx_central_freelist *self,
                                      void **batch, unsigned count) {
  unsigned moved = 0;
  uint64_t spans = 0;
  struct tcx_span *last = NULL;
  while (moved < count) {
    struct tcx_span *span = build_spans(self, count - moved);
    if (span == NULL)
      break;
    for (; span != NULL; span = span->next) {
      moved += take(self, span, batch + moved, count - moved);
      last = span;
      spans++;
    }
  }
  if (spans == 0)
    return 0;
  tcx_lock_acquire(&self->lock);
  tcx_central_relist(self, last);
  tcx_counter_add(&self->spans, spans);
  tcx_counter_add(&self->spans_total, spans);
  tcx_counter_add(&self->out_objects, moved);
  self->moves++;
  tcx_counter_add(&self->free_objects,
                  spans * tcx_central_row(self)->objects - moved);
  tcx_lock_release(&self->lock);
  return moved;
}

unsigned tcx_central_freelist_remove_range(struct tcx_central_freelist *self,
                                           void **batch, unsigned count) {
  TCX_ASSERT(count > 0 && count <= TCX_BATCH_MAX);
  unsigned moved = 0;
  // In a class of one object per span there is never a list to look at.
  if (tcx_central_row(self)->objects > 1) {
    tcx_lock_acquire(&self->lock);
    moved = take_listed(self, batch, count);
    tcx_lock_release(&self->lock);
  }
  // Other threads may insert objects meanwhile. That only means one span more
  // than needed.
  if (moved < count) {
    moved += take_new(self, batch + moved, count - moved);
  }
  return moved;
}

// -- back ---------------------------------------------------------------------

// Where the object's bit is. An object whose span was given back already (a
// late double free) mostly has no span by now, or one of another class.
static struct place place_of(const struct tcx_central_freelist *self,
                             const struct tcx_size_class *row,
                             struct tcx_span *span, const void *object) {
  if (TCX_UNLIKELY(span == NULL || span->size_class != self->size_class)) {
    tcx_fatal(
        "free(): invalid pointer %p (not in a span of objects of %u "
        "bytes)" LATE,
        object, (unsigned)row->size);
  }
  size_t offset = (size_t)((const char *)object - tcx_span_start(span));
  if (TCX_UNLIKELY(offset >= tcx_span_bytes(span) ||
                   !tcx_object_offset_is_exact(row, (uint32_t)offset))) {
    tcx_fatal(
        "free(): invalid pointer %p (not the start of an object of %u "
        "bytes)" LATE,
        object, (unsigned)row->size);
  }
  struct place place = {span, tcx_object_index(row, (uint32_t)offset)};
  return place;
}

// Maps the batch. Two passes, so that the misses of the span heads overlap.
static void map_batch(const struct tcx_central_freelist *self,
                      void *const *batch, unsigned count,
                      struct place *places) {
  const struct tcx_size_class *row = tcx_central_row(self);
  for (unsigned i = 0; i < count; i++) {
    places[i].span = tcx_pagemap_span_of(batch[i]);
    __builtin_prefetch(places[i].span, 1);
  }
  for (unsigned i = 0; i < count; i++) {
    places[i] = place_of(self, row, places[i].span, batch[i]);
    if (row->objects > INLINE_OBJECTS) {
      __builtin_prefetch(&places[i].span->bitmap[places[i].index / 64], 1);
    }
  }
}

// Whether a span that became empty stays. Counts it then. Caller holds the
// lock.
static bool keeps_idle(struct tcx_central_freelist *self) {
  const struct tcx_size_class *row = tcx_central_row(self);
  if (TCX_LIKELY(!self->is_hardened) || row->objects == 1)
    return false;
  size_t bytes = (size_t)row->pages << TCX_PAGE_SHIFT;
  if (self->idle_spans > 0 && (self->idle_spans + 1) * bytes > IDLE_BYTES_MAX)
    return false;
  self->idle_spans++;
  return true;
}

// Puts the objects back; spans that become empty leave their lists and are
// linked to *empty by `next`. Returns the index of the first object that was
// free already, or count. Caller holds the lock.
static unsigned put_batch(struct tcx_central_freelist *self,
                          const struct place *places, unsigned count,
                          struct tcx_span **empty) {
  uint64_t empty_spans = 0;
  unsigned i = 0;
  while (i < count) {
    struct tcx_span *span = places[i].span;
    for (; i < count && places[i].span == span; i++) {
      if (TCX_UNLIKELY(!tcx_span_put(span, places[i].index))) {
        return i;
      }
    }
    // A busy one is destroyed by whoever gives back its memory.
    if (span->allocated > 0 || span->bucket == TCX_CENTRAL_BUSY ||
        keeps_idle(self)) {
      tcx_central_relist(self, span);
      continue;
    }
    if (span->bucket != NO_BUCKET) {
      tcx_central_unlist(self, span);
    }
    if (TCX_UNLIKELY(span->released_words != 0))
      tcx_central_release_forget(self, span);
    span->next = *empty;
    *empty = span;
    empty_spans++;
  }
  tcx_counter_add(&self->spans, -empty_spans);
  tcx_counter_add(&self->out_objects, -(uint64_t)count);
  self->moves++;
  tcx_counter_add(&self->free_objects,
                  count - empty_spans * tcx_central_row(self)->objects);
  return count;
}

void tcx_central_freelist_insert_range(struct tcx_central_freelist *self,
                                       void *const *batch, unsigned count) {
  TCX_ASSERT(count > 0 && count <= TCX_BATCH_MAX);
  struct place places[TCX_BATCH_MAX];
  map_batch(self, batch, count, places);

  struct tcx_span *empty = NULL;
  tcx_lock_acquire(&self->lock);
  unsigned put = put_batch(self, places, count, &empty);
  bool was_quiet = self->is_quiet;
  if (TCX_UNLIKELY(was_quiet))
    self->is_quiet = false;
  tcx_lock_release(&self->lock);
  if (TCX_UNLIKELY(put < count)) {
    tcx_fatal("free(): double free of %p (object of %u bytes)" LATE, batch[put],
              (unsigned)tcx_central_row(self)->size);
  }
  destroy_all(self, empty);
  if (TCX_UNLIKELY(was_quiet))
    tcx_page_source_notice(self->pages);
}

void tcx_central_freelist_trim(struct tcx_central_freelist *self) {
  struct tcx_span *empty = NULL;
  tcx_lock_acquire(&self->lock);
  struct tcx_span *next;
  for (struct tcx_span *span = self->lists[BUCKETS - 1];
       span != NULL && self->idle_spans > 0; span = next) {
    next = span->next;
    if (span->allocated > 0)
      continue;
    tcx_central_unlist(self, span);
    span->next = empty;
    empty = span;
    self->idle_spans--;
    tcx_counter_add(&self->spans, -(uint64_t)1);
    tcx_counter_add(&self->free_objects,
                    -(uint64_t)tcx_central_row(self)->objects);
  }
  tcx_lock_release(&self->lock);
  destroy_all(self, empty);
}

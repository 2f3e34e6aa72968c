// span.c -- the free bits of a span that is cut into objects. See span.h.
#include "pagemap/span.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"

#define INLINE_OBJECTS (64 * TCX_SPAN_INLINE_WORDS)

static unsigned objects_of(const struct tcx_span *self) {
  return tcx_size_classes[self->size_class].objects;
}

void tcx_span_init_objects(struct tcx_span *self, unsigned size_class,
                           uint64_t *words) {
  unsigned objects = tcx_size_classes[size_class].objects;
  TCX_ASSERT(objects > 0);
  TCX_ASSERT((words == NULL) == (objects <= INLINE_OBJECTS));
  self->size_class = (uint8_t)size_class;
  self->allocated = 0;
  self->bitmap = words != NULL ? words : self->inline_words;
  unsigned count = tcx_span_bitmap_words(objects);
  for (unsigned i = 0; i < count; i++)
    self->bitmap[i] = ~UINT64_C(0);
  unsigned rest = objects % 64;
  if (rest != 0)
    self->bitmap[count - 1] = (UINT64_C(1) << rest) - 1;
}

unsigned tcx_span_take(struct tcx_span *self, void **batch, unsigned count) {
  const size_t size = tcx_size_classes[self->size_class].size;
  const unsigned words = tcx_span_bitmap_words(objects_of(self));
  char *start = tcx_span_start(self);
  unsigned taken = 0;
  for (unsigned i = 0; i < words && taken < count; i++) {
    uint64_t free_bits = self->bitmap[i];
    while (free_bits != 0 && taken < count) {
      batch[taken++] = start + (64 * i + tcx_lowest_bit(free_bits)) * size;
      free_bits &= free_bits - 1;
    }
    tcx_atomic_store_relaxed(&self->bitmap[i], free_bits);
  }
  self->allocated = (uint16_t)(self->allocated + taken);
  TCX_ASSERT(self->allocated <= objects_of(self));
  return taken;
}

void *tcx_span_take_random(struct tcx_span *self, uint64_t random) {
  const unsigned objects = objects_of(self);
  const unsigned words = tcx_span_bitmap_words(objects);
  if (self->allocated == objects)
    return NULL;
  // From a random bit on, around the end, to the first one that is set.
  unsigned start = (unsigned)(random >> 32) % objects;
  unsigned i = start / 64;
  uint64_t free_bits = self->bitmap[i] & ~UINT64_C(0) << (start % 64);
  while (free_bits == 0) {
    i = i + 1 < words ? i + 1 : 0;
    free_bits = self->bitmap[i];
  }
  unsigned index = 64 * i + tcx_lowest_bit(free_bits);
  uint64_t rest = self->bitmap[i] & ~(UINT64_C(1) << (index % 64));
  tcx_atomic_store_relaxed(&self->bitmap[i], rest);
  self->allocated++;
  return tcx_span_start(self) +
         (size_t)index * tcx_size_classes[self->size_class].size;
}

bool tcx_span_is_free(const struct tcx_span *self, unsigned index) {
  TCX_ASSERT(index < objects_of(self));
  uint64_t word = tcx_atomic_load_relaxed(&self->bitmap[index / 64]);
  return (word >> (index % 64) & 1) != 0;
}

bool tcx_span_put(struct tcx_span *self, unsigned index) {
  TCX_ASSERT(index < objects_of(self));
  uint64_t bit = UINT64_C(1) << (index % 64);
  uint64_t *word = &self->bitmap[index / 64];
  if (TCX_UNLIKELY((*word & bit) != 0))
    return false;
  TCX_ASSERT(self->allocated > 0);
  tcx_atomic_store_relaxed(word, *word | bit);
  self->allocated--;
  return true;
}

void tcx_span_check(const struct tcx_span *self) {
  TCX_CHECK(self->state == TCX_SPAN_SMALL);
  unsigned objects = objects_of(self);
  bool is_inline = self->bitmap == self->inline_words;
  TCX_CHECK(is_inline == (objects <= INLINE_OBJECTS));
  unsigned free_objects = 0;
  unsigned words = tcx_span_bitmap_words(objects);
  for (unsigned i = 0; i < words; i++) {
    free_objects += tcx_count_bits(self->bitmap[i]);
  }
  TCX_CHECK(free_objects + self->allocated == objects);
  unsigned rest = objects % 64;
  TCX_CHECK(rest == 0 || self->bitmap[words - 1] >> rest == 0);
}

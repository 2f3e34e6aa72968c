// size_classes.c -- the generated rows, the table of sizes, and the walk of
// both.

#include "size_classes/size_classes.h"

const struct tcx_size_class tcx_size_classes[TCX_SIZE_CLASS_LIMIT] = {
#if TCX_PAGE_SHIFT == 12
#include "size_classes/generated/p12_table.inc"
#elif TCX_PAGE_SHIFT == 13
#include "size_classes/generated/p13_table.inc"
#elif TCX_PAGE_SHIFT == 15
#include "size_classes/generated/p15_table.inc"
#elif TCX_PAGE_SHIFT == 18
#include "size_classes/generated/p18_table.inc"
#endif
};

uint16_t tcx_size_class_table[TCX_SIZE_CLASS_TABLE_LENGTH];

#define SMALL_LENGTH (TCX_MAX_SMALL_SIZE / TCX_SIZE_CLASS_ALIGN + 1)

void tcx_size_classes_init(void) {
  TCX_ASSERT(tcx_size_classes_check() == 0);
  unsigned id = 1;
  for (unsigned i = 0; i < SMALL_LENGTH; ++i) {
    if (tcx_size_classes[id].size < i * TCX_SIZE_CLASS_ALIGN) {
      ++id;  // I2: sizes increase by at least one step of the table
    }
    tcx_size_class_table[i] = (uint16_t)(id << TCX_SIZE_CLASS_SHIFT);
  }
  TCX_ASSERT(id == TCX_RUN_CLASS_FIRST - 1);
}

static int is_zero(const struct tcx_size_class *c) {
  return (c->size | c->reciprocal) == 0 &&
         (c->pages | c->objects | c->batch | c->reserved) == 0;
}

// I3 and I4. The last byte of the last object is the one that a reciprocal too
// large by error / size loses first; see reciprocal_exact in generate.py.
static int is_span_sound(const struct tcx_size_class *c) {
  const uint64_t span_bytes = (uint64_t)c->pages << TCX_PAGE_SHIFT;
  if (c->objects == 0 || span_bytes < (uint64_t)c->objects * c->size) {
    return 0;
  }
  if (c->objects == 1) {
    return c->reciprocal == 1;
  }
  const uint64_t one = (uint64_t)1 << 32;
  const uint64_t product = (uint64_t)c->reciprocal * c->size;
  return span_bytes / c->size == c->objects && product >= one &&
         (product - one) * c->objects < c->reciprocal;
}

// The table is still zero, or each entry is the class whose sizes it covers.
static int is_table_sound(unsigned id) {
  if (tcx_size_class_table[0] == 0) {
    return 1;
  }
  const unsigned first = tcx_size_classes[id - 1].size / TCX_SIZE_CLASS_ALIGN;
  const unsigned last = tcx_size_classes[id].size / TCX_SIZE_CLASS_ALIGN;
  const unsigned entry = id << TCX_SIZE_CLASS_SHIFT;
  return tcx_size_class_table[first + 1] == entry &&
         tcx_size_class_table[last] == entry;
}

unsigned tcx_size_classes_check(void) {
  uint64_t power_of_two = TCX_SIZE_CLASS_ALIGN;
  for (unsigned id = 1; id < TCX_SIZE_CLASS_COUNT; ++id) {
    const struct tcx_size_class *c = &tcx_size_classes[id];
    const int is_run = id >= TCX_RUN_CLASS_FIRST;
    if (c->size <= c[-1].size || c->size % TCX_SIZE_CLASS_ALIGN != 0 ||
        c->size > power_of_two || is_run != (c->size > TCX_MAX_SMALL_SIZE)) {
      return id;
    }
    if (c->size == power_of_two) {
      power_of_two *= 2;
    }
    if (!is_span_sound(c) || c->batch == 0 || c->batch > TCX_BATCH_MAX ||
        (is_run && (c->objects != 1 || c->batch != 1))) {
      return id;
    }
    if (!is_run && !is_table_sound(id)) {
      return id;
    }
  }
  for (unsigned id = TCX_SIZE_CLASS_COUNT; id < TCX_SIZE_CLASS_LIMIT; ++id) {
    if (!is_zero(&tcx_size_classes[id])) {
      return id;
    }
  }
  return power_of_two == 2 * (uint64_t)TCX_MAX_RUN_SIZE &&
                 is_zero(&tcx_size_classes[0])
             ? 0
             : TCX_SIZE_CLASS_LIMIT;
}

// size_classes.h -- from a size to its class, and what each class is.
//
// PLACE IN THE SYSTEM: malloc asks for the class of a size; the central free
// list asks how a span of the class is cut; free asks whether an address is the
// start of an object. The rows come from generate.py, one table per page size.
//
// WHAT IT DECIDES: nothing at run time. generate.py states the bounds on waste
// and README.md says how the number of classes follows from them.
//
// INVARIANTS (all walked by tcx_size_classes_check and size_classes_test.cc)
// I1  Class 0 means "none"; its row is zero. Small classes are 1 up to
//     TCX_RUN_CLASS_FIRST - 1, run classes go on to TCX_SIZE_CLASS_COUNT - 1.
// I2  Sizes are multiples of 16 and strictly increasing; all powers of two from
//     16 to 4 MiB are classes, so an aligned request wastes at most a factor 2.
// I3  objects * size fits the span; a row with one object has reciprocal 1.
// I4  offset * reciprocal >> 32 is offset / size for each byte of the span.
// I5  The table of sizes holds 16 * id, the offset of the class's header in a
//     slab: malloc adds it to the slab's address without a shift. It is zero
//     until tcx_size_classes_init, and zero sends the first call to the slow
//     path; so it stays above 256 KiB.
//
// LOCKING: the rows are constant. The table is written once, under the
// start lock; a thread that reads it meanwhile sees 0 (slow path) or the value.

#ifndef TCX_SIZE_CLASSES_SIZE_CLASSES_H_
#define TCX_SIZE_CLASSES_SIZE_CLASSES_H_

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/compiler.h"
#include "base/config.h"

#if TCX_PAGE_SHIFT == 12
#include "size_classes/generated/p12_constants.inc"
#elif TCX_PAGE_SHIFT == 13
#include "size_classes/generated/p13_constants.inc"
#elif TCX_PAGE_SHIFT == 15
#include "size_classes/generated/p15_constants.inc"
#elif TCX_PAGE_SHIFT == 18
#include "size_classes/generated/p18_constants.inc"
#else
#error "no size-class table for this TCX_PAGE_SHIFT: run generate.py"
#endif

TCX_BEGIN_DECLS

enum {
  TCX_SIZE_CLASS_ALIGN = 16,
  TCX_MAX_SMALL_SIZE = 256 * 1024,
  TCX_MAX_RUN_SIZE = 4 * 1024 * 1024,
  TCX_SIZE_CLASS_LIMIT = 104,  // array bound; 2 * id must fit in a byte
  TCX_BATCH_MAX = 128,
  TCX_SIZE_CLASS_SHIFT = 4,  // of an id in the table of sizes
  // All that a 16-bit index can name, so that malloc need not compare it.
  TCX_SIZE_CLASS_TABLE_LENGTH = 1 << 16,
  // The largest size whose index fits; what is larger must be caught otherwise.
  TCX_MAX_INDEXED_SIZE =
      (TCX_SIZE_CLASS_TABLE_LENGTH - 1) * TCX_SIZE_CLASS_ALIGN,
};

// One class. 16 bytes, so four rows share a cache line.
struct tcx_size_class {
  uint32_t size;        // bytes of an object
  uint32_t reciprocal;  // ceil(2^32 / size); 1 where a span has one object
  uint16_t pages;       // length of a span
  uint16_t objects;     // objects in a span; 1 in run classes
  uint16_t batch;       // objects moved between tiers at once; 1 in run classes
  uint16_t reserved;    // 0
};

static_assert(sizeof(struct tcx_size_class) == 16, "rows are 16 bytes");
static_assert((int)TCX_SIZE_CLASS_COUNT <= (int)TCX_SIZE_CLASS_LIMIT,
              "too many classes");
static_assert(2 * (TCX_SIZE_CLASS_LIMIT - 1) <= UINT8_MAX, "2 * id: one byte");

extern TCX_HIDDEN const struct tcx_size_class
    tcx_size_classes[TCX_SIZE_CLASS_LIMIT];

// 16 * class id, indexed by (size + 15) / 16, for sizes up to 256 KiB; 0 above.
extern TCX_HIDDEN uint16_t tcx_size_class_table[TCX_SIZE_CLASS_TABLE_LENGTH];

// Fills the table of sizes. The caller holds the start lock; again is harmless.
void tcx_size_classes_init(void);

// Walks I1 to I5; returns the id of the first class that breaks one, or 0.
unsigned tcx_size_classes_check(void);

// The run class of a size in (256 KiB, 4 MiB]: 320K 384K 448K 512K 640K ... 4M.
static inline unsigned tcx_run_class_of(size_t size) {
  TCX_ASSERT(size > TCX_MAX_SMALL_SIZE);
  TCX_ASSERT(size <= TCX_MAX_RUN_SIZE);
  const size_t last = size - 1;
  const unsigned log2 = 63u - (unsigned)__builtin_clzll(last);
  const unsigned quarter = (unsigned)(last >> (log2 - 2)) & 3u;
  return TCX_RUN_CLASS_FIRST + 4u * (log2 - 18u) + quarter;
}

// The smallest class, small or run, that holds `size` (0 counts as 1); 0 where
// none does, or before tcx_size_classes_init.
static inline unsigned tcx_size_class_of(size_t size) {
  if (size <= TCX_MAX_SMALL_SIZE) {
    return tcx_size_class_table[(size + 15) / 16] >> TCX_SIZE_CLASS_SHIFT;
  }
  return size <= TCX_MAX_RUN_SIZE ? tcx_run_class_of(size) : 0;
}

// The smallest class that holds `size` and whose size is a multiple of `align`,
// a power of two of at most a page (spans start on pages); 0 where none does.
static inline unsigned tcx_size_class_of_aligned(size_t size, size_t align) {
  TCX_ASSERT(align != 0 && (align & (align - 1)) == 0);
  TCX_ASSERT(align <= TCX_PAGE_SIZE);
  unsigned id = tcx_size_class_of(size > align ? size : align);
  if (id == 0) {
    return 0;
  }
  while (id < TCX_SIZE_CLASS_COUNT &&
         (tcx_size_classes[id].size & (align - 1)) != 0) {
    ++id;
  }
  return id < TCX_SIZE_CLASS_COUNT ? id : 0;
}

// The object that byte `offset` of a span belongs to; `objects` in the tail.
// A span of one object answers 0 throughout, its tail included.
static inline uint32_t tcx_object_index(const struct tcx_size_class *c,
                                        uint32_t offset) {
  return (uint32_t)(((uint64_t)offset * c->reciprocal) >> 32);
}

// Whether `offset` is a multiple of the size: the fraction of the product is
// below the reciprocal only then. One 32-bit multiply and one compare, for the
// fast path. Also true at the first byte of the tail, which is no object.
static inline int tcx_object_offset_is_multiple(const struct tcx_size_class *c,
                                                uint32_t offset) {
  return offset * c->reciprocal < c->reciprocal;
}

// Whether an object starts at byte `offset` of a span.
static inline int tcx_object_offset_is_exact(const struct tcx_size_class *c,
                                             uint32_t offset) {
  return tcx_object_offset_is_multiple(c, offset) &&
         tcx_object_index(c, offset) < c->objects;
}

TCX_END_DECLS

#endif  // TCX_SIZE_CLASSES_SIZE_CLASSES_H_

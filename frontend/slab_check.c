// slab_check.c -- invariants and sizes of a slab. See slab.h.
#include "base/atomic.h"
#include "base/check.h"
#include "frontend/slab.h"
#include "frontend/slab_internal.h"

uint64_t tcx_slab_cached_objects(const struct tcx_slab *self,
                                 unsigned size_class) {
  // Another thread may move the array between the two loads: no number of
  // objects that cannot be is believed.
  void **begin = tcx_atomic_load_relaxed(&self->rows[size_class].begin);
  if (begin == NULL)
    return 0;
  void **top = tcx_atomic_load_relaxed(&self->headers[size_class].top);
  uintptr_t count = ((uintptr_t)(top + 1) - (uintptr_t)begin) / sizeof *top;
  return count <= TCX_SLAB_CAPACITY_MAX ? count : 0;
}

static uint64_t cached_bytes(const struct tcx_slab *self, unsigned first,
                             unsigned end) {
  uint64_t bytes = 0;
  for (unsigned i = first; i < end; i++)
    bytes += tcx_slab_cached_objects(self, i) * tcx_size_classes[i].size;
  return bytes;
}

uint64_t tcx_slab_cached_bytes(const struct tcx_slab *self) {
  return cached_bytes(self, 1, TCX_RUN_CLASS_FIRST);
}

uint64_t tcx_slab_cached_run_bytes(const struct tcx_slab *self) {
  return cached_bytes(self, TCX_RUN_CLASS_FIRST, TCX_SIZE_CLASS_COUNT);
}

static void check_class(const struct tcx_slab *self, unsigned size_class) {
  const struct tcx_slab_header *header = &self->headers[size_class];
  const struct tcx_slab_row *row = &self->rows[size_class];
  if (row->begin == NULL) {
    TCX_CHECK(header->top == header->end);
    TCX_CHECK(*header->top == TCX_SLAB_GUARD);
    return;
  }
  TCX_CHECK(header->top >= row->begin - 1);
  TCX_CHECK(header->end >= header->top);
  TCX_CHECK(header->end < row->begin + row->slots);
  size_t count = tcx_slab_count(self, size_class);
  TCX_CHECK(row->wire <= count);
  TCX_CHECK((row->begin[-1] == TCX_SLAB_GUARD) == (row->wire == 0));
  for (size_t i = 0; i < count; i++) {
    bool is_wire = i + 1 == row->wire;
    TCX_CHECK((row->begin[i] == TCX_SLAB_GUARD) == is_wire);
    TCX_CHECK(((uintptr_t)row->begin[i] % TCX_ALIGNMENT == 0) != is_wire);
  }
}

void tcx_slab_check(const struct tcx_slab *self) {
  uint64_t capacity_bytes = 0;
  uint64_t run_bytes = 0;
  for (unsigned i = 0; i < TCX_SIZE_CLASS_COUNT; i++) {
    check_class(self, i);
    uint64_t bytes = tcx_slab_capacity(self, i) * tcx_size_classes[i].size;
    if (i >= TCX_RUN_CLASS_FIRST) {
      run_bytes += bytes;
    } else {
      capacity_bytes += bytes;
    }
  }
  TCX_CHECK(capacity_bytes == self->capacity_bytes);
  TCX_CHECK(run_bytes == self->run_bytes);
}

// fast_path.h -- malloc and free as far as they go without a call.
//
// malloc: a table look-up, a subtraction on the sampling counter, a pop.
// free:   a look-up in the pagemap, a push.
// No lock, no call, no division, no stack frame, no atomic read-modify-write.
// Every way out is one line, and leads to heap.h. "Is tcx started?" is no
// question here: until it is, the byte table of the size classes is zero, class
// 0 is empty and full, and both paths give up.
#ifndef TCX_LIBC_FAST_PATH_H_
#define TCX_LIBC_FAST_PATH_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "frontend/selected.h"
#include "pagemap/pagemap.h"
#include "size_classes/size_classes.h"

// NULL: the slow path must do it.
TCX_ALWAYS_INLINE void *tcx_malloc_fast(size_t size) {
  if (TCX_UNLIKELY(size > TCX_MAX_SMALL_SIZE))
    return NULL;
  unsigned class_byte = tcx_size_class_table[(size + 15) >> 4];
  // Load, subtract, store: a read-modify-write with a register operand would
  // wait for the store of the call before.
  int64_t sample_bytes = tcx_thread.sample_bytes - (int64_t)size;
  if (TCX_UNLIKELY(sample_bytes < 0))
    return NULL;
  tcx_thread.sample_bytes = sample_bytes;
  return tcx_frontend_pop(class_byte);
}

// False: the slow path must do it.
TCX_ALWAYS_INLINE bool tcx_free_fast(void *pointer) {
  return tcx_frontend_push(tcx_pagemap_class_byte(pointer), pointer);
}

// The class comes from the size; that of the page is compared beside it.
TCX_ALWAYS_INLINE bool tcx_free_sized_fast(void *pointer, size_t size) {
  if (TCX_UNLIKELY(size > TCX_MAX_SMALL_SIZE))
    return false;
  unsigned class_byte = tcx_size_class_table[(size + 15) >> 4];
  if (TCX_UNLIKELY(tcx_pagemap_class_byte(pointer) != class_byte))
    return false;
  return tcx_frontend_push(class_byte, pointer);
}

#endif  // TCX_LIBC_FAST_PATH_H_

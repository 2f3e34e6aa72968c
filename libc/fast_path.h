// fast_path.h -- malloc and free as far as they go without a call.
//
// malloc: a table look-up, a subtraction on the visit counter, a pop.
// free:   a look-up in the pagemap's window, a push.
// No lock, no call, no division, no stack frame, no atomic read-modify-write.
// Every way out is one line, and leads to heap.h. "Is tcx started?" is no
// question here: until it is, the table of sizes is zero, class 0 is empty and
// full, there is no window, and both paths give up.
//
// Each fits in one 64-byte line of code on x86-64 (machine_code_test): on Zen 4
// each further line that is fetched costs a cycle, where the call itself hides
// all else.
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
  // The index of a large size wraps around, and names a wrong class. But the
  // counter never exceeds the largest size that the table can index.
  uint16_t index = (uint16_t)(((uint32_t)size + 15) >> 4);
  uintptr_t header_offset = tcx_size_class_table[index];
  // Load, subtract, store: a read-modify-write with a register operand would
  // wait for the store of the call before.
  uint64_t visit_bytes;
  if (TCX_UNLIKELY(__builtin_sub_overflow(tcx_thread.visit_bytes,
                                          (uint64_t)size, &visit_bytes))) {
    return NULL;
  }
  tcx_thread.visit_bytes = visit_bytes;
  return tcx_frontend_pop(header_offset);
}

// False: the slow path must do it, tcx_free_outside first.
TCX_ALWAYS_INLINE bool tcx_free_fast(void *pointer) {
  const struct tcx_pagemap_window *window = &tcx_pagemap_window;
  TCX_KEEP_SIMPLE(window);
  uint64_t page = tcx_pagemap_window_page(window, pointer);
  if (TCX_UNLIKELY(page >= window->pages))
    return false;
  uint32_t header_offset = 8 * tcx_pagemap_window_class_byte(window, page);
  return tcx_frontend_push_at(window->thread_offset, header_offset, pointer);
}

// The same by the pagemap's tree; for pointers beyond the window.
TCX_ALWAYS_INLINE bool tcx_free_outside(void *pointer) {
  unsigned class_byte = tcx_pagemap_class_byte(pointer);
  return tcx_frontend_push(8 * class_byte, pointer);
}

// The class comes from the size; that of the page is compared beside it. False:
// the slow path must do it, tcx_free_sized_outside first.
TCX_ALWAYS_INLINE bool tcx_free_sized_fast(void *pointer, size_t size) {
  if (TCX_UNLIKELY(size > TCX_MAX_SMALL_SIZE))
    return false;
  uintptr_t header_offset = tcx_size_class_table[((uint32_t)size + 15) >> 4];
  const struct tcx_pagemap_window *window = &tcx_pagemap_window;
  TCX_KEEP_SIMPLE(window);
  uint64_t page = tcx_pagemap_window_page(window, pointer);
  if (TCX_UNLIKELY(page >= window->pages))
    return false;
  unsigned class_byte = tcx_pagemap_window_class_byte(window, page);
  if (TCX_UNLIKELY(8 * class_byte != header_offset))
    return false;
  return tcx_frontend_push_at(window->thread_offset, header_offset, pointer);
}

// The same by the pagemap's tree.
TCX_ALWAYS_INLINE bool tcx_free_sized_outside(void *pointer, size_t size) {
  unsigned class_byte = tcx_pagemap_class_byte(pointer);
  return size <= TCX_MAX_SMALL_SIZE &&
         tcx_size_class_of(size) == class_byte / 2 &&
         tcx_frontend_push(8 * class_byte, pointer);
}

#endif  // TCX_LIBC_FAST_PATH_H_

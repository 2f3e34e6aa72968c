// malloc.c -- malloc, calloc, realloc, free and their sized forms.
//
// Errors as POSIX and glibc 2.36 have them: NULL and ENOMEM; free keeps errno.
// Each function of glibc that a program can name has its glibc alias here, so
// that a static program never pulls in glibc's own malloc.o beside tcx.
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "libc/fast_path.h"
#include "libc/heap.h"
#include "libc/libc.h"

TCX_EXPORT void *malloc(size_t size) {
  void *object = tcx_malloc_fast(size);
  if (TCX_UNLIKELY(object == NULL))
    return tcx_heap_malloc(size);
  return object;
}

TCX_EXPORT void free(void *pointer) {
  if (TCX_UNLIKELY(!tcx_free_fast(pointer)))
    tcx_heap_free(pointer);
}

// C23 7.24.3.4: the size must be the one that was asked for. Any size of the
// same class is right here, what malloc_usable_size says included.
TCX_EXPORT void free_sized(void *pointer, size_t size) {
  if (TCX_UNLIKELY(!tcx_free_sized_fast(pointer, size))) {
    tcx_heap_free_sized(pointer, size, "free_sized");
  }
}

// The class of an aligned object follows from both numbers.
TCX_EXPORT void free_aligned_sized(void *pointer, size_t align, size_t size) {
  tcx_heap_free_aligned_sized(pointer, align, size, "free_aligned_sized");
}

TCX_EXPORT void sdallocx(void *pointer, size_t size, int flags) {
  size_t align = (size_t)1 << (flags & TCX_LG_ALIGN_MASK);
  if (align > TCX_ALIGNMENT) {
    tcx_heap_free_aligned_sized(pointer, align, size, "sdallocx");
  } else if (TCX_UNLIKELY(!tcx_free_sized_fast(pointer, size))) {
    tcx_heap_free_sized(pointer, size, "sdallocx");
  }
}

TCX_COLD static void *overflow_error(void) {
  errno = ENOMEM;
  return NULL;
}

TCX_EXPORT void *calloc(size_t count, size_t size) {
  size_t bytes;
  if (TCX_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
    return overflow_error();
  }
  void *object = tcx_malloc_fast(bytes);
  if (TCX_UNLIKELY(object == NULL))
    return tcx_heap_allocate_zeroed(bytes);
  return memset(object, 0, bytes);
}

// The class of the small object that starts at `pointer`, by the pagemap alone;
// 0 where that is not sure.
static unsigned small_class_of(const void *pointer) {
  unsigned entry = tcx_pagemap_entry(pointer);
  uint32_t offset = (uint32_t)((uintptr_t)pointer & (TCX_PAGE_SIZE - 1)) |
                    (uint32_t)(entry >> 8) << TCX_PAGE_SHIFT;
  unsigned size_class = (entry & 0xff) / 2;
  const struct tcx_size_class *row = &tcx_size_classes[size_class];
  return tcx_object_offset_is_multiple(row, offset) ? size_class : 0;
}

// realloc(p, 0) frees p and returns NULL, as glibc does.
TCX_ALWAYS_INLINE void *reallocate(void *pointer, size_t size,
                                   const char *caller) {
  if (pointer == NULL)
    return malloc(size);
  if (size == 0) {
    if (!tcx_free_fast(pointer))
      tcx_heap_free_as(pointer, caller);
    return NULL;
  }
  unsigned size_class = small_class_of(pointer);
  if (TCX_LIKELY(size_class != 0 && size <= TCX_MAX_SMALL_SIZE)) {
    if (tcx_size_class_of(size) == size_class)
      return pointer;
    size_t old_bytes = tcx_size_classes[size_class].size;
    return tcx_heap_move(pointer, old_bytes, size, caller);
  }
  return tcx_heap_reallocate(pointer, size, caller);
}

TCX_EXPORT void *realloc(void *pointer, size_t size) {
  return reallocate(pointer, size, "realloc");
}

TCX_EXPORT void *reallocarray(void *pointer, size_t count, size_t size) {
  size_t bytes;
  if (TCX_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
    return overflow_error();
  }
  return reallocate(pointer, bytes, "reallocarray");
}

TCX_EXPORT size_t malloc_usable_size(void *pointer) {
  if (pointer == NULL)
    return 0;
  return tcx_heap_usable_size(pointer, "malloc_usable_size");
}

// Ours, whatever the process calls (foreign.h).
TCX_HIDDEN_ALIAS(tcx_libc_malloc, malloc);

TCX_LIBC_ALIAS(cfree, free);
TCX_LIBC_ALIAS(__libc_malloc, malloc);
TCX_LIBC_ALIAS(__malloc, malloc);
TCX_LIBC_ALIAS(__libc_free, free);
TCX_LIBC_ALIAS(__free, free);
TCX_LIBC_ALIAS(__libc_calloc, calloc);
TCX_LIBC_ALIAS(__calloc, calloc);
TCX_LIBC_ALIAS(__libc_realloc, realloc);
TCX_LIBC_ALIAS(__realloc, realloc);
TCX_LIBC_ALIAS(__malloc_usable_size, malloc_usable_size);

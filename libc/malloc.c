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

TCX_COLD static void *malloc_slow(size_t size) {
  bool zeroed;
  return tcx_heap_allocate(size, &zeroed);
}

TCX_EXPORT void *malloc(size_t size) {
  void *object = tcx_malloc_fast(size);
  if (TCX_UNLIKELY(object == NULL))
    return malloc_slow(size);
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
    tcx_heap_free_sized(pointer, size);
  }
}

// The class of an aligned object follows from both numbers, so it is looked up.
TCX_EXPORT void free_aligned_sized(void *pointer, size_t align, size_t size) {
  (void)align;
  (void)size;
  free(pointer);
}

TCX_EXPORT void sdallocx(void *pointer, size_t size, int flags) {
  if (flags == 0) {
    free_sized(pointer, size);
  } else {
    free(pointer);
  }
}

TCX_COLD static void *calloc_slow(size_t bytes) {
  bool zeroed;
  void *object = tcx_heap_allocate(bytes, &zeroed);
  if (object != NULL && !zeroed)
    memset(object, 0, bytes);
  return object;
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
    return calloc_slow(bytes);
  return memset(object, 0, bytes);
}

// realloc(p, 0) frees p and returns NULL, as glibc does.
TCX_EXPORT void *realloc(void *pointer, size_t size) {
  if (pointer == NULL)
    return malloc(size);
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  unsigned class_byte = tcx_pagemap_class_byte(pointer);
  if (TCX_LIKELY(class_byte != 0 && size <= TCX_MAX_SMALL_SIZE)) {
    if (tcx_size_class_of(size) == class_byte / 2)
      return pointer;
    size_t old_bytes = tcx_size_classes[class_byte / 2].size;
    void *object = malloc(size);
    if (TCX_UNLIKELY(object == NULL))
      return NULL;
    memcpy(object, pointer, tcx_min_size(old_bytes, size));
    free(pointer);
    return object;
  }
  return tcx_heap_reallocate(pointer, size);
}

TCX_EXPORT void *reallocarray(void *pointer, size_t count, size_t size) {
  size_t bytes;
  if (TCX_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
    return overflow_error();
  }
  return realloc(pointer, bytes);
}

TCX_EXPORT size_t malloc_usable_size(void *pointer) {
  if (pointer == NULL)
    return 0;
  return tcx_heap_usable_size(pointer, "malloc_usable_size");
}

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

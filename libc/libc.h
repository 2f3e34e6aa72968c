// libc.h -- prototypes of what tcx exports and no header of libc declares, or
// declares with attributes that a definition should not have.
#ifndef TCX_LIBC_LIBC_H_
#define TCX_LIBC_LIBC_H_

#include <stddef.h>

#include "base/compiler.h"

// jemalloc's flags for nallocx and sdallocx: log2 of the alignment.
#define TCX_LG_ALIGN_MASK 63

TCX_BEGIN_DECLS

void *malloc(size_t size);
void free(void *pointer);
void free_sized(void *pointer, size_t size);
void free_aligned_sized(void *pointer, size_t align, size_t size);
void sdallocx(void *pointer, size_t size, int flags);
void *calloc(size_t count, size_t size);
void *realloc(void *pointer, size_t size);
void *reallocarray(void *pointer, size_t count, size_t size);
size_t malloc_usable_size(void *pointer);

TCX_END_DECLS

// A second exported name of a function of the same file. gcc wants the alias to
// have the attributes that it knows of malloc and its like; clang has no word
// for that, and does not ask.
#ifdef __clang__
#define TCX_COPY_ATTRIBUTES(target)
#else
#define TCX_COPY_ATTRIBUTES(target) __attribute__((copy(target)))
#endif
// (By way of another macro, so that the names may be macros themselves.)
#define TCX_LIBC_ALIAS(name, target) TCX_ALIAS_OF(TCX_EXPORT, name, target)
#define TCX_HIDDEN_ALIAS(name, target) TCX_ALIAS_OF(TCX_HIDDEN, name, target)
#define TCX_ALIAS_OF(visibility, name, target)                              \
  visibility extern __typeof__(target) name __attribute__((alias(#target))) \
  TCX_COPY_ATTRIBUTES(target)

#endif  // TCX_LIBC_LIBC_H_

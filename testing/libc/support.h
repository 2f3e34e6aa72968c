// support.h -- what the tests of libc/ share: prototypes, and values that the
// compiler cannot see through (it knows malloc and would remove the call).
#ifndef TCX_TESTING_LIBC_SUPPORT_H_
#define TCX_TESTING_LIBC_SUPPORT_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

void free_sized(void *pointer, size_t size);
void free_aligned_sized(void *pointer, size_t align, size_t size);
void sdallocx(void *pointer, size_t size, int flags);
size_t nallocx(size_t size, int flags);
void cfree(void *pointer);
size_t tcx_served_objects(void);

static inline size_t Opaque(size_t value) {
  __asm__ volatile("" : "+r"(value));
  return value;
}

static inline void *Keep(void *pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

static inline int IsAligned(const void *pointer, size_t align) {
  return ((uintptr_t)pointer & (align - 1)) == 0;
}

// Every byte of the object gets the tag; IsFilled tells whether it still has.
static inline void Fill(void *object, size_t size, unsigned char tag) {
  memset(object, tag, size);
}

static inline int IsFilled(const void *object, size_t size, unsigned char tag) {
  const unsigned char *bytes = (const unsigned char *)object;
  if (size == 0)
    return 1;
  return bytes[0] == tag && memcmp(bytes, bytes + 1, size - 1) == 0;
}

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // TCX_TESTING_LIBC_SUPPORT_H_

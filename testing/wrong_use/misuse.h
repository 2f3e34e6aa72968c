// misuse.h -- what the cases of misuse.cc and right_use.cc share.
#ifndef TCX_TESTING_WRONG_USE_MISUSE_H_
#define TCX_TESTING_WRONG_USE_MISUSE_H_

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// Weak: a preloaded tcx has them, libc has not.
extern "C" {
__attribute__((weak)) void free_sized(void *pointer, size_t size);
__attribute__((weak)) void free_aligned_sized(void *pointer, size_t align,
                                              size_t size);
__attribute__((weak)) void sdallocx(void *pointer, size_t size, int flags);
}

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wuse-after-free"
#endif

constexpr size_t kMib = 1 << 20;
constexpr size_t kSmall = 100;
constexpr size_t kRun = kMib;
constexpr size_t kLarge = 8 * kMib;

// The compiler must not reason about what is wrong on purpose.
template <class T>
T Opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

// Says what comes now.
void Announce(const void *pointer, size_t bytes, size_t other = 0);

inline char *Make(size_t bytes) {
  char *object = static_cast<char *>(malloc(Opaque(bytes)));
  memset(object, 1, bytes);
  return object;
}

// Cases of right_use.cc.
void RightUse();
void RightUseAtRandom();

#endif  // TCX_TESTING_WRONG_USE_MISUSE_H_

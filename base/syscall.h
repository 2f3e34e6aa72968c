// syscall.h -- system calls that leave errno alone.
//
// PLACE IN THE SYSTEM
//   Inside base only: os, lock, log and the Abseil fallback. libc's wrappers
//   set errno and may be interposed; malloc must not change the errno of a
//   program whose call it is part of, and runs before libc is ready.
//
// The result is the kernel's: -errno on failure.
#ifndef TCX_BASE_SYSCALL_H_
#define TCX_BASE_SYSCALL_H_

#include <stdint.h>
#include <sys/syscall.h>

#include "base/compiler.h"

#if defined(__x86_64__)

TCX_ALWAYS_INLINE intptr_t tcx_syscall6(long number, intptr_t a, intptr_t b,
                                        intptr_t c, intptr_t d, intptr_t e,
                                        intptr_t f) {
  intptr_t result;
  register intptr_t r10 __asm__("r10") = d;
  register intptr_t r8 __asm__("r8") = e;
  register intptr_t r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
                     "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

#elif defined(__aarch64__)

TCX_ALWAYS_INLINE intptr_t tcx_syscall6(long number, intptr_t a, intptr_t b,
                                        intptr_t c, intptr_t d, intptr_t e,
                                        intptr_t f) {
  register intptr_t x8 __asm__("x8") = number;
  register intptr_t x0 __asm__("x0") = a;
  register intptr_t x1 __asm__("x1") = b;
  register intptr_t x2 __asm__("x2") = c;
  register intptr_t x3 __asm__("x3") = d;
  register intptr_t x4 __asm__("x4") = e;
  register intptr_t x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory", "cc");
  return x0;
}

#else

#include <errno.h>

// unistd.h declares it only under _DEFAULT_SOURCE.
#ifdef __cplusplus
extern "C" long syscall(long number, ...) noexcept;
#else
extern long syscall(long number, ...);
#endif

TCX_ALWAYS_INLINE intptr_t tcx_syscall6(long number, intptr_t a, intptr_t b,
                                        intptr_t c, intptr_t d, intptr_t e,
                                        intptr_t f) {
  int saved = errno;
  intptr_t result = syscall(number, a, b, c, d, e, f);
  if (result == -1)
    result = -errno;
  errno = saved;
  return result;
}

#endif

TCX_ALWAYS_INLINE intptr_t tcx_syscall3(long number, intptr_t a, intptr_t b,
                                        intptr_t c) {
  return tcx_syscall6(number, a, b, c, 0, 0, 0);
}

TCX_ALWAYS_INLINE intptr_t tcx_syscall4(long number, intptr_t a, intptr_t b,
                                        intptr_t c, intptr_t d) {
  return tcx_syscall6(number, a, b, c, d, 0, 0);
}

#endif  // TCX_BASE_SYSCALL_H_

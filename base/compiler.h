// compiler.h -- compiler attributes and static assertions for C11 and C++17.
//
// Every header of tcx is read by two languages: the library is C, and each
// googletest file that includes the same header is C++. So headers stay in the
// common subset: no VLAs, no compound literals, no _Atomic fields, no implicit
// conversion from void * in inline functions.
#ifndef TCX_BASE_COMPILER_H_
#define TCX_BASE_COMPILER_H_

#include <assert.h>  // static_assert in C11

#define TCX_LIKELY(x) (__builtin_expect(!!(x), 1))
#define TCX_UNLIKELY(x) (__builtin_expect(!!(x), 0))
#define TCX_ALWAYS_INLINE static inline __attribute__((always_inline))
#define TCX_COLD __attribute__((cold, noinline))
#define TCX_NOINLINE __attribute__((noinline))
#define TCX_NORETURN __attribute__((noreturn))
#define TCX_EXPORT __attribute__((visibility("default")))
#define TCX_HIDDEN __attribute__((visibility("hidden")))
#define TCX_NODISCARD __attribute__((warn_unused_result))
#define TCX_PRINTF(format_index, first_index) \
  __attribute__((format(printf, format_index, first_index)))

#define TCX_CACHELINE_BYTES 64
#define TCX_CACHELINE_ALIGNED __attribute__((aligned(TCX_CACHELINE_BYTES)))

#ifdef __cplusplus
#define TCX_BEGIN_DECLS extern "C" {
#define TCX_END_DECLS }
#else
#define TCX_BEGIN_DECLS
#define TCX_END_DECLS
#endif

// Hides how a pointer was computed, so that the compiler cannot fold the
// address into an indexed operand. An indexed operand on a word that the
// previous call stored costs a failed store-to-load forwarding: 2 to 5 ns.
#define TCX_KEEP_SIMPLE(pointer) __asm__("" : "+r"(pointer))

// The same, and keeps the value where a function returns it: one move less.
#ifdef __x86_64__
#define TCX_KEEP_AS_RESULT(pointer) __asm__("" : "+a"(pointer))
#else
#define TCX_KEEP_AS_RESULT(pointer) TCX_KEEP_SIMPLE(pointer)
#endif

#endif  // TCX_BASE_COMPILER_H_

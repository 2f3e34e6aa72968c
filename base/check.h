// check.h -- assertions. They print with write(2), never allocate or lock.
//
//   TCX_CHECK(c)   always on; for damage that a user's bug can cause.
//   TCX_ASSERT(c)  on unless NDEBUG; for our own contracts. Costs nothing else.
//
// An operating error (out of memory, a bad setting) is never an assertion.
// The file is not called assert.h so that no -I can make it shadow <assert.h>.
#ifndef TCX_BASE_CHECK_H_
#define TCX_BASE_CHECK_H_

#include "base/compiler.h"

TCX_BEGIN_DECLS

// Prints "tcx: FILE:LINE: check failed: TEXT" on standard error and aborts.
TCX_COLD TCX_NORETURN void tcx_check_failed(const char *file, int line,
                                            const char *text);

TCX_END_DECLS

#define TCX_CHECK(c) \
  (TCX_LIKELY(c) ? (void)0 : tcx_check_failed(__FILE__, __LINE__, #c))

#ifdef NDEBUG
#define TCX_ASSERTIONS 0
#define TCX_ASSERT(c) ((void)sizeof(!(c)))  // Still type-checked.
#else
#define TCX_ASSERTIONS 1
#define TCX_ASSERT(c) TCX_CHECK(c)
#endif

#endif  // TCX_BASE_CHECK_H_

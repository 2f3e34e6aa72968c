// pointer.h -- what an address is, and the last words about a wrong one.
//
// PLACE IN THE SYSTEM
//   heap.c --(every pointer that a slow path is given)--> pointer --> pagemap
//
// WHAT IT DECIDES
//   Which address is an object that the program has: the start of a large
//   object, of a block of a run class that is not cached, or of a place for a
//   small object. Whether a small object is free already, only its span's
//   bitmap tells; caches lie above it, so that is asked in hardened mode, where
//   there are none (harden.h).
//   The messages of docs/wrong-use.md, which its test compares word by word.
//
// LOCKING: none. The program owns the object, so its span stays. Of a wrong
//   pointer the span is read beside its owner: it can only be called by another
//   name in a message.
#ifndef TCX_LIBC_POINTER_H_
#define TCX_LIBC_POINTER_H_

#include "base/compiler.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

// The span of the object that starts at `pointer`, as far as is known; NULL.
struct tcx_span *tcx_pointer_find(const void *pointer);

// The same; where it is none, ends the process. `caller` is the function that
// the program called, for the message.
struct tcx_span *tcx_pointer_object(const void *pointer, const char *caller);

// Says what is wrong with the pointer, and ends the process.
TCX_COLD TCX_NORETURN void tcx_pointer_reject(const void *pointer,
                                              const char *caller);
// The same of an object of the class that is known to be free.
TCX_COLD TCX_NORETURN void tcx_pointer_reject_freed(const void *pointer,
                                                    unsigned size_class,
                                                    const char *caller);

TCX_END_DECLS

#endif  // TCX_LIBC_POINTER_H_

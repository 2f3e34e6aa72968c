// perthread_fast.h -- the fast half of the per-thread front end: pop and push.
//
// Compiled into malloc and free. No lock, no call, no division, no atomic
// read-modify-write. Each is one header line and one slot line.
//
// Signals: a handler that runs between the load and the store of `cur` and
// leaves the class with as many objects as it found is harmless; POSIX does not
// let handlers call malloc at all.
#ifndef TCX_FRONTEND_PERTHREAD_FAST_H_
#define TCX_FRONTEND_PERTHREAD_FAST_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "frontend/thread.h"

// `class_byte` is 2 x size class, as both byte tables hold it.
TCX_ALWAYS_INLINE struct tcx_slab_header *tcx_frontend_header(
    unsigned class_byte) {
  char *slab = (char *)(uintptr_t)tcx_thread.slab;
  char *header = slab + 8 * (size_t)class_byte;
  TCX_KEEP_SIMPLE(header);
  return (struct tcx_slab_header *)header;
}

// An object of the class, or NULL when there is none (class 0: always).
TCX_ALWAYS_INLINE void *tcx_frontend_pop(unsigned class_byte) {
  struct tcx_slab_header *header = tcx_frontend_header(class_byte);
  void **cur = header->cur;
  void *object = cur[-1];
  if (TCX_UNLIKELY(((uintptr_t)object & 1) != 0))
    return NULL;
  header->cur = cur - 1;
  // No slot holds NULL, so the caller's test for it costs nothing here.
  if (object == NULL)
    __builtin_unreachable();
  return object;
}

// False: no room, class 0, or the object was freed twice in a row; nothing has
// changed then.
TCX_ALWAYS_INLINE bool tcx_frontend_push(unsigned class_byte, void *object) {
  struct tcx_slab_header *header = tcx_frontend_header(class_byte);
  void **cur = header->cur;
  if (TCX_UNLIKELY(cur >= header->end))
    return false;
  if (TCX_UNLIKELY(cur[-1] == object))
    return false;
  *cur = object;
  header->cur = cur + 1;
  return true;
}

// True if the object lies on top of its class: it is free already. Only slow
// paths ask; fast ones find out beside the push.
static inline bool tcx_frontend_top_is(unsigned class_byte,
                                       const void *object) {
  return tcx_frontend_header(class_byte)->cur[-1] == object;
}

#endif  // TCX_FRONTEND_PERTHREAD_FAST_H_

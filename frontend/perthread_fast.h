// perthread_fast.h -- the fast half of the per-thread front end: pop and push.
//
// Compiled into malloc and free. No lock, no call, no division, no atomic
// read-modify-write. Each is one header line and one slot line.
//
// A header is named by its offset in the slab, 16 x size class, as the table of
// sizes holds it; the pagemap's byte, 2 x size class, is an eighth of that.
//
// Signals: a handler that runs between the load and the store of `top` is
// harmless if it leaves each class as it found it: objects that it allocates it
// frees, the last one first. (It takes the object that the interrupted pop is
// about to take. Given back in another slot, the object would be handed out
// twice.) POSIX does not let handlers call malloc at all.
#ifndef TCX_FRONTEND_PERTHREAD_FAST_H_
#define TCX_FRONTEND_PERTHREAD_FAST_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "frontend/thread.h"

TCX_ALWAYS_INLINE struct tcx_slab_header *tcx_perthread_header(
    uintptr_t header_offset) {
  uintptr_t header = (uintptr_t)tcx_thread.slab + header_offset;
  TCX_KEEP_SIMPLE(header);
  return (struct tcx_slab_header *)header;
}

// The same header, where `thread_offset` is at hand already: spares a load of
// the global offset table, which would not fit in free's cache line of code.
TCX_ALWAYS_INLINE struct tcx_slab_header *tcx_perthread_header_at(
    intptr_t thread_offset, uintptr_t header_offset) {
#ifdef __x86_64__
  uintptr_t header = header_offset;
  // Volatile and with memory: a slow path may replace the slab.
  __asm__ volatile("addq %%fs:%c2(%1), %0"
                   : "+r"(header)
                   : "r"(thread_offset), "i"(offsetof(struct tcx_thread, slab))
                   : "memory", "cc");
  return (struct tcx_slab_header *)header;
#else
  uintptr_t header =
      (uintptr_t)tcx_thread_at(thread_offset)->slab + header_offset;
  TCX_KEEP_SIMPLE(header);
  return (struct tcx_slab_header *)header;
#endif
}

// An object of the class, or NULL when there is none (class 0: always).
TCX_ALWAYS_INLINE void *tcx_perthread_pop(uintptr_t header_offset) {
  struct tcx_slab_header *header = tcx_perthread_header(header_offset);
  void **top = header->top;
  void *object = *top;
  TCX_KEEP_AS_RESULT(object);
  if (TCX_UNLIKELY(((uintptr_t)object & 1) != 0))
    return NULL;
  header->top = top - 1;
  // No slot holds NULL, so the caller's test for it costs nothing here.
  if (object == NULL)
    __builtin_unreachable();
  return object;
}

TCX_ALWAYS_INLINE bool tcx_perthread_push_on(struct tcx_slab_header *header,
                                             void *object) {
  void **top = header->top;
  if (TCX_UNLIKELY(*top == object))
    return false;
  top++;
  if (TCX_UNLIKELY(top > header->end))
    return false;
  TCX_KEEP_SIMPLE(top);
  *top = object;
  header->top = top;
  return true;
}

// False: no room, class 0, or the object was freed twice in a row; nothing has
// changed then.
TCX_ALWAYS_INLINE bool tcx_perthread_push(uintptr_t header_offset,
                                          void *object) {
  return tcx_perthread_push_on(tcx_perthread_header(header_offset), object);
}

// The same, with the thread's offset at hand.
TCX_ALWAYS_INLINE bool tcx_perthread_push_at(intptr_t thread_offset,
                                             uintptr_t header_offset,
                                             void *object) {
  return tcx_perthread_push_on(
      tcx_perthread_header_at(thread_offset, header_offset), object);
}

// True if the object lies on top of its class: it is free already. Only slow
// paths ask; fast ones find out beside the push.
static inline bool tcx_perthread_top_is(uintptr_t header_offset,
                                        const void *object) {
  return *tcx_perthread_header(header_offset)->top == object;
}

#endif  // TCX_FRONTEND_PERTHREAD_FAST_H_

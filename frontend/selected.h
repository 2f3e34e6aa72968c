// selected.h -- the fast half of the front end that this build is made with.
//
// The slow half is linked (frontend.h); the two go together in the BUILD file:
// //frontend:percpu and //frontend:perthread say which by TCX_FRONTEND_PERCPU.
#ifndef TCX_FRONTEND_SELECTED_H_
#define TCX_FRONTEND_SELECTED_H_

#include "frontend/frontend.h"

#ifdef TCX_FRONTEND_PERCPU
#include "base/rseq.h"
#include "frontend/percpu_fast.h"
#define TCX_FRONTEND_FAST(name) tcx_percpu_##name
#else
#include "frontend/perthread_fast.h"
#define TCX_FRONTEND_FAST(name) tcx_perthread_##name
#endif

// An object of the class whose header has this offset; NULL: none.
TCX_ALWAYS_INLINE void *tcx_frontend_pop(uintptr_t header_offset) {
  return TCX_FRONTEND_FAST(pop)(header_offset);
}

// False: no room, class 0, or the object was freed twice in a row; nothing has
// changed then.
TCX_ALWAYS_INLINE bool tcx_frontend_push(uintptr_t header_offset,
                                         void *object) {
  return TCX_FRONTEND_FAST(push)(header_offset, object);
}

// The same, where the thread's offset (below) is at hand already.
TCX_ALWAYS_INLINE bool tcx_frontend_push_at(intptr_t thread_offset,
                                            uintptr_t header_offset,
                                            void *object) {
  return TCX_FRONTEND_FAST(push_at)(thread_offset, header_offset, object);
}

// True if the object lies on top of its class: it is free already. Only slow
// paths ask; fast ones find out beside the push.
static inline bool tcx_frontend_top_is(uintptr_t header_offset,
                                       const void *object) {
  return TCX_FRONTEND_FAST(top_is)(header_offset, object);
}

// A thread's block that the loader has not filled from its image yet: nowhere.
static inline void tcx_frontend_bridge_thread(void) {
  tcx_thread.slab = &tcx_slab_dummy;
#ifdef TCX_FRONTEND_PERCPU
  tcx_thread.area = &tcx_rseq_nowhere;
#endif
}

// &tcx_thread less the thread pointer: the same in every thread.
static inline intptr_t tcx_frontend_thread_offset(void) {
  uintptr_t thread_pointer;
#ifdef __x86_64__
  __asm__("movq %%fs:0, %0" : "=r"(thread_pointer));
#else
  thread_pointer = (uintptr_t)__builtin_thread_pointer();
#endif
  return (intptr_t)((uintptr_t)&tcx_thread - thread_pointer);
}

#endif  // TCX_FRONTEND_SELECTED_H_

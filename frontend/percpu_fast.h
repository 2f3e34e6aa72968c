// percpu_fast.h -- the fast half of the per-CPU front end: pop and push.
//
// Each is one restartable sequence. In words (pop; push likewise):
//
//   arm:    area->rseq_cs = &descriptor
//   start:  slab = base[area->id]
//           top  = slab->headers[class].top
//           object = *top;  odd -> leave (empty)
//           slab->headers[class].top = top - 1        the commit
//   end:
//   abort:  back to arm
//
// Behind the end pop reads the slot below, to prefetch; whatever it reads there
// by then, on whatever CPU, is at most of no use.
//
// INVARIANTS
//   R1. Nothing before the commit changes what another section can see: push
//       stores into a slot above `top`, which no pop reads.
//   R2. The commit is one store, the last instruction of the section. So a
//       section has happened wholly or not at all.
//   R3. Between start and end no call and no system call.
//   R4. While base[id] points at the slab, only sections on the CPU of that id
//       write it; whoever else wants it stops the id first (percpu.c).
//   R5. base[-1] and base[-2] are the dummy: a thread that has no id yet finds
//       every class empty and full, and leaves. One whose area is registered
//       nowhere gets an id that no CPU has, of its own slab (percpu_threads.c).
//
// Each machine has its own way to write that down: percpu_x86_64.h and
// percpu_aarch64.h hold pop and push, and the .S files of these names the
// sections that move several objects.
#ifndef TCX_FRONTEND_PERCPU_FAST_H_
#define TCX_FRONTEND_PERCPU_FAST_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "frontend/percpu.h"
#include "frontend/perthread_fast.h"
#include "frontend/thread.h"

// They define:
//   void *tcx_percpu_pop(uintptr_t header_offset)
//     An object of the class, or NULL when there is none (class 0: always).
//   bool tcx_percpu_push_by(struct tcx_rseq_area *area,
//                           uintptr_t header_offset, void *object)
//     False: no room, class 0, or the object was freed twice in a row; nothing
//     has changed then.
//   struct tcx_rseq_area *tcx_percpu_area_at(intptr_t thread_offset)
//     tcx_thread.area, where the thread's offset is at hand.
#if defined(__x86_64__)
#include "frontend/percpu_x86_64.h"
#elif defined(__aarch64__)
#include "frontend/percpu_aarch64.h"
#else
#error "the per-CPU front end knows x86-64 and arm64"
#endif

// The same on the area of this thread.
TCX_ALWAYS_INLINE bool tcx_percpu_push(uintptr_t header_offset, void *object) {
  return tcx_percpu_push_by(tcx_thread.area, header_offset, object);
}

// The same, with the thread's offset at hand.
TCX_ALWAYS_INLINE bool tcx_percpu_push_at(intptr_t thread_offset,
                                          uintptr_t header_offset,
                                          void *object) {
  return tcx_percpu_push_by(tcx_percpu_area_at(thread_offset), header_offset,
                            object);
}

// True if the object lies on top of its class: on the CPU of this moment, or in
// the slab of this thread, where it has one.
static inline bool tcx_percpu_top_is(uintptr_t header_offset,
                                     const void *object) {
  return tcx_perthread_top_is(header_offset, object) ||
         tcx_percpu_is_top(tcx_thread.area, header_offset, object);
}

#endif  // TCX_FRONTEND_PERCPU_FAST_H_

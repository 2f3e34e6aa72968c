// thread.h -- what a thread has of its own: one small block of static TLS.
//
// Static TLS is scarce for a preloaded library (at most 64 bytes, tested), and
// one line holds all that the fast paths read.
#ifndef TCX_FRONTEND_THREAD_H_
#define TCX_FRONTEND_THREAD_H_

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "frontend/slab.h"
#include "frontend/thread_offsets.h"

TCX_BEGIN_DECLS

struct tcx_rseq_area;

enum tcx_thread_flag {
  // The thread's cache was given back at its end; what it still allocates and
  // frees (late destructors) goes to the middle directly.
  TCX_THREAD_EXITED = 1u << 0,
  // A cache is being made; recursion goes to the middle directly.
  TCX_THREAD_STARTING = 1u << 1,
  // Looks up the next allocator (libc/foreign.c), which may allocate.
  TCX_THREAD_LOOKING = 1u << 2,
  // A vfork of the thread's is under way: its child runs on this very block,
  // and the kernel keeps no area for it (libc/vfork_x86_64.S).
  TCX_THREAD_VFORK = TCX_THREAD_VFORK_BIT,
  // In the program's callback at the hard limit (libc/upkeep.c).
  TCX_THREAD_CALLING = 1u << 4,
  // Was refused a span at the hard limit (likewise).
  TCX_THREAD_REFUSED = 1u << 5,
};

struct tcx_thread {
  // Never NULL: the dummy until the thread's first slow path.
  const struct tcx_slab *slab;
  // Bytes until the next visit of malloc's slow path: for sampling, and for a
  // slow path that asks this thread to come by again. Starts at 0, so the first
  // malloc of each thread is slow. At most TCX_VISIT_BYTES_MAX: what is larger
  // than the table of sizes reaches the slow path by this counter alone.
  uint64_t visit_bytes;
  // Per-CPU front end: never NULL, see percpu.c. Else NULL.
  struct tcx_rseq_area *area;
  uint32_t flags;
  uint32_t exit_rounds;  // of thread-specific destructors gone by
  // Large requests that find the counter run down may set it up again without a
  // visit, so many times: each would visit.
  uint32_t visits_spared;
};

#define TCX_VISIT_BYTES_MAX ((uint64_t)TCX_MAX_INDEXED_SIZE)

static_assert(sizeof(struct tcx_thread) <= 64, "static TLS is scarce");
static_assert(offsetof(struct tcx_thread, area) == TCX_THREAD_AREA_OFFSET &&
                  offsetof(struct tcx_thread, flags) == TCX_THREAD_FLAGS_OFFSET,
              "assembly uses them");
static_assert(TCX_THREAD_VFORK == 1u << 3, "a flag of its own");

extern TCX_HIDDEN __thread struct tcx_thread tcx_thread
    __attribute__((tls_model("initial-exec")));

#ifdef __aarch64__
// Block of the thread, where its offset from the thread pointer is at hand.
TCX_ALWAYS_INLINE struct tcx_thread *tcx_thread_at(intptr_t thread_offset) {
  char *thread_pointer = (char *)__builtin_thread_pointer();
  return (struct tcx_thread *)(thread_pointer + thread_offset);
}
#endif

TCX_END_DECLS

#endif  // TCX_FRONTEND_THREAD_H_

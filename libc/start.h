// start.h -- the start of the library: wires the tiers, once.
//
// PLACE IN THE SYSTEM: the slow paths of heap.c --> start --> all tiers
//   The first call of any entry point finds the byte table of the size classes
//   still zero and so comes to a slow path, which starts. The library's
//   constructor does, where tcx is the process's allocator.
//
// LOCKING: one lock, rank START. What is wired is constant afterwards.
#ifndef TCX_LIBC_START_H_
#define TCX_LIBC_START_H_

#include <stdbool.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "frontend/selected.h"

TCX_BEGIN_DECLS

struct tcx_object_source;
struct tcx_page_source;

enum tcx_start_state { TCX_NOT_STARTED, TCX_SERVING, TCX_ASIDE };

struct tcx_start {
  int state;  // enum tcx_start_state, written under the lock
  struct tcx_page_source *pages;
  struct tcx_object_source *objects;
};

extern TCX_HIDDEN struct tcx_start tcx_start;

// Starts if nobody has. False: tcx has stepped aside, or its start is under way
// in this very thread.
TCX_HIDDEN TCX_NOINLINE bool tcx_start_slow(void);

TCX_ALWAYS_INLINE bool tcx_start_is_serving(void) {
  bool is_ready = tcx_thread.slab != NULL &&
                  tcx_atomic_load_acquire(&tcx_start.state) == TCX_SERVING;
  return TCX_LIKELY(is_ready) || tcx_start_slow();
}

// The calling thread may be one that the loader has not prepared yet.
TCX_HIDDEN void tcx_start_bridge_thread(void);

TCX_END_DECLS

#endif  // TCX_LIBC_START_H_

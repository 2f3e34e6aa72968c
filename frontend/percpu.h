// percpu.h -- the slabs of all CPUs, as the fast half and the slow half see
// them. See percpu.c.
#ifndef TCX_FRONTEND_PERCPU_H_
#define TCX_FRONTEND_PERCPU_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "frontend/frontend.h"
#include "frontend/slab.h"

TCX_BEGIN_DECLS

// Highest number of CPUs: ids from 0 to one less.
#define TCX_PERCPU_MAX TCX_FRONTEND_CPUS
// Threads without a registered area that have an id of their own behind those
// of CPUs (percpu_threads.c).
#define TCX_PERCPU_THREADS 4096

// What the sections read, reached from one address.
struct tcx_percpu {
  // Of the field of the area that names the slab: cpu_id or mm_cid.
  uint64_t id_offset;
  uint64_t reserved;
  // By id + 2, so that -2 and -1 (not registered) are entries too. The dummy:
  // no slab yet, or the id is stopped. Behind the CPUs: slabs of threads.
  const struct tcx_slab_header *base[2 + TCX_PERCPU_MAX + TCX_PERCPU_THREADS];
};
extern TCX_HIDDEN struct tcx_percpu tcx_percpu;

// For pop: brings in what the next pop of the class returns. Who allocates many
// objects writes to each at once, and in a heap larger than the caches its
// first line is not in them. Of a guard the address is 1, where nothing is
// brought in. (Per thread malloc is one line of code, which is worth more.)
TCX_ALWAYS_INLINE void tcx_percpu_prefetch(void **top) {
  __builtin_prefetch(tcx_atomic_load_relaxed(top), 1);
}

struct tcx_rseq_area;

// The sections that move several objects, in percpu_<machine>.S. Each acts on
// the slab of the CPU that it commits on, and returns how many objects (or
// slots) it moved; 0 on the dummy.
unsigned tcx_percpu_push_batch(struct tcx_rseq_area *area,
                               uintptr_t header_offset, void *const *batch,
                               unsigned count);
unsigned tcx_percpu_pop_batch(struct tcx_rseq_area *area,
                              uintptr_t header_offset, void **batch,
                              unsigned count);
// Moves `end` up by at most `slots`, not beyond `limit`, the offset of the
// class's last slot from the slab's start; or down by at most `slots`, not
// below `top`. Only in `slab`, whose CPU's budget pays; 0 on another CPU, and
// while the slab is stopped.
unsigned tcx_percpu_grow(struct tcx_rseq_area *area, uintptr_t header_offset,
                         unsigned slots, uintptr_t limit,
                         const struct tcx_slab_header *slab);
unsigned tcx_percpu_shrink(struct tcx_rseq_area *area, uintptr_t header_offset,
                           unsigned slots, const struct tcx_slab_header *slab);

// Whether the object lies on top of its class. A section too: whoever drains a
// stopped slab leaves objects in it that are free no more.
bool tcx_percpu_is_top(struct tcx_rseq_area *area, uintptr_t header_offset,
                       const void *object);

TCX_END_DECLS

#endif  // TCX_FRONTEND_PERCPU_H_

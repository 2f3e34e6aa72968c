// percpu_internal.h -- what the files of the per-CPU front end share:
// percpu.c (refill, overflow), percpu_cpus.c (slabs, stopping, draining),
// percpu_threads.c (threads that no CPU's slab serves), percpu_budget.c,
// percpu_runs.c, percpu_stats.c.
#ifndef TCX_FRONTEND_PERCPU_INTERNAL_H_
#define TCX_FRONTEND_PERCPU_INTERNAL_H_

#include <stdbool.h>

#include "base/atomic.h"
#include "base/rseq.h"
#include "frontend/frontend.h"
#include "frontend/percpu.h"
#include "frontend/slab.h"

TCX_BEGIN_DECLS

#define TCX_CPU_RUN_CLASSES (TCX_SIZE_CLASS_COUNT - TCX_RUN_CLASS_FIRST)
static_assert(TCX_CPU_RUN_CLASSES <= 32, "a bit for each");

// Regret of a class on one CPU (slab.h). Atomic; guesses, not invariants.
struct tcx_cpu_row {
  uint16_t spilled;
  uint16_t refill;
  uint16_t most;  // room that the class ever had: slots that may be touched
};

struct tcx_cpu {
  struct tcx_slab_header *slab;  // NULL: never used
  uint64_t capacity_bytes;       // of small classes
  uint64_t budget_bytes;         // what these may be, at the last look
  uint64_t run_bytes;            // of run classes
  uint64_t looked_ms;            // when `tops` was taken
  uint64_t seen_tops;            // all of them, at the last look from outside
  struct tcx_slab_counts counts;
  uint64_t drains;  // times that it was emptied from outside
  uint64_t steals;  // times that a class took room from the others
  void **tops[TCX_SIZE_CLASS_COUNT];  // at the CPU's own last look
  // At the last look from outside, and what to take then: bit 0 is the first
  // run class. Under the lock.
  void **run_tops[TCX_CPU_RUN_CLASSES];
  uint32_t idle_runs;
  bool is_idle;
  struct tcx_cpu_row rows[TCX_SIZE_CLASS_COUNT];
};

// Which areas the threads use.
struct tcx_percpu_areas {
  const struct tcx_rseq_support *support;
  uint64_t registered;  // areas of our own; atomic
  uint64_t refused;     // by the kernel; atomic
};

extern TCX_HIDDEN struct tcx_percpu_areas tcx_percpu_areas;
// Ids from here on have no slab so far; only grows. Atomic.
extern TCX_HIDDEN int tcx_cpus_end;
extern TCX_HIDDEN struct tcx_cpu tcx_cpus[TCX_PERCPU_MAX];
extern TCX_HIDDEN struct tcx_slab_sources tcx_percpu_sources;

// Offset of the class's slot `begin` from the slab's start, and how many slots
// it has there.
size_t tcx_cpu_array_offset(unsigned size_class);
size_t tcx_cpu_slots(unsigned size_class);

static inline uintptr_t tcx_header_offset(unsigned size_class) {
  return (uintptr_t)size_class << TCX_SIZE_CLASS_SHIFT;
}

static inline uint64_t tcx_cpu_slow_calls(const struct tcx_cpu *cpu) {
  return tcx_atomic_load_relaxed(&cpu->counts.refills) +
         tcx_atomic_load_relaxed(&cpu->counts.overflows);
}

// Objects and room of a class, as seen from outside: of this moment on an idle
// CPU, approximate on a busy one.
size_t tcx_cpu_count(const struct tcx_cpu *cpu, unsigned size_class);
size_t tcx_cpu_capacity(const struct tcx_cpu *cpu, unsigned size_class);

// Makes the slab of an id that has none, and opens it. False: no memory.
bool tcx_cpu_create(int id);

// Takes everything out of all slabs, or what is idle: everything out of those
// whose CPUs have not moved anything since the last look, and out of the others
// each run class that has not moved. One fence.
void tcx_cpus_drain(bool all);

// Gives objects of a class to the tiers below; counted as the CPU's.
void tcx_percpu_give_down(struct tcx_cpu *cpu, unsigned size_class,
                          void *const *objects, size_t count);

// What the small classes of a CPU may have room for: as the setting says, or by
// the size of the heap when adapt was last called.
uint64_t tcx_cpu_budget(const struct tcx_cpu *cpu);
void tcx_cpu_budget_adapt(struct tcx_cpu *cpu);

// What pays for the room of a class.
static inline uint64_t *tcx_cpu_pays(struct tcx_cpu *cpu, unsigned size_class) {
  return size_class >= TCX_RUN_CLASS_FIRST ? &cpu->run_bytes
                                           : &cpu->capacity_bytes;
}

// Room for up to `slots` objects more, which is paid for. Returns for how many.
// Nothing, here and in the next two, if the thread has left the CPU.
size_t tcx_percpu_class_grow(struct tcx_cpu *cpu, unsigned size_class,
                             size_t slots);
// Takes up to `slots` of unused room from a class, and what paid for it.
void tcx_percpu_class_shrink(struct tcx_cpu *cpu, unsigned size_class,
                             size_t slots);
// Takes up to `count` objects from the top of a class and gives them down.
// Returns how many.
size_t tcx_percpu_spill(struct tcx_cpu *cpu, unsigned size_class, size_t count);

// Gives down all that a run class holds, and its room.
void tcx_percpu_run_drop(struct tcx_cpu *cpu, unsigned size_class);
// One slot more for a run class, within the run budget of the CPU.
void tcx_percpu_run_room(struct tcx_cpu *cpu, unsigned size_class);
// The run classes that hold blocks and have not moved since the last look.
uint32_t tcx_percpu_idle_runs(struct tcx_cpu *cpu);

// Bytes of the CPU's slab, and of these what nothing has touched so far.
size_t tcx_cpu_slab_bytes(void);
size_t tcx_cpu_untouched_bytes(const struct tcx_cpu *cpu);

// Gives the area in a thread's slab, which the kernel does not know, an id
// under which the sections find that slab; and takes it away. False: it had
// none.
void tcx_percpu_thread_enter(struct tcx_slab *slab);
bool tcx_percpu_thread_leave(struct tcx_slab *slab);

void tcx_cpus_start(void);
void tcx_cpus_check(void);

// Entries of the front end's table (frontend.h).
void tcx_percpu_use(struct tcx_frontend_use *out);
void tcx_percpu_stats(struct tcx_frontend_stats *out);
void tcx_percpu_class_stats(unsigned size_class,
                            struct tcx_frontend_class_stats *out);
bool tcx_percpu_cpu_stats(unsigned id, struct tcx_frontend_cpu_stats *out);

TCX_END_DECLS

#endif  // TCX_FRONTEND_PERCPU_INTERNAL_H_

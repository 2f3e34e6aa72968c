// percpu_runs.c -- blocks of the run classes in the slabs of CPUs.
//
// See percpu.c for the rules, runs.h for the budget. A class holds up to four
// blocks. What it has not used goes back before anything else, and without the
// CPU's help: a block is as much memory as all small objects of a CPU together.
//
// A class that takes a block out and in all the time looks idle when it is
// looked at between. That costs two calls of the page source at each look, and
// no memory goes back for it: the page source keeps what was used lately.
#include "base/atomic.h"
#include "frontend/percpu_internal.h"
#include "frontend/runs.h"

void tcx_percpu_run_drop(struct tcx_cpu *cpu, unsigned size_class) {
  (void)tcx_percpu_spill(cpu, size_class, TCX_SLAB_RUNS_MAX);
  tcx_percpu_class_shrink(cpu, size_class, TCX_SLAB_RUNS_MAX);
}

static bool fits(const struct tcx_cpu *cpu, uint64_t budget, size_t size) {
  return tcx_atomic_load_relaxed(&cpu->run_bytes) + size <= budget;
}

void tcx_percpu_run_room(struct tcx_cpu *cpu, unsigned size_class) {
  if (tcx_cpu_capacity(cpu, size_class) >= TCX_SLAB_RUNS_MAX)
    return;
  size_t size = tcx_size_classes[size_class].size;
  uint64_t budget = tcx_run_budget(tcx_percpu_sources.pages);
  unsigned other = TCX_SIZE_CLASS_COUNT;
  while (!fits(cpu, budget, size) && --other >= TCX_RUN_CLASS_FIRST) {
    if (other != size_class && tcx_cpu_capacity(cpu, other) > 0)
      tcx_percpu_run_drop(cpu, other);
  }
  if (!fits(cpu, budget, size))
    return;
  // Paid for before it is there: who drains it, or a child of fork, never takes
  // back more than was paid.
  tcx_atomic_fetch_add_relaxed(&cpu->run_bytes, size);
  size_t grown = tcx_percpu_class_grow(cpu, size_class, 1);
  tcx_atomic_fetch_sub_relaxed(&cpu->run_bytes, (1 - grown) * size);
}

uint32_t tcx_percpu_idle_runs(struct tcx_cpu *cpu) {
  uint32_t idle = 0;
  for (unsigned i = 0; i < TCX_CPU_RUN_CLASSES; i++) {
    unsigned size_class = TCX_RUN_CLASS_FIRST + i;
    void **top = tcx_atomic_load_relaxed(&cpu->slab[size_class].top);
    if (top == cpu->run_tops[i] && tcx_cpu_count(cpu, size_class) > 0)
      idle |= UINT32_C(1) << i;
    cpu->run_tops[i] = top;
  }
  return idle;
}

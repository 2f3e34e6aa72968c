// percpu_stats.c -- what the caches of CPUs hold and did. See frontend.h.
//
// LOCKING: none; figures of busy CPUs are of slightly different moments.
#include "base/atomic.h"
#include "frontend/percpu_internal.h"
#include "frontend/perthread.h"

void tcx_percpu_use(struct tcx_frontend_use *out) {
  const struct tcx_percpu_areas *areas = &tcx_percpu_areas;
  const struct tcx_rseq_support *support = areas->support;
  *out =
      (struct tcx_frontend_use){"perthread", "none", "none", support->reason};
  if (!support->is_usable)
    return;
  bool is_refused = tcx_atomic_load_relaxed(&areas->registered) == 0 &&
                    tcx_atomic_load_relaxed(&areas->refused) != 0;
  if (!support->is_libcs_area && is_refused) {
    out->reason = "rseq refused";
    return;
  }
  out->serves = "percpu";
  out->area = support->is_libcs_area ? "libc" : "own";
  out->ids = support->has_mm_cid ? "mm_cid" : "cpu_id";
}

static uint64_t class_bytes(const struct tcx_cpu *cpu, unsigned size_class) {
  return tcx_cpu_count(cpu, size_class) * tcx_size_classes[size_class].size;
}

static uint64_t bytes_between(const struct tcx_cpu *cpu, unsigned first,
                              unsigned limit) {
  uint64_t bytes = 0;
  for (unsigned i = first; i < limit; i++)
    bytes += class_bytes(cpu, i);
  return bytes;
}

static void cpu_add(const struct tcx_cpu *cpu, struct tcx_frontend_stats *out) {
  const struct tcx_slab_counts *counts = &cpu->counts;
  out->cpu_caches++;
  out->cpu_cached_bytes += bytes_between(cpu, 1, TCX_RUN_CLASS_FIRST);
  out->run_cache_bytes +=
      bytes_between(cpu, TCX_RUN_CLASS_FIRST, TCX_SIZE_CLASS_COUNT);
  out->refills += tcx_atomic_load_relaxed(&counts->refills);
  out->overflows += tcx_atomic_load_relaxed(&counts->overflows);
  out->removed_objects += tcx_atomic_load_relaxed(&counts->removed_objects);
  out->inserted_objects += tcx_atomic_load_relaxed(&counts->inserted_objects);
  out->run_spans += tcx_atomic_load_relaxed(&counts->run_spans);
  out->scavenges += tcx_atomic_load_relaxed(&counts->scavenges);
  out->steals += tcx_atomic_load_relaxed(&cpu->steals);
  out->cpu_drains += tcx_atomic_load_relaxed(&cpu->drains);
  out->mapped_bytes += tcx_cpu_slab_bytes();
  out->untouched_bytes += tcx_cpu_untouched_bytes(cpu);
}

// Those of the threads' own slabs (fallback) are in it.
void tcx_percpu_stats(struct tcx_frontend_stats *out) {
  tcx_perthread_ops.stats(out);
  int end = tcx_atomic_load_acquire(&tcx_cpus_end);
  for (int id = 0; id < end; id++) {
    if (tcx_atomic_load_acquire(&tcx_cpus[id].slab) != NULL)
      cpu_add(&tcx_cpus[id], out);
  }
}

void tcx_percpu_class_stats(unsigned size_class,
                            struct tcx_frontend_class_stats *out) {
  tcx_perthread_ops.class_stats(size_class, out);
  int end = tcx_atomic_load_acquire(&tcx_cpus_end);
  for (int id = 0; id < end; id++)
    out->cached_objects += tcx_cpu_count(&tcx_cpus[id], size_class);
}

bool tcx_percpu_cpu_stats(unsigned id, struct tcx_frontend_cpu_stats *out) {
  const struct tcx_cpu *cpu = &tcx_cpus[id];
  if (tcx_atomic_load_acquire(&cpu->slab) == NULL)
    return false;
  out->cached_bytes = bytes_between(cpu, 1, TCX_SIZE_CLASS_COUNT);
  out->capacity_bytes = tcx_atomic_load_relaxed(&cpu->capacity_bytes);
  out->budget_bytes = tcx_cpu_budget(cpu);
  out->refills = tcx_atomic_load_relaxed(&cpu->counts.refills);
  out->overflows = tcx_atomic_load_relaxed(&cpu->counts.overflows);
  out->steals = tcx_atomic_load_relaxed(&cpu->steals);
  out->drains = tcx_atomic_load_relaxed(&cpu->drains);
  return true;
}

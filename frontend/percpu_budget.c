// percpu_budget.c -- how many bytes a CPU may cache of small classes.
//
// In a load that fills and frees much by turns, the cache of a CPU decides how
// often its threads meet those of others at the locks below: with 3 MiB over
// forty classes a refill brings 36 objects, with 16 MiB 110, and two threads
// then take 0.86 of the time (benchmarks/RESULTS.md, the fast sawtooth). What
// is cached is memory that no other CPU can use, so it is a share of the heap.
#include "backend/page_source.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/config.h"
#include "base/knobs.h"
#include "frontend/percpu_internal.h"

// All CPUs together a 16th of what the heap has from the system, each 3 to
// 32 MiB.
#define HEAP_SHARES 16
#define BUDGET_MIN (3 * TCX_MIB)
#define BUDGET_MAX (32 * TCX_MIB)

void tcx_cpu_budget_adapt(struct tcx_cpu *cpu) {
  struct tcx_page_source *pages = tcx_percpu_sources.pages;
  struct tcx_page_source_stats stats = {0};
  pages->ops->stats(pages, &stats);
  uint64_t resident = stats.mapped_bytes - stats.released_bytes;
  uint64_t cpus = (uint64_t)tcx_atomic_load_relaxed(&tcx_cpus_end);
  uint64_t share = resident / HEAP_SHARES / tcx_max_size(cpus, 1);
  uint64_t budget = tcx_max_size(BUDGET_MIN, tcx_min_size(share, BUDGET_MAX));
  tcx_atomic_store_relaxed(&cpu->budget_bytes, budget);
}

uint64_t tcx_cpu_budget(const struct tcx_cpu *cpu) {
  uint64_t fixed = tcx_atomic_load_relaxed(&tcx_knobs.cpu_cache);
  if (fixed != 0)
    return fixed;
  return tcx_max_size(BUDGET_MIN, tcx_atomic_load_relaxed(&cpu->budget_bytes));
}

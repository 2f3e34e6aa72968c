// percpu_cpus.c -- the slabs themselves: layout, making, stopping, draining.
//
// See percpu.c for the rules and the argument.
#include <sys/mman.h>

#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/os.h"
#include "frontend/percpu_internal.h"
#include "frontend/slab_internal.h"

// What the objects of one class may come to on one CPU.
#define CLASS_BYTES_MAX ((size_t)TCX_MIB)

static_assert(TCX_PERCPU_MAX == TCX_RSEQ_IDS, "every id of a CPU has a slab");

// Before start, threads have no area, and so the ids -1 and -2.
struct tcx_percpu tcx_percpu = {
    .id_offset = offsetof(struct tcx_rseq_area, cpu_id),
    .base = {tcx_slab_dummy.headers, tcx_slab_dummy.headers},
};
struct tcx_cpu tcx_cpus[TCX_PERCPU_MAX];
int tcx_cpus_end;

static struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_PERCPU);
static uint32_t array_offsets[TCX_SIZE_CLASS_COUNT];
static size_t slab_bytes;

// -- layout -------------------------------------------------------------------

size_t tcx_cpu_slots(unsigned size_class) {
  if (size_class >= TCX_RUN_CLASS_FIRST)
    return TCX_SLAB_RUNS_MAX;
  size_t slots = CLASS_BYTES_MAX / tcx_size_classes[size_class].size;
  return tcx_min_size(slots, TCX_SLAB_CAPACITY_MAX);
}

size_t tcx_cpu_array_offset(unsigned size_class) {
  return array_offsets[size_class];
}

static void layout(void) {
  size_t at = TCX_SIZE_CLASS_COUNT * sizeof(struct tcx_slab_header);
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    array_offsets[i] = (uint32_t)(at + sizeof(void *));
    at += (1 + tcx_cpu_slots(i)) * sizeof(void *);
  }
  slab_bytes = tcx_align_up(at, tcx_os_page_size());
}

static void **begin_of(const struct tcx_slab_header *slab,
                       unsigned size_class) {
  return (void **)((char *)(uintptr_t)slab + array_offsets[size_class]);
}

static void class_reset(struct tcx_slab_header *slab, unsigned size_class) {
  void **begin = begin_of(slab, size_class);
  begin[-1] = TCX_SLAB_GUARD;
  slab[size_class].top = begin - 1;
  slab[size_class].end = begin - 1;
}

static bool cpu_create_locked(int id) {
  if (tcx_cpus[id].slab != NULL)
    return true;
  struct tcx_slab_header *slab =
      (struct tcx_slab_header *)tcx_os_map(slab_bytes);
  if (slab == NULL)
    return false;
  // A huge page would make each slab cost 2 MiB.
  (void)tcx_os_advise(slab, slab_bytes, MADV_NOHUGEPAGE);
  slab[0] = tcx_slab_dummy.headers[0];
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++)
    class_reset(slab, i);
  if (id >= tcx_cpus_end)
    tcx_atomic_store_release(&tcx_cpus_end, id + 1);
  tcx_cpus[id].looked_ms = tcx_clock_ms();
  tcx_atomic_store_release(&tcx_cpus[id].slab, slab);
  tcx_atomic_store_release(&tcx_percpu.base[id + 2],
                           (const struct tcx_slab_header *)slab);
  return true;
}

bool tcx_cpu_create(int id) {
  tcx_lock_acquire(&lock);
  bool ok = cpu_create_locked(id);
  tcx_lock_release(&lock);
  return ok;
}

// -- looking from outside -----------------------------------------------------

static size_t slots_between(void *const *begin, void *const *last,
                            unsigned size_class) {
  uintptr_t slots = ((uintptr_t)(last + 1) - (uintptr_t)begin) / sizeof *begin;
  // Another thread may be at work between two loads.
  return slots <= tcx_cpu_slots(size_class) ? slots : 0;
}

size_t tcx_cpu_count(const struct tcx_cpu *cpu, unsigned size_class) {
  const struct tcx_slab_header *slab = tcx_atomic_load_acquire(&cpu->slab);
  if (slab == NULL)
    return 0;
  return slots_between(begin_of(slab, size_class),
                       tcx_atomic_load_relaxed(&slab[size_class].top),
                       size_class);
}

size_t tcx_cpu_capacity(const struct tcx_cpu *cpu, unsigned size_class) {
  const struct tcx_slab_header *slab = tcx_atomic_load_acquire(&cpu->slab);
  if (slab == NULL)
    return 0;
  return slots_between(begin_of(slab, size_class),
                       tcx_atomic_load_relaxed(&slab[size_class].end),
                       size_class);
}

size_t tcx_cpu_slab_bytes(void) {
  return slab_bytes;
}

// A class has touched its guard and, at most, the room that it ever had.
size_t tcx_cpu_untouched_bytes(const struct tcx_cpu *cpu) {
  size_t page = tcx_os_page_size();
  size_t touched = 0;  // in whole pages
  size_t end =
      tcx_align_up(TCX_SIZE_CLASS_COUNT * sizeof(struct tcx_slab_header), page);
  touched += end;
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    size_t most = tcx_atomic_load_relaxed(&cpu->rows[i].most);
    size_t first = array_offsets[i] - sizeof(void *);
    size_t limit = tcx_align_up(array_offsets[i] + most * sizeof(void *), page);
    size_t begin = tcx_max_size(tcx_align_down(first, page), end);
    if (limit > begin)
      touched += limit - begin;
    end = tcx_max_size(end, limit);
  }
  return slab_bytes - touched;
}

// Whether the CPU holds anything, and no class moved since the last look.
static bool is_idle(struct tcx_cpu *cpu) {
  struct tcx_slab_header *slab = cpu->slab;
  bool holds = false;
  uint64_t tops = tcx_cpu_slow_calls(cpu);  // They move as well.
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    // A sum in which one class's move is no other's.
    tops = tops * 31 + (uintptr_t)tcx_atomic_load_relaxed(&slab[i].top);
    holds |= tcx_cpu_capacity(cpu, i) > 0;
  }
  bool moved = tops != cpu->seen_tops;
  cpu->seen_tops = tops;
  return holds && !moved;
}

// What to take. Remembers what it saw. False: nothing.
static bool look(struct tcx_cpu *cpu, bool all) {
  bool idle = is_idle(cpu);
  cpu->is_idle = idle || all;
  cpu->idle_runs = tcx_percpu_idle_runs(cpu);
  return cpu->is_idle || cpu->idle_runs != 0;
}

// -- remote work --------------------------------------------------------------

static void stop(int id) {
  tcx_atomic_store_relaxed(&tcx_percpu.base[id + 2], tcx_slab_dummy.headers);
}

static void start(int id) {
  tcx_atomic_store_release(&tcx_percpu.base[id + 2],
                           (const struct tcx_slab_header *)tcx_cpus[id].slab);
}

static bool is_taken(const struct tcx_cpu *cpu, unsigned size_class) {
  if (cpu->is_idle)
    return true;
  return size_class >= TCX_RUN_CLASS_FIRST &&
         (cpu->idle_runs >> (size_class - TCX_RUN_CLASS_FIRST) & 1) != 0;
}

// The id is stopped: takes the objects and the capacity of all classes, or of
// those that `look` found. Blocks of run classes first.
static void drain_stopped(struct tcx_cpu *cpu) {
  tcx_atomic_fetch_add_relaxed(&cpu->drains, 1);
  for (unsigned i = TCX_SIZE_CLASS_COUNT - 1; i > 0; i--) {
    void **begin = begin_of(cpu->slab, i);
    size_t count = tcx_cpu_count(cpu, i);
    size_t bytes = tcx_cpu_capacity(cpu, i) * tcx_size_classes[i].size;
    if (bytes == 0 || !is_taken(cpu, i))
      continue;
    tcx_percpu_give_down(cpu, i, begin, count);
    class_reset(cpu->slab, i);
    tcx_atomic_fetch_sub_relaxed(tcx_cpu_pays(cpu, i), bytes);
  }
}

void tcx_cpus_drain(bool all) {
  static uint64_t chosen[TCX_PERCPU_MAX / 64];
  bool any = false;
  tcx_lock_acquire(&lock);
  for (int id = 0; id < tcx_cpus_end; id++) {
    struct tcx_cpu *cpu = &tcx_cpus[id];
    chosen[id / 64] &= ~(UINT64_C(1) << id % 64);
    if (cpu->slab == NULL || !look(cpu, all))
      continue;
    chosen[id / 64] |= UINT64_C(1) << id % 64;
    stop(id);
    any = true;
  }
  bool fenced = any && tcx_rseq_fence() == 0;
  for (int id = 0; any && id < tcx_cpus_end; id++) {
    if ((chosen[id / 64] >> id % 64 & 1) == 0)
      continue;
    if (fenced)
      drain_stopped(&tcx_cpus[id]);
    start(id);
  }
  tcx_lock_release(&lock);
}

// -- start --------------------------------------------------------------------

void tcx_cpus_start(void) {
  static const struct tcx_fork_hooks hooks = {
      TCX_LOCK_RANK_PERCPU, &lock, tcx_fork_lock_prepare, tcx_fork_lock_parent,
      tcx_fork_lock_child};
  layout();
  for (int i = 0; i < TCX_PERCPU_MAX + 2; i++)
    tcx_percpu.base[i] = tcx_slab_dummy.headers;
  tcx_fork_register(&hooks);
}

// -- check --------------------------------------------------------------------

static void check_class(const struct tcx_cpu *cpu, unsigned size_class) {
  const struct tcx_slab_header *header = &cpu->slab[size_class];
  void **begin = begin_of(cpu->slab, size_class);
  TCX_CHECK(header->top >= begin - 1);
  TCX_CHECK(header->end >= header->top);
  TCX_CHECK(header->end < begin + tcx_cpu_slots(size_class));
  TCX_CHECK(begin[-1] == TCX_SLAB_GUARD);
  for (void **slot = begin; slot <= header->top; slot++)
    TCX_CHECK((uintptr_t)*slot % TCX_ALIGNMENT == 0 && *slot != NULL);
}

// For the ids that are stopped meanwhile: all of them.
void tcx_cpus_check(void) {
  bool any = false;
  tcx_lock_acquire(&lock);
  for (int id = 0; id < tcx_cpus_end; id++) {
    if (tcx_cpus[id].slab == NULL)
      continue;
    stop(id);
    any = true;
  }
  bool fenced = any && tcx_rseq_fence() == 0;
  for (int id = 0; id < tcx_cpus_end; id++) {
    if (tcx_cpus[id].slab == NULL)
      continue;
    for (unsigned i = 1; fenced && i < TCX_SIZE_CLASS_COUNT; i++)
      check_class(&tcx_cpus[id], i);
    start(id);
  }
  tcx_lock_release(&lock);
}

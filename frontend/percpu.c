// percpu.c -- the per-CPU front end: a slab for each CPU.
//
// PLACE IN THE SYSTEM: the slow half of percpu_fast.h. See frontend.h. Threads
//   that have no registered area go on with perthread.c.
//
// LAYOUT. Each CPU has one mapping, its slab, of a fixed size and touched as it
//   is used: the headers, then for each class a guard and as many slots as the
//   class can ever have. Slabs are never moved and never unmapped.
//
// WHAT IT DECIDES
//   Capacity by regret, as slab.c: `end` of a class moves up after it has run
//   dry for what it had spilled, within the bytes that a CPU may hold; classes
//   that do not use their room lose half of it to one that needs it.
//   What a class has not moved for `scavenge_time` is idle: half of it goes
//   back when a slow path of that CPU comes by, all of a run class, and those
//   first. A CPU none of whose classes moved is idle: the background thread, or
//   a slow path of another CPU, stops it, takes all, and lets it go. Of a busy
//   CPU these take the run classes that did not move.
//
// STOPPING AN ID (remote work; lock of rank PERCPU held)
//   stop:   base[id] = dummy; fence.
//   ...     the slab is ours alone.
//   start:  store-release base[id] = slab.
//   Take any section that loaded the slab from base[id] before the dummy became
//   visible to it. Either it committed before the fence reached its CPU: then
//   we see all its stores, since the fence is a full barrier on both sides. Or
//   it had not: then the fence (or whatever took it off the CPU before) aborts
//   it, and it starts over and loads the dummy. A section that starts later
//   loads the dummy, on which no section stores. The store-release makes our
//   changes visible to sections that load the slab again, whose loads from it
//   depend on that value. No section survives a stop and a start: the fence is
//   between.
//
// INVARIANTS (tcx_percpu_check, for ids that nobody runs on)
//   I1. begin - 1 <= top <= end <= last slot of the class, for each class.
//   I2. Every slot in [begin, top] holds an object; begin[-1] is the guard.
//   I3. capacity_bytes of a CPU == sum of (end + 1 - begin) * size of its small
//       classes, once no slow path runs.
//
// LOCKING: none on refill and overflow but those of the tiers below. A CPU's
//   counters may be touched by threads that have just left it: atomics. `lock`
//   (rank PERCPU) for making slabs and for stopping ids.
//
// FORK: the slabs of private memory are whole in the child without a stop: a
//   section stores a slot before the header that covers it, and fork copies
//   each page at one moment, with earlier stores. What another thread had just
//   popped is lost to the child: an object, or the batch of a slow path.
#include "frontend/percpu_fast.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/knobs.h"
#include "frontend/frontend.h"
#include "frontend/percpu_internal.h"
#include "frontend/perthread.h"
#include "frontend/perthread_fast.h"
#include "frontend/runs.h"

__thread struct tcx_thread tcx_thread
    __attribute__((tls_model("initial-exec"))) = {
        .slab = &tcx_slab_dummy,
        .area = &tcx_rseq_nowhere,
};

struct tcx_slab_sources tcx_percpu_sources;

struct tcx_percpu_areas tcx_percpu_areas;

static const struct tcx_rseq_support *support;
static uint64_t drained_ms;  // atomic

// -- the thread's area --------------------------------------------------------

// Which CPU's slab a section would use now; negative: none.
static int current_id(void) {
  const char *area = (const char *)tcx_thread.area;
  return tcx_atomic_load_relaxed(
      (const int32_t *)(const void *)(area + tcx_percpu.id_offset));
}

// The slab goes, and the area in it: of this thread, or of one that a fork left
// behind.
static void leave(struct tcx_slab *slab) {
  bool had_id = tcx_percpu_thread_leave(slab);
  if (tcx_thread.area != &slab->area)
    return;
  tcx_thread.area = &tcx_rseq_nowhere;
  if (!had_id && slab->area.cpu_id >= 0)
    tcx_rseq_unregister(&slab->area);
}

// Registers the area of the thread's own slab. False: it may not be, or the
// kernel refused.
static bool area_register(struct tcx_slab *slab) {
  if (!support->is_usable || support->is_libcs_area)
    return false;
  bool ok = tcx_rseq_register(&slab->area);
  tcx_atomic_fetch_add_relaxed(
      ok ? &tcx_percpu_areas.registered : &tcx_percpu_areas.refused, 1);
  return ok;
}

// Leaves `nowhere`: for libc's area, or for that of the thread's own slab,
// which the kernel keeps after we registered it, and whose id names that slab
// where we could not.
static void area_find(void) {
  struct tcx_rseq_area *area = support->is_usable ? tcx_rseq_of_libc() : NULL;
  if (area != NULL) {
    tcx_thread.area = area;
    return;
  }
  struct tcx_slab *slab = tcx_perthread_slab();
  // Making a slab may allocate, which found the area already.
  if (slab == NULL || tcx_thread.area != &tcx_rseq_nowhere)
    return;
  if (!area_register(slab))
    tcx_percpu_thread_enter(slab);
  tcx_thread.area = &slab->area;
}

// The CPU whose slab this thread uses; NULL: the thread has none.
static struct tcx_cpu *cpu_get(void) {
  if (TCX_UNLIKELY(tcx_thread.area == &tcx_rseq_nowhere)) {
    if (tcx_knobs.harden != 0)  // No caches (libc/harden.h).
      return NULL;
    if ((tcx_thread.flags & TCX_THREAD_VFORK) != 0)
      return NULL;
    area_find();
  }
  int id = current_id();
  if (id < 0 || id >= TCX_PERCPU_MAX)
    return NULL;
  struct tcx_cpu *cpu = &tcx_cpus[id];
  if (tcx_atomic_load_acquire(&cpu->slab) == NULL && !tcx_cpu_create(id))
    return NULL;
  return cpu;
}

// -- capacity -----------------------------------------------------------------

// The limit was lowered, and is not reached yet.
static bool is_over_limit(const struct tcx_cpu *cpu) {
  return tcx_atomic_load_relaxed(&cpu->capacity_bytes) > tcx_cpu_budget(cpu);
}

void tcx_percpu_class_shrink(struct tcx_cpu *cpu, unsigned size_class,
                             size_t slots) {
  size_t freed =
      tcx_percpu_shrink(tcx_thread.area, tcx_header_offset(size_class),
                        (unsigned)slots, cpu->slab);
  tcx_atomic_fetch_sub_relaxed(tcx_cpu_pays(cpu, size_class),
                               freed * tcx_size_classes[size_class].size);
}

// Halves the unused room of every other small class of the CPU.
static void room_reclaim(struct tcx_cpu *cpu, unsigned except) {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    size_t room = tcx_cpu_capacity(cpu, i) - tcx_cpu_count(cpu, i);
    if (i == except || room == 0 || room > tcx_cpu_slots(i))
      continue;
    tcx_percpu_class_shrink(cpu, i, (room + 1) / 2);
  }
}

// Claims budget for up to `want` slots. Returns for how many.
static size_t budget_claim(struct tcx_cpu *cpu, size_t size, size_t want) {
  uint64_t limit = tcx_cpu_budget(cpu);
  uint64_t had =
      tcx_atomic_fetch_add_relaxed(&cpu->capacity_bytes, want * size);
  uint64_t room = had < limit ? limit - had : 0;
  size_t got = tcx_min_size(want, room / size);
  tcx_atomic_fetch_sub_relaxed(&cpu->capacity_bytes, (want - got) * size);
  return got;
}

size_t tcx_percpu_class_grow(struct tcx_cpu *cpu, unsigned size_class,
                             size_t slots) {
  uintptr_t last = tcx_cpu_array_offset(size_class) +
                   (tcx_cpu_slots(size_class) - 1) * sizeof(void *);
  size_t grown = tcx_percpu_grow(tcx_thread.area, tcx_header_offset(size_class),
                                 (unsigned)slots, last, cpu->slab);
  size_t room = tcx_cpu_capacity(cpu, size_class);
  uint16_t *most = &cpu->rows[size_class].most;
  if (room > tcx_atomic_load_relaxed(most))
    tcx_atomic_store_relaxed(most, (uint16_t)room);
  return grown;
}

// Up to `want` slots more for a small class. Returns how many.
static size_t capacity_grow(struct tcx_cpu *cpu, unsigned size_class,
                            size_t want) {
  size_t size = tcx_size_classes[size_class].size;
  size_t got = budget_claim(cpu, size, want);
  if (got < want) {
    tcx_atomic_fetch_add_relaxed(&cpu->steals, 1);
    room_reclaim(cpu, size_class);
    got += budget_claim(cpu, size, want - got);
  }
  if (got == 0)
    return 0;
  size_t grown = tcx_percpu_class_grow(cpu, size_class, got);
  tcx_atomic_fetch_sub_relaxed(&cpu->capacity_bytes, (got - grown) * size);
  return grown;
}

// -- giving down --------------------------------------------------------------

void tcx_percpu_give_down(struct tcx_cpu *cpu, unsigned size_class,
                          void *const *objects, size_t count) {
  if (size_class < TCX_RUN_CLASS_FIRST)
    tcx_atomic_fetch_add_relaxed(&cpu->counts.inserted_objects, count);
  while (count > 0) {
    size_t n = tcx_min_size(count, TCX_BATCH_MAX);
    if (size_class >= TCX_RUN_CLASS_FIRST) {
      n = 1;
      tcx_run_deallocate(tcx_percpu_sources.pages, objects[0]);
    } else {
      tcx_object_source_insert_range(tcx_percpu_sources.objects, size_class,
                                     objects, (unsigned)n);
    }
    objects += n;
    count -= n;
  }
}

size_t tcx_percpu_spill(struct tcx_cpu *cpu, unsigned size_class,
                        size_t count) {
  void *batch[TCX_BATCH_MAX];
  unsigned n =
      tcx_percpu_pop_batch(tcx_thread.area, tcx_header_offset(size_class),
                           batch, (unsigned)tcx_min_size(count, TCX_BATCH_MAX));
  tcx_percpu_give_down(cpu, size_class, batch, n);
  return n;
}

// -- upkeep, done by slow paths -----------------------------------------------

// Half of the `count` objects of a class, by batches while the thread stays on
// the CPU. Returns how many.
static size_t half_give_down(struct tcx_cpu *cpu, unsigned size_class,
                             size_t count) {
  size_t half = (count + 1) / 2;
  size_t gone = 0;
  size_t batch;
  do {
    batch = tcx_percpu_spill(cpu, size_class, half - gone);
    gone += batch;
  } while (batch > 0 && gone < half && current_id() == cpu - tcx_cpus);
  return gone;
}

// Gives half of what the classes of this CPU have not moved since its last
// look, of run classes all of it and first; of all classes while the CPU holds
// more than it may.
static void scavenge(struct tcx_cpu *cpu) {
  uint64_t now = tcx_clock_ms();
  uint64_t last = tcx_atomic_load_relaxed(&cpu->looked_ms);
  if (now - last < tcx_atomic_load_relaxed(&tcx_knobs.scavenge_time) ||
      !tcx_atomic_cas_relaxed(&cpu->looked_ms, &last, now)) {
    return;
  }
  tcx_atomic_fetch_add_relaxed(&cpu->counts.scavenges, 1);
  tcx_cpu_budget_adapt(cpu);
  for (unsigned i = TCX_SIZE_CLASS_COUNT - 1; i > 0; i--) {
    void **top = tcx_atomic_load_relaxed(&cpu->slab[i].top);
    bool moved = top != tcx_atomic_load_relaxed(&cpu->tops[i]);
    tcx_atomic_store_relaxed(&cpu->tops[i], top);
    size_t count = tcx_cpu_count(cpu, i);
    if ((moved && !is_over_limit(cpu)) || count == 0)
      continue;
    if (i >= TCX_RUN_CLASS_FIRST) {
      tcx_percpu_run_drop(cpu, i);
      continue;
    }
    tcx_percpu_class_shrink(cpu, i, half_give_down(cpu, i, count));
    tcx_atomic_store_relaxed(&cpu->rows[i].refill, 0);
  }
}

static bool is_due(uint64_t *last_ms, uint64_t period_ms) {
  uint64_t now = tcx_clock_ms();
  uint64_t last = tcx_atomic_load_relaxed(last_ms);
  return now - last >= period_ms && tcx_atomic_cas_relaxed(last_ms, &last, now);
}

// At most one fence a second, and only where an idle CPU holds something.
static void upkeep(struct tcx_cpu *cpu) {
  uint64_t calls = tcx_cpu_slow_calls(cpu);
  if (calls % 64 != 0)
    return;
  scavenge(cpu);
  uint64_t period = tcx_atomic_load_relaxed(&tcx_knobs.trim_time);
  if (is_due(&drained_ms, period))
    tcx_cpus_drain(false);
  tcx_perthread_trim_middle();
}

// -- refill -------------------------------------------------------------------

// As slab.c: from a quarter of a batch, doubling while the class only runs dry.
static size_t refill_count(struct tcx_cpu *cpu, unsigned size_class) {
  struct tcx_cpu_row *row = &cpu->rows[size_class];
  size_t batch = tcx_size_classes[size_class].batch;
  size_t want = tcx_atomic_load_relaxed(&row->refill);
  if (want == 0)
    want = tcx_max_size(1, batch / 4);
  size_t half = tcx_cpu_capacity(cpu, size_class) / 2;
  size_t most = tcx_min_size(tcx_max_size(batch, half), TCX_BATCH_MAX);
  tcx_atomic_store_relaxed(&row->refill,
                           (uint16_t)tcx_min_size(2 * want, most));
  return tcx_min_size(want, most);
}

static void *refill_small(struct tcx_cpu *cpu, unsigned size_class) {
  struct tcx_cpu_row *row = &cpu->rows[size_class];
  size_t want = refill_count(cpu, size_class);
  size_t capacity = tcx_cpu_capacity(cpu, size_class);
  size_t spilled = tcx_atomic_load_relaxed(&row->spilled);
  size_t regret = tcx_min_size(spilled, want);
  size_t short_of = want > capacity + 1 ? want - 1 - capacity : 0;
  if (regret > 0)
    tcx_atomic_store_relaxed(&row->spilled, (uint16_t)(spilled - regret));
  if (regret + short_of > 0) {
    capacity += capacity_grow(cpu, size_class, tcx_max_size(regret, short_of));
    want = tcx_min_size(want, capacity + 1);
  }

  void *batch[TCX_BATCH_MAX];
  unsigned got = tcx_object_source_remove_range(
      tcx_percpu_sources.objects, size_class, batch, (unsigned)want);
  if (got == 0)
    return NULL;
  tcx_atomic_fetch_add_relaxed(&cpu->counts.removed_objects, got);
  // Reversed, so that later pops go upwards in memory, as the batch does.
  for (unsigned i = 1, j = got - 1; i < j; i++, j--) {
    void *object = batch[i];
    batch[i] = batch[j];
    batch[j] = object;
  }
  unsigned pushed = tcx_percpu_push_batch(
      tcx_thread.area, tcx_header_offset(size_class), batch + 1, got - 1);
  // Another thread filled it meanwhile, or we are on another CPU now.
  tcx_percpu_give_down(cpu, size_class, batch + 1 + pushed, got - 1 - pushed);
  return batch[0];
}

// Without an area: the thread's own slab, its fast half first.
static void *thread_refill(unsigned size_class, bool *zeroed) {
  *zeroed = false;
  void *object = tcx_perthread_pop(tcx_header_offset(size_class));
  return object != NULL ? object : tcx_perthread_ops.refill(size_class, zeroed);
}

static void *percpu_refill(unsigned size_class, bool *zeroed) {
  struct tcx_cpu *cpu = cpu_get();
  if (TCX_UNLIKELY(cpu == NULL))
    return thread_refill(size_class, zeroed);
  // The first slow path of a thread: its pop had no area yet.
  void *object = tcx_percpu_pop(tcx_header_offset(size_class));
  *zeroed = false;
  if (object != NULL)
    return object;
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    object = tcx_run_allocate(tcx_percpu_sources.pages, size_class, zeroed);
    tcx_atomic_fetch_add_relaxed(&cpu->counts.run_spans, object != NULL);
  } else {
    tcx_atomic_fetch_add_relaxed(&cpu->counts.refills, 1);
    object = refill_small(cpu, size_class);
  }
  upkeep(cpu);
  return object;
}

// -- overflow -----------------------------------------------------------------

// Grows while the class is below a batch, else gives half of its objects down.
static void room_make(struct tcx_cpu *cpu, unsigned size_class) {
  struct tcx_cpu_row *row = &cpu->rows[size_class];
  size_t batch = tcx_size_classes[size_class].batch;
  size_t capacity = tcx_cpu_capacity(cpu, size_class);
  if (capacity < batch) {
    size_t want = tcx_max_size(capacity, tcx_max_size(1, batch / 4));
    want = tcx_min_size(want, batch - capacity);
    if (capacity_grow(cpu, size_class, want) > 0)
      return;
  }
  size_t half = (tcx_cpu_count(cpu, size_class) + 1) / 2;
  size_t gone = tcx_percpu_spill(cpu, size_class, half);
  size_t spilled = tcx_atomic_load_relaxed(&row->spilled) + gone;
  tcx_atomic_store_relaxed(&row->spilled,
                           (uint16_t)tcx_min_size(spilled, UINT16_MAX));
  if (tcx_atomic_load_relaxed(&row->refill) > batch)
    tcx_atomic_store_relaxed(&row->refill, (uint16_t)batch);
  if (is_over_limit(cpu))
    tcx_percpu_class_shrink(cpu, size_class, gone);
}

static void percpu_overflow(unsigned size_class, void *object) {
  struct tcx_cpu *cpu = cpu_get();
  if (TCX_UNLIKELY(cpu == NULL)) {
    if (!tcx_perthread_push(tcx_header_offset(size_class), object))
      tcx_perthread_ops.overflow(size_class, object);
    return;
  }
  tcx_atomic_fetch_add_relaxed(&cpu->counts.overflows, 1);
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    tcx_percpu_run_room(cpu, size_class);
  } else {
    room_make(cpu, size_class);
  }
  if (!tcx_percpu_push(tcx_header_offset(size_class), object))
    tcx_percpu_give_down(cpu, size_class, &object, 1);
  upkeep(cpu);
}

// -- the table ----------------------------------------------------------------

static void percpu_flush(void) {
  tcx_perthread_ops.flush();
  tcx_cpus_drain(true);
}

// No scavenge: it would move the classes of the CPU that this thread is on, and
// that one, too, may be idle but for this.
static void percpu_tick(void) {
  uint64_t period = tcx_atomic_load_relaxed(&tcx_knobs.trim_time);
  if (is_due(&drained_ms, period))
    tcx_cpus_drain(false);
  tcx_perthread_ops.tick();
}

static void percpu_start(struct tcx_object_source *objects,
                         struct tcx_page_source *pages) {
  tcx_percpu_sources.objects = objects;
  tcx_percpu_sources.pages = pages;
  support = tcx_rseq_start(tcx_knobs.frontend == TCX_FRONTEND_PERCPU_CHOICE);
  tcx_percpu_areas.support = support;
  drained_ms = tcx_clock_ms();
  tcx_percpu.id_offset = support->has_mm_cid
                             ? offsetof(struct tcx_rseq_area, mm_cid)
                             : offsetof(struct tcx_rseq_area, cpu_id);
  tcx_cpus_start();
  tcx_perthread_ends = leave;
  tcx_perthread_ops.start(objects, pages);
}

static void percpu_thread_exit(void) {
  tcx_perthread_ops.thread_exit();
}

static void percpu_check(void) {
  tcx_perthread_ops.check();
  tcx_cpus_check();
}

static const struct tcx_frontend_ops ops = {
    .name = "percpu",
    .start = percpu_start,
    .refill = percpu_refill,
    .overflow = percpu_overflow,
    .flush = percpu_flush,
    .tick = percpu_tick,
    .thread_exit = percpu_thread_exit,
    .use = tcx_percpu_use,
    .stats = tcx_percpu_stats,
    .class_stats = tcx_percpu_class_stats,
    .cpu_stats = tcx_percpu_cpu_stats,
    .check = percpu_check,
};

const struct tcx_frontend_ops *const tcx_frontend = &ops;

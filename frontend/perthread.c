// perthread.c -- the per-thread front end: a slab for each thread.
//
// PLACE IN THE SYSTEM: the slow half of perthread_fast.h. See frontend.h.
//
// WHAT IT DECIDES
//   When a thread gets a slab (its first slow path), when it loses it (a late
//   round of its thread-specific destructors, so that most others still run
//   cached), and how the bytes that all slabs may hold are shared: a pool of
//   `thread_cache` bytes, of which each slab starts with `thread_cache_min`,
//   takes more while some is unclaimed, and else takes it from other slabs in
//   turn. Who lost budget gives the objects back at its own next slow path.
//
// INVARIANTS
//   I1. unclaimed + sum of the slabs' budgets == the pool. A thread always gets
//       its first part, and the pool may shrink: unclaimed may be negative.
//   I2. A thread's slab pointer is never NULL: the dummy, or its own slab.
//
// LOCKING: `threads_lock` (rank THREADS) protects the list, the cursor and the
//   totals of ended threads. It is not held while objects move.
//
// FORK: the child keeps the forking thread's slab. Those of threads that are no
//   more become orphans, which slow paths empty later; one whose owner was
//   inside a slow path (`busy`) may be torn, and is lost. Why the others are
//   whole, although nobody stopped their owners: docs/adr/0005.
#include <limits.h>
#include <pthread.h>

#include "backend/metadata.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fork.h"
#include "base/knobs.h"
#include "base/lock.h"
#include "frontend/frontend.h"
#include "frontend/perthread.h"
#include "frontend/runs.h"
#include "frontend/slab.h"
#include "frontend/thread.h"

#define BUDGET_STEP ((int64_t)(64 * TCX_KIB))
#define STEAL_VICTIMS 10
// With the others, those of the hard limit, a thread may have a cache: its
// first refill may be the one that is refused, or be inside of the callback.
#define NO_SLAB_FLAGS                                             \
  (TCX_THREAD_EXITED | TCX_THREAD_STARTING | TCX_THREAD_LOOKING | \
   TCX_THREAD_VFORK)

static bool budget_allows(struct tcx_slab *slab, uint64_t bytes);

void (*tcx_perthread_ends)(struct tcx_slab *slab);

static struct tcx_slab_sources sources = {NULL, NULL, budget_allows, 0};
static struct tcx_metadata_pool slab_pool =
    TCX_METADATA_POOL_INIT(sizeof(struct tcx_slab), TCX_CACHELINE_BYTES);
static pthread_key_t exit_key;
static bool has_exit_key;

static struct tcx_lock threads_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_THREADS);
static struct tcx_slab *slabs;    // all live ones
static struct tcx_slab *orphans;  // of threads that fork left behind
static struct tcx_slab *victim;   // next to lose budget
static uint64_t slab_count;
static uint64_t slabs_total;          // ever made
static struct tcx_slab_counts ended;  // sums over ended threads
// Objects of threads without a slab: at their end, or hardened. Atomic.
static struct tcx_slab_counts direct;
static uint64_t steals;

static int64_t pool_bytes;       // atomic; of which `unclaimed` is a part
static int64_t unclaimed_bytes;  // atomic
static uint64_t trimmed_ms;      // atomic

// -- budget -------------------------------------------------------------------

static int64_t budget_min(void) {
  return (int64_t)tcx_knobs.thread_cache_min;
}

// Follows the setting, which may change while the program runs.
static void pool_resize(void) {
  int64_t want = (int64_t)tcx_atomic_load_relaxed(&tcx_knobs.thread_cache);
  if (tcx_atomic_load_relaxed(&pool_bytes) == want)
    return;
  int64_t had = tcx_atomic_exchange_relaxed(&pool_bytes, want);
  tcx_atomic_fetch_add_relaxed(&unclaimed_bytes, want - had);
}

// Takes up to `want` of the unclaimed bytes. Returns how many.
static int64_t budget_claim(int64_t want) {
  int64_t have = tcx_atomic_load_relaxed(&unclaimed_bytes);
  while (have > 0) {
    int64_t take = have < want ? have : want;
    if (tcx_atomic_cas_relaxed(&unclaimed_bytes, &have, have - take)) {
      return take;
    }
  }
  return 0;
}

// Takes `want` bytes or a part from other threads, a step from each.
static int64_t budget_steal(const struct tcx_slab *thief, int64_t want) {
  int64_t got = 0;
  tcx_lock_acquire(&threads_lock);
  for (int i = 0; i < STEAL_VICTIMS && got < want; i++) {
    victim = victim != NULL && victim->next != NULL ? victim->next : slabs;
    if (victim == thief || victim == NULL)
      continue;
    uint64_t has = tcx_atomic_load_relaxed(&victim->budget_bytes);
    if ((int64_t)has < budget_min() + BUDGET_STEP)
      continue;
    tcx_atomic_fetch_sub_relaxed(&victim->budget_bytes, (uint64_t)BUDGET_STEP);
    got += BUDGET_STEP;
  }
  if (got > 0)
    steals++;
  tcx_lock_release(&threads_lock);
  return got;
}

static bool budget_allows(struct tcx_slab *slab, uint64_t bytes) {
  uint64_t need = slab->capacity_bytes + bytes;
  uint64_t have = tcx_atomic_load_relaxed(&slab->budget_bytes);
  if (need <= have)
    return true;
  int64_t want = (int64_t)tcx_align_up(need - have, (size_t)BUDGET_STEP);
  int64_t got = budget_claim(want);
  if (got < want)
    got += budget_steal(slab, want - got);
  have = tcx_atomic_fetch_add_relaxed(&slab->budget_bytes, (uint64_t)got) +
         (uint64_t)got;
  return need <= have;
}

// -- threads ------------------------------------------------------------------

static void list_insert(struct tcx_slab *slab) {
  slab->prev = NULL;
  slab->next = slabs;
  if (slabs != NULL)
    slabs->prev = slab;
  slabs = slab;
  slab_count++;
}

static void list_remove(struct tcx_slab *slab) {
  if (victim == slab)
    victim = slab->next;
  if (slab->prev != NULL)
    slab->prev->next = slab->next;
  if (slab->next != NULL)
    slab->next->prev = slab->prev;
  if (slabs == slab)
    slabs = slab->next;
  slab_count--;
}

static void counts_add(struct tcx_slab_counts *sum,
                       const struct tcx_slab_counts *one) {
  sum->refills += tcx_atomic_load_relaxed(&one->refills);
  sum->overflows += tcx_atomic_load_relaxed(&one->overflows);
  sum->removed_objects += tcx_atomic_load_relaxed(&one->removed_objects);
  sum->inserted_objects += tcx_atomic_load_relaxed(&one->inserted_objects);
  sum->run_spans += tcx_atomic_load_relaxed(&one->run_spans);
  sum->scavenges += tcx_atomic_load_relaxed(&one->scavenges);
}

// Empties a slab that no thread uses any more, and gives its budget back.
static void slab_destroy(struct tcx_slab *slab) {
  if (tcx_perthread_ends != NULL)
    tcx_perthread_ends(slab);
  tcx_slab_flush(slab);
  tcx_lock_acquire(&threads_lock);
  list_remove(slab);
  counts_add(&ended, &slab->counts);
  // Nobody can steal from it any more.
  tcx_atomic_fetch_add_relaxed(&unclaimed_bytes, (int64_t)slab->budget_bytes);
  tcx_lock_release(&threads_lock);
  tcx_metadata_pool_free(&slab_pool, slab);
}

static void perthread_thread_exit(void) {
  struct tcx_slab *slab = (struct tcx_slab *)(uintptr_t)tcx_thread.slab;
  tcx_thread.flags |= TCX_THREAD_EXITED;
  if (tcx_thread.slab == &tcx_slab_dummy)
    return;
  tcx_thread.slab = &tcx_slab_dummy;
  slab_destroy(slab);
}

// Rounds of destructors that the cache outlives. Not the last one: sanitizers
// take down their own thread state in it.
#define EXIT_ROUNDS (PTHREAD_DESTRUCTOR_ITERATIONS - 1)

// Runs once in each round. Other keys' destructors of this and later rounds
// still allocate and free, so the cache goes late.
static void exit_destructor(void *slab) {
  if (++tcx_thread.exit_rounds < EXIT_ROUNDS &&
      pthread_setspecific(exit_key, slab) == 0) {
    return;
  }
  perthread_thread_exit();
}

// Makes the calling thread's slab. NULL: no memory, or the thread is at its
// end, or in hardened mode, which has no caches (libc/harden.h).
static struct tcx_slab *slab_create(void) {
  if ((tcx_thread.flags & NO_SLAB_FLAGS) != 0 || tcx_knobs.harden != 0)
    return NULL;
  struct tcx_slab *slab =
      (struct tcx_slab *)tcx_metadata_pool_allocate(&slab_pool);
  if (slab == NULL)
    return NULL;
  tcx_slab_init(slab, &sources, (uint64_t)budget_min());
  tcx_atomic_fetch_sub_relaxed(&unclaimed_bytes, budget_min());
  tcx_lock_acquire(&threads_lock);
  list_insert(slab);
  slabs_total++;
  tcx_lock_release(&threads_lock);
  tcx_thread.slab = slab;
  // May call calloc, which then finds the slab. Without the destructor the slab
  // would be lost at the thread's end: rather none.
  tcx_thread.flags |= TCX_THREAD_STARTING;
  if (!has_exit_key || pthread_setspecific(exit_key, slab) != 0) {
    perthread_thread_exit();
    slab = NULL;
    // No memory for it now: a later slow path tries again.
    if (has_exit_key)
      tcx_thread.flags &= ~(uint32_t)TCX_THREAD_EXITED;
  }
  tcx_thread.flags &= ~(uint32_t)TCX_THREAD_STARTING;
  return slab;
}

struct tcx_slab *tcx_perthread_slab(void) {
  if (TCX_LIKELY(tcx_thread.slab != &tcx_slab_dummy)) {
    return (struct tcx_slab *)(uintptr_t)tcx_thread.slab;
  }
  return slab_create();
}

// -- upkeep, done by slow paths -----------------------------------------------

static void orphan_drain(void) {
  tcx_lock_acquire(&threads_lock);
  struct tcx_slab *slab = orphans;
  if (slab != NULL) {
    orphans = slab->next;
    list_insert(slab);
  }
  tcx_lock_release(&threads_lock);
  if (slab != NULL)
    slab_destroy(slab);
}

void tcx_perthread_trim_middle(void) {
  uint64_t now = tcx_clock_ms();
  uint64_t last = tcx_atomic_load_relaxed(&trimmed_ms);
  if (now - last < tcx_atomic_load_relaxed(&tcx_knobs.trim_time))
    return;
  if (!tcx_atomic_cas_relaxed(&trimmed_ms, &last, now))
    return;
  sources.objects->ops->trim(sources.objects, false);
}

static void upkeep(const struct tcx_slab *slab) {
  if (tcx_atomic_load_relaxed(&orphans) != NULL)
    orphan_drain();
  if (slab->slow_calls % 64 == 0) {
    pool_resize();
    tcx_perthread_trim_middle();
  }
}

// -- the table ----------------------------------------------------------------

static void *perthread_refill(unsigned size_class, bool *zeroed) {
  struct tcx_slab *slab = tcx_perthread_slab();
  if (TCX_LIKELY(slab != NULL)) {
    void *object = tcx_slab_refill(slab, size_class, zeroed);
    upkeep(slab);
    return object;
  }
  *zeroed = false;
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    void *run = tcx_run_allocate(sources.pages, size_class, zeroed);
    tcx_atomic_fetch_add_relaxed(&direct.run_spans, run != NULL);
    return run;
  }
  void *object;
  unsigned got =
      tcx_object_source_remove_range(sources.objects, size_class, &object, 1);
  tcx_atomic_fetch_add_relaxed(&direct.removed_objects, got);
  return got == 1 ? object : NULL;
}

static void perthread_overflow(unsigned size_class, void *object) {
  struct tcx_slab *slab = tcx_perthread_slab();
  if (TCX_LIKELY(slab != NULL)) {
    tcx_slab_overflow(slab, size_class, object);
    upkeep(slab);
  } else if (size_class >= TCX_RUN_CLASS_FIRST) {
    tcx_run_deallocate(sources.pages, object);
  } else {
    tcx_object_source_insert_range(sources.objects, size_class, &object, 1);
    tcx_atomic_fetch_add_relaxed(&direct.inserted_objects, 1);
  }
}

static void perthread_flush(void) {
  if (tcx_thread.slab == &tcx_slab_dummy)
    return;
  tcx_slab_flush((struct tcx_slab *)(uintptr_t)tcx_thread.slab);
}

static void perthread_tick(void) {
  pool_resize();
  if (tcx_atomic_load_relaxed(&orphans) != NULL)
    orphan_drain();
  if (tcx_thread.slab != &tcx_slab_dummy)
    tcx_slab_tick((struct tcx_slab *)(uintptr_t)tcx_thread.slab);
  tcx_perthread_trim_middle();
}

// A slab's part of the figures. Those of orphans count as well, until a slow
// path has emptied them.
static void stats_add(const struct tcx_slab *list, struct tcx_slab_counts *sum,
                      struct tcx_frontend_stats *out) {
  for (const struct tcx_slab *slab = list; slab != NULL; slab = slab->next) {
    counts_add(sum, &slab->counts);
    out->cached_bytes += tcx_slab_cached_bytes(slab);
    out->run_cache_bytes += tcx_slab_cached_run_bytes(slab);
  }
}

static void perthread_use(struct tcx_frontend_use *out) {
  *out = (struct tcx_frontend_use){"perthread", "none", "none", "ok"};
}

static void perthread_stats(struct tcx_frontend_stats *out) {
  tcx_lock_acquire(&threads_lock);
  struct tcx_slab_counts sum = ended;
  counts_add(&sum, &direct);
  *out = (struct tcx_frontend_stats){0};
  stats_add(slabs, &sum, out);
  stats_add(orphans, &sum, out);
  out->caches = slab_count;
  out->caches_total = slabs_total;
  out->steals = steals;
  tcx_lock_release(&threads_lock);
  for (unsigned i = TCX_RUN_CLASS_FIRST; i < TCX_SIZE_CLASS_COUNT; i++) {
    struct tcx_run_stats runs;
    tcx_run_read_stats(i, &runs);
    const struct tcx_size_class *row = &tcx_size_classes[i];
    uint64_t span_bytes = (uint64_t)row->pages << TCX_PAGE_SHIFT;
    out->run_out_bytes += runs.blocks * row->size;
    out->run_tail_bytes += runs.blocks * (span_bytes - row->size);
  }
  out->refills = sum.refills;
  out->overflows = sum.overflows;
  out->removed_objects = sum.removed_objects;
  out->inserted_objects = sum.inserted_objects;
  out->run_spans = sum.run_spans;
  out->scavenges = sum.scavenges;
}

static uint64_t cached_objects(const struct tcx_slab *list,
                               unsigned size_class) {
  uint64_t objects = 0;
  for (const struct tcx_slab *slab = list; slab != NULL; slab = slab->next)
    objects += tcx_slab_cached_objects(slab, size_class);
  return objects;
}

static void perthread_class_stats(unsigned size_class,
                                  struct tcx_frontend_class_stats *out) {
  *out = (struct tcx_frontend_class_stats){0};
  tcx_lock_acquire(&threads_lock);
  out->cached_objects =
      cached_objects(slabs, size_class) + cached_objects(orphans, size_class);
  tcx_lock_release(&threads_lock);
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    struct tcx_run_stats runs;
    tcx_run_read_stats(size_class, &runs);
    out->run_blocks = runs.blocks;
    out->run_blocks_total = runs.blocks_total;
  }
}

static void perthread_check(void) {
  tcx_slab_check(tcx_thread.slab);
}

// In the child: all slabs but this thread's own belong to nobody.
static void fork_child(void *lock) {
  struct tcx_slab *next;
  for (struct tcx_slab *slab = slabs; slab != NULL; slab = next) {
    next = slab->next;
    if (slab == tcx_thread.slab)
      continue;
    list_remove(slab);
    if (slab->busy != 0)
      continue;
    slab->next = orphans;
    tcx_atomic_store_relaxed(&orphans, slab);
  }
  tcx_fork_lock_child(lock);
}

static void perthread_start(struct tcx_object_source *objects,
                            struct tcx_page_source *pages) {
  static const struct tcx_fork_hooks hooks = {
      TCX_LOCK_RANK_THREADS, &threads_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, fork_child};
  pool_resize();
  sources.objects = objects;
  sources.pages = pages;
  has_exit_key = pthread_key_create(&exit_key, exit_destructor) == 0;
  tcx_fork_register(&hooks);
}

const struct tcx_frontend_ops tcx_perthread_ops = {
    .name = "perthread",
    .start = perthread_start,
    .refill = perthread_refill,
    .overflow = perthread_overflow,
    .flush = perthread_flush,
    .tick = perthread_tick,
    .thread_exit = perthread_thread_exit,
    .use = perthread_use,
    .stats = perthread_stats,
    .class_stats = perthread_class_stats,
    .check = perthread_check,
};

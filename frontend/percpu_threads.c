// percpu_threads.c -- threads that have no registered area.
//
// WHAT IT DECIDES
//   Such a thread has the slab of perthread.c, and an area in it that the
//   kernel does not know. Its id is one that no CPU has, from TCX_PERCPU_MAX
//   on, under which base[] names the thread's own slab. So its mallocs and
//   frees run the same sections as all others; nothing aborts them, nothing has
//   to: they are what the per-thread front end does, by one load more. Slow
//   paths see that the id is none of a CPU's, and go on with perthread.c. A
//   thread that finds no id free keeps -1, and goes through the slow paths.
//
// INVARIANT. From tcx_percpu_thread_enter to _leave one slab has the id.
//
// LOCKING: none. A bit of `used` is taken and given back by atomics; base[id]
//   is written by who has the id, and read by the thread of its slab alone.
//
// FORK: a child keeps its thread's id. Those of slabs that are drained as
//   orphans come free again; those of slabs that were torn do not.
#include "base/atomic.h"
#include "base/check.h"
#include "frontend/percpu_internal.h"

#define WORD_BITS 64

static uint64_t used[TCX_PERCPU_THREADS / WORD_BITS];

static_assert(TCX_PERCPU_THREADS % WORD_BITS == 0, "whole words");

// The number of a bit that was clear in this word and is set now; negative:
// none.
static int bit_take(uint64_t *word) {
  uint64_t old = tcx_atomic_load_relaxed(word);
  while (old != UINT64_MAX) {
    int bit = __builtin_ctzll(~old);
    // Acquires what the last owner did to base[].
    if (tcx_atomic_cas_acquire(word, &old, old | UINT64_C(1) << bit))
      return bit;
  }
  return -1;
}

static void bit_give(uint64_t *word, int bit) {
  uint64_t old = tcx_atomic_load_relaxed(word);
  while (!tcx_atomic_cas_release(word, &old, old & ~(UINT64_C(1) << bit)))
    continue;
}

static void ids_set(struct tcx_rseq_area *area, int id) {
  area->cpu_id = id;
  area->mm_cid = id;
}

void tcx_percpu_thread_enter(struct tcx_slab *slab) {
  for (int i = 0; i < TCX_PERCPU_THREADS / WORD_BITS; i++) {
    int bit = bit_take(&used[i]);
    if (bit < 0)
      continue;
    int id = TCX_PERCPU_MAX + i * WORD_BITS + bit;
    tcx_atomic_store_relaxed(&tcx_percpu.base[id + 2],
                             (const struct tcx_slab_header *)slab->headers);
    ids_set(&slab->area, id);
    return;
  }
}

bool tcx_percpu_thread_leave(struct tcx_slab *slab) {
  int number = slab->area.cpu_id - TCX_PERCPU_MAX;
  if (number < 0)
    return false;
  TCX_ASSERT(tcx_percpu.base[slab->area.cpu_id + 2] == slab->headers);
  ids_set(&slab->area, -1);
  bit_give(&used[number / WORD_BITS], number % WORD_BITS);
  return true;
}

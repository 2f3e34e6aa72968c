// fork.c -- the steps of all modules around fork().
//
// PLACE IN THE SYSTEM
//   libc's fork() calls the three functions; they call the modules' hooks.
//   Registered by the first allocation, so as a rule before the handlers of the
//   program: then ours are the last to prepare and the first afterwards. Those
//   that were registered before run while all locks are held, and may allocate
//   all the same: the thread that forks has every lock (tcx_lock_set_forking).
//
// INVARIANTS
//   I1. `hooks` only grows; an entry below `count` never changes.
//   I2. Between prepare and parent (child) no hook can be registered, as the
//       list's own lock is among the prepared ones.
//
// LOCKING
//   list_lock: writing of hooks and count; prepared, prepared_count. It is
//   taken in prepare like any other, in its rank's turn; locks of lower rank
//   come before. A hook that is registered meanwhile waits for the next fork.
#include "base/fork.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/check.h"
#include "base/log.h"

static struct tcx_lock list_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_FORK);

static const struct tcx_fork_hooks list_hooks = {
    TCX_LOCK_RANK_FORK, &list_lock, tcx_fork_lock_prepare, tcx_fork_lock_parent,
    tcx_fork_lock_child};

static const struct tcx_fork_hooks *hooks[TCX_FORK_HOOKS_MAX + 1] = {
    &list_hooks};
static unsigned count = 1;

// What this fork has prepared, in that order.
static const struct tcx_fork_hooks *prepared[TCX_FORK_HOOKS_MAX + 1];
static unsigned prepared_count;
static uint64_t fork_count;

void tcx_fork_register(const struct tcx_fork_hooks *new_hooks) {
  tcx_lock_acquire(&list_lock);
  bool known = false;
  for (unsigned i = 0; i < count; i++)
    known |= hooks[i] == new_hooks;
  if (!known) {
    TCX_CHECK(count <= TCX_FORK_HOOKS_MAX);
    hooks[count] = new_hooks;
    tcx_atomic_store_release(&count, count + 1);
  }
  tcx_lock_release(&list_lock);
}

// The lock order: by rank, within a rank by address (lock.h, I1).
static bool is_before(const struct tcx_fork_hooks *a,
                      const struct tcx_fork_hooks *b) {
  if (a->rank != b->rank)
    return a->rank < b->rank;
  return (uintptr_t)a->self < (uintptr_t)b->self;
}

static void sort(const struct tcx_fork_hooks **list, unsigned length) {
  for (unsigned i = 1; i < length; i++) {
    const struct tcx_fork_hooks *moving = list[i];
    unsigned place = i;
    for (; place > 0 && is_before(moving, list[place - 1]); place--) {
      list[place] = list[place - 1];
    }
    list[place] = moving;
  }
}

void tcx_fork_prepare(void) {
  // On the stack, as another thread may be between the same lines of this
  // function until the list's lock is ours.
  const struct tcx_fork_hooks *order[TCX_FORK_HOOKS_MAX + 1];
  unsigned length = tcx_atomic_load_acquire(&count);
  for (unsigned i = 0; i < length; i++)
    order[i] = hooks[i];
  sort(order, length);
  for (unsigned i = 0; i < length; i++) {
    if (order[i]->prepare != NULL)
      order[i]->prepare(order[i]->self);
  }
  for (unsigned i = 0; i < length; i++)
    prepared[i] = order[i];
  prepared_count = length;
  tcx_lock_set_forking(true);
}

static void finish(bool in_child) {
  tcx_lock_set_forking(false);
  // Copied, because the next fork may begin once the list's lock is given back.
  const struct tcx_fork_hooks *order[TCX_FORK_HOOKS_MAX + 1];
  unsigned length = prepared_count;
  for (unsigned i = 0; i < length; i++)
    order[i] = prepared[i];
  for (unsigned i = length; i > 0; i--) {
    const struct tcx_fork_hooks *one = order[i - 1];
    void (*step)(void *) = in_child ? one->child : one->parent;
    if (step != NULL)
      step(one->self);
  }
}

// Counted while the locks are held, so by one thread at a time.
void tcx_fork_parent(void) {
  tcx_counter_add(&fork_count, 1);
  finish(false);
}

uint64_t tcx_fork_count(void) {
  return tcx_atomic_load_relaxed(&fork_count);
}

void tcx_fork_child(void) {
  finish(true);
}

void tcx_fork_lock_prepare(void *lock) {
  tcx_lock_acquire((struct tcx_lock *)lock);
}

void tcx_fork_lock_parent(void *lock) {
  tcx_lock_release((struct tcx_lock *)lock);
}

void tcx_fork_lock_child(void *lock) {
  tcx_lock_reset_in_child((struct tcx_lock *)lock);
}

void tcx_fork_start(void) {
  static bool started;
  if (tcx_atomic_exchange_relaxed(&started, true))
    return;
  // Out of memory at the start of a process: it can do without fork().
  if (pthread_atfork(tcx_fork_prepare, tcx_fork_parent, tcx_fork_child) != 0) {
    tcx_log("no memory to register fork handlers");
  }
}

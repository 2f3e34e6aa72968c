// lock.c -- the ranked futex lock.
//
// PLACE IN THE SYSTEM
//   Called by every module that has a lock; calls the kernel only. Works before
//   libc is started: debug builds use thread-local storage, others nothing.
//
// WHAT IT DECIDES
//   A waiter reads the word for about the time of a short section, then sleeps.
//   It comes back with the mark "somebody may sleep", because it cannot know
//   whether it was the only sleeper: one wake-up too many, never one too few.
#include "base/lock.h"

#include <linux/futex.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/check.h"
#include "base/log.h"
#include "base/syscall.h"

enum { FREE = 0, HELD = 1, CONTENDED = 2 };

// A pause is 40 to 140 cycles: all together some microseconds, the price of
// sleeping and waking.
#define SPINS_MAX 100

static_assert(sizeof(struct tcx_lock) == 16, "four locks per cache line");
static_assert(offsetof(struct tcx_lock, word) == 0, "the futex is aligned");

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

#if TCX_ASSERTIONS

// Fork handlers hold the locks of all size classes at once.
#define HELD_MAX 512

// The locks of this thread, ascending by rank, then by address.
static __thread struct {
  const struct tcx_lock *locks[HELD_MAX];
  unsigned count;
} held __attribute__((tls_model("initial-exec")));

bool tcx_lock_is_held(const struct tcx_lock *self) {
  for (unsigned i = 0; i < held.count; i++) {
    if (held.locks[i] == self)
      return true;
  }
  return false;
}

// I1. Before the lock is taken, so that a message comes and not a deadlock.
static void check_order(const struct tcx_lock *self) {
  TCX_CHECK(self->rank != TCX_LOCK_RANK_NONE);
  if (held.count == 0)
    return;
  if (tcx_lock_is_held(self)) {
    tcx_fatal("lock %p of rank %u is taken twice by one thread",
              (const void *)self, self->rank);
  }
  const struct tcx_lock *last = held.locks[held.count - 1];
  if (self->rank < last->rank || (self->rank == last->rank && self < last)) {
    tcx_fatal("lock %p of rank %u is taken while %p of rank %u is held",
              (const void *)self, self->rank, (const void *)last, last->rank);
  }
}

static void note_acquired(const struct tcx_lock *self) {
  TCX_CHECK(held.count < HELD_MAX);
  held.locks[held.count++] = self;
}

// I2. The order of releases is free; the others keep theirs.
static void note_released(const struct tcx_lock *self) {
  unsigned i = held.count;
  while (i > 0 && held.locks[i - 1] != self)
    i--;
  if (i == 0) {
    tcx_fatal("lock %p of rank %u is released by a thread without it",
              (const void *)self, self->rank);
  }
  for (; i < held.count; i++)
    held.locks[i - 1] = held.locks[i];
  held.count--;
}

#else

bool tcx_lock_is_held(const struct tcx_lock *self) {
  (void)self;
  return true;
}

static inline void check_order(const struct tcx_lock *self) {
  (void)self;
}
static inline void note_acquired(const struct tcx_lock *self) {
  (void)self;
}
static inline void note_released(const struct tcx_lock *self) {
  (void)self;
}

#endif  // TCX_ASSERTIONS

void tcx_lock_init(struct tcx_lock *self, enum tcx_lock_rank rank) {
  self->word = FREE;
  self->rank = rank;
  self->waits = 0;
}

static inline bool take_if_free(struct tcx_lock *self) {
  uint32_t expected = FREE;
  return tcx_atomic_cas_acquire(&self->word, &expected, HELD);
}

static TCX_NOINLINE void acquire_slow(struct tcx_lock *self) {
  for (int i = 0; i < SPINS_MAX; i++) {
    if (tcx_atomic_load_relaxed(&self->word) == FREE && take_if_free(self)) {
      return;
    }
    pause_cpu();
  }
  while (tcx_atomic_exchange_acquire(&self->word, CONTENDED) != FREE) {
    tcx_atomic_fetch_add_relaxed(&self->waits, 1);
    // Returns at once if the word has changed; a signal only makes us look.
    tcx_syscall4(SYS_futex, (intptr_t)&self->word, FUTEX_WAIT_PRIVATE,
                 CONTENDED, 0);
  }
}

void tcx_lock_acquire(struct tcx_lock *self) {
  check_order(self);
  if (TCX_UNLIKELY(!take_if_free(self)))
    acquire_slow(self);
  note_acquired(self);
}

bool tcx_lock_try_acquire(struct tcx_lock *self) {
  check_order(self);
  if (!take_if_free(self))
    return false;
  note_acquired(self);
  return true;
}

void tcx_lock_release(struct tcx_lock *self) {
  note_released(self);
  uint32_t before = tcx_atomic_exchange_release(&self->word, FREE);
  TCX_ASSERT(before != FREE);
  // The lock may be gone by now (a pool gave its page back): the kernel then
  // finds nobody to wake, which does no harm.
  if (TCX_UNLIKELY(before == CONTENDED)) {
    tcx_syscall3(SYS_futex, (intptr_t)&self->word, FUTEX_WAKE_PRIVATE, 1);
  }
}

void tcx_lock_reset_in_child(struct tcx_lock *self) {
  note_released(self);
  tcx_atomic_store_release(&self->word, FREE);
}

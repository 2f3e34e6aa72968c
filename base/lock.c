// lock.c -- the ranked futex lock.
//
// PLACE IN THE SYSTEM
//   Called by every module that has a lock; calls the kernel only. Works before
//   libc is started; its thread-local storage is four bytes, in debug builds
//   more.
//
// WHAT IT DECIDES
//   A waiter reads the word for about the time of a section, then sleeps.
//   It comes back with the mark "somebody may sleep", because it cannot know
//   whether it was the only sleeper: one wake-up too many, never one too few.
//
//   What a signal handler meets that calls malloc while its thread holds a lock
//   here. It would wait for itself for ever, so whoever is about to wait looks
//   whether its thread has a lock of that rank, or of a higher one, already: by
//   the lock order (lock.h, I1) that is nobody but such a handler.
#include "base/lock.h"

#include <linux/futex.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/check.h"
#include "base/log.h"
#include "base/syscall.h"

enum { FREE = 0, HELD = 1, CONTENDED = 2 };

// A waiter that sleeps costs itself and who wakes it some microseconds each, as
// long as the longest sections last (the page source takes back a batch of
// spans whose heads are cold). So it looks for 10 to 20 microseconds, which are
// so many ticks of the time stamp counter at 2 to 4 GHz: a pause takes 40
// cycles on one CPU and 140 on another. Where there is no such counter the
// number of looks alone decides; so it does in the model test, which walks all
// interleavings.
#define SPIN_TICKS 40000
#ifndef TCX_LOCK_SPINS_MAX
#define TCX_LOCK_SPINS_MAX 500
#if defined(__x86_64__)
#define TCX_LOCK_TICKS __builtin_ia32_rdtsc()
#endif
#endif
#ifndef TCX_LOCK_TICKS
#define TCX_LOCK_TICKS UINT64_C(0)
#endif

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

static void (*watcher)(enum tcx_lock_event event, const struct tcx_lock *lock,
                       uint32_t rank);

void tcx_lock_install_watcher(void (*new_watcher)(enum tcx_lock_event event,
                                                  const struct tcx_lock *lock,
                                                  uint32_t rank)) {
  tcx_atomic_store_release(&watcher, new_watcher);
}

static void tell(enum tcx_lock_event event, const struct tcx_lock *lock,
                 uint32_t rank) {
  void (*told)(enum tcx_lock_event, const struct tcx_lock *, uint32_t) =
      tcx_atomic_load_acquire(&watcher);
  if (told != NULL)
    told(event, lock, rank);
}

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
  TCX_CHECK(self->rank < TCX_LOCK_RANK_LIMIT);
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
  tell(TCX_LOCK_TAKEN, self, self->rank);
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
static inline void tell(enum tcx_lock_event event, const struct tcx_lock *lock,
                        uint32_t rank) {
  (void)event;
  (void)lock;
  (void)rank;
}

#endif  // TCX_ASSERTIONS

void tcx_lock_init(struct tcx_lock *self, enum tcx_lock_rank rank) {
  self->word = FREE;
  self->rank = rank;
  self->waits = 0;
}

// -- waiting ------------------------------------------------------------------

static uint64_t rank_waits[TCX_LOCK_RANK_LIMIT];

static const char *const rank_names[] = {
    "none",      "start",       "fork",           "release",
    "threads",   "percpu",      "transfer_cache", "central_freelist",
    "admission", "page_source", "pagemap",        "system",
    "metadata",  "arena"};
static_assert(sizeof rank_names / sizeof rank_names[0] == TCX_LOCK_RANK_LIMIT,
              "every rank has a name");

uint64_t tcx_lock_waits(enum tcx_lock_rank rank) {
  TCX_ASSERT(rank < TCX_LOCK_RANK_LIMIT);
  return tcx_atomic_load_relaxed(&rank_waits[rank]);
}

const char *tcx_lock_rank_name(enum tcx_lock_rank rank) {
  TCX_ASSERT(rank < TCX_LOCK_RANK_LIMIT);
  return rank_names[rank];
}

static inline bool take_if_free(struct tcx_lock *self) {
  uint32_t expected = FREE;
  return tcx_atomic_cas_acquire(&self->word, &expected, HELD);
}

// -- signal handlers ----------------------------------------------------------

// A bit for each rank of which this thread has a lock, or is about to have one:
// set before the lock is taken and cleared after it is given back, so that no
// signal comes in between. (The model test has no signals.)
#ifndef TCX_LOCK_THREAD_RANKS
static __thread uint32_t thread_ranks
    __attribute__((tls_model("initial-exec")));
#define TCX_LOCK_THREAD_RANKS thread_ranks
#endif

static_assert(TCX_LOCK_RANK_LIMIT <= 32, "a bit for each rank");

// Returns the ranks that the thread had before.
static inline uint32_t ranks_enter(uint32_t rank) {
  uint32_t before = TCX_LOCK_THREAD_RANKS;
  TCX_LOCK_THREAD_RANKS = before | 1u << rank;
  tcx_compiler_fence();
  return before;
}

static inline void ranks_leave(uint32_t rank) {
  tcx_compiler_fence();
  TCX_LOCK_THREAD_RANKS &= ~(1u << rank);
}

// No lock has rank NONE: its bit says that the thread forks, and has all.
#define FORKING (1u << TCX_LOCK_RANK_NONE)

static inline bool has_all(void) {
  return (TCX_LOCK_THREAD_RANKS & FORKING) != 0;
}

bool tcx_lock_is_forking(void) {
  return has_all();
}

void tcx_lock_set_forking(bool is_forking) {
  TCX_ASSERT(is_forking != has_all());
  TCX_LOCK_THREAD_RANKS ^= FORKING;
}

// Only fork's handlers hold several locks of one rank.
static void check_no_handler(const struct tcx_lock *self, uint32_t before) {
  uint32_t from_here = before >> self->rank;
  if ((before & 1u << TCX_LOCK_RANK_FORK) != 0)
    from_here &= ~1u;
  if (from_here != 0)
    tcx_fatal("malloc or free in a signal handler that interrupted tcx");
}

static TCX_NOINLINE void acquire_slow(struct tcx_lock *self,
                                      uint32_t ranks_before) {
  check_no_handler(self, ranks_before);
  uint64_t began = TCX_LOCK_TICKS;
  for (int i = 0; i < TCX_LOCK_SPINS_MAX; i++) {
    if (tcx_atomic_load_relaxed(&self->word) == FREE && take_if_free(self))
      return;
    if (TCX_LOCK_TICKS - began >= SPIN_TICKS)
      break;
    pause_cpu();
  }
  if (tcx_atomic_exchange_acquire(&self->word, CONTENDED) == FREE)
    return;
  tcx_atomic_fetch_add_relaxed(&self->waits, 1);
  tcx_atomic_fetch_add_relaxed(&rank_waits[self->rank], 1);
  do {
    // Returns at once if the word has changed; a signal only makes us look.
    tcx_syscall4(SYS_futex, (intptr_t)&self->word, FUTEX_WAIT_PRIVATE,
                 CONTENDED, 0);
  } while (tcx_atomic_exchange_acquire(&self->word, CONTENDED) != FREE);
}

void tcx_lock_acquire(struct tcx_lock *self) {
  if (TCX_UNLIKELY(has_all()))
    return;
  check_order(self);
  tell(TCX_LOCK_WANTED, self, self->rank);
  uint32_t before = ranks_enter(self->rank);
  if (TCX_UNLIKELY(!take_if_free(self)))
    acquire_slow(self, before);
  note_acquired(self);
}

bool tcx_lock_try_acquire(struct tcx_lock *self) {
  if (TCX_UNLIKELY(has_all()))
    return true;
  check_order(self);
  tell(TCX_LOCK_WANTED, self, self->rank);
  uint32_t before = ranks_enter(self->rank);
  if (!take_if_free(self)) {
    TCX_LOCK_THREAD_RANKS = before;
    return false;
  }
  note_acquired(self);
  return true;
}

void tcx_lock_release(struct tcx_lock *self) {
  if (TCX_UNLIKELY(has_all()))
    return;
  uint32_t rank = self->rank;
  note_released(self);
  uint32_t before = tcx_atomic_exchange_release(&self->word, FREE);
  TCX_ASSERT(before != FREE);
  ranks_leave(rank);
  // The lock may be gone by now (a pool gave its page back): the kernel then
  // finds nobody to wake, which does no harm.
  if (TCX_UNLIKELY(before == CONTENDED)) {
    tcx_syscall3(SYS_futex, (intptr_t)&self->word, FUTEX_WAKE_PRIVATE, 1);
  }
  tell(TCX_LOCK_GIVEN, self, rank);
}

void tcx_lock_reset_in_child(struct tcx_lock *self) {
  note_released(self);
  tcx_atomic_store_release(&self->word, FREE);
  ranks_leave(self->rank);
}

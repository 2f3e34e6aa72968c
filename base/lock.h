// lock.h -- a ranked futex lock of four bytes, and the lock order of tcx.
//
// WHAT IT DECIDES
//   How to wait: a short spin (the sections are short), then futex. A thread
//   that waits never calls anything that allocates.
//
// INVARIANTS (debug builds stop where one does not hold)
//   I1. A thread takes a lock only when its rank is higher than that of every
//       lock it holds; locks of one rank are taken in ascending address order
//       (only the fork handlers hold several of one rank).
//   I2. The thread that releases a lock is the one that took it.
//
// STATES of word: 0 free, 1 held, 2 held and somebody may sleep. Only the
// holder stores 0, with release order, by an exchange; whoever sees 2 leave
// wakes one sleeper. A waiter stores 2 before it sleeps and takes the lock by
// that same exchange, so a wake-up is never lost: futex(2) compares the word
// with 2 under the kernel's own lock. (Drepper, "Futexes Are Tricky", mutex 2.)
#ifndef TCX_BASE_LOCK_H_
#define TCX_BASE_LOCK_H_

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// The whole lock order of the library, lowest (outermost) first.
enum tcx_lock_rank {
  TCX_LOCK_RANK_NONE = 0,
  TCX_LOCK_RANK_START,    // one-time start of the library
  TCX_LOCK_RANK_FORK,     // the list of fork hooks
  TCX_LOCK_RANK_RELEASE,  // giving memory back to the system
  TCX_LOCK_RANK_THREADS,  // the list of per-thread caches, budgets
  TCX_LOCK_RANK_PERCPU,   // making and stopping the caches of CPUs
  TCX_LOCK_RANK_TRANSFER_CACHE,
  TCX_LOCK_RANK_CENTRAL_FREELIST,
  TCX_LOCK_RANK_ADMISSION,    // spans, where there is a hard limit
  TCX_LOCK_RANK_PAGE_SOURCE,  // page heap
  TCX_LOCK_RANK_PAGEMAP,      // growing the pagemap
  TCX_LOCK_RANK_SYSTEM,       // regions of the system allocator
  TCX_LOCK_RANK_METADATA,     // metadata pools
  TCX_LOCK_RANK_ARENA,        // blocks of metadata
  TCX_LOCK_RANK_LIMIT,        // no rank; testing/fork has a way to each
};

struct tcx_lock {
  uint32_t word;
  uint32_t rank;   // enum tcx_lock_rank, constant
  uint64_t waits;  // acquisitions that had to sleep; statistics
};

// Static initialiser: struct tcx_lock l = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
#define TCX_LOCK_INIT(r) \
  { 0, (r), 0 }

void tcx_lock_init(struct tcx_lock *self, enum tcx_lock_rank rank);
void tcx_lock_acquire(struct tcx_lock *self);
TCX_NODISCARD bool tcx_lock_try_acquire(struct tcx_lock *self);
void tcx_lock_release(struct tcx_lock *self);

// Child of fork: the forking thread holds the lock, nobody else exists. Makes
// it free again whatever the waiters' mark says.
void tcx_lock_reset_in_child(struct tcx_lock *self);

// The calling thread forks and holds all locks (true), or will now give them
// back (false). In between its steps on locks do nothing: handlers of the
// program that run inside of ours (they were registered before the first
// allocation) may allocate.
void tcx_lock_set_forking(bool is_forking);
bool tcx_lock_is_forking(void);

// Acquisitions of all locks of a rank that had to sleep, since start.
uint64_t tcx_lock_waits(enum tcx_lock_rank rank);
// "page_source"; for statistics.
const char *tcx_lock_rank_name(enum tcx_lock_rank rank);

// True if the calling thread holds it. Debug builds only; else always true.
bool tcx_lock_is_held(const struct tcx_lock *self);

// What a thread does with a lock, as a test sees it.
enum tcx_lock_event {
  TCX_LOCK_WANTED,  // about to be taken
  TCX_LOCK_TAKEN,
  TCX_LOCK_GIVEN,  // given back; the lock itself may be gone
};

#if TCX_ASSERTIONS
// A seam for tests: the watcher hears of every step of every thread, and may
// stop the thread there. It must not allocate. NULL: nobody watches.
void tcx_lock_install_watcher(void (*watcher)(enum tcx_lock_event event,
                                              const struct tcx_lock *lock,
                                              uint32_t rank));
#endif

TCX_END_DECLS

#endif  // TCX_BASE_LOCK_H_

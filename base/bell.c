// bell.c -- a futex of three states. See bell.h.
#include "base/bell.h"

#include <linux/futex.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/check.h"
#include "base/syscall.h"

enum { QUIET, RUNG, WAITING };

// The kernel's, of 64 bits whatever libc's is.
struct timeout {
  int64_t seconds;
  int64_t nanoseconds;
};

static_assert(offsetof(struct tcx_bell, word) == 0, "the futex is aligned");

void tcx_bell_reset(struct tcx_bell *self) {
  tcx_atomic_store_relaxed(&self->word, QUIET);
}

void tcx_bell_ring(struct tcx_bell *self) {
  if (tcx_atomic_exchange_release(&self->word, RUNG) == WAITING)
    tcx_syscall3(SYS_futex, (intptr_t)&self->word, FUTEX_WAKE_PRIVATE, 1);
}

bool tcx_bell_wait(struct tcx_bell *self, uint64_t ms) {
  uint32_t expected = QUIET;
  if (tcx_atomic_cas_relaxed(&self->word, &expected, WAITING)) {
    struct timeout timeout = {(int64_t)(ms / 1000),
                              (int64_t)(ms % 1000) * 1000000};
    tcx_syscall4(SYS_futex, (intptr_t)&self->word, FUTEX_WAIT_PRIVATE, WAITING,
                 ms == TCX_BELL_FOR_EVER ? 0 : (intptr_t)&timeout);
  }
  uint32_t before = tcx_atomic_exchange_acquire(&self->word, QUIET);
  TCX_ASSERT(before <= WAITING);
  return before == RUNG;
}

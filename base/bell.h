// bell.h -- one thread sleeps until others have something for it.
//
// PLACE IN THE SYSTEM: between the slow paths of malloc and the thread that
//   works in the background. Ringing costs one atomic exchange; a system call
//   only where the thread sleeps.
//
// INVARIANTS
//   I1. What a thread stored before it rang is seen by whoever returns from the
//       wait that the ringing ended. Ringing and waiting both end in an
//       exchange of the word; the one that comes second reads what the first
//       has written.
//   I2. No ringing is lost: the kernel compares the word with WAITING under its
//       own lock, and a bell that rang is RUNG.
#ifndef TCX_BASE_BELL_H_
#define TCX_BASE_BELL_H_

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

struct tcx_bell {
  uint32_t word;
};

#define TCX_BELL_INIT \
  { 0 }
#define TCX_BELL_FOR_EVER UINT64_MAX

// Forgets everything. Nobody waits.
void tcx_bell_reset(struct tcx_bell *self);

void tcx_bell_ring(struct tcx_bell *self);

// Sleeps until the bell rings, or has rung since the last wait; at most `ms`.
// One thread at a time. Whether it rang; a signal, or the end of an earlier
// ringing, may end the wait early.
bool tcx_bell_wait(struct tcx_bell *self, uint64_t ms);

TCX_END_DECLS

#endif  // TCX_BASE_BELL_H_

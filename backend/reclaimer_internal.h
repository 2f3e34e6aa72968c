// reclaimer_internal.h -- what the files of the reclaimer share.
//
//   reclaimer.c         spans that come and go, the limits they meet, the table
//   reclaimer_rounds.c  what a round gives back, and when the next one is
#ifndef TCX_BACKEND_RECLAIMER_INTERNAL_H_
#define TCX_BACKEND_RECLAIMER_INTERNAL_H_

#include "backend/reclaimer.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// All that tcx has resident. Memory that went back from under free objects of
// live spans counts: it comes back without asking when they are handed out.
uint64_t tcx_reclaimer_resident(const struct tcx_reclaimer *self);

// There is something for a round to look at: calls for one if none is to come.
// Whether it did. (I3)
bool tcx_reclaimer_rouse(struct tcx_reclaimer *self);

// The same without that memory.
static inline uint64_t tcx_reclaimer_resident_now(
    const struct tcx_reclaimer *self) {
  uint64_t resident = tcx_reclaimer_resident(self);
  uint64_t gone = self->hooks->objects_released();
  return resident > gone ? resident - gone : 0;
}

TCX_END_DECLS

#endif  // TCX_BACKEND_RECLAIMER_INTERNAL_H_

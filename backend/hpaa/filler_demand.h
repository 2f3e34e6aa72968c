// filler_demand.h -- how much of something idle the last seconds did not need.
//
// PLACE IN THE SYSTEM: the filler keeps the number of its idle pages in one of
//   these, and in another that of those on huge pages; it releases only what
//   was idle all through the last seconds.
//
// HOW: a ring of seconds, the lowest level of each. Whatever is added is needed
//   at first, as it was not there before. Time comes with each call, in
//   milliseconds; a clock that runs backwards stands still.
//
// LOCKING: none; the owner's lock covers it.
#ifndef TCX_BACKEND_HPAA_FILLER_DEMAND_H_
#define TCX_BACKEND_HPAA_FILLER_DEMAND_H_

#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_FILLER_DEMAND_SLOTS 32
#define TCX_FILLER_DEMAND_SLOT_MS 1000
#define TCX_FILLER_DEMAND_NEVER UINT64_MAX

// Zeroed: nothing ever was idle.
struct tcx_filler_demand {
  uint64_t level;
  uint64_t slot;    // number of the newest second
  uint64_t end_ms;  // of it
  uint64_t lows[TCX_FILLER_DEMAND_SLOTS];
};

void tcx_filler_demand_advance(struct tcx_filler_demand *self, uint64_t now_ms);

// So much is idle from now on.
static inline void tcx_filler_demand_set(struct tcx_filler_demand *self,
                                         uint64_t level, uint64_t now_ms) {
  if (now_ms >= self->end_ms)
    tcx_filler_demand_advance(self, now_ms);
  uint64_t *low = &self->lows[self->slot % TCX_FILLER_DEMAND_SLOTS];
  if (level < *low)
    *low = level;
  self->level = level;
}

// As much as that is taken away for ever: it is no more, and never was.
void tcx_filler_demand_take(struct tcx_filler_demand *self, uint64_t amount,
                            uint64_t now_ms);

// What was idle all through the second of `now_ms` and the `seconds` before it.
uint64_t tcx_filler_demand_unneeded(const struct tcx_filler_demand *self,
                                    unsigned seconds, uint64_t now_ms);

// When that will be at least `amount`, if nothing changes: now_ms or later;
// NEVER where there is not so much.
uint64_t tcx_filler_demand_due(const struct tcx_filler_demand *self,
                               unsigned seconds, uint64_t amount,
                               uint64_t now_ms);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_FILLER_DEMAND_H_

// filler_demand.c -- a ring of seconds. See filler_demand.h.
#include "backend/hpaa/filler_demand.h"

#include "base/check.h"

#define SLOTS TCX_FILLER_DEMAND_SLOTS

static uint64_t slot_of(const struct tcx_filler_demand *self, uint64_t now_ms) {
  uint64_t slot = now_ms / TCX_FILLER_DEMAND_SLOT_MS;
  return slot > self->slot ? slot : self->slot;
}

// The level was the same all the time since it was last set.
void tcx_filler_demand_advance(struct tcx_filler_demand *self,
                               uint64_t now_ms) {
  uint64_t slot = slot_of(self, now_ms);
  if (slot - self->slot > SLOTS)
    self->slot = slot - SLOTS;
  while (self->slot < slot) {
    self->slot++;
    self->lows[self->slot % SLOTS] = self->level;
  }
  self->end_ms = (slot + 1) * TCX_FILLER_DEMAND_SLOT_MS;
}

void tcx_filler_demand_take(struct tcx_filler_demand *self, uint64_t amount,
                            uint64_t now_ms) {
  TCX_ASSERT(amount <= self->level);
  tcx_filler_demand_advance(self, now_ms);
  self->level -= amount;
  for (unsigned i = 0; i < SLOTS; i++) {
    self->lows[i] -= self->lows[i] < amount ? self->lows[i] : amount;
  }
}

// The oldest second that counts.
static uint64_t first_slot(const struct tcx_filler_demand *self,
                           unsigned seconds, uint64_t now_ms) {
  TCX_ASSERT(seconds < SLOTS);
  uint64_t slot = slot_of(self, now_ms);
  return slot > seconds ? slot - seconds : 0;
}

uint64_t tcx_filler_demand_unneeded(const struct tcx_filler_demand *self,
                                    unsigned seconds, uint64_t now_ms) {
  uint64_t low = self->level;
  uint64_t slot = first_slot(self, seconds, now_ms);
  for (; slot <= self->slot; slot++) {
    if (self->lows[slot % SLOTS] < low)
      low = self->lows[slot % SLOTS];
  }
  return low;
}

uint64_t tcx_filler_demand_due(const struct tcx_filler_demand *self,
                               unsigned seconds, uint64_t amount,
                               uint64_t now_ms) {
  if (self->level < amount)
    return TCX_FILLER_DEMAND_NEVER;
  uint64_t first = first_slot(self, seconds, now_ms);
  for (uint64_t slot = self->slot + 1; slot > first; slot--) {
    // The second before `slot` is the last that had less.
    if (self->lows[(slot - 1) % SLOTS] < amount)
      return (slot + seconds) * TCX_FILLER_DEMAND_SLOT_MS;
  }
  return now_ms;
}

// low_water.c -- the lowest level of the last two seconds. See low_water.h.
#include "backend/low_water.h"

#include "base/bits.h"
#include "base/check.h"

#define SLOTS TCX_LOW_WATER_SLOTS
#define SLOT_MS TCX_LOW_WATER_SLOT_MS

void tcx_low_water_init(struct tcx_low_water *self, uint64_t now_ms) {
  *self = (struct tcx_low_water){.slot = now_ms / SLOT_MS};
}

// Slots that passed, and the one that time is in now, began with this level.
void tcx_low_water_advance(struct tcx_low_water *self, uint64_t level,
                           uint64_t now_ms) {
  uint64_t slot = now_ms / SLOT_MS;
  if (slot <= self->slot) {
    return;
  }
  uint64_t passed = tcx_min_size(slot - self->slot, SLOTS);
  for (uint64_t i = 0; i < passed; i++) {
    self->low[(slot - i) % SLOTS] = level;
  }
  self->slot = slot;
}

void tcx_low_water_note(struct tcx_low_water *self, uint64_t level) {
  uint64_t *low = &self->low[self->slot % SLOTS];
  *low = tcx_min_size(*low, level);
}

void tcx_low_water_drop(struct tcx_low_water *self, uint64_t amount) {
  for (int i = 0; i < SLOTS; i++) {
    self->low[i] -= tcx_min_size(self->low[i], amount);
  }
}

uint64_t tcx_low_water_spare(const struct tcx_low_water *self, uint64_t level) {
  for (int i = 0; i < SLOTS; i++) {
    level = tcx_min_size(level, self->low[i]);
  }
  return level;
}

uint64_t tcx_low_water_due_ms(const struct tcx_low_water *self, uint64_t level,
                              uint64_t now_ms) {
  if (level == 0) {
    return UINT64_MAX;
  }
  // Until the last slot in which nothing was to spare is out of account.
  for (uint64_t age = 0; age < SLOTS && age <= self->slot; age++) {
    uint64_t slot = self->slot - age;
    if (self->low[slot % SLOTS] == 0) {
      return tcx_max_size((slot + SLOTS) * SLOT_MS, now_ms);
    }
  }
  return now_ms;
}

void tcx_low_water_check(const struct tcx_low_water *self, uint64_t level) {
  TCX_CHECK(self->low[self->slot % SLOTS] <= level);
}

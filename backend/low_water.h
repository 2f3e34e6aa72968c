// low_water.h -- how much of something kept the last two seconds did not need.
//
// PLACE IN THE SYSTEM
//   The page heap keeps the level of its free pages with memory behind them in
//   one of these, the huge cache that of its free huge pages; both give back by
//   demand only what this calls spare.
//
// WHAT IT DECIDES
//   What to keep: what demand came for within the last two seconds. At a peak
//   of demand the level is at its lowest, so the lowest level of that time was
//   not needed at any: it is spare. Time is cut into slots of 125 ms, each with
//   its lowest level.
//
// USE. The level is its owner's, who says what it is before it changes
// (advance) and after demand took of it (note). What leaves because it is given
// back was never there (drop).
//
// INVARIANTS
//   I1. After `advance` and, where demand took, `note`: the low of the slot
//   that
//       time is in is not above the level (tcx_low_water_check).
//
// LOCKING: none; the owner's lock covers it. Time is given, in ms; where it
//   goes back it stands still.
#ifndef TCX_BACKEND_LOW_WATER_H_
#define TCX_BACKEND_LOW_WATER_H_

#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_LOW_WATER_KEEP_MS 2000
#define TCX_LOW_WATER_SLOT_MS 125
// The slot that time is in, and whole ones for the time to keep.
#define TCX_LOW_WATER_SLOTS (TCX_LOW_WATER_KEEP_MS / TCX_LOW_WATER_SLOT_MS + 1)

static_assert(TCX_LOW_WATER_KEEP_MS % TCX_LOW_WATER_SLOT_MS == 0,
              "whole slots");

struct tcx_low_water {
  uint64_t low[TCX_LOW_WATER_SLOTS];  // of slot s: low[s % SLOTS]
  uint64_t slot;                      // number of the slot that time is in
};

// From a level of 0.
void tcx_low_water_init(struct tcx_low_water *self, uint64_t now_ms);

// The level was this since the last call and is at `now_ms`.
void tcx_low_water_advance(struct tcx_low_water *self, uint64_t level,
                           uint64_t now_ms);

// Demand took some: so much is left.
void tcx_low_water_note(struct tcx_low_water *self, uint64_t level);

// So much leaves that demand did not take; or stays, but is not spare before
// the time to keep has passed once more. After tcx_low_water_advance, as the
// others below.
void tcx_low_water_drop(struct tcx_low_water *self, uint64_t amount);

// What was not needed in the time to keep.
uint64_t tcx_low_water_spare(const struct tcx_low_water *self, uint64_t level);

// When some is spare if nothing is taken meanwhile: now_ms or later;
// UINT64_MAX: never, the level is 0.
uint64_t tcx_low_water_due_ms(const struct tcx_low_water *self, uint64_t level,
                              uint64_t now_ms);

void tcx_low_water_check(const struct tcx_low_water *self, uint64_t level);

TCX_END_DECLS

#endif  // TCX_BACKEND_LOW_WATER_H_

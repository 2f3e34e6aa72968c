// huge_cache.h -- whole free huge pages that keep their memory for a while.
//
// PLACE IN THE SYSTEM
//   filler, regions, raw runs --(put, take)--> huge cache --(due)--> whoever
//   calls madvise, without the lock --> map of runs without memory
//
// WHAT IT DECIDES
//   How much to keep: what demand came for within the last two seconds
//   (backend/low_water.h). The others are due.
//   What to give back first: the highest addresses, where takes come last.
//   After a failure what lies below it, until the owner says so.
//
// USE. A release, without the lock while the memory is given back:
//     run = tcx_huge_cache_due(cache, 16, now);     // or evict: at a limit
//     ... unlock, madvise, lock ...
//     done: tcx_huge_cache_unback_done(cache, run), and the run into the map of
//           those without memory;
//     failed: tcx_huge_cache_unback_failed(cache, run, now).
//
// INVARIANTS (tcx_huge_cache_check)
//   I1. Those of backend/low_water.h; its level is what is held.
//   I2. put == taken + unbacking + unbacked + held, in huge pages.
//
// LOCKING: none; the owner's lock covers it. Time is given, in ms; where it
//   goes back it stands still.
#ifndef TCX_BACKEND_HPAA_HUGE_CACHE_H_
#define TCX_BACKEND_HPAA_HUGE_CACHE_H_

#include <stdbool.h>
#include <stdint.h>

#include "backend/hpaa/huge_map.h"
#include "backend/low_water.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// All in huge pages, but hits and misses.
struct tcx_huge_cache_stats {
  uint64_t held;       // in the cache, memory behind them
  uint64_t due;        // of those, not needed for the time to keep
  uint64_t unbacking;  // taken out to be given back, not done yet
  uint64_t put;        // since start, as all that follow
  uint64_t taken;
  uint64_t unbacked;
  uint64_t failed;  // came back because madvise failed
  uint64_t hits;    // takes that were served
  uint64_t misses;
};

struct tcx_huge_cache {
  struct tcx_huge_map map;
  struct tcx_low_water demand;
  uint64_t below;  // only huge pages below this one are given back
  struct tcx_huge_cache_stats stats;  // all but held and due
};

void tcx_huge_cache_init(struct tcx_huge_cache *self,
                         struct tcx_huge_nodes *nodes, uint64_t now_ms);

// A run with memory behind it, free from now on. Cannot fail.
void tcx_huge_cache_put(struct tcx_huge_cache *self, struct tcx_huge_run run,
                        uint64_t now_ms);

// As tcx_huge_map_take, _take_at. What is taken is not known to be zero.
TCX_NODISCARD struct tcx_huge_run tcx_huge_cache_take(
    struct tcx_huge_cache *self, uint64_t count, uint64_t align,
    uint64_t now_ms);
TCX_NODISCARD bool tcx_huge_cache_take_at(struct tcx_huge_cache *self,
                                          struct tcx_huge_run run,
                                          uint64_t now_ms);

// A run of at most `count_max` to give back, out of the cache from now on; a
// count of 0: none. _due only what demand has not needed; _evict any.
TCX_NODISCARD struct tcx_huge_run tcx_huge_cache_due(
    struct tcx_huge_cache *self, uint64_t count_max, uint64_t now_ms);
TCX_NODISCARD struct tcx_huge_run tcx_huge_cache_evict(
    struct tcx_huge_cache *self, uint64_t count_max, uint64_t now_ms);
// What became of it: each run in one piece, or each part of it once.
void tcx_huge_cache_unback_done(struct tcx_huge_cache *self,
                                struct tcx_huge_run run);
// Back into the cache, and no more given back before retry.
void tcx_huge_cache_unback_failed(struct tcx_huge_cache *self,
                                  struct tcx_huge_run run, uint64_t now_ms);
void tcx_huge_cache_retry(struct tcx_huge_cache *self);

// How long until something is due if nothing is taken meanwhile: 0: now;
// UINT64_MAX: there is nothing to give back.
uint64_t tcx_huge_cache_wait_ms(struct tcx_huge_cache *self, uint64_t now_ms);

void tcx_huge_cache_read_stats(struct tcx_huge_cache *self, uint64_t now_ms,
                               struct tcx_huge_cache_stats *out);
void tcx_huge_cache_check(const struct tcx_huge_cache *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HUGE_CACHE_H_

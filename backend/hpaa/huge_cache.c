// huge_cache.c -- how long free huge pages are kept. See huge_cache.h.
#include "backend/hpaa/huge_cache.h"

#include "base/bits.h"
#include "base/check.h"

// -- Time ---------------------------------------------------------------------

// To be called before what is held changes, or how much of it is due is asked.
static void advance(struct tcx_huge_cache *self, uint64_t now_ms) {
  tcx_low_water_advance(&self->demand, self->map.huge, now_ms);
}

// Some were taken for demand.
static void note_taken(struct tcx_huge_cache *self, uint64_t count) {
  tcx_low_water_note(&self->demand, self->map.huge);
  self->stats.taken += count;
  self->stats.hits++;
}

static uint64_t count_due(const struct tcx_huge_cache *self) {
  return tcx_low_water_spare(&self->demand, self->map.huge);
}

// -- Demand -------------------------------------------------------------------

void tcx_huge_cache_init(struct tcx_huge_cache *self,
                         struct tcx_huge_nodes *nodes, uint64_t now_ms) {
  *self = (struct tcx_huge_cache){.below = TCX_HUGE_LIMIT};
  tcx_low_water_init(&self->demand, now_ms);
  tcx_huge_map_init(&self->map, nodes);
}

void tcx_huge_cache_put(struct tcx_huge_cache *self, struct tcx_huge_run run,
                        uint64_t now_ms) {
  advance(self, now_ms);
  tcx_huge_map_insert(&self->map, run);
  self->stats.put += run.count;
}

struct tcx_huge_run tcx_huge_cache_take(struct tcx_huge_cache *self,
                                        uint64_t count, uint64_t align,
                                        uint64_t now_ms) {
  advance(self, now_ms);
  struct tcx_huge_run run = tcx_huge_map_take(&self->map, count, align);
  if (run.count > 0) {
    note_taken(self, run.count);
  } else {
    self->stats.misses++;
  }
  return run;
}

bool tcx_huge_cache_take_at(struct tcx_huge_cache *self,
                            struct tcx_huge_run run, uint64_t now_ms) {
  advance(self, now_ms);
  if (!tcx_huge_map_take_at(&self->map, run)) {
    return false;
  }
  note_taken(self, run.count);
  return true;
}

// -- Giving back --------------------------------------------------------------

static struct tcx_huge_run take_to_unback(struct tcx_huge_cache *self,
                                          uint64_t count_max) {
  struct tcx_huge_run run = {0, 0};
  if (count_max > 0) {
    run = tcx_huge_map_take_last(&self->map, self->below, count_max);
  }
  tcx_low_water_drop(&self->demand, run.count);
  self->stats.unbacking += run.count;
  return run;
}

struct tcx_huge_run tcx_huge_cache_due(struct tcx_huge_cache *self,
                                       uint64_t count_max, uint64_t now_ms) {
  advance(self, now_ms);
  return take_to_unback(self, tcx_min_size(count_due(self), count_max));
}

struct tcx_huge_run tcx_huge_cache_evict(struct tcx_huge_cache *self,
                                         uint64_t count_max, uint64_t now_ms) {
  advance(self, now_ms);
  return take_to_unback(self, count_max);
}

void tcx_huge_cache_unback_done(struct tcx_huge_cache *self,
                                struct tcx_huge_run run) {
  TCX_ASSERT(run.count <= self->stats.unbacking);
  self->stats.unbacking -= run.count;
  self->stats.unbacked += run.count;
}

void tcx_huge_cache_unback_failed(struct tcx_huge_cache *self,
                                  struct tcx_huge_run run, uint64_t now_ms) {
  TCX_ASSERT(run.count <= self->stats.unbacking);
  advance(self, now_ms);
  tcx_huge_map_insert(&self->map, run);
  self->stats.unbacking -= run.count;
  self->stats.failed += run.count;
  self->below = tcx_min_size(self->below, run.first);
}

void tcx_huge_cache_retry(struct tcx_huge_cache *self) {
  self->below = TCX_HUGE_LIMIT;
}

uint64_t tcx_huge_cache_wait_ms(struct tcx_huge_cache *self, uint64_t now_ms) {
  advance(self, now_ms);
  struct tcx_huge_run first = tcx_huge_map_next(&self->map, 0);
  if (first.count == 0 || first.first >= self->below)
    return UINT64_MAX;
  uint64_t due_ms = tcx_low_water_due_ms(&self->demand, self->map.huge, now_ms);
  return due_ms == UINT64_MAX ? UINT64_MAX : due_ms - now_ms;
}

// -- Statistics, check --------------------------------------------------------

void tcx_huge_cache_read_stats(struct tcx_huge_cache *self, uint64_t now_ms,
                               struct tcx_huge_cache_stats *out) {
  advance(self, now_ms);
  *out = self->stats;
  out->held = self->map.huge;
  out->due = count_due(self);
}

void tcx_huge_cache_check(const struct tcx_huge_cache *self) {
  tcx_huge_map_check(&self->map);
  tcx_low_water_check(&self->demand, self->map.huge);
  const struct tcx_huge_cache_stats *s = &self->stats;
  TCX_CHECK(s->put == s->taken + s->unbacking + s->unbacked + self->map.huge);
}

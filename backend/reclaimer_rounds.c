// reclaimer_rounds.c -- what a round gives back, and when the next one is. See
// reclaimer.h.
#include "backend/reclaimer_internal.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/clock.h"

// -- What goes back -----------------------------------------------------------

static size_t release_all(struct tcx_reclaimer *self, uint64_t now_ms,
                          size_t bytes) {
  size_t released = tcx_page_source_release(self->inner, bytes);
  if (released < bytes)
    released += self->hooks->release_objects(now_ms, bytes - released, true);
  return released;
}

// After a try that gave back little of what it should: all caches were emptied,
// and all spans with free objects looked at, for that.
static void back_off(struct tcx_reclaimer *self, size_t want, size_t released,
                     uint64_t now_ms) {
  bool is_worth_it = released >= want / 64;
  uint64_t wait = is_worth_it ? 0 : 2 * self->press_wait_ms;
  wait = tcx_max_size(wait, TCX_RECLAIMER_PRESSURE_MS);
  self->press_wait_ms = tcx_min_size(wait, TCX_RECLAIMER_PRESSURE_MAX_MS);
  tcx_atomic_store_relaxed(&self->press_again_ms, now_ms + self->press_wait_ms);
}

// Above the soft limit: every round looks, as what could not go back when the
// limit was hit may have been freed since. Caches come first, or what they hold
// keeps huge pages from leaving whole. Whether there is more to do at once.
static bool relieve(struct tcx_reclaimer *self, uint64_t now_ms) {
  uint64_t resident = tcx_reclaimer_resident_now(self);
  uint64_t soft = tcx_limits_soft(&self->limits);
  if (resident <= soft ||
      now_ms < tcx_atomic_load_relaxed(&self->press_again_ms)) {
    return false;
  }
  if (now_ms - self->relieved_ms >= TCX_RECLAIMER_PRESSURE_MS) {
    self->hooks->drain(true);
    self->relieved_ms = now_ms;
  }
  size_t want = tcx_min_size(resident - soft, TCX_RECLAIMER_ROUND_BYTES);
  size_t released = release_all(self, now_ms, want);
  tcx_limits_note_released(&self->limits, false, released);
  if (released >= want)
    return true;
  back_off(self, want, released, now_ms);
  return false;
}

// All that is free by now, and whole, was not needed for its time, as nothing
// was: but the page source has seen some of it come back just now.
static void find_unneeded(struct tcx_reclaimer *self) {
  struct tcx_page_source_stats back;
  self->hooks->drain(true);
  self->inner->ops->stats(self->inner, &back);
  self->unneeded_bytes = back.kept_bytes;
}

static size_t release_unneeded(struct tcx_reclaimer *self) {
  if (self->unneeded_bytes == 0)
    return 0;
  struct tcx_page_source_stats back;
  self->inner->ops->stats(self->inner, &back);
  self->unneeded_bytes = tcx_min_size(self->unneeded_bytes, back.kept_bytes);
  size_t bytes = tcx_min_size(self->unneeded_bytes, TCX_RECLAIMER_ROUND_BYTES);
  size_t released =
      self->inner->ops->release(self->inner, bytes, TCX_PAGE_RELEASE_KEPT);
  // Less went back than there was: the program needs it again.
  self->unneeded_bytes = released < bytes ? 0 : self->unneeded_bytes - bytes;
  return released;
}

// Whether what is mended may take memory: not if it were to go back again.
// Memory from under free objects comes back too, at the hard limit.
static bool may_grow(const struct tcx_reclaimer *self) {
  uint64_t soft = tcx_limits_soft(&self->limits);
  if (soft == UINT64_MAX)
    return true;
  uint64_t hard = tcx_atomic_load_relaxed(&self->limits.hard_bytes);
  uint64_t more = TCX_PAGE_SOURCE_GROWTH_BYTES;
  return tcx_reclaimer_resident_now(self) + more <= soft &&
         tcx_reclaimer_resident(self) + more <= hard;
}

// What demand has not needed. Bytes that went back.
static size_t maintain(struct tcx_reclaimer *self, uint64_t now_ms) {
  if (now_ms - self->drained_ms >= TCX_RECLAIMER_DRAIN_MS) {
    self->drained_ms = now_ms;
    self->hooks->drain(false);
  }
  size_t most = TCX_RECLAIMER_ROUND_BYTES;
  size_t released = release_unneeded(self);
  if (released < most)
    released += self->inner->ops->maintain(self->inner, now_ms, most - released,
                                           may_grow(self));
  if (released < most)
    released += self->hooks->release_objects(now_ms, most - released, false);
  tcx_counter_add(&self->released_bytes, released);
  return released;
}

// -- When ---------------------------------------------------------------------

// In how many ms the next round is due, after one that has done what it could.
static uint64_t wait_ms(struct tcx_reclaimer *self, uint64_t now_ms) {
  uint64_t due_ms = tcx_min_size(self->inner->ops->due_ms(self->inner, now_ms),
                                 self->hooks->objects_due_ms(now_ms));
  uint64_t active_ms = tcx_atomic_load_relaxed(&self->active_ms);
  bool lingers = now_ms < active_ms + TCX_RECLAIMER_LINGER_MS;
  if (due_ms == UINT64_MAX && !lingers)
    return TCX_RECLAIMER_NEVER;
  uint64_t wait = due_ms > now_ms ? due_ms - now_ms : 0;
  if (lingers) {
    uint64_t read_ms =
        tcx_limits_due_ms(&self->limits, tcx_reclaimer_resident_now(self));
    wait = tcx_min_size(wait, TCX_RECLAIMER_DRAIN_MS);
    wait = tcx_min_size(wait, read_ms > now_ms ? read_ms - now_ms : 0);
  }
  // What is due and did not go back now may be refused again.
  return tcx_max_size(wait, TCX_RECLAIMER_PRESSURE_MS);
}

static uint64_t round_inside(struct tcx_reclaimer *self, uint64_t now_ms) {
  tcx_counter_add(&self->rounds, 1);
  (void)tcx_atomic_exchange_acquire(&self->is_active, 0);
  // Who finds a limit exceeded from here on wants another round.
  tcx_atomic_store_relaxed(&self->pressure, 0);
  tcx_limits_refresh(&self->limits, tcx_reclaimer_resident_now(self), now_ms);
  if (relieve(self, now_ms)) {
    tcx_atomic_store_relaxed(&self->pressure, 1);
    return 0;
  }
  if (maintain(self, now_ms) >= TCX_RECLAIMER_ROUND_BYTES)
    return 0;
  return wait_ms(self, now_ms);
}

// I3. Returns in how many ms the next round will be.
static uint64_t set_next(struct tcx_reclaimer *self, uint64_t now_ms,
                         uint64_t wait) {
  if (wait == TCX_RECLAIMER_NEVER) {
    tcx_atomic_store_relaxed(&self->next_ms, TCX_RECLAIMER_NEVER);
    tcx_atomic_fence();
    if (tcx_atomic_load_relaxed(&self->is_active) == 0)
      return TCX_RECLAIMER_NEVER;
    wait = TCX_RECLAIMER_DRAIN_MS;
  }
  tcx_atomic_store_relaxed(&self->next_ms, now_ms + wait);
  return wait;
}

// Takes the place of who makes rounds. False: another one has it.
static bool begin_round(struct tcx_reclaimer *self) {
  return tcx_atomic_exchange_acquire(&self->is_busy, 1) == 0;
}

static uint64_t end_round(struct tcx_reclaimer *self, uint64_t now_ms) {
  uint64_t wait = set_next(self, now_ms, round_inside(self, now_ms));
  tcx_atomic_store_release(&self->is_busy, 0);
  return wait;
}

uint64_t tcx_reclaimer_round(struct tcx_reclaimer *self, uint64_t now_ms) {
  return begin_round(self) ? end_round(self, now_ms)
                           : TCX_RECLAIMER_PRESSURE_MS;
}

// Whether neither a span moved for so long nor anybody came by, at
// `visited_ms` the last time.
static bool was_idle(const struct tcx_reclaimer *self, uint64_t visited_ms,
                     uint64_t now_ms) {
  uint64_t active_ms = tcx_atomic_load_relaxed(&self->active_ms);
  return now_ms >= tcx_max_size(active_ms, visited_ms) + TCX_RECLAIMER_IDLE_MS;
}

uint64_t tcx_reclaimer_visit(struct tcx_reclaimer *self, uint64_t now_ms) {
  uint64_t visited_ms = tcx_atomic_exchange_relaxed(&self->visited_ms, now_ms);
  uint64_t next_ms = tcx_atomic_load_relaxed(&self->next_ms);
  if (next_ms == TCX_RECLAIMER_NEVER)
    return next_ms;
  if (now_ms < next_ms && !tcx_reclaimer_is_pressed(self))
    return next_ms - now_ms;
  if (!begin_round(self))
    return TCX_RECLAIMER_PRESSURE_MS;
  if (was_idle(self, visited_ms, now_ms))
    find_unneeded(self);
  return end_round(self, now_ms);
}

size_t tcx_reclaimer_release(struct tcx_reclaimer *self, size_t bytes) {
  self->hooks->drain(true);
  size_t released = release_all(self, tcx_clock_ms(), bytes);
  (void)tcx_reclaimer_rouse(self);
  return released;
}

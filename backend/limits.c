// limits.c -- soft and hard limit. See limits.h.
#include "backend/limits.h"

#include <errno.h>

#include "base/check.h"
#include "base/log.h"

#define NO_LIMIT UINT64_MAX
// A limit of 0 would be none, and what is over it all that there is.
#define SOFT_MIN_BYTES ((uint64_t)1 << 20)
#define READ_SLOW_MS 1000
#define READ_FAST_MS 100
// The process may be moved to another group while its old one stays.
#define SEEK_AGAIN_MS 60000

void tcx_limits_init(struct tcx_limits *self) {
  *self = (struct tcx_limits){.hard_bytes = NO_LIMIT, .auto_bytes = NO_LIMIT};
}

static uint64_t load(const uint64_t *number) {
  return tcx_atomic_load_relaxed(number);
}

void tcx_limits_set(struct tcx_limits *self, uint64_t limit,
                    uint64_t hard_limit, uint64_t policy) {
  tcx_atomic_store_relaxed(&self->policy, policy);
  tcx_atomic_store_relaxed(&self->hard_bytes,
                           hard_limit != 0 ? hard_limit : NO_LIMIT);
  tcx_atomic_store_relaxed(&self->setting, limit);
  // An automatic one is as last read until the next refresh.
  tcx_atomic_store_relaxed(&self->read_again_ms, 0);
}

void tcx_limits_set_callback(struct tcx_limits *self,
                             const struct tcx_limits_callback *callback) {
  tcx_atomic_store_release(&self->callback, callback);
}

// -- The cgroup ---------------------------------------------------------------

static uint64_t subtract(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

// What a level leaves for tcx.
static uint64_t room(const struct tcx_cgroup_memory *memory,
                     uint64_t resident_bytes) {
  if (memory->limit_bytes == UINT64_MAX)
    return NO_LIMIT;
  uint64_t usable = memory->limit_bytes - memory->limit_bytes / 10;
  uint64_t others = subtract(memory->charge_bytes, resident_bytes);
  uint64_t left = subtract(usable, others);
  return left > SOFT_MIN_BYTES ? left : SOFT_MIN_BYTES;
}

// ENOENT: the folder is gone; the process was moved to another group.
static int read_levels(const struct tcx_limits *self, uint64_t resident_bytes,
                       uint64_t *out) {
  struct tcx_cgroup_memory memory;
  unsigned level = 0;
  int error;
  while ((error = tcx_cgroup_read(&self->group, level, &memory)) == 0) {
    uint64_t left = room(&memory, resident_bytes);
    *out = left < *out ? left : *out;
    level++;
  }
  return error == ENOENT && level > 0 ? 0 : error;
}

uint64_t tcx_limits_due_ms(const struct tcx_limits *self,
                           uint64_t resident_bytes) {
  if (load(&self->setting) != TCX_KNOB_LIMIT_AUTO)
    return UINT64_MAX;
  uint64_t again_ms = load(&self->read_again_ms);
  bool is_near = resident_bytes >= tcx_limits_soft(self) / 2;
  return again_ms == 0 || is_near ? again_ms
                                  : again_ms + READ_SLOW_MS - READ_FAST_MS;
}

static int seek(struct tcx_limits *self, uint64_t now_ms) {
  if (self->was_sought && now_ms - self->sought_ms < SEEK_AGAIN_MS)
    return 0;
  int error = tcx_cgroup_find(&self->group);
  self->was_sought = error == 0;
  self->sought_ms = now_ms;
  return error;
}

void tcx_limits_refresh(struct tcx_limits *self, uint64_t resident_bytes,
                        uint64_t now_ms) {
  if (now_ms < tcx_limits_due_ms(self, resident_bytes))
    return;
  uint64_t left = NO_LIMIT;
  uint64_t wait_ms = READ_FAST_MS;
  int error = seek(self, now_ms);
  if (error == 0)
    error = read_levels(self, resident_bytes, &left);
  tcx_counter_add(&self->stats.readings, 1);
  if (error != 0)
    tcx_counter_add(&self->stats.reading_failures, 1);
  if (error == ENOENT) {
    self->was_sought = false;
    // tcx_limits_due_ms adds the rest.
    wait_ms = SEEK_AGAIN_MS - READ_SLOW_MS + READ_FAST_MS;
  }
  // What could not be read this time (no descriptor was left) is as it was.
  if (error == 0 || error == ENOENT)
    tcx_atomic_store_relaxed(&self->auto_bytes, left);
  tcx_atomic_store_relaxed(&self->read_again_ms, now_ms + wait_ms);
}

// -- Hits ---------------------------------------------------------------------

bool tcx_limits_hit_soft(struct tcx_limits *self, uint64_t resident_bytes) {
  uint64_t soft = tcx_limits_soft(self);
  // One that is not below the hard limit is none of its own.
  bool is_hit = resident_bytes > soft && soft < load(&self->hard_bytes);
  if (is_hit)
    tcx_atomic_fetch_add_relaxed(&self->stats.soft_hits, 1);
  return is_hit;
}

void tcx_limits_note_hard_hit(struct tcx_limits *self) {
  tcx_atomic_fetch_add_relaxed(&self->stats.hard_hits, 1);
}

void tcx_limits_note_released(struct tcx_limits *self, bool was_hard,
                              uint64_t bytes) {
  uint64_t *counter = was_hard ? &self->stats.hard_released_bytes
                               : &self->stats.soft_released_bytes;
  tcx_atomic_fetch_add_relaxed(counter, bytes);
}

// Several threads may be in the callback at once, as in C++'s new_handler: were
// the others refused meanwhile, they would fail although room is being made,
// and were they to wait, it might be for a lock that they hold themselves.
static bool call_back(struct tcx_limits *self, uint64_t wanted_bytes) {
  const struct tcx_limits_callback *callback =
      tcx_atomic_load_acquire(&self->callback);
  if (callback == NULL)
    return false;
  tcx_atomic_fetch_add_relaxed(&self->stats.callbacks, 1);
  return callback->call(callback->arg, wanted_bytes) != 0;
}

bool tcx_limits_refuse(struct tcx_limits *self, uint64_t resident_bytes,
                       uint64_t wanted_bytes, bool may_call) {
  uint64_t policy = load(&self->policy);
  if (policy == TCX_HARD_LIMIT_ABORT) {
    uint64_t hard = load(&self->hard_bytes);
    // Whoever reports the end may allocate.
    tcx_atomic_store_relaxed(&self->hard_bytes, NO_LIMIT);
    tcx_atomic_store_relaxed(&self->setting, 0);
    tcx_fatal("hard limit of %lu bytes: %lu are resident, %lu more are wanted",
              hard, resident_bytes, wanted_bytes);
  }
  if (policy == TCX_HARD_LIMIT_CALLBACK && may_call &&
      call_back(self, wanted_bytes)) {
    return true;
  }
  tcx_atomic_fetch_add_relaxed(&self->stats.refused, 1);
  return false;
}

// -- Statistics, check --------------------------------------------------------

void tcx_limits_read_stats(struct tcx_limits *self,
                           struct tcx_limits_stats *out) {
  tcx_atomic_store_relaxed(&self->stats.soft_bytes, tcx_limits_soft(self));
  tcx_atomic_store_relaxed(&self->stats.hard_bytes, load(&self->hard_bytes));
  const uint64_t *from = (const uint64_t *)&self->stats;
  uint64_t *to = (uint64_t *)out;
  for (size_t i = 0; i < sizeof *out / sizeof *to; i++)
    to[i] = load(&from[i]);
}

void tcx_limits_check(const struct tcx_limits *self) {
  TCX_CHECK(load(&self->hard_bytes) > 0);
  TCX_CHECK(load(&self->auto_bytes) >= SOFT_MIN_BYTES);
  TCX_CHECK(self->group.version <= 2);
}

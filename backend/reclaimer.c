// reclaimer.c -- the page source around the page source: spans that come and
// go, and the limits they meet. See reclaimer.h.
#include "backend/reclaimer.h"

#include "backend/metadata.h"
#include "backend/reclaimer_internal.h"
#include "base/atomic.h"
#include "base/check.h"
#include "base/clock.h"
#include "pagemap/pagemap.h"

static_assert(offsetof(struct tcx_reclaimer, source) == 0,
              "a page source is the start of its implementation");

static struct tcx_reclaimer *self_of(struct tcx_page_source *source) {
  return (struct tcx_reclaimer *)source;
}

// -- What is held -------------------------------------------------------------

static uint64_t own_bytes(void) {
  struct tcx_metadata_stats metadata;
  tcx_metadata_read_stats(&metadata);
  return metadata.mapped_bytes - metadata.untouched_bytes + tcx_pagemap_bytes();
}

uint64_t tcx_reclaimer_resident(const struct tcx_reclaimer *self) {
  struct tcx_page_source_stats back;
  self->inner->ops->stats(self->inner, &back);
  return back.in_use_bytes + back.free_bytes + own_bytes();
}

// What no release makes less.
static uint64_t used_bytes(const struct tcx_reclaimer *self) {
  struct tcx_page_source_stats back;
  self->inner->ops->stats(self->inner, &back);
  return back.in_use_bytes + own_bytes();
}

// -- Rounds are wanted --------------------------------------------------------

// I3.
static bool is_first_since_round(struct tcx_reclaimer *self) {
  return tcx_atomic_load_relaxed(&self->is_active) == 0 &&
         tcx_atomic_exchange_acquire(&self->is_active, 1) == 0;
}

// At once.
static void call_round(struct tcx_reclaimer *self) {
  tcx_atomic_store_relaxed(&self->next_ms, 0);
  self->hooks->attend(true);
}

bool tcx_reclaimer_rouse(struct tcx_reclaimer *self) {
  if (!is_first_since_round(self))
    return false;
  tcx_atomic_fence();
  if (tcx_atomic_load_relaxed(&self->next_ms) != TCX_RECLAIMER_NEVER)
    return false;
  call_round(self);
  return true;
}

static void note_activity(struct tcx_reclaimer *self) {
  // All threads come by: none takes the line from the others for nothing.
  uint64_t now_ms = tcx_clock_ms();
  if (tcx_atomic_load_relaxed(&self->active_ms) != now_ms)
    tcx_atomic_store_relaxed(&self->active_ms, now_ms);
  if (!tcx_reclaimer_rouse(self))
    self->hooks->attend(false);
}

// The next round shall look at the limits.
static void press(struct tcx_reclaimer *self) {
  if (tcx_clock_ms() < tcx_atomic_load_relaxed(&self->press_again_ms))
    return;
  tcx_atomic_store_relaxed(&self->pressure, 1);
  call_round(self);
}

// -- Limits -------------------------------------------------------------------

static uint64_t hard_bytes(const struct tcx_reclaimer *self) {
  return tcx_atomic_load_relaxed(&self->limits.hard_bytes);
}

static bool has_limit(const struct tcx_reclaimer *self) {
  return tcx_limits_soft(&self->limits) != UINT64_MAX ||
         tcx_atomic_load_relaxed(&self->limits.setting) == TCX_KNOB_LIMIT_AUTO;
}

// Whether the cgroup is to be read again.
static bool must_read(const struct tcx_reclaimer *self, uint64_t resident) {
  uint64_t due_ms = tcx_limits_due_ms(&self->limits, resident);
  return due_ms != UINT64_MAX && tcx_clock_ms() >= due_ms;
}

// Since the last round tcx came near the limit: the cgroup is to be read long
// before the next one, as the program may take the rest without us.
static void hasten(struct tcx_reclaimer *self, uint64_t resident) {
  uint64_t due_ms = tcx_limits_due_ms(&self->limits, resident);
  uint64_t next_ms = tcx_atomic_load_relaxed(&self->next_ms);
  if (next_ms <= due_ms || next_ms - due_ms <= TCX_RECLAIMER_PRESSURE_MS)
    return;
  tcx_atomic_store_relaxed(&self->next_ms, due_ms);
  self->hooks->attend(true);
}

// The soft limit, where there is one of its own.
static void ask_soft(struct tcx_reclaimer *self) {
  uint64_t resident = tcx_reclaimer_resident_now(self);
  if (tcx_limits_exceeds_soft(&self->limits, resident) ||
      must_read(self, resident))
    press(self);
  else
    hasten(self, resident);
}

// What the span was asked for and is not moved there from elsewhere.
static uint64_t new_bytes(const struct tcx_page_request *request) {
  return (uint64_t)(request->pages - request->moved_pages) << TCX_PAGE_SHIFT;
}

// Whether what became resident is too much. Of it, what was moved will be gone
// elsewhere.
static bool is_above(const struct tcx_reclaimer *self, uint64_t hard,
                     size_t moved_pages) {
  uint64_t moved = (uint64_t)moved_pages << TCX_PAGE_SHIFT;
  uint64_t resident = tcx_reclaimer_resident(self);
  return resident > moved && resident - moved > hard;
}

// The page source alone knows what becomes resident: nothing, or a huge page.
// So it is asked, and if that was too much the span goes back. Nobody has
// touched it yet. One thread at a time, or they would count what others have
// got and must give back. (I1) One span at a time, as two may be too much.
static struct tcx_span *allocate_within(
    struct tcx_reclaimer *self, const struct tcx_page_request *request) {
  struct tcx_span *span = NULL;
  struct tcx_page_request one = *request;
  one.more = 0;
  uint64_t hard = hard_bytes(self);
  tcx_lock_acquire(&self->admission_lock);
  // What can never fit is not tried: it might take address space for good.
  bool may_fit = used_bytes(self) + new_bytes(request) <= hard;
  if (may_fit)
    span = self->inner->ops->allocate(self->inner, &one);
  bool is_too_much = span != NULL && is_above(self, hard, request->moved_pages);
  if (is_too_much)
    self->inner->ops->deallocate(self->inner, span);
  tcx_lock_release(&self->admission_lock);
  if (may_fit && !is_too_much)
    return span;
  self->hooks->refused();
  return NULL;
}

static bool grow_within(struct tcx_reclaimer *self, struct tcx_span *span,
                        size_t pages) {
  size_t old_pages = span->pages;
  uint64_t hard = hard_bytes(self);
  uint64_t bytes = (uint64_t)(pages - old_pages) << TCX_PAGE_SHIFT;
  bool is_grown = false;
  tcx_lock_acquire(&self->admission_lock);
  bool may_fit = used_bytes(self) + bytes <= hard;
  if (may_fit)
    is_grown = self->inner->ops->resize(self->inner, span, pages);
  bool is_too_much = is_grown && is_above(self, hard, 0);
  // Where even that fails it stays longer, and its owner must know.
  if (is_too_much)
    is_too_much = self->inner->ops->resize(self->inner, span, old_pages);
  tcx_lock_release(&self->admission_lock);
  if (may_fit && !is_too_much)
    return is_grown;
  self->hooks->refused();
  return false;
}

// -- Room at the hard limit ---------------------------------------------------

static uint64_t hard_released_bytes(const struct tcx_reclaimer *self) {
  return tcx_atomic_load_relaxed(&self->limits.stats.hard_released_bytes);
}

static void release_for_hard(struct tcx_reclaimer *self) {
  self->hooks->drain(true);
  size_t released = tcx_page_source_release(self->inner, SIZE_MAX);
  tcx_limits_note_released(&self->limits, true, released);
}

// What went back may have served others already, so what is free now may be
// what they have freed since.
static bool is_worth_a_try(const struct tcx_reclaimer *self,
                           struct tcx_reclaimer_tries *tries) {
  uint64_t released = hard_released_bytes(self);
  tries->vain = released == tries->released_bytes ? tries->vain + 1 : 0;
  tries->released_bytes = released;
  return tries->vain < 2 && tries->count <= TCX_RECLAIMER_TRIES_MAX;
}

// While no thread has a span that it must give back.
static uint64_t settled_bytes(struct tcx_reclaimer *self) {
  tcx_lock_acquire(&self->admission_lock);
  uint64_t resident = tcx_reclaimer_resident(self);
  tcx_lock_release(&self->admission_lock);
  return resident;
}

bool tcx_reclaimer_make_room(struct tcx_reclaimer *self, size_t bytes,
                             struct tcx_reclaimer_tries *tries, bool may_call) {
  if (tries->count++ == 0) {
    tcx_limits_note_hard_hit(&self->limits);
    tries->released_bytes = hard_released_bytes(self);
  }
  release_for_hard(self);
  if (is_worth_a_try(self, tries))
    return true;
  may_call = may_call && tries->callbacks++ < TCX_RECLAIMER_CALLBACKS_MAX;
  if (!tcx_limits_refuse(&self->limits, settled_bytes(self), bytes, may_call))
    return false;
  // What the callback has freed is still resident.
  release_for_hard(self);
  return true;
}

// -- Spans that come and go ---------------------------------------------------

static struct tcx_span *allocate(struct tcx_page_source *source,
                                 const struct tcx_page_request *request) {
  struct tcx_reclaimer *self = self_of(source);
  note_activity(self);
  if (TCX_LIKELY(!has_limit(self)))
    return self->inner->ops->allocate(self->inner, request);
  struct tcx_span *span = hard_bytes(self) == UINT64_MAX
                              ? self->inner->ops->allocate(self->inner, request)
                              : allocate_within(self, request);
  ask_soft(self);
  return span;
}

static void deallocate(struct tcx_page_source *source, struct tcx_span *spans) {
  struct tcx_reclaimer *self = self_of(source);
  self->inner->ops->deallocate(self->inner, spans);
  note_activity(self);
}

static bool resize(struct tcx_page_source *source, struct tcx_span *span,
                   size_t pages) {
  struct tcx_reclaimer *self = self_of(source);
  note_activity(self);
  bool grows = pages > span->pages;
  if (TCX_LIKELY(!grows || !has_limit(self)))
    return self->inner->ops->resize(self->inner, span, pages);
  bool is_done = hard_bytes(self) == UINT64_MAX
                     ? self->inner->ops->resize(self->inner, span, pages)
                     : grow_within(self, span, pages);
  ask_soft(self);
  return is_done;
}

static void notice(struct tcx_page_source *source) {
  note_activity(self_of(source));
}

// -- Passed on ----------------------------------------------------------------

static void moved(struct tcx_page_source *source, const struct tcx_span *span,
                  size_t pages) {
  tcx_page_source_moved(self_of(source)->inner, span, pages);
}

static size_t release(struct tcx_page_source *source, size_t bytes,
                      enum tcx_page_release kind) {
  struct tcx_page_source *inner = self_of(source)->inner;
  return inner->ops->release(inner, bytes, kind);
}

static size_t maintain_inner(struct tcx_page_source *source, uint64_t now_ms,
                             size_t bytes_max, bool may_grow) {
  struct tcx_page_source *inner = self_of(source)->inner;
  return inner->ops->maintain(inner, now_ms, bytes_max, may_grow);
}

static uint64_t due_ms(struct tcx_page_source *source, uint64_t now_ms) {
  struct tcx_page_source *inner = self_of(source)->inner;
  return inner->ops->due_ms(inner, now_ms);
}

static bool release_part(struct tcx_page_source *source,
                         const struct tcx_span *span, void *start, size_t bytes,
                         uint64_t now_ms) {
  struct tcx_page_source *inner = self_of(source)->inner;
  return inner->ops->release_part(inner, span, start, bytes, now_ms);
}

static void stats(struct tcx_page_source *source,
                  struct tcx_page_source_stats *out) {
  struct tcx_page_source *inner = self_of(source)->inner;
  inner->ops->stats(inner, out);
}

static void fork_prepare(struct tcx_page_source *source) {
  struct tcx_page_source *inner = self_of(source)->inner;
  inner->ops->fork_prepare(inner);
}

static void fork_parent(struct tcx_page_source *source) {
  struct tcx_page_source *inner = self_of(source)->inner;
  inner->ops->fork_parent(inner);
}

// Whoever made a round, or allocated, is not in the child.
static void fork_child(struct tcx_page_source *source) {
  struct tcx_reclaimer *self = self_of(source);
  self->inner->ops->fork_child(self->inner);
  self->is_busy = 0;
  self->unneeded_bytes = 0;
  // There is no background thread yet.
  self->is_active = 0;
  self->next_ms = TCX_RECLAIMER_NEVER;
}

static void check(struct tcx_page_source *source) {
  struct tcx_reclaimer *self = self_of(source);
  tcx_limits_check(&self->limits);
  self->inner->ops->check(self->inner);
}

// -- Start --------------------------------------------------------------------

// Two threads may be here at once: whichever stores last has seen what both
// set, or looks again.
static void read_settings(struct tcx_reclaimer *self) {
  uint64_t limit;
  uint64_t hard_limit;
  uint64_t policy;
  do {
    limit = tcx_atomic_load_relaxed(&tcx_knobs.limit);
    hard_limit = tcx_atomic_load_relaxed(&tcx_knobs.hard_limit);
    policy = tcx_atomic_load_relaxed(&tcx_knobs.hard_limit_policy);
    tcx_limits_set(&self->limits, limit, hard_limit, policy);
    tcx_atomic_fence();
  } while (limit != tcx_atomic_load_relaxed(&tcx_knobs.limit) ||
           hard_limit != tcx_atomic_load_relaxed(&tcx_knobs.hard_limit) ||
           policy != tcx_atomic_load_relaxed(&tcx_knobs.hard_limit_policy));
}

void tcx_reclaimer_set_limits(struct tcx_reclaimer *self) {
  read_settings(self);
  tcx_atomic_store_relaxed(&self->pressure, 1);
  call_round(self);
}

void tcx_reclaimer_set_callback(struct tcx_reclaimer *self,
                                const struct tcx_limits_callback *callback) {
  tcx_limits_set_callback(&self->limits, callback);
}

void tcx_reclaimer_read_stats(struct tcx_reclaimer *self,
                              struct tcx_reclaimer_stats *out) {
  out->rounds = tcx_atomic_load_relaxed(&self->rounds);
  out->released_bytes = tcx_atomic_load_relaxed(&self->released_bytes);
  tcx_limits_read_stats(&self->limits, &out->limits);
}

struct tcx_page_source *tcx_reclaimer_init(
    struct tcx_reclaimer *self, struct tcx_page_source *inner,
    const struct tcx_reclaimer_hooks *hooks) {
  static const struct tcx_page_source_ops ops = {
      .name = "reclaimer",
      .allocate = allocate,
      .deallocate = deallocate,
      .resize = resize,
      .moved = moved,
      .release = release,
      .maintain = maintain_inner,
      .due_ms = due_ms,
      .release_part = release_part,
      .notice = notice,
      .stats = stats,
      .fork_prepare = fork_prepare,
      .fork_parent = fork_parent,
      .fork_child = fork_child,
      .check = check,
  };
  TCX_ASSERT(self->source.ops == NULL);
  self->source.ops = &ops;
  self->inner = inner;
  self->hooks = hooks;
  self->next_ms = TCX_RECLAIMER_NEVER;
  tcx_lock_init(&self->admission_lock, TCX_LOCK_RANK_ADMISSION);
  self->fork_hooks = (struct tcx_fork_hooks){
      TCX_LOCK_RANK_ADMISSION, &self->admission_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&self->fork_hooks);
  tcx_limits_init(&self->limits);
  read_settings(self);
  return &self->source;
}

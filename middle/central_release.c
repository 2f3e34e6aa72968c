// central_release.c -- memory under free objects of live spans goes back.
//
// WHAT IT DECIDES
//   When: every 5 s a walk over the spans with free objects adds to their ages
//   (kept in their flags); who takes from a span makes it young again. After
//   30 s what is free in it goes back. A walk flips one bit, and each span that
//   it looks at; so none is looked at twice, wherever it is put back. One that
//   changes its list meanwhile is flipped there, and goes 5 s later then.
//   Which: whole parts (pagemap/span_parts.h) that no object in use lies in.
//   Whether a huge page is worth breaking for them is the page source's choice:
//   it may refuse until enough of it was offered. So when something was refused
//   and something went back, of this class or another, there is one more walk;
//   these end when a walk gains nothing. Else a refused part is offered again
//   by the next walk that there is reason for.
//
// WHY NO OBJECT IN USE LOSES ITS MEMORY, though madvise is called without the
// lock. Under the lock the span leaves its list and becomes `busy`. Objects are
// taken only from spans on lists and from new ones, so from then on no object
// of it is handed out; its set of free objects can only grow. The parts are
// chosen under that lock too: no object in use lies in them, and none comes to
// lie in them until the span is on a list again. What comes back meanwhile is
// marked free in a span that is on no list (relist leaves a busy one alone);
// the last object that comes back does not destroy it. When the calls are done
// the lock is taken again, and only then the parts are marked as released and
// the span goes to the list of what its count is now, or, empty, is destroyed.
//
// fork() in between: the child has the span, but not the thread. It finds it in
// `busy` and puts it where it belongs; what had gone back already counts as
// memory in the child until the span goes.
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "middle/central_internal.h"
#include "pagemap/span_parts.h"

#define LOOK_MS 5000u
// Seen young at the first look: 6 looks later it had the other 30 s.
#define AGE_DUE TCX_SPAN_AGE_MAX
static_assert((AGE_DUE - 1) * LOOK_MS == 30000, "a look of age 1 is the first");

#define SPANS_PER_STEP 32

// -- Parts of a span ----------------------------------------------------------

static size_t objects_bytes(const struct tcx_span *span) {
  const struct tcx_size_class *row = &tcx_size_classes[span->size_class];
  return (size_t)row->objects * row->size;
}

uint64_t tcx_central_free_parts(const struct tcx_span *span) {
  const struct tcx_size_class *row = &tcx_size_classes[span->size_class];
  struct tcx_span_parts parts = tcx_span_parts_of(span);
  uint64_t free_parts = tcx_span_parts_all(parts);
  for (unsigned i = 0; i < row->objects && free_parts != 0; i++) {
    size_t at = (size_t)i * row->size;
    if (!tcx_span_is_free(span, i))
      free_parts &= ~tcx_span_parts_touched(parts, at, at + row->size);
  }
  return free_parts;
}

struct tcx_central_released tcx_central_released_of(const struct tcx_span *span,
                                                    uint64_t released) {
  struct tcx_span_parts parts = tcx_span_parts_of(span);
  struct tcx_central_released out = {0, 0};
  size_t tail = objects_bytes(span);
  for (; released != 0; released &= released - 1) {
    size_t start = tcx_span_part_offset(parts, tcx_lowest_bit(released));
    size_t end = start + ((size_t)1 << parts.shift);
    out.bytes += end - start;
    if (end > tail)
      out.tail_bytes += end - tcx_max_size(start, tail);
  }
  return out;
}

static void count(struct tcx_central_freelist *self,
                  const struct tcx_span *span, uint64_t parts, uint64_t sign) {
  struct tcx_central_released some = tcx_central_released_of(span, parts);
  tcx_counter_add(&self->release.bytes, sign * some.bytes);
  tcx_counter_add(&self->release.tail_bytes, sign * some.tail_bytes);
  if (self->released_sum != NULL)
    (void)tcx_atomic_fetch_add_relaxed(self->released_sum, sign * some.bytes);
}

void tcx_central_release_taken(struct tcx_central_freelist *self,
                               struct tcx_span *span, void *const *objects,
                               unsigned taken) {
  struct tcx_span_parts parts = tcx_span_parts_of(span);
  size_t size = tcx_central_row(self)->size;
  uint64_t touched = 0;
  for (unsigned i = 0; i < taken; i++) {
    size_t at = (size_t)((char *)objects[i] - tcx_span_start(span));
    touched |= tcx_span_parts_touched(parts, at, at + size);
  }
  touched &= span->released_words;
  count(self, span, touched, (uint64_t)-1);
  span->released_words &= ~touched;
}

void tcx_central_release_forget(struct tcx_central_freelist *self,
                                const struct tcx_span *span) {
  count(self, span, span->released_words, (uint64_t)-1);
}

// -- The walk -----------------------------------------------------------------
// All with the lock held.

static void enter_bucket(struct tcx_central_freelist *self, unsigned bucket) {
  struct tcx_central_release *walk = &self->release;
  walk->bucket = (uint8_t)bucket;
  walk->cursor = self->lists[bucket];
}

// Goes on, or begins anew. False: there is nothing to do.
static bool begin_walk(struct tcx_central_freelist *self, uint64_t now_ms,
                       bool is_now) {
  struct tcx_central_release *walk = &self->release;
  if (walk->is_walking)
    return true;
  uint64_t since_ms = now_ms > walk->looked_ms ? now_ms - walk->looked_ms : 0;
  if (since_ms < LOOK_MS && !is_now)
    return false;
  walk->is_walking = true;
  walk->seen_moves = self->moves;
  walk->has_young = false;
  walk->has_refused = false;
  walk->has_released = false;
  walk->look ^= TCX_SPAN_LOOK_IS_ODD;
  walk->aging = (uint8_t)tcx_min_size(since_ms / LOOK_MS, AGE_DUE);
  if (walk->aging > 0)
    walk->looked_ms = now_ms;
  enter_bucket(self, 0);
  return true;
}

// The walk is at its end, or something went back since.
static void look_again(struct tcx_central_release *walk) {
  if (!walk->is_walking && walk->has_refused && walk->has_released)
    walk->has_young = true;
}

// A span that was taken from since the last look is of age 1 now, however long
// ago that look was.
static void grow_older(struct tcx_span *span, unsigned aging) {
  unsigned age = tcx_central_age(span);
  unsigned older = age == 0 ? 1 : age + aging;
  tcx_central_set_age(span, (unsigned)tcx_min_size(older, AGE_DUE));
}

// What of a span can go now.
static uint64_t look_at(struct tcx_central_freelist *self,
                        struct tcx_span *span, bool is_now) {
  if (tcx_central_is_looked(self, span))
    return 0;
  tcx_central_set_looked(self, span);
  if (self->release.aging > 0)
    grow_older(span, self->release.aging);
  bool is_due = is_now || tcx_central_age(span) >= AGE_DUE;
  if (!is_due) {
    self->release.has_young = true;
    return 0;
  }
  return tcx_central_free_parts(span) & ~span->released_words;
}

// The next span that has something to give, off its list and busy; NULL: not
// among the next few, or the walk is at its end.
static struct tcx_span *next_span(struct tcx_central_freelist *self,
                                  bool is_now, size_t *looks_max,
                                  uint64_t *parts) {
  struct tcx_central_release *walk = &self->release;
  for (unsigned i = 0; *looks_max > 0 && i < SPANS_PER_STEP; i++) {
    while (walk->cursor == NULL &&
           walk->bucket + 1u < TCX_CENTRAL_FREELIST_BUCKETS)
      enter_bucket(self, walk->bucket + 1u);
    struct tcx_span *span = walk->cursor;
    if (span == NULL) {
      walk->is_walking = false;
      look_again(walk);
      return NULL;
    }
    walk->cursor = span->next;
    (*looks_max)--;
    *parts = look_at(self, span, is_now);
    if (*parts == 0)
      continue;
    tcx_central_unlist(self, span);
    span->bucket = TCX_CENTRAL_BUSY;
    walk->busy = span;
    return span;
  }
  return NULL;
}

// -- One span -----------------------------------------------------------------

// Without the lock, while the span is busy. Which parts went back.
static uint64_t give_back(struct tcx_central_freelist *self,
                          const struct tcx_span *span, uint64_t todo,
                          uint64_t now_ms) {
  struct tcx_span_parts parts = tcx_span_parts_of(span);
  uint64_t done = 0;
  while (todo != 0) {
    unsigned first = tcx_lowest_bit(todo);
    uint64_t behind = ~(todo >> first);
    unsigned length = behind == 0 ? 64 - first : tcx_lowest_bit(behind);
    length = (unsigned)tcx_min_size(length, parts.count - first);
    uint64_t range = tcx_span_parts_mask(first, length);
    char *start = tcx_span_start(span) + tcx_span_part_offset(parts, first);
    if (self->pages->ops->release_part(self->pages, span, start,
                                       (size_t)length << parts.shift, now_ms))
      done |= range;
    todo &= ~range;
  }
  return done;
}

// The busy span goes back to its list, with these parts released. True: it is
// empty, counted nowhere any more, and to be destroyed. Lock held.
static bool end_busy(struct tcx_central_freelist *self, uint64_t done) {
  struct tcx_span *span = self->release.busy;
  self->release.busy = NULL;
  span->bucket = TCX_CENTRAL_NO_BUCKET;
  count(self, span, done, 1);
  span->released_words |= done;
  if (span->allocated > 0) {
    tcx_central_relist(self, span);
    return false;
  }
  tcx_central_release_forget(self, span);
  tcx_counter_add(&self->spans, -(uint64_t)1);
  tcx_counter_add(&self->free_objects,
                  -(uint64_t)tcx_central_row(self)->objects);
  return true;
}

// What a step found.
enum step {
  STEP_GOES_ON,
  STEP_IS_DONE,
  STEP_IS_BUSY,  // Somebody else is at it.
};

// Chooses a span, with the lock; NULL: none in this step.
static struct tcx_span *begin_step(struct tcx_central_freelist *self,
                                   uint64_t now_ms, bool is_now,
                                   size_t *looks_max, uint64_t *todo,
                                   enum step *step) {
  struct tcx_span *span = NULL;
  *step = STEP_IS_BUSY;
  if (self->release.busy != NULL)
    return NULL;
  *step = STEP_IS_DONE;
  if (begin_walk(self, now_ms, is_now)) {
    span = next_span(self, is_now, looks_max, todo);
    if (self->release.is_walking)
      *step = STEP_GOES_ON;
  }
  return span;
}

// One step of the walk. Bytes that went back.
static size_t release_step(struct tcx_central_freelist *self, uint64_t now_ms,
                           bool is_now, size_t *looks_max, enum step *step) {
  uint64_t todo = 0;
  tcx_lock_acquire(&self->lock);
  struct tcx_span *span =
      begin_step(self, now_ms, is_now, looks_max, &todo, step);
  tcx_lock_release(&self->lock);
  if (span == NULL)
    return 0;
  uint64_t done = give_back(self, span, todo, now_ms);
  struct tcx_span_parts parts = tcx_span_parts_of(span);
  tcx_lock_acquire(&self->lock);
  bool is_empty = end_busy(self, done);
  self->release.has_refused |= done != todo;
  self->release.has_released |= done != 0;
  tcx_lock_release(&self->lock);
  if (is_empty)
    tcx_central_destroy(self, span);
  return (size_t)__builtin_popcountll(done) << parts.shift;
}

// -- Entries ------------------------------------------------------------------

size_t tcx_central_freelist_release(struct tcx_central_freelist *self,
                                    uint64_t now_ms, size_t bytes_max,
                                    size_t *looks_max, bool is_now,
                                    bool *is_done) {
  size_t released = 0;
  enum step step = tcx_central_has_parts(self) ? STEP_GOES_ON : STEP_IS_DONE;
  while (step == STEP_GOES_ON && *looks_max > 0 && released < bytes_max)
    released += release_step(self, now_ms, is_now, looks_max, &step);
  *is_done = step == STEP_IS_DONE || (step == STEP_IS_BUSY && !is_now);
  return released;
}

void tcx_central_freelist_offer_again(struct tcx_central_freelist *self) {
  if (!tcx_central_has_parts(self))
    return;
  tcx_lock_acquire(&self->lock);
  self->release.has_released = true;
  look_again(&self->release);
  tcx_lock_release(&self->lock);
}

uint64_t tcx_central_freelist_release_due_ms(struct tcx_central_freelist *self,
                                             uint64_t now_ms) {
  if (!tcx_central_has_parts(self))
    return UINT64_MAX;
  const struct tcx_central_release *walk = &self->release;
  uint64_t due_ms = UINT64_MAX;
  tcx_lock_acquire(&self->lock);
  if (walk->is_walking) {
    due_ms = now_ms;
  } else if (walk->has_young || self->moves != walk->seen_moves) {
    due_ms = tcx_max_size(walk->looked_ms + LOOK_MS, now_ms);
  }
  self->is_quiet = due_ms == UINT64_MAX;
  tcx_lock_release(&self->lock);
  return due_ms;
}

void tcx_central_freelist_release_in_child(struct tcx_central_freelist *self) {
  struct tcx_span *span = self->release.busy;
  if (span != NULL && end_busy(self, 0))
    tcx_central_destroy(self, span);
}

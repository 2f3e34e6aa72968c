// upkeep.c -- hooks of the reclaimer, job of the background thread, visits. See
// upkeep.h.
#include "libc/upkeep.h"

#include "backend/metadata.h"
#include "backend/reclaimer.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/knobs.h"
#include "frontend/selected.h"
#include "libc/background.h"
#include "middle/object_source.h"

// A visit is about as dear as two calls of malloc. While there is something to
// wait for, so many calls go by between two visits, should they be of the same
// size; at least so many bytes, of the smallest blocks. Of large blocks (they
// are spared visits) a few less, or calls of other sizes would wait too long.
#define VISIT_CALLS 512
#define VISIT_BYTES ((uint64_t)VISIT_CALLS * 16)
#define VISITS_SPARED 32
// Near a limit: a program of few mallocs may fill the rest by itself.
#define VISIT_SOON_BYTES ((uint64_t)32 << 10)

static struct tcx_reclaimer reclaimer;
static struct tcx_object_source *objects;

// -- hooks --------------------------------------------------------------------

static void drain(bool all) {
  if (all) {
    tcx_frontend->flush();
    objects->ops->trim(objects, true);
  } else {
    tcx_frontend->tick();
  }
}

static size_t release_objects(uint64_t now_ms, size_t bytes_max, bool is_now) {
  return objects->ops->release(objects, now_ms, bytes_max, is_now);
}

static uint64_t objects_released(void) {
  return objects->ops->released_bytes(objects);
}

static uint64_t objects_due_ms(uint64_t now_ms) {
  return objects->ops->release_due_ms(objects, now_ms);
}

static void visit_within(uint64_t bytes) {
  if (tcx_thread.visit_bytes > bytes)
    tcx_thread.visit_bytes = bytes;
  if (bytes == 0)
    tcx_thread.visits_spared = 0;
}

static uint64_t visit_bytes_for(size_t size, uint64_t wait_ms) {
  size_t most = tcx_min_size(size, TCX_VISIT_BYTES_MAX);
  uint64_t bytes = tcx_max_size(VISIT_BYTES, most * VISIT_CALLS);
  bool is_soon = wait_ms <= TCX_RECLAIMER_PRESSURE_MS;
  return is_soon ? tcx_min_size(bytes, VISIT_SOON_BYTES) : bytes;
}

static void attend(bool is_urgent) {
  bool is_running = tcx_background_is_running();
  if (is_urgent && is_running)
    tcx_background_wake();
  if (is_urgent || !is_running)
    visit_within(is_urgent ? 0 : VISIT_BYTES);
}

static void refused(void) {
  tcx_thread.flags |= TCX_THREAD_REFUSED;
}

// -- rounds -------------------------------------------------------------------

static uint64_t background_round(uint64_t now_ms) {
  uint64_t wait_ms = tcx_reclaimer_round(&reclaimer, now_ms);
  return wait_ms == TCX_RECLAIMER_NEVER ? TCX_BACKGROUND_IDLE : wait_ms;
}

static bool has_served(void) {
  return tcx_reclaimer_has_served(&reclaimer);
}

// Where there is a background thread it is up for the rounds that are due, and
// there is no more to do than what only this thread can: its own cache.
void tcx_upkeep_tick(void) {
  tcx_frontend->tick();
  while (!tcx_background_is_running() &&
         tcx_reclaimer_visit(&reclaimer, tcx_clock_ms()) == 0) {
  }
}

size_t tcx_upkeep_release(size_t bytes) {
  return tcx_reclaimer_release(&reclaimer, bytes);
}

void tcx_upkeep_visit(size_t size) {
  tcx_thread.visit_bytes = TCX_VISIT_BYTES_MAX;
  tcx_thread.visits_spared = VISITS_SPARED;
  // The child of vfork has its parent's memory, not its threads.
  if ((tcx_thread.flags & TCX_THREAD_VFORK) != 0)
    return;
  bool is_pressed = tcx_reclaimer_is_pressed(&reclaimer);
  bool is_alone = !tcx_background_is_running();
  if (!is_pressed && !is_alone)
    return;
  uint64_t wait_ms = tcx_reclaimer_visit(&reclaimer, tcx_clock_ms());
  if (wait_ms != TCX_RECLAIMER_NEVER && is_alone)
    visit_within(wait_ms == 0 ? 0 : visit_bytes_for(size, wait_ms));
}

void tcx_upkeep_count(size_t size) {
  if (size > tcx_thread.visit_bytes)
    tcx_upkeep_visit(size);
  else
    tcx_thread.visit_bytes -= size;
}

bool tcx_upkeep_was_refused(void) {
  bool was_refused = (tcx_thread.flags & TCX_THREAD_REFUSED) != 0;
  tcx_thread.flags &= ~(uint32_t)TCX_THREAD_REFUSED;
  return was_refused;
}

// The flag: what a callback allocates at the limit is refused, or it would be
// called for that too.
static bool make_room(size_t bytes, struct tcx_reclaimer_tries *tries) {
  if ((tcx_thread.flags & TCX_THREAD_CALLING) != 0)
    return tcx_reclaimer_make_room(&reclaimer, bytes, tries, false);
  tcx_thread.flags |= TCX_THREAD_CALLING;
  bool has_room = tcx_reclaimer_make_room(&reclaimer, bytes, tries, true);
  tcx_thread.flags &= ~(uint32_t)TCX_THREAD_CALLING;
  return has_room;
}

void *tcx_upkeep_retry(void *(*allocate)(size_t align, size_t size,
                                         bool *zeroed),
                       size_t align, size_t size, bool *zeroed) {
  struct tcx_reclaimer_tries tries = {0};
  for (;;) {
    (void)tcx_upkeep_was_refused();
    void *object = allocate(align, size, zeroed);
    if (object != NULL || !tcx_upkeep_was_refused() || !make_room(size, &tries))
      return object;
  }
}

void tcx_upkeep_make_room(size_t bytes) {
  struct tcx_reclaimer_tries first = {0};
  bool has_room = tcx_reclaimer_make_room(&reclaimer, bytes, &first, false);
  TCX_ASSERT(has_room);
  (void)has_room;
}

// -- start --------------------------------------------------------------------

struct tcx_page_source *tcx_upkeep_start(struct tcx_page_source *inner) {
  static const struct tcx_reclaimer_hooks hooks = {
      .drain = drain,
      .release_objects = release_objects,
      .objects_released = objects_released,
      .objects_due_ms = objects_due_ms,
      .attend = attend,
      .refused = refused,
  };
  return tcx_reclaimer_init(&reclaimer, inner, &hooks);
}

void tcx_upkeep_serve(struct tcx_object_source *source) {
  static const struct tcx_background_job job = {background_round, has_served};
  objects = source;
  tcx_background_start(&job, tcx_knobs.background);
}

void tcx_upkeep_limits_changed(void) {
  tcx_reclaimer_set_limits(&reclaimer);
}

// Each is kept for ever, since another thread may just be about to call it;
// those that were set before are used again.
struct callback {
  struct tcx_limits_callback it;
  struct callback *next;
};

static struct callback *find_callback(int (*call)(void *arg,
                                                  size_t wanted_bytes),
                                      void *arg) {
  static struct callback *all;
  struct callback *first = tcx_atomic_load_acquire(&all);
  for (struct callback *at = first; at != NULL; at = at->next) {
    if (at->it.call == call && at->it.arg == arg)
      return at;
  }
  struct callback *made = tcx_metadata_allocate(sizeof *made);
  if (made == NULL)
    return NULL;
  *made = (struct callback){{call, arg}, first};
  while (!tcx_atomic_cas_release(&all, &made->next, made)) {
  }
  return made;
}

bool tcx_upkeep_set_callback(int (*call)(void *arg, size_t wanted_bytes),
                             void *arg) {
  struct callback *callback = NULL;
  if (call != NULL) {
    callback = find_callback(call, arg);
    if (callback == NULL)
      return false;
  }
  tcx_reclaimer_set_callback(&reclaimer,
                             callback != NULL ? &callback->it : NULL);
  return true;
}

void tcx_upkeep_read_stats(struct tcx_reclaimer_stats *out) {
  tcx_reclaimer_read_stats(&reclaimer, out);
}

// reclaimer.h -- when memory goes back to the system, and where it must stop.
//
// PLACE IN THE SYSTEM
//   central free list, large objects, run classes --(spans)--> reclaimer -->
//   the page source of this build
//   slow paths of malloc, the background thread --(rounds)--> reclaimer
//   A page source itself, around the real one: it sees every span that comes
//   and goes, passes it on, and takes care of two things.
//
// WHAT IT DECIDES
//   Rounds. A round gives back what demand has not needed for its time, a piece
//   at a time: caches that are idle, free pages (the page source knows which),
//   whole system pages under free objects. The background thread makes rounds
//   while spans come and go, and for a while after. Where there is no such
//   thread, whoever frees a span is asked to come by (`attend`) and makes the
//   rounds that are due in its next calls of malloc.
//   Limits (limits.h). Above the soft one, rounds give back what is free,
//   needed or not. At the hard one a span is refused; then make_room gives back
//   all that there is, again as long as any went, before malloc fails.
//
// INVARIANTS
//   I1. Where there is a hard limit, one thread at a time is given a span, and
//       keeps it only if what is resident then is not above the limit. But for
//       a span that was grown too far while there is no memory for the books
//       either, so that it cannot be made shorter again.
//   I2. A deallocation is never refused, and asks no limit.
//   I3. After a round either the next one is known, or the next span that comes
//       or goes calls for one. A round that found nothing stores NEVER and then
//       looks whether a span came or went meanwhile; who notes that one did,
//       first since the last round, then looks for NEVER. Both have a full
//       barrier between, so at least one of them sees the other.
//
// LOCKING: `admission_lock` (rank ADMISSION) where there is a hard limit. One
//   round at a time (`is_busy`); who comes second goes away. Rounds and
//   make_room are called without any lock.
#ifndef TCX_BACKEND_RECLAIMER_H_
#define TCX_BACKEND_RECLAIMER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/limits.h"
#include "backend/page_source.h"
#include "base/compiler.h"
#include "base/fork.h"
#include "base/lock.h"

TCX_BEGIN_DECLS

// About the most that one round gives back: some 10 ms of work.
#define TCX_RECLAIMER_ROUND_BYTES ((size_t)32 << 20)
// Idle caches are looked for so often,
#define TCX_RECLAIMER_DRAIN_MS 1000
// and so long after the last span came or went: until all of it had its time.
#define TCX_RECLAIMER_LINGER_MS 35000
// A thread that comes by after so long without a span that moved, and without a
// visit, finds a process that was idle: all caches are emptied, and what leaves
// whole then goes back at once.
#define TCX_RECLAIMER_IDLE_MS 2000
// Above a limit all caches are emptied; not more often than this. Likewise
// where nothing could be given back; where that was so again and again, up to
// the second.
#define TCX_RECLAIMER_PRESSURE_MS 100
#define TCX_RECLAIMER_PRESSURE_MAX_MS 3200

// At the hard limit other threads may take what a thread has just given back,
// so it tries again while anything goes back: not more often than this.
#define TCX_RECLAIMER_TRIES_MAX 32
// A callback that always says that it made room, and does not.
#define TCX_RECLAIMER_CALLBACKS_MAX 100

#define TCX_RECLAIMER_NEVER UINT64_MAX

// What lies above: the caches, the threads. All are called without any lock,
// but `attend` and `refused`, which take none.
struct tcx_reclaimer_hooks {
  // Caches give down what is idle, or `all`.
  void (*drain)(bool all);
  // Memory of whole system pages under free objects; `is_now`: idle or not.
  // Returns how many bytes went back.
  size_t (*release_objects)(uint64_t now_ms, size_t bytes_max, bool is_now);
  // What of such memory is gone now.
  uint64_t (*objects_released)(void);
  // When that may find something: now_ms or later; UINT64_MAX: never, as things
  // are.
  uint64_t (*objects_due_ms)(uint64_t now_ms);
  // A span came or went, so rounds are to be made: by the background thread,
  // which does unless it sleeps for ever, or else by the calling thread.
  // `is_urgent`: wake it, and the calling thread too shall come by. Inside of
  // malloc or free; must be quick.
  void (*attend)(bool is_urgent);
  // The calling thread has just been refused a span at the hard limit.
  void (*refused)(void);
};

// Of one allocation at the hard limit; zeroed before it.
struct tcx_reclaimer_tries {
  unsigned count;
  unsigned vain;  // of these, the last: nobody had given anything back
  unsigned callbacks;
  uint64_t released_bytes;  // by all threads, when this one last looked
};

struct tcx_reclaimer_stats {
  uint64_t rounds;
  uint64_t released_bytes;  // by rounds: what demand did not need
  struct tcx_limits_stats limits;
};

struct tcx_reclaimer {
  struct tcx_page_source source;  // first
  struct tcx_page_source *inner;
  const struct tcx_reclaimer_hooks *hooks;
  uint32_t is_active;       // a span came or went since the last round began
  uint32_t is_busy;         // a round is being made
  uint64_t next_ms;         // when the next one is due
  uint64_t visited_ms;      // when somebody last came by
  uint64_t unneeded_bytes;  // to give back, whatever the page source thinks
  uint64_t active_ms;       // when spans last came or went
  uint64_t drained_ms;      // when idle caches were last looked for
  uint64_t pressure;        // the soft limit was found exceeded
  uint64_t relieved_ms;     // when all caches were last emptied for it
  uint64_t press_again_ms;  // not before: little went back the last time
  uint64_t press_wait_ms;
  uint64_t rounds;
  uint64_t released_bytes;
  struct tcx_limits limits;
  struct tcx_lock admission_lock;
  struct tcx_fork_hooks fork_hooks;
};

// Prepares `self`, static and zeroed, once; returns it as a page source. The
// limits are those of tcx_knobs.
struct tcx_page_source *tcx_reclaimer_init(
    struct tcx_reclaimer *self, struct tcx_page_source *inner,
    const struct tcx_reclaimer_hooks *hooks);

// The settings of the limits have changed: they count from the next span on,
// and a round looks at them at once.
void tcx_reclaimer_set_limits(struct tcx_reclaimer *self);

// At the hard limit. NULL: none; else constant, and there for ever.
void tcx_reclaimer_set_callback(struct tcx_reclaimer *self,
                                const struct tcx_limits_callback *callback);

// Makes a round, due or not. Returns in how many ms the next one is due: 0:
// there is more to do at once; TCX_RECLAIMER_NEVER: when `attend` is called.
uint64_t tcx_reclaimer_round(struct tcx_reclaimer *self, uint64_t now_ms);

// The same if one is due.
uint64_t tcx_reclaimer_visit(struct tcx_reclaimer *self, uint64_t now_ms);

// Empties the caches, then gives back at least `bytes` of what is free, needed
// or not, if there is that much. Returns how many bytes went back. A round
// looks at what is left.
size_t tcx_reclaimer_release(struct tcx_reclaimer *self, size_t bytes);

// Whether a limit is exceeded, or may be.
static inline bool tcx_reclaimer_is_pressed(const struct tcx_reclaimer *self) {
  return tcx_atomic_load_relaxed(&self->pressure) != 0;
}

// After a span was refused for an allocation of `bytes`: gives back all that is
// free. If nothing went, twice in a row, asks the policy of the hard limit; the
// callback, where the calling thread is not inside of it (`may_call`). True:
// try again.
TCX_COLD TCX_NODISCARD bool tcx_reclaimer_make_room(
    struct tcx_reclaimer *self, size_t bytes, struct tcx_reclaimer_tries *tries,
    bool may_call);

// Whether a span ever came.
static inline bool tcx_reclaimer_has_served(const struct tcx_reclaimer *self) {
  return tcx_atomic_load_relaxed(&self->active_ms) != 0;
}

void tcx_reclaimer_read_stats(struct tcx_reclaimer *self,
                              struct tcx_reclaimer_stats *out);

TCX_END_DECLS

#endif  // TCX_BACKEND_RECLAIMER_H_

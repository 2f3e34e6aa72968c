// limits.h -- how much memory the process may hold: soft and hard.
//
// PLACE IN THE SYSTEM
//   reclaimer (each growth of what is resident) --> limits --> cgroup
//   The limits say whether they are exceeded; the owner gives memory back.
//
// WHAT IT DECIDES
//   The soft limit is a number of bytes, or with TCX_LIMIT=auto what the cgroup
//   leaves for tcx: of each level that has a limit,
//     0.9 x limit - (charge - what tcx has resident),
//   the least of all. Others of the group and memory that is not tcx's so make
//   it smaller. It is read again once a second, ten times as often while half
//   of it is in use: programs map memory of their own at 100 MiB a second.
//   Above it the owner gives back what it can, a piece at each slow call. The
//   hard limit is never exceeded: when nothing more can be given back, an
//   allocation fails, or the program's callback may make room, or the process
//   ends with one line. None unless set; a soft limit above it counts as it.
//
// INVARIANTS
//   I1. What counts as the soft limit is never above the hard one, so one
//       comparison asks for both. UINT64_MAX is no limit.
//   I2. `free`, and memory for tcx itself, never ask here.
//   I3. Each number has one writer: the settings tcx_limits_set, what was read
//       tcx_limits_refresh; which of them count is decided when they are asked
//       for. So whoever changes a setting while the files are read changes it
//       at once and for good, and where one limit takes the place of another
//       there is always one of the two. But for read_again_ms, where either
//       comes last: a reading that ends after a setting was new then.
//
// LOCKING: none; relaxed atomics. Setting and asking by anybody. Refreshing by
//   one thread at a time, the owner's business (only there are the files read,
//   and `group`, `was_sought`, `sought_ms` used).
#ifndef TCX_BACKEND_LIMITS_H_
#define TCX_BACKEND_LIMITS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cgroup.h"
#include "base/atomic.h"
#include "base/compiler.h"
#include "base/knobs.h"

TCX_BEGIN_DECLS

// Called without any lock held, by several threads at once; may free, and
// allocate what is there. Not 0: it is worth trying again.
struct tcx_limits_callback {
  int (*call)(void *arg, size_t wanted_bytes);
  void *arg;
};

struct tcx_limits_stats {
  uint64_t soft_bytes;  // that count now
  uint64_t hard_bytes;
  uint64_t soft_hits;            // found exceeded; if below the hard one
  uint64_t hard_hits;            // allocations that met it
  uint64_t soft_released_bytes;  // given back because of it
  uint64_t hard_released_bytes;
  uint64_t refused;  // allocations that failed at the hard limit
  uint64_t callbacks;
  uint64_t readings;  // of the cgroup
  uint64_t reading_failures;
};

struct tcx_limits {
  uint64_t setting;  // TCX_LIMIT: 0 none, TCX_KNOB_LIMIT_AUTO, bytes
  uint64_t hard_bytes;
  uint64_t policy;      // enum tcx_hard_limit_choice
  uint64_t auto_bytes;  // what the cgroup leaves, as last read
  struct tcx_cgroup group;
  uint64_t read_again_ms;  // not before; 0: at once
  bool was_sought;         // the group, since the last failure
  uint64_t sought_ms;      // when
  const struct tcx_limits_callback *callback;
  struct tcx_limits_stats stats;
};

// No limit at all.
void tcx_limits_init(struct tcx_limits *self);

// The three settings as tcx_knobs has them: limit, hard_limit,
// hard_limit_policy. At start, and when one has changed.
void tcx_limits_set(struct tcx_limits *self, uint64_t limit,
                    uint64_t hard_limit, uint64_t policy);
// NULL: none. It is constant and lives for ever, as other threads may just have
// read it.
void tcx_limits_set_callback(struct tcx_limits *self,
                             const struct tcx_limits_callback *callback);

// The soft limit that counts now. (I1)
static inline uint64_t tcx_limits_soft(const struct tcx_limits *self) {
  uint64_t soft = tcx_atomic_load_relaxed(&self->setting);
  if (soft == TCX_KNOB_LIMIT_AUTO)
    soft = tcx_atomic_load_relaxed(&self->auto_bytes);
  else if (soft == 0)
    soft = UINT64_MAX;
  uint64_t hard = tcx_atomic_load_relaxed(&self->hard_bytes);
  return soft < hard ? soft : hard;
}

// When the cgroup is to be read again; UINT64_MAX: never.
uint64_t tcx_limits_due_ms(const struct tcx_limits *self,
                           uint64_t resident_bytes);

// Reads the cgroup again if that is due. `resident_bytes`: all that tcx has.
void tcx_limits_refresh(struct tcx_limits *self, uint64_t resident_bytes,
                        uint64_t now_ms);

// Whether so much exceeds a soft limit below the hard one. Asked after a span
// came; counts hits.
TCX_COLD bool tcx_limits_hit_soft(struct tcx_limits *self,
                                  uint64_t resident_bytes);

static inline bool tcx_limits_exceeds_soft(struct tcx_limits *self,
                                           uint64_t resident_bytes) {
  return TCX_UNLIKELY(resident_bytes > tcx_limits_soft(self)) &&
         tcx_limits_hit_soft(self, resident_bytes);
}

// An allocation met the hard limit.
void tcx_limits_note_hard_hit(struct tcx_limits *self);

// What was given back because of a limit.
void tcx_limits_note_released(struct tcx_limits *self, bool was_hard,
                              uint64_t bytes);

// At the hard limit, when nothing more can be given back. Called without any
// lock; `may_call` is false inside of the callback. True: the program made
// room, try again; false: fail with ENOMEM. Or it does not return.
TCX_COLD TCX_NODISCARD bool tcx_limits_refuse(struct tcx_limits *self,
                                              uint64_t resident_bytes,
                                              uint64_t wanted_bytes,
                                              bool may_call);

void tcx_limits_read_stats(struct tcx_limits *self,
                           struct tcx_limits_stats *out);
void tcx_limits_check(const struct tcx_limits *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_LIMITS_H_

// slab.h -- the arrays of free objects of one thread (later: of one CPU).
//
// PLACE IN THE SYSTEM
//   malloc, free --(fast halves)--> slab --(batches)--> object source
//
// LAYOUT. A header per class, {top, end}: the slot of the top object, and the
//   last slot that may be used. 64-bit pointers and an address that is computed
//   before the access: a header that the previous call stored is then forwarded
//   to the next load at no cost (TCX_KEEP_SIMPLE).
//     slots      begin[-1]  begin[0] ... *top   top[1] ... *end   up to slots
//                guard      objects             room
//   Under each class lies a guard, an odd word: a pop that reads an odd value
//   found the class empty. A class without an array has top == end on a shared
//   guard: empty and full at once. So has class 0, and so have all classes of
//   the dummy slab, with which a thread starts: the fast halves need no test
//   for "initialised?".
//
// WHAT IT DECIDES
//   Capacity follows regret. A class that overflows spills objects and
//   remembers how many; one that runs dry afterwards grows by what it spilled
//   and could have kept. A thread that only frees never grows; one that frees
//   and allocates 10 000 objects in turn has room for them after one round. All
//   capacity counts against the slab's byte budget.
//   Idle objects go back by a low-water mark that costs the fast path nothing:
//   a scavenge plants a second guard (the wire) in the middle of the stack and
//   keeps the object that lay there in the place of the guard below. If the
//   wire was not touched by the next scavenge, what is under it was idle.
//
// INVARIANTS (tcx_slab_check)
//   I1. begin - 1 <= top <= end < begin + slots; begin[-1] is the guard, or,
//       with a wire, the displaced object while begin[wire - 1] is the guard.
//   I2. Every slot in [begin, top] holds an object of the class, but the wire.
//   I3. capacity_bytes == sum of (end + 1 - begin) * size over the small
//       classes; run_bytes the same over the run classes.
//
// LOCKING: none. A slab belongs to one thread. Functions here are its slow
//   path; `busy` is set while one runs, so that a signal handler that comes in
//   ends the process with one line instead of a damaged slab.
#ifndef TCX_FRONTEND_SLAB_H_
#define TCX_FRONTEND_SLAB_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/page_source.h"
#include "base/compiler.h"
#include "base/rseq.h"
#include "middle/object_source.h"
#include "size_classes/size_classes.h"

TCX_BEGIN_DECLS

// Most objects of one class that a slab holds. 10 000 live objects must fit.
#define TCX_SLAB_CAPACITY_MAX 16383
// Most blocks of a run class (256 KiB to 4 MiB) that a slab holds.
#define TCX_SLAB_RUNS_MAX 4

struct tcx_slab_header {
  void **top;
  void **end;
};

// What only slow paths need of a class.
struct tcx_slab_row {
  void **begin;      // NULL: no array yet
  uint16_t slots;    // of the array
  uint16_t wire;     // 0: none; else the wire is at begin[wire - 1]
  uint16_t spilled;  // objects given down since the class last ran dry
  uint16_t refill;   // objects that the next refill asks for; 0: first
};

struct tcx_slab_counts {  // since start; one writer
  uint64_t refills;
  uint64_t overflows;
  uint64_t removed_objects;   // from the object source
  uint64_t inserted_objects;  // into it
  uint64_t run_spans;         // blocks of run classes from the page source
  uint64_t scavenges;
};

struct tcx_slab;

// What a slab draws on; one for all slabs of a front end.
struct tcx_slab_sources {
  struct tcx_object_source *objects;
  struct tcx_page_source *pages;
  // True if the budget allows `bytes` more of capacity for small classes; asks
  // for more budget where there is some.
  bool (*budget_allows)(struct tcx_slab *slab, uint64_t bytes);
  uint64_t run_bytes;  // room for run classes in all slabs of threads
};

struct tcx_slab {
  struct tcx_slab_header headers[TCX_SIZE_CLASS_COUNT];
  struct tcx_slab_row rows[TCX_SIZE_CLASS_COUNT];
  struct tcx_slab_sources *sources;
  uint64_t capacity_bytes;
  uint64_t run_bytes;
  uint64_t budget_bytes;  // written also by others (atomic)
  uint64_t scavenged_ms;  // time of the last scavenge
  uint32_t slow_calls;
  uint32_t busy;
  struct tcx_slab_counts counts;
  struct tcx_slab *next;  // list of all, owner's lock
  struct tcx_slab *prev;
  // Of a thread that libc has not registered; per-CPU front end only.
  struct tcx_rseq_area area;
};

static_assert(sizeof(struct tcx_slab_header) == 1 << TCX_SIZE_CLASS_SHIFT,
              "the table of sizes holds the header's offset");
static_assert(offsetof(struct tcx_slab, headers) == 0,
              "fast paths add the header's offset to the slab's address");
static_assert(sizeof(struct tcx_slab) <= 4096, "a thread starts with 4 KiB");

// Empty and full at once for every class; read-only.
extern const struct tcx_slab tcx_slab_dummy;

void tcx_slab_init(struct tcx_slab *self, struct tcx_slab_sources *sources,
                   uint64_t budget_bytes);

// One object of the class after the fast half found none. NULL: no memory.
// `*zeroed` becomes true when the object is known to read as zero.
TCX_NODISCARD void *tcx_slab_refill(struct tcx_slab *self, unsigned size_class,
                                    bool *zeroed);

// Takes a free object after the fast half found no room for it.
void tcx_slab_overflow(struct tcx_slab *self, unsigned size_class,
                       void *object);

// Gives back what was idle since the last call, and plants the wires anew.
void tcx_slab_scavenge(struct tcx_slab *self);

// The same, if `scavenge_time` has gone by since.
void tcx_slab_tick(struct tcx_slab *self);

// Gives everything back, arrays included; every class is then as after init.
void tcx_slab_flush(struct tcx_slab *self);

// Bytes of free small objects, and of free blocks of run classes, in the slab.
// Any thread; approximate while the owner runs.
uint64_t tcx_slab_cached_bytes(const struct tcx_slab *self);
uint64_t tcx_slab_cached_run_bytes(const struct tcx_slab *self);
// Free objects of one class.
uint64_t tcx_slab_cached_objects(const struct tcx_slab *self,
                                 unsigned size_class);

void tcx_slab_check(const struct tcx_slab *self);

TCX_END_DECLS

#endif  // TCX_FRONTEND_SLAB_H_

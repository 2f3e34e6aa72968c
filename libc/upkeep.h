// upkeep.h -- who makes the rounds that give memory back, and what they do
// above the page source.
//
// PLACE IN THE SYSTEM
//   heap --(start, visits, no memory)--> upkeep --> reclaimer
//   reclaimer --(drain, release objects, attend)--> upkeep --> front end,
//   object source, background thread
//
// WHAT IT DECIDES
//   With a background thread, that makes the rounds. Without one, a free that
//   gave a span back sets its thread's visit counter, so that one of the next
//   calls of malloc, at the latest the one that brings VISIT_BYTES together,
//   comes by here and makes the round that is due. While the limits are
//   exceeded the next call does.
//
// LOCKING: none; no function here is called with a lock held.
#ifndef TCX_LIBC_UPKEEP_H_
#define TCX_LIBC_UPKEEP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

struct tcx_object_source;
struct tcx_page_source;
struct tcx_reclaimer_stats;

// The reclaimer around the page source of this build. At start.
TCX_HIDDEN struct tcx_page_source *tcx_upkeep_start(
    struct tcx_page_source *inner);
// The tiers above are wired: rounds may be made.
TCX_HIDDEN void tcx_upkeep_serve(struct tcx_object_source *objects);

// Requests from here on need not visit each time (tcx_thread.visits_spared).
#define TCX_VISIT_SPARED_SIZE ((size_t)128 << 10)

// A visit of malloc's slow path for a request of `size` bytes; sets how many
// bytes the next one is away.
TCX_HIDDEN TCX_NOINLINE void tcx_upkeep_visit(size_t size);

// The same if it is due after `size` bytes more; for what has no fast path that
// counts.
TCX_HIDDEN void tcx_upkeep_count(size_t size);

// What is due now: of the calling thread's cache, and, if nobody else makes
// them, all the rounds that are.
TCX_HIDDEN void tcx_upkeep_tick(void);

// Up to about `bytes` of what is free, needed or not. Returns how many went
// back.
TCX_HIDDEN size_t tcx_upkeep_release(size_t bytes);

// Whether the hard limit has refused memory to this thread, since it last
// asked.
TCX_HIDDEN bool tcx_upkeep_was_refused(void);

// After that: gives back all that is free, once, for so many bytes.
TCX_HIDDEN void tcx_upkeep_make_room(size_t bytes);

// Calls `allocate` again after it failed, as often as the limits make room.
// NULL: there is none.
TCX_HIDDEN TCX_COLD TCX_NODISCARD void *tcx_upkeep_retry(
    void *(*allocate)(size_t align, size_t size, bool *zeroed), size_t align,
    size_t size, bool *zeroed);

TCX_HIDDEN void tcx_upkeep_limits_changed(void);

// The program's callback at the hard limit; NULL: none. False: no memory.
TCX_HIDDEN TCX_NODISCARD bool tcx_upkeep_set_callback(
    int (*call)(void *arg, size_t wanted_bytes), void *arg);

TCX_HIDDEN void tcx_upkeep_read_stats(struct tcx_reclaimer_stats *out);

TCX_END_DECLS

#endif  // TCX_LIBC_UPKEEP_H_

// central_freelist.h -- free objects of one size class, grouped by span.
//
// PLACE IN THE SYSTEM
//   transfer cache --(batches)--> central free list --(spans)--> page source
//   One per small size class. The transfer cache calls it when it runs dry or
//   over; the central source calls it for every batch.
//
// WHAT IT DECIDES
//   From which span the next batch comes: the fullest first, so that nearly
//   empty ones get a chance to drain. A span whose last object comes back goes
//   to the page source at once. In a class of one object per span no span is
//   ever on a list: spans pass straight from and to the page source.
//   Hardened (the setting `harden`, read by init): which free object of a span
//   comes next is random, new spans read as zero, and some empty spans stay, so
//   that what is freed last is not forgotten at once.
//   Of classes whose objects are pages of the system or more, nearly, the
//   memory under free objects goes back too: when nothing was taken from their
//   span for 30 s, or at once when asked to (central_release.c).
//
// INVARIANTS (tcx_central_freelist_check)
//   I1. A span is on lists[b] exactly when it has a free object, and then
//       b == span->bucket follows from its count. A full span is on no list.
//       Bit b of nonempty_mask tells whether lists[b] has a span.
//       The span whose memory is being given back is on no list (release.busy).
//   I2. free_objects is the sum of the free objects of the spans on the lists,
//       and of the busy one.
//   I3. The spans on a list with allocated == 0 are idle_spans; without
//       hardening there are none.
//   I4. spans x objects per span == free_objects + out_objects.
//   I5. A part of a span is released only where no object in use lies in it;
//       release.bytes and tail_bytes are the sums over all spans.
//   I6. Between two walks each span on a list has the look of the last one.
//
// LOCKING
//   `lock` (rank CENTRAL_FREELIST) protects what stands below it, and the free
//   bits of the spans. It is never held across the page source, the pagemap or
//   the metadata pools: a span is built before it is listed, and taken off its
//   list before it is given back. Objects are mapped to spans and checked
//   without it. Counters are written under it and read without.
#ifndef TCX_MIDDLE_CENTRAL_FREELIST_H_
#define TCX_MIDDLE_CENTRAL_FREELIST_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/page_source.h"
#include "base/compiler.h"
#include "base/lock.h"
#include "pagemap/span.h"
#include "size_classes/size_classes.h"

TCX_BEGIN_DECLS

#define TCX_CENTRAL_FREELIST_BUCKETS 8  // 0: fullest; one bit each in the mask

// The least size of objects whose memory goes back while their span lives.
#define TCX_CENTRAL_RELEASE_SIZE_MIN 2048u

// Memory given back under free objects, and the walk that does it. The walk
// stands between two calls where `cursor` is.
struct tcx_central_release {
  struct tcx_span *cursor;  // the next to look at; NULL: the bucket is done
  struct tcx_span *busy;    // on no list, worked on without the lock
  uint64_t bytes;           // released, under free objects and in tails
  uint64_t tail_bytes;      // of these, in tails
  uint64_t looked_ms;       // when the last walk began; 0: never
  uint32_t seen_moves;      // `moves` when it began
  uint8_t bucket;           // of the cursor
  uint8_t aging;            // what the walk adds to ages
  uint8_t look;             // TCX_SPAN_LOOK_IS_ODD or 0: of the walk
  bool is_walking;
  bool has_young;     // spans that may go next time were seen
  bool has_refused;   // by the page source, in this walk or the last
  bool has_released;  // since that walk began, of whatever class
};

struct tcx_central_freelist {
  // Constant after init, or nearly.
  struct tcx_page_source *pages TCX_CACHELINE_ALIGNED;
  uint32_t size_class;
  bool is_hardened;
  bool is_quiet;           // nobody waits for its memory; under the lock
  uint32_t idle_spans;     // under the lock, hardened only
  uint64_t *released_sum;  // of release.bytes, of many lists; NULL: nobody asks

  // Under the lock: lines of their own, away from the constants.
  struct tcx_lock lock TCX_CACHELINE_ALIGNED;
  uint32_t nonempty_mask;
  uint32_t moves;         // batches out and back, since init
  uint64_t free_objects;  // in spans
  uint64_t out_objects;   // handed out, net
  uint64_t spans;         // now
  uint64_t spans_total;   // since init
  uint64_t random;        // state, hardened only
  struct tcx_span *lists[TCX_CENTRAL_FREELIST_BUCKETS] TCX_CACHELINE_ALIGNED;
  struct tcx_central_release release TCX_CACHELINE_ALIGNED;
};

static_assert(sizeof(struct tcx_central_freelist) == 4 * TCX_CACHELINE_BYTES,
              "one per size class: growing it is a decision, not an accident");

struct tcx_central_freelist_stats {
  uint64_t spans;
  uint64_t spans_total;
  uint64_t free_objects;
  uint64_t out_objects;
  uint64_t lock_waits;
  uint64_t released_bytes;       // under free objects and in tails of spans
  uint64_t released_tail_bytes;  // of these, in tails
};

// Prepares zeroed memory to serve a small class from `pages`.
void tcx_central_freelist_init(struct tcx_central_freelist *self,
                               struct tcx_page_source *pages,
                               unsigned size_class);

// Moves `count` free objects (1 .. TCX_BATCH_MAX) into `batch`. Returns how
// many: fewer only when the page source or the metadata has no memory.
//   cost: one lock; when the spans are dry a page source call for the new ones,
//   or some, and the lock once more.
TCX_NODISCARD unsigned tcx_central_freelist_remove_range(
    struct tcx_central_freelist *self, void **batch, unsigned count);

// Takes back `count` objects (1 .. TCX_BATCH_MAX), each free exactly once; one
// that is not ends the process with one line.
//   cost: one lock; two cache misses per span that is not in the cache.
void tcx_central_freelist_insert_range(struct tcx_central_freelist *self,
                                       void *const *batch, unsigned count);

// Gives back the empty spans that hardening keeps.
void tcx_central_freelist_trim(struct tcx_central_freelist *self);

// Gives back memory under free objects and in tails of spans, about `bytes_max`
// at most: of spans from which nothing was taken for 30 s; with `is_now`, of
// all. Looks at no more than *looks_max spans, and takes those it looked at off
// that. Goes on where the last call stopped; *is_done: the walk came to its
// end, or none was due; with `is_now`, not where somebody else is at it.
// Returns how many bytes went back. Nothing goes back of objects below
// TCX_CENTRAL_RELEASE_SIZE_MIN, and nothing where hardened, as a free object
// must keep what it is filled with.
//   cost: a lock for every 32 spans and two for each span that has anything to
//   give; a call of the page source for each range.
size_t tcx_central_freelist_release(struct tcx_central_freelist *self,
                                    uint64_t now_ms, size_t bytes_max,
                                    size_t *looks_max, bool is_now,
                                    bool *is_done);

// Something went back, of this list or another: by that a huge page may be
// broken now which was not worth it, so what was refused is offered again.
// Takes the lock.
void tcx_central_freelist_offer_again(struct tcx_central_freelist *self);

// When that may find something, should all stay as it is: now_ms or later;
// UINT64_MAX: there is nothing to wait for; the page source gets a notice as
// soon as objects come back then. Takes the lock.
uint64_t tcx_central_freelist_release_due_ms(struct tcx_central_freelist *self,
                                             uint64_t now_ms);

// In the child of fork, where no other thread is and all locks are free: the
// span that another thread was giving back is put where it belongs.
void tcx_central_freelist_release_in_child(struct tcx_central_freelist *self);

// Takes no lock; the numbers are of slightly different moments.
void tcx_central_freelist_read_stats(const struct tcx_central_freelist *self,
                                     struct tcx_central_freelist_stats *out);

// Walks I1 to I6; stops the process where one does not hold. Takes the lock.
void tcx_central_freelist_check(struct tcx_central_freelist *self);

TCX_END_DECLS

#endif  // TCX_MIDDLE_CENTRAL_FREELIST_H_

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
//
// INVARIANTS (tcx_central_freelist_check)
//   I1. A span is on lists[b] exactly when it has a free object, and then
//       b == span->bucket follows from its count. A full span is on no list.
//       Bit b of nonempty_mask tells whether lists[b] has a span.
//   I2. free_objects is the sum of the free objects of the spans on the lists.
//   I3. The spans on a list with allocated == 0 are idle_spans; without
//       hardening there are none.
//   I4. spans x objects per span == free_objects + out_objects.
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

struct tcx_central_freelist {
  // Constant after init, but where hardened.
  struct tcx_page_source *pages TCX_CACHELINE_ALIGNED;
  uint32_t size_class;
  bool is_hardened;
  uint32_t idle_spans;  // under the lock, hardened only

  // Under the lock: lines of their own, away from the constants.
  struct tcx_lock lock TCX_CACHELINE_ALIGNED;
  uint64_t nonempty_mask;
  uint64_t free_objects;  // in spans
  uint64_t out_objects;   // handed out, net
  uint64_t spans;         // now
  uint64_t spans_total;   // since init
  uint64_t random;        // state, hardened only
  struct tcx_span *lists[TCX_CENTRAL_FREELIST_BUCKETS] TCX_CACHELINE_ALIGNED;
};

static_assert(sizeof(struct tcx_central_freelist) == 3 * TCX_CACHELINE_BYTES,
              "one per size class: growing it is a decision, not an accident");

struct tcx_central_freelist_stats {
  uint64_t spans;
  uint64_t spans_total;
  uint64_t free_objects;
  uint64_t out_objects;
  uint64_t lock_waits;
};

// Prepares zeroed memory to serve a small class from `pages`.
void tcx_central_freelist_init(struct tcx_central_freelist *self,
                               struct tcx_page_source *pages,
                               unsigned size_class);

// Moves `count` free objects (1 .. TCX_BATCH_MAX) into `batch`. Returns how
// many: fewer only when the page source or the metadata has no memory.
//   cost: one lock; when the spans are dry a page source call per new span and
//   the lock once more.
TCX_NODISCARD unsigned tcx_central_freelist_remove_range(
    struct tcx_central_freelist *self, void **batch, unsigned count);

// Takes back `count` objects (1 .. TCX_BATCH_MAX), each free exactly once; one
// that is not ends the process with one line.
//   cost: one lock; two cache misses per span that is not in the cache.
void tcx_central_freelist_insert_range(struct tcx_central_freelist *self,
                                       void *const *batch, unsigned count);

// Gives back the empty spans that hardening keeps.
void tcx_central_freelist_trim(struct tcx_central_freelist *self);

// Takes no lock; the numbers are of slightly different moments.
void tcx_central_freelist_read_stats(const struct tcx_central_freelist *self,
                                     struct tcx_central_freelist_stats *out);

// Walks I1 to I4; stops the process where one does not hold. Takes the lock.
void tcx_central_freelist_check(struct tcx_central_freelist *self);

TCX_END_DECLS

#endif  // TCX_MIDDLE_CENTRAL_FREELIST_H_

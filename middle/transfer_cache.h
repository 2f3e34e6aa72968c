// transfer_cache.h -- batches of free objects of one size class, on their way
// from one front-end cache to another without touching spans.
//
// PLACE IN THE SYSTEM
//   front end --(batches)--> transfer cache --(the rest)--> central free list
//   One per small size class, over that class's central free list.
//
// WHAT IT DECIDES
//   How many objects may wait here. The array starts at a few batches and
//   doubles when an insert finds it full after a remove found it dry: only then
//   would more room have served somebody. A class that only frees never grows.
//   Objects that were not needed since the last trim go down, oldest first, and
//   the array follows; a class without traffic ends with no array. Without
//   memory for an array everything passes straight to the central free list.
//
// INVARIANTS (tcx_transfer_cache_check)
//   I1. low_water <= used <= high_water <= capacity <= max_objects.
//   I2. slots == NULL exactly when capacity == 0.
//   I3. slots[0 .. used) are objects of the class, oldest first; their spans
//       count them as allocated.
//   I4. (while nobody else is here) what the central free list has handed out
//       is what waits here and what the front end has.
//
// LOCKING
//   `lock` (rank TRANSFER_CACHE) protects what stands below it. It is never
//   held while the central free list is called; the metadata pools, whose rank
//   is higher, are called under it, when the array grows or shrinks.
//   Front ends in different threads may pass each other between the two tiers;
//   that only means a span more than needed.
#ifndef TCX_MIDDLE_TRANSFER_CACHE_H_
#define TCX_MIDDLE_TRANSFER_CACHE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/lock.h"
#include "middle/central_freelist.h"

TCX_BEGIN_DECLS

struct tcx_transfer_cache {
  // Under the lock; one line, all that a hit touches beside the array.
  struct tcx_lock lock TCX_CACHELINE_ALIGNED;
  void **slots;
  uint32_t used;
  uint32_t capacity;   // of slots
  uint16_t low_water;  // smallest and largest `used` since the last trim
  uint16_t high_water;
  uint32_t wanted;       // a remove found it dry since it last grew
  uint64_t hits;         // batches that needed no central free list
  uint64_t misses;       // batches that did
  uint64_t out_by_hits;  // from here to the front end, net

  struct tcx_central_freelist *central TCX_CACHELINE_ALIGNED;  // constant
  uint32_t max_objects;                                        // constant
  uint32_t first_capacity;                                     // constant
  uint64_t out_by_misses;  // past this cache, net; a shared atomic
};

static_assert(sizeof(struct tcx_transfer_cache) == 2 * TCX_CACHELINE_BYTES,
              "one per size class: growing it is a decision, not an accident");

struct tcx_transfer_cache_stats {
  uint64_t objects;      // waiting here
  uint64_t out_objects;  // handed to the front end, net
  uint64_t hits;
  uint64_t misses;
  uint64_t lock_waits;
};

// Prepares zeroed memory. The class is that of `central`.
void tcx_transfer_cache_init(struct tcx_transfer_cache *self,
                             struct tcx_central_freelist *central);

// Most objects that a cache of this class ever holds: 64 batches, but not more
// than 1 MiB, and at least a batch.
unsigned tcx_transfer_cache_max_objects(unsigned size_class);

// As tcx_central_freelist_remove_range; newest objects first.
TCX_NODISCARD unsigned tcx_transfer_cache_remove_range(
    struct tcx_transfer_cache *self, void **batch, unsigned count);

// As tcx_central_freelist_insert_range, but wrong objects are found later.
void tcx_transfer_cache_insert_range(struct tcx_transfer_cache *self,
                                     void *const *batch, unsigned count);

// `all`: gives every object down. Else those that no remove has come near since
// the last call, and adapts the array.
void tcx_transfer_cache_trim(struct tcx_transfer_cache *self, bool all);

// Takes no lock; the numbers are of slightly different moments.
void tcx_transfer_cache_read_stats(const struct tcx_transfer_cache *self,
                                   struct tcx_transfer_cache_stats *out);

// Walks I1 to I3; stops the process where one does not hold. Takes the lock.
void tcx_transfer_cache_check(struct tcx_transfer_cache *self);

TCX_END_DECLS

#endif  // TCX_MIDDLE_TRANSFER_CACHE_H_

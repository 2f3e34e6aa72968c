// tracker_map.h -- huge page number -> tracker.
//
// PLACE IN THE SYSTEM: how the filler finds the tracker of a page that comes
//   back. A root of one entry per GiB of address space and leaves of one entry
//   per huge page. Leaves are made when address space is taken, so that neither
//   adding a tracker nor freeing a page needs memory.
//
// INVARIANT: a leaf, once there, stays for ever.
// LOCKING: none; the owner's lock covers it.
#ifndef TCX_BACKEND_HPAA_TRACKER_MAP_H_
#define TCX_BACKEND_HPAA_TRACKER_MAP_H_

#include "backend/hpaa/huge.h"
#include "backend/hpaa/tracker.h"
#include "base/check.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_TRACKER_MAP_LEAF_SHIFT 9
#define TCX_TRACKER_MAP_LEAF ((uint64_t)1 << TCX_TRACKER_MAP_LEAF_SHIFT)
#define TCX_TRACKER_MAP_ROOT (TCX_HUGE_LIMIT >> TCX_TRACKER_MAP_LEAF_SHIFT)

struct tcx_tracker_map_leaf {
  struct tcx_tracker *trackers[TCX_TRACKER_MAP_LEAF];
};

// 1 MiB, touched by use; starts zeroed.
struct tcx_tracker_map {
  struct tcx_tracker_map_leaf *root[TCX_TRACKER_MAP_ROOT];
};

// Makes the leaves for a run. False: no memory. Takes a lock of rank METADATA.
TCX_NODISCARD bool tcx_tracker_map_ensure(struct tcx_tracker_map *self,
                                          struct tcx_huge_run run);

static inline struct tcx_tracker *tcx_tracker_map_get(
    const struct tcx_tracker_map *self, uint64_t huge) {
  TCX_ASSERT(huge < TCX_HUGE_LIMIT);
  const struct tcx_tracker_map_leaf *leaf =
      self->root[huge >> TCX_TRACKER_MAP_LEAF_SHIFT];
  return leaf == NULL ? NULL : leaf->trackers[huge % TCX_TRACKER_MAP_LEAF];
}

// The leaf is there. NULL: no tracker any more.
static inline void tcx_tracker_map_set(struct tcx_tracker_map *self,
                                       uint64_t huge,
                                       struct tcx_tracker *tracker) {
  TCX_ASSERT(huge < TCX_HUGE_LIMIT);
  struct tcx_tracker_map_leaf *leaf =
      self->root[huge >> TCX_TRACKER_MAP_LEAF_SHIFT];
  TCX_CHECK(leaf != NULL);
  leaf->trackers[huge % TCX_TRACKER_MAP_LEAF] = tracker;
}

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_TRACKER_MAP_H_

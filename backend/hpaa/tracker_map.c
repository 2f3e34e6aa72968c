// tracker_map.c -- makes the leaves. See tracker_map.h.
#include "backend/hpaa/tracker_map.h"

#include <string.h>

#include "backend/metadata.h"

bool tcx_tracker_map_ensure(struct tcx_tracker_map *self,
                            struct tcx_huge_run run) {
  TCX_ASSERT(run.count > 0);
  TCX_ASSERT(tcx_huge_run_end(run) <= TCX_HUGE_LIMIT);
  uint64_t last = (tcx_huge_run_end(run) - 1) >> TCX_TRACKER_MAP_LEAF_SHIFT;
  for (uint64_t i = run.first >> TCX_TRACKER_MAP_LEAF_SHIFT; i <= last; i++) {
    if (self->root[i] != NULL)
      continue;
    void *leaf = tcx_metadata_allocate(sizeof(struct tcx_tracker_map_leaf));
    if (leaf == NULL)
      return false;
    memset(leaf, 0, sizeof(struct tcx_tracker_map_leaf));
    self->root[i] = (struct tcx_tracker_map_leaf *)leaf;
  }
  return true;
}

// huge_map.h -- free runs of huge pages, by address.
//
// PLACE IN THE SYSTEM
//   The back end has two over one stock of nodes: the free runs that have no
//   memory behind them (known zero), and, in the huge cache, those that have.
//
// WHAT IT DECIDES
//   Which run serves a request: on the walk from the root towards the subtree
//   whose longest run is the shorter of those that suffice, the shortest run
//   that fits, of equals the lowest; of it, the low end. Nearly best fit, and
//   one walk. Runs merge with their neighbours at once.
//
// INVARIANTS (tcx_huge_map_check)
//   I1. Runs are in order, disjoint, and no two touch.
//   I2. The treap is a heap by priority, parents are right, and `longest` is
//       the greatest count in each subtree.
//   I3. `huge` and `runs` are the sums.
//
// COST: each operation O(log runs) expected; an aligned take a few times that.
// LOCKING: none; the owner's lock covers it.
#ifndef TCX_BACKEND_HPAA_HUGE_MAP_H_
#define TCX_BACKEND_HPAA_HUGE_MAP_H_

#include <stdbool.h>
#include <stdint.h>

#include "backend/hpaa/huge.h"
#include "backend/hpaa/huge_nodes.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

struct tcx_huge_map {
  struct tcx_huge_nodes *nodes;  // shared
  struct tcx_huge_node *root;
  uint64_t huge;  // huge pages in all runs
  uint64_t runs;
  uint32_t random;  // priorities
};

void tcx_huge_map_init(struct tcx_huge_map *self, struct tcx_huge_nodes *nodes);

// Adds a run, which merges with its neighbours. Cannot fail, for huge pages
// that were reserved (huge_nodes.h). No part of it may be in the map.
void tcx_huge_map_insert(struct tcx_huge_map *self, struct tcx_huge_run run);

// Takes `count` huge pages in a row, the first at a multiple of `align` (a
// power of two, in huge pages; 1: any). A count of 0: there are none; or, where
// align > 1, none was found among a few runs and none is so long that it must
// hold some.
TCX_NODISCARD struct tcx_huge_run tcx_huge_map_take(struct tcx_huge_map *self,
                                                    uint64_t count,
                                                    uint64_t align);

// Takes exactly these. False: not all of them are in the map, nothing changed.
TCX_NODISCARD bool tcx_huge_map_take_at(struct tcx_huge_map *self,
                                        struct tcx_huge_run run);

// Takes the end of the last run, at most `count_max`; of all that lies below
// huge page `below`.
TCX_NODISCARD struct tcx_huge_run tcx_huge_map_take_last(
    struct tcx_huge_map *self, uint64_t below, uint64_t count_max);

// The lowest run that ends behind `huge`: the one that holds it, if any does,
// else the next. Steps through all: run = next(0), next(its end) ...
struct tcx_huge_run tcx_huge_map_next(const struct tcx_huge_map *self,
                                      uint64_t huge);

static inline uint64_t tcx_huge_map_longest(const struct tcx_huge_map *self) {
  return self->root != NULL ? self->root->longest : 0;
}

void tcx_huge_map_check(const struct tcx_huge_map *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HUGE_MAP_H_

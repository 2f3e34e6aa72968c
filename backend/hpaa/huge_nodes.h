// huge_nodes.h -- nodes for the maps of free runs, so many that none ever
// lacks.
//
// PLACE IN THE SYSTEM: one stock for all huge maps of a back end; huge_source
//   reserves when the heap grows.
//
// WHAT IT DECIDES
//   How an insert, and so a free, can do without memory: at growth one node is
//   promised for each huge page. Runs in maps are disjoint, so there are never
//   more of them than huge pages, whatever was split and wherever it lies
//   meanwhile. That is 40 bytes per 2 MiB at most; the memory of promised nodes
//   is touched only when they are used.
//
// INVARIANTS (tcx_huge_nodes_check)
//   I1. in_use <= promised <= capacity.
//   I2. Nodes on the free list, and never used so far, are capacity - in_use.
//
// LOCKING: none; the owner's lock covers it (of a rank below SYSTEM: reserving
//   takes metadata).
#ifndef TCX_BACKEND_HPAA_HUGE_NODES_H_
#define TCX_BACKEND_HPAA_HUGE_NODES_H_

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// A free run in a huge map, a treap by address.
struct tcx_huge_node {
  struct tcx_huge_node *left;
  struct tcx_huge_node *right;
  struct tcx_huge_node *parent;
  uint32_t first;    // huge page number
  uint32_t count;    // huge pages
  uint32_t longest;  // greatest count in the subtree
  uint32_t priority;
};

static_assert(sizeof(struct tcx_huge_node) == 40, "what a huge page costs");

struct tcx_huge_node_block;

struct tcx_huge_nodes {
  struct tcx_huge_node *free;          // used before, linked by parent
  struct tcx_huge_node_block *blocks;  // those with nodes never used
  uint64_t in_use;
  uint64_t promised;
  uint64_t capacity;
  uint64_t bytes;  // metadata taken
};

void tcx_huge_nodes_init(struct tcx_huge_nodes *self);

// Promises nodes for `count` huge pages more. False: no memory, nothing
// changed.
TCX_NODISCARD bool tcx_huge_nodes_reserve(struct tcx_huge_nodes *self,
                                          uint64_t count);

// Contents undefined. Never NULL: it was promised.
struct tcx_huge_node *tcx_huge_nodes_get(struct tcx_huge_nodes *self);
void tcx_huge_nodes_put(struct tcx_huge_nodes *self,
                        struct tcx_huge_node *node);

void tcx_huge_nodes_check(const struct tcx_huge_nodes *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HUGE_NODES_H_

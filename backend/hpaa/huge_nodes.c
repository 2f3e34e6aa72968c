// huge_nodes.c -- a stock of nodes in blocks of metadata. See huge_nodes.h.
#include "backend/hpaa/huge_nodes.h"

#include <stddef.h>

#include "backend/hpaa/huge.h"
#include "backend/metadata.h"
#include "base/bits.h"
#include "base/check.h"

// Nodes for the first 200 MiB of heap; less would mean many calls.
#define BLOCK_MIN_BYTES ((size_t)4096)

// Nodes are used from the low end upwards, so that the rest of a large block
// stays untouched. A block is forgotten once all were used; the memory is kept.
struct tcx_huge_node_block {
  struct tcx_huge_node_block *next;
  uint32_t capacity;
  uint32_t used;
  struct tcx_huge_node nodes[];
};

static_assert(TCX_HUGE_LIMIT * sizeof(struct tcx_huge_node) < SIZE_MAX / 2,
              "a block for the whole address space has a size");

void tcx_huge_nodes_init(struct tcx_huge_nodes *self) {
  *self = (struct tcx_huge_nodes){0};
}

static bool add_block(struct tcx_huge_nodes *self, uint64_t count) {
  size_t bytes = offsetof(struct tcx_huge_node_block, nodes) +
                 count * sizeof(struct tcx_huge_node);
  bytes = tcx_metadata_buffer_bytes(tcx_max_size(bytes, BLOCK_MIN_BYTES));
  struct tcx_huge_node_block *block =
      (struct tcx_huge_node_block *)tcx_metadata_allocate(bytes);
  if (block == NULL) {
    return false;
  }
  block->next = self->blocks;
  block->capacity =
      (uint32_t)((bytes - offsetof(struct tcx_huge_node_block, nodes)) /
                 sizeof(struct tcx_huge_node));
  block->used = 0;
  self->blocks = block;
  self->capacity += block->capacity;
  self->bytes += bytes;
  return true;
}

bool tcx_huge_nodes_reserve(struct tcx_huge_nodes *self, uint64_t count) {
  TCX_ASSERT(count <= TCX_HUGE_LIMIT);
  uint64_t promised = self->promised + count;
  TCX_ASSERT(promised <= TCX_HUGE_LIMIT);
  if (promised > self->capacity &&
      !add_block(self, promised - self->capacity)) {
    return false;
  }
  self->promised = promised;
  return true;
}

struct tcx_huge_node *tcx_huge_nodes_get(struct tcx_huge_nodes *self) {
  TCX_ASSERT(self->in_use < self->promised);
  self->in_use++;
  struct tcx_huge_node *node = self->free;
  if (node != NULL) {
    self->free = node->parent;
    return node;
  }
  struct tcx_huge_node_block *block = self->blocks;
  TCX_CHECK(block != NULL);  // Else more runs than huge pages.
  node = &block->nodes[block->used++];
  if (block->used == block->capacity) {
    self->blocks = block->next;
  }
  return node;
}

void tcx_huge_nodes_put(struct tcx_huge_nodes *self,
                        struct tcx_huge_node *node) {
  TCX_ASSERT(self->in_use > 0);
  TCX_ASSERT(self->free != node);
  self->in_use--;
  node->parent = self->free;
  self->free = node;
}

void tcx_huge_nodes_check(const struct tcx_huge_nodes *self) {
  TCX_CHECK(self->in_use <= self->promised);
  TCX_CHECK(self->promised <= self->capacity);
  uint64_t spare = 0;
  for (const struct tcx_huge_node *n = self->free; n != NULL; n = n->parent) {
    spare++;
  }
  for (const struct tcx_huge_node_block *b = self->blocks; b != NULL;
       b = b->next) {
    TCX_CHECK(b->used < b->capacity);
    spare += b->capacity - b->used;
  }
  TCX_CHECK(spare == self->capacity - self->in_use);
}

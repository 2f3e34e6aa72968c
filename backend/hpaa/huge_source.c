// huge_source.c -- pieces of memory cut into huge pages. See huge_source.h.
#include "backend/hpaa/huge_source.h"

#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"
#include "pagemap/pagemap.h"

#define ADDRESS_LIMIT ((uint64_t)1 << TCX_ADDRESS_BITS)

void tcx_huge_source_init(struct tcx_huge_source *self,
                          struct tcx_system_piece (*allocate)(size_t)) {
  *self = (struct tcx_huge_source){.allocate = allocate};
}

// The whole huge pages of what waits.
static struct tcx_huge_run whole(const struct tcx_huge_source *self) {
  uintptr_t start = tcx_align_up(self->start, TCX_HUGE_BYTES);
  uintptr_t end = tcx_align_down(self->end, TCX_HUGE_BYTES);
  struct tcx_huge_run run = {start >> TCX_HUGE_SHIFT, 0};
  if (start < end) {
    run.count = (end - start) >> TCX_HUGE_SHIFT;
  }
  return run;
}

// Moves them to the map. False: no memory for the pagemap or for nodes; they
// wait for the next time.
static bool add_whole(struct tcx_huge_source *self, struct tcx_huge_map *map) {
  struct tcx_huge_run run = whole(self);
  if (run.count == 0) {
    return true;
  }
  uintptr_t start = (uintptr_t)tcx_huge_run_start(run);
  // Nodes last: a promise cannot be taken back.
  if (!tcx_pagemap_ensure(start, tcx_huge_run_bytes(run)) ||
      !tcx_huge_nodes_reserve(map->nodes, run.count)) {
    return false;
  }
  self->left_bytes += start - self->start;
  self->start = start + tcx_huge_run_bytes(run);
  self->huge += run.count;
  TCX_ASSERT(self->added_count < TCX_HUGE_SOURCE_ADDED);
  self->added[self->added_count++] = run;
  tcx_huge_map_insert(map, run);
  return true;
}

// A piece joins what waits, or takes its place.
static void add_piece(struct tcx_huge_source *self,
                      struct tcx_system_piece piece) {
  uintptr_t start = (uintptr_t)piece.start;
  TCX_ASSERT(tcx_is_aligned(start, TCX_PAGE_SIZE));
  TCX_ASSERT(tcx_is_aligned(piece.bytes, TCX_PAGE_SIZE));
  TCX_ASSERT(start + piece.bytes <= ADDRESS_LIMIT);
  if (self->start == self->end || self->end != start) {
    TCX_ASSERT(whole(self).count == 0);
    self->left_bytes += self->end - self->start;
    self->start = start;
  }
  self->end = start + piece.bytes;
}

bool tcx_huge_source_grow(struct tcx_huge_source *self,
                          struct tcx_huge_map *map, uint64_t count) {
  TCX_ASSERT(count > 0);
  self->added_count = 0;
  if (count >= TCX_HUGE_LIMIT) {
    return false;
  }
  // From a failure before.
  if (whole(self).count > 0) {
    bool is_enough = whole(self).count >= count;
    if (!add_whole(self, map)) {
      return false;
    }
    if (is_enough) {
      return true;
    }
  }
  // First as many bytes as are missing, if the piece comes behind what waits.
  // Then so many that there are enough huge pages in them wherever they lie.
  uintptr_t start = tcx_align_up(self->start, TCX_HUGE_BYTES);
  size_t bytes = start + count * TCX_HUGE_BYTES - self->end;
  for (int i = 0; i < 2; i++) {
    struct tcx_system_piece piece = self->allocate(bytes);
    if (piece.start == NULL) {
      return false;
    }
    add_piece(self, piece);
    bool is_enough = whole(self).count >= count;
    if (!add_whole(self, map)) {
      return false;
    }
    if (is_enough) {
      return true;
    }
    bytes = (count + 1) * TCX_HUGE_BYTES - TCX_PAGE_SIZE;
  }
  return false;
}

void tcx_huge_source_check(const struct tcx_huge_source *self) {
  TCX_CHECK(self->start <= self->end);
  TCX_CHECK(self->end <= ADDRESS_LIMIT);
  TCX_CHECK(tcx_is_aligned(self->start, TCX_PAGE_SIZE));
  TCX_CHECK(tcx_is_aligned(self->end, TCX_PAGE_SIZE));
}

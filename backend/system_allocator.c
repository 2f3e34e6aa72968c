// system_allocator.c -- regions of address space. See system_allocator.h.
//
// HOW A REQUEST IS SERVED
//   1. From the first region with room: commit a step from its low end.
//   2. Else a new region, at `next_hint` (behind the last one, so that it
//      becomes a part of it) or where the system likes; then as 1.
//   A region is forgotten when its place is needed for another; what was left
//   of it is address space without memory.
#include "backend/system_allocator.h"

#include <stdbool.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

#define REGION_MAX_BYTES TCX_GIB
#define REGION_MIN_BYTES TCX_HUGE_PAGE_SIZE
#define WINDOW_MIN_BYTES ((size_t)64 << 20)
#define STEP_ROUND_BYTES ((size_t)64 << 10)
#define STEP_MIN_BYTES TCX_MIB
#define STEP_MAX_BYTES ((size_t)32 << 20)
#define OPEN_REGIONS 8
#define ADDRESS_LIMIT ((size_t)1 << TCX_ADDRESS_BITS)

struct region {
  char *start;
  char *committed;  // start <= committed <= end
  char *end;
};

static struct {
  struct tcx_lock lock;
  struct region open[OPEN_REGIONS];  // start == NULL: no region
  char *next_hint;                   // NULL: no wish
  size_t region_bytes;               // length of the next one
  uint64_t reserved_bytes;
  uint64_t committed_bytes;
  uint64_t regions;
} state = {TCX_LOCK_INIT(TCX_LOCK_RANK_SYSTEM),
           {{NULL, NULL, NULL}},
           NULL,
           REGION_MAX_BYTES,
           0,
           0,
           0};

// -- Regions ------------------------------------------------------------------

static size_t room(const struct region *region) {
  return (size_t)(region->end - region->committed);
}

// Pieces are whole pages of ours and of the system.
static size_t granule(void) {
  return tcx_max_size(TCX_PAGE_SIZE, tcx_os_page_size());
}

static void count_reserved(size_t bytes) {
  tcx_counter_add(&state.reserved_bytes, bytes);
}

static struct region *add_region(char *start, size_t bytes) {
  TCX_ASSERT(tcx_is_aligned((uintptr_t)start, granule()));
  count_reserved(bytes);
  // Where nothing could be reserved at start; so no page is registered yet.
  if (tcx_pagemap_window.pages == 0) {
    tcx_pagemap_set_window((uintptr_t)start);
  }
  state.next_hint = start + bytes;
  struct region *place = &state.open[0];
  for (int i = 0; i < OPEN_REGIONS; i++) {
    struct region *region = &state.open[i];
    if (region->start != NULL && region->end == start) {
      region->end = start + bytes;
      return region;
    }
    if (room(region) < room(place)) {
      place = region;
    }
  }
  tcx_counter_add(&state.regions, 1);
  place->start = start;
  place->committed = start;
  place->end = start + bytes;
  return place;
}

// How much of a request is missing when the region at `next_hint` is extended.
static size_t missing_behind_last(size_t bytes) {
  for (int i = 0; i < OPEN_REGIONS; i++) {
    const struct region *region = &state.open[i];
    if (region->start != NULL && region->end == state.next_hint) {
      TCX_ASSERT(room(region) < bytes);
      return bytes - room(region);
    }
  }
  return bytes;
}

static struct region *new_region_at_hint(size_t bytes) {
  size_t least = tcx_align_up(missing_behind_last(bytes), REGION_MIN_BYTES);
  size_t size = tcx_max_size(state.region_bytes, least);
  if (state.next_hint == NULL ||
      (uintptr_t)state.next_hint > ADDRESS_LIMIT - size) {
    return NULL;
  }
  char *start = (char *)tcx_os_reserve(state.next_hint, size);
  return start != NULL ? add_region(start, size) : NULL;
}

// A region with room for `bytes`, or NULL.
static struct region *new_region(size_t bytes) {
  struct region *region = new_region_at_hint(bytes);
  if (region != NULL) {
    return region;
  }
  size_t least = tcx_align_up(bytes, REGION_MIN_BYTES);
  for (size_t size = tcx_max_size(state.region_bytes, least);;
       size = tcx_max_size(tcx_align_up(size / 2, REGION_MIN_BYTES), least)) {
    char *start = (char *)tcx_os_reserve_aligned(size, REGION_MIN_BYTES);
    if (start != NULL) {
      return add_region(start, size);
    }
    if (size == least) {
      break;
    }
  }
  char *start = (char *)tcx_os_reserve_aligned(bytes, granule());
  return start != NULL ? add_region(start, bytes) : NULL;
}

// -- Pieces -------------------------------------------------------------------

// About 1/16 of what there is: the heap grows in few steps, and what is
// committed ahead of use is bounded.
static size_t step_bytes(size_t bytes) {
  size_t step = (size_t)(state.committed_bytes / 16);
  step = tcx_max_size(step, STEP_MIN_BYTES);
  step = tcx_min_size(step, STEP_MAX_BYTES);
  step = tcx_max_size(step, bytes);
  return tcx_align_up(step, tcx_max_size(STEP_ROUND_BYTES, granule()));
}

static struct tcx_system_piece commit(struct region *region, size_t bytes) {
  struct tcx_system_piece piece = {NULL, 0};
  size_t size = tcx_min_size(step_bytes(bytes), room(region));
  TCX_ASSERT(size >= bytes);
  if (tcx_os_commit(region->committed, size) != 0) {
    if (size == bytes) {
      return piece;
    }
    size = bytes;
    if (tcx_os_commit(region->committed, size) != 0) {
      return piece;
    }
  }
  piece.start = region->committed;
  piece.bytes = size;
  region->committed += size;
  tcx_counter_add(&state.committed_bytes, size);
  return piece;
}

struct tcx_system_piece tcx_system_allocate(size_t bytes_min) {
  TCX_ASSERT(bytes_min > 0);
  struct tcx_system_piece piece = {NULL, 0};
  if (bytes_min > ADDRESS_LIMIT / 2) {
    return piece;
  }
  size_t bytes = tcx_align_up(bytes_min, granule());
  tcx_lock_acquire(&state.lock);
  struct region *region = NULL;
  for (int i = 0; i < OPEN_REGIONS && region == NULL; i++) {
    if (room(&state.open[i]) >= bytes) {
      region = &state.open[i];
    }
  }
  if (region == NULL) {
    region = new_region(bytes);
  }
  if (region != NULL) {
    piece = commit(region, bytes);
  }
  tcx_lock_release(&state.lock);
  return piece;
}

// -- Start --------------------------------------------------------------------

// Nothing is reserved ahead: only says where the window is. The kernel hands
// out addresses downwards from where it put this probe, so the half window
// below it is as a rule empty.
static void set_window_without_memory(size_t limit) {
  size_t bytes = granule();
  char *probe = (char *)tcx_os_reserve_aligned(bytes, bytes);
  if (probe == NULL) {
    return;
  }
  (void)tcx_os_unmap(probe, bytes);
  size_t below = tcx_min_size(limit, TCX_PAGEMAP_WINDOW_BYTES / 2);
  below = tcx_align_up(below, REGION_MIN_BYTES);
  uintptr_t address = (uintptr_t)probe;
  address = address > below ? address - below : address;
  uintptr_t block = tcx_align_down(address, TCX_PAGEMAP_WINDOW_BYTES);
  // The lowest block starts with what must never be mapped, and the program.
  if (block == 0) {
    block = tcx_align_up(address, REGION_MIN_BYTES);
  }
  tcx_pagemap_set_window(block);
  state.next_hint = (char *)block;
}

static bool reserve_window(void) {
  for (size_t bytes = TCX_PAGEMAP_WINDOW_BYTES; bytes >= WINDOW_MIN_BYTES;
       bytes /= 2) {
    // A power of two at a multiple of itself lies in one block.
    char *start = (char *)tcx_os_reserve_aligned(bytes, bytes);
    if (start != NULL) {
      (void)add_region(start, bytes);
      return true;
    }
  }
  return false;
}

void tcx_system_start(void) {
  static const struct tcx_fork_hooks hooks = {
      TCX_LOCK_RANK_SYSTEM, &state.lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&hooks);
  tcx_lock_acquire(&state.lock);
  TCX_ASSERT(state.reserved_bytes == 0);
  size_t limit = tcx_os_address_space_limit();
  if (limit != SIZE_MAX || !reserve_window()) {
    state.region_bytes = REGION_MIN_BYTES;
    set_window_without_memory(limit);
  }
  tcx_lock_release(&state.lock);
}

// -- Statistics, check --------------------------------------------------------

void tcx_system_read_stats(struct tcx_system_stats *out) {
  out->reserved_bytes = tcx_atomic_load_relaxed(&state.reserved_bytes);
  out->committed_bytes = tcx_atomic_load_relaxed(&state.committed_bytes);
  out->regions = tcx_atomic_load_relaxed(&state.regions);
}

void tcx_system_check(void) {
  tcx_lock_acquire(&state.lock);
  uint64_t reserved = 0;
  uint64_t committed = 0;
  for (int i = 0; i < OPEN_REGIONS; i++) {
    const struct region *region = &state.open[i];
    TCX_CHECK(region->start <= region->committed);
    TCX_CHECK(region->committed <= region->end);
    TCX_CHECK((uintptr_t)region->end <= ADDRESS_LIMIT);
    reserved += (uint64_t)(region->end - region->start);
    committed += (uint64_t)(region->committed - region->start);
  }
  TCX_CHECK(reserved <= state.reserved_bytes);
  TCX_CHECK(committed <= state.committed_bytes);
  TCX_CHECK(state.committed_bytes <= state.reserved_bytes);
  tcx_lock_release(&state.lock);
}

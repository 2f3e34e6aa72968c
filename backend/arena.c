// arena.c -- bump blocks and their leftovers. See arena.h.
//
// INVARIANTS
//   I1. allocated + bump rest + leftovers + lost == mapped, in bytes.
//   I2. A leftover is a multiple of 16 bytes, at least LEFTOVER_MIN_BYTES, and
//       zero but for its own head.
#include "backend/arena.h"

#include <linux/mman.h>
#include <stdbool.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/os.h"

#define LEFTOVER_MIN_BYTES ((size_t)64)
// Leftovers looked at per request: bounds the time under the lock.
#define LEFTOVER_TRIES 16

struct leftover {
  struct leftover *next;
  size_t bytes;
};

static_assert(sizeof(struct leftover) <= LEFTOVER_MIN_BYTES, "head fits");

static struct {
  struct tcx_lock lock;
  char *bump;
  char *end;
  struct leftover *leftovers;
  uint64_t mapped_bytes;
  uint64_t allocated_bytes;
  uint64_t lost_bytes;
} arena = {TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA), NULL, NULL, NULL, 0, 0, 0};

static void keep_leftover(char *start, char *end) {
  size_t bytes = (size_t)(end - start);
  if (bytes < LEFTOVER_MIN_BYTES) {
    arena.lost_bytes += bytes;
    return;
  }
  struct leftover *rest = (struct leftover *)(void *)start;
  rest->bytes = bytes;
  rest->next = arena.leftovers;
  arena.leftovers = rest;
}

// First multiple of `align` in [start, end) with `bytes` behind it, or NULL.
static char *fit(char *start, char *end, size_t bytes, size_t align) {
  uintptr_t at = tcx_align_up((uintptr_t)start, align);
  if (at > (uintptr_t)end || (uintptr_t)end - at < bytes) {
    return NULL;
  }
  return start + (at - (uintptr_t)start);
}

static char *take_bump(size_t bytes, size_t align) {
  if (arena.bump == NULL) {
    return NULL;
  }
  char *object = fit(arena.bump, arena.end, bytes, align);
  if (object != NULL) {
    keep_leftover(arena.bump, object);
    arena.bump = object + bytes;
  }
  return object;
}

static char *take_leftover(size_t bytes, size_t align) {
  struct leftover **link = &arena.leftovers;
  for (int i = 0; i < LEFTOVER_TRIES && *link != NULL; i++) {
    struct leftover *rest = *link;
    char *start = (char *)rest;
    char *end = start + rest->bytes;
    char *object = fit(start, end, bytes, align);
    if (object != NULL) {
      *link = rest->next;
      rest->next = NULL;
      rest->bytes = 0;
      keep_leftover(start, object);
      keep_leftover(object + bytes, end);
      return object;
    }
    link = &rest->next;
  }
  return NULL;
}

static bool add_block(size_t bytes) {
  size_t block =
      tcx_align_down(arena.mapped_bytes / 8, TCX_ARENA_BLOCK_MIN_BYTES);
  block = tcx_max_size(block, TCX_ARENA_BLOCK_MIN_BYTES);
  block = tcx_min_size(block, TCX_ARENA_BLOCK_MAX_BYTES);
  size_t least = tcx_align_up(bytes, tcx_os_page_size());
  block = tcx_max_size(block, least);
  char *start = (char *)tcx_os_map(block);
  if (start == NULL && block > least) {
    block = least;
    start = (char *)tcx_os_map(block);
  }
  if (start == NULL) {
    return false;
  }
  // Refused where the kernel has no huge pages: then there are none to avoid.
  (void)tcx_os_advise(start, block, MADV_NOHUGEPAGE);
  keep_leftover(arena.bump, arena.end);
  arena.bump = start;
  arena.end = start + block;
  tcx_counter_add(&arena.mapped_bytes, block);
  return true;
}

void *tcx_arena_allocate(size_t bytes, size_t align_bytes) {
  TCX_ASSERT(bytes > 0 && bytes <= TCX_ARENA_REQUEST_MAX_BYTES);
  TCX_ASSERT(tcx_is_aligned(bytes, 16));
  TCX_ASSERT(align_bytes >= 16 && align_bytes <= 4096);
  tcx_lock_acquire(&arena.lock);
  char *object = take_leftover(bytes, align_bytes);
  if (object == NULL) {
    object = take_bump(bytes, align_bytes);
  }
  // A block starts at a page, so whatever the alignment it fits.
  if (object == NULL && add_block(bytes)) {
    object = take_bump(bytes, align_bytes);
    TCX_ASSERT(object != NULL);
  }
  if (object != NULL) {
    arena.allocated_bytes += bytes;
  }
  tcx_lock_release(&arena.lock);
  return object;
}

uint64_t tcx_arena_mapped_bytes(void) {
  return tcx_atomic_load_relaxed(&arena.mapped_bytes);
}

void tcx_arena_read_stats(struct tcx_arena_stats *out) {
  tcx_lock_acquire(&arena.lock);
  uintptr_t end = (uintptr_t)arena.end;
  uintptr_t untouched = tcx_align_up((uintptr_t)arena.bump, tcx_os_page_size());
  out->mapped_bytes = arena.mapped_bytes;
  out->untouched_bytes = untouched < end ? end - untouched : 0;
  tcx_lock_release(&arena.lock);
}

void tcx_arena_check(void) {
  tcx_lock_acquire(&arena.lock);
  uint64_t bytes = (uint64_t)(arena.end - arena.bump);
  for (const struct leftover *rest = arena.leftovers; rest != NULL;
       rest = rest->next) {
    TCX_CHECK(rest->bytes >= LEFTOVER_MIN_BYTES);
    TCX_CHECK(tcx_is_aligned(rest->bytes, 16));
    bytes += rest->bytes;
  }
  bytes += arena.allocated_bytes + arena.lost_bytes;
  TCX_CHECK(bytes == arena.mapped_bytes);
  tcx_lock_release(&arena.lock);
}

void tcx_arena_start(void) {
  static const struct tcx_fork_hooks hooks = {
      TCX_LOCK_RANK_ARENA, &arena.lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&hooks);
}

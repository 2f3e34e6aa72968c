// huge_source.h -- fresh huge pages from the system.
//
// PLACE IN THE SYSTEM
//   map of runs without memory <--(whole huge pages)-- huge source <--(pieces
//   of pages)-- system allocator
//
// WHAT IT DECIDES
//   How pieces of any length and place become huge pages: the end of a piece
//   that is not a whole one waits for the piece behind it, which is as a rule
//   the next to come. Where another comes, that end is left unused for ever,
//   and so is what lies before the first boundary of a piece.
//
// INVARIANTS
//   I1. Each huge page that went into a map has its leaf in the pagemap and its
//       node promised (huge_nodes.h). It reads as zero; no memory is behind it.
//   I2. huge * 2 MiB + waiting + left == all that came from the system.
//
// LOCKING: none; the owner's lock covers it (of a rank below PAGEMAP), while
// the
//   system is asked too, so that threads that find nothing do not all grow.
// ERRORS: false, nothing lost: what came so far is kept for the next time.
#ifndef TCX_BACKEND_HPAA_HUGE_SOURCE_H_
#define TCX_BACKEND_HPAA_HUGE_SOURCE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/hpaa/huge_map.h"
#include "backend/system_allocator.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// What was kept from a failure before, and two pieces.
#define TCX_HUGE_SOURCE_ADDED 3

struct tcx_huge_source {
  // tcx_system_allocate, but in tests.
  struct tcx_system_piece (*allocate)(size_t bytes_min);
  uintptr_t start;  // [start, end): came, but is in no map so far
  uintptr_t end;
  uint64_t huge;        // went into the map
  uint64_t left_bytes;  // will never be used
  // Of these, by the last call of grow, whatever it returned: to be advised.
  struct tcx_huge_run added[TCX_HUGE_SOURCE_ADDED];
  unsigned added_count;
};

void tcx_huge_source_init(struct tcx_huge_source *self,
                          struct tcx_system_piece (*allocate)(size_t));

// Adds fresh huge pages to the map, at least `count` of them in a row. False:
// no memory (fewer may have been added).
TCX_NODISCARD bool tcx_huge_source_grow(struct tcx_huge_source *self,
                                        struct tcx_huge_map *map,
                                        uint64_t count);

// Came from the system and is no huge page: counts as mapped and as released.
static inline uint64_t tcx_huge_source_unused_bytes(
    const struct tcx_huge_source *self) {
  return self->left_bytes + (self->end - self->start);
}

void tcx_huge_source_check(const struct tcx_huge_source *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HUGE_SOURCE_H_

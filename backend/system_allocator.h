// system_allocator.h -- address space from the operating system, in regions.
//
// PLACE IN THE SYSTEM
//   page source --(pieces of fresh memory)--> system allocator --> base/os
//
// WHAT IT DECIDES
//   Where memory lies. The window (pagemap.h) is reserved at start, without
//   memory, halved while the system refuses; nothing ahead where RLIMIT_AS is
//   finite: then small regions by hint inside the window's block. Beyond the
//   window, regions of 1 GiB, halved down to 2 MiB (or what the request needs).
//   A region is made usable from its low end upwards, in growing steps, so that
//   it is one VMA, and the pieces that leave here are neighbours.
//
// INVARIANTS
//   I1. Pieces never overlap, lie below 2^47 and read as zero.
//   I2. Committed bytes of a region <= its reserved bytes.
//
// LOCKING: one lock, rank SYSTEM. No memory is ever given back here; the page
//   source releases the memory behind a piece, never its address space.
#ifndef TCX_BACKEND_SYSTEM_ALLOCATOR_H_
#define TCX_BACKEND_SYSTEM_ALLOCATOR_H_

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

struct tcx_system_piece {
  char *start;   // NULL: no memory
  size_t bytes;  // multiple of the tcx page size and the OS page size
};

struct tcx_system_stats {
  uint64_t reserved_bytes;   // address space, window included
  uint64_t committed_bytes;  // handed out in pieces
  uint64_t regions;
};

// Reserves the window and tells the pagemap. Once, before anything else here.
void tcx_system_start(void);

// At least `bytes_min` of fresh zero memory, readable and writable; usually a
// little more, so that the heap grows in few steps.
TCX_NODISCARD struct tcx_system_piece tcx_system_allocate(size_t bytes_min);

void tcx_system_read_stats(struct tcx_system_stats *out);
void tcx_system_check(void);

TCX_END_DECLS

#endif  // TCX_BACKEND_SYSTEM_ALLOCATOR_H_

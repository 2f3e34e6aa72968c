// arena.h -- memory for metadata that is never given back: bump blocks.
//
// PLACE IN THE SYSTEM
//   metadata pools --(one object or buffer)--> arena --(blocks)--> base/os
//
// WHAT IT DECIDES
//   Blocks of 128 KiB, growing with what is mapped to 1 MiB, so that a small
//   process maps little and a large one makes few mappings. Never on huge
//   pages: metadata is touched sparsely and for ever. What is left of a block
//   serves smaller requests later if it is at least a cache line.
//
// LOCKING: one lock, rank ARENA, the innermost of all.
#ifndef TCX_BACKEND_ARENA_H_
#define TCX_BACKEND_ARENA_H_

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_ARENA_BLOCK_MIN_BYTES ((size_t)128 << 10)
#define TCX_ARENA_BLOCK_MAX_BYTES ((size_t)1 << 20)
#define TCX_ARENA_REQUEST_MAX_BYTES ((size_t)256 << 10)

// Zero bytes at a multiple of `align_bytes`, a power of two from 16 to 4096.
// `bytes` is a multiple of 16, at most TCX_ARENA_REQUEST_MAX_BYTES. NULL: no
// memory.
TCX_NODISCARD void *tcx_arena_allocate(size_t bytes, size_t align_bytes);

// Bytes taken from the system; address space, touched by use.
uint64_t tcx_arena_mapped_bytes(void);
// The same, and those of it that nothing has touched, in whole pages of the
// system; of one moment.
struct tcx_arena_stats {
  uint64_t mapped_bytes;
  uint64_t untouched_bytes;
};
void tcx_arena_read_stats(struct tcx_arena_stats *out);

// Stops the process where the leftovers are not whole or do not add up.
void tcx_arena_check(void);
void tcx_arena_start(void);  // registers the fork hooks

TCX_END_DECLS

#endif  // TCX_BACKEND_ARENA_H_

// metadata.h -- memory for tcx's own structures: pools over an arena.
//
// PLACE IN THE SYSTEM. Everybody's spans, bitmaps, slabs, transfer caches come
//   from here; the arena takes blocks from base/os. Metadata is never on huge
//   pages and never returned to the system.
//
// POOLS: fixed-size objects, LIFO. Buffers: powers of two from 64 bytes to
//   256 KiB, one pool each; above that a mapping of its own.
//
// LOCKING: a lock per pool (rank METADATA), then the arena's (rank ARENA). The
//   list of pools has a lock of rank SYSTEM; a pool enters it at its first
//   allocation, so call nothing here with a lock of rank SYSTEM or above held.
// ERRORS: NULL when the system has no memory. Never aborts.
#ifndef TCX_BACKEND_METADATA_H_
#define TCX_BACKEND_METADATA_H_

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/lock.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

// After a burst the free objects are cold, and each knows but the next of its
// list: with so many lists by turns, those that come next are fetched together.
#define TCX_METADATA_LISTS 8

struct tcx_free_object;

// Objects of one size, a multiple of 16 and at least 16 bytes. Lives for ever
// once something was allocated: fork and statistics walk all pools.
struct tcx_metadata_pool {
  struct tcx_lock lock;
  // The n-th that came is on list n modulo these.
  struct tcx_free_object *free[TCX_METADATA_LISTS];
  uint32_t object_bytes;
  uint32_t align_bytes;            // power of two, 16 to 4096
  uint64_t in_use;                 // objects
  uint64_t total;                  // objects, free ones included
  struct tcx_metadata_pool *next;  // all pools, by ascending address
  uint32_t is_listed;
};

#define TCX_METADATA_POOL_INIT(bytes, align)                                  \
  {                                                                           \
    TCX_LOCK_INIT(TCX_LOCK_RANK_METADATA), {0}, (bytes), (align), 0, 0, NULL, \
        0                                                                     \
  }

// Contents undefined.
TCX_NODISCARD void *tcx_metadata_pool_allocate(struct tcx_metadata_pool *self);
void tcx_metadata_pool_free(struct tcx_metadata_pool *self, void *object);

// Heads of spans: one aligned cache line each, zeroed.
TCX_NODISCARD struct tcx_span *tcx_metadata_span_allocate(void);
void tcx_metadata_span_free(struct tcx_span *span);
// The same by the list, linked by next and zeroed else, with the lock taken
// once: up to `count`, fewer where memory ends; NULL: none.
TCX_NODISCARD struct tcx_span *tcx_metadata_spans_allocate(unsigned count);
void tcx_metadata_spans_free(struct tcx_span *spans);

// A buffer of any size; free takes the same size. Contents undefined. Rounded
// up to tcx_metadata_buffer_bytes(bytes), all of which may be used.
TCX_NODISCARD void *tcx_metadata_allocate(size_t bytes);
void tcx_metadata_free(void *buffer, size_t bytes);
size_t tcx_metadata_buffer_bytes(size_t bytes);

struct tcx_metadata_stats {
  uint64_t mapped_bytes;     // taken from the system
  uint64_t untouched_bytes;  // of these, never used so far
  uint64_t in_use_bytes;     // in live objects and buffers
};
void tcx_metadata_read_stats(struct tcx_metadata_stats *out);
void tcx_metadata_check(void);
void tcx_metadata_start(void);  // registers the fork hooks

TCX_END_DECLS

#endif  // TCX_BACKEND_METADATA_H_

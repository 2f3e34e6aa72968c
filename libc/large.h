// large.h -- objects above 4 MiB, or aligned beyond a page: a span each.
//
// They are not cached: a page source call each way. They have class 0 in the
// pagemap, so that a free of one reaches the slow path, which finds the span by
// its first page and so tells a wrong pointer at once.
//
// LOCKING: none of its own; counters are atomic.
#ifndef TCX_LIBC_LARGE_H_
#define TCX_LIBC_LARGE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/page_source.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// NULL: no memory. `align` is a power of two.
TCX_NODISCARD void *tcx_large_allocate(struct tcx_page_source *pages,
                                       size_t align, size_t size, bool *zeroed);
void tcx_large_free(struct tcx_page_source *pages, struct tcx_span *span);

// Makes an object, or a block of a run class, big enough for `size`, which is
// above TCX_MAX_SMALL_SIZE, and no bigger than malloc would: where it is if
// that is possible, else by moving its pages without a copy. It is of a run
// class then if a new one would be. NULL: neither; nothing changed.
TCX_NODISCARD void *tcx_large_resize(struct tcx_page_source *pages,
                                     struct tcx_span *span, size_t size);

// Pages of an object of `size` bytes. 0: too large for any machine.
size_t tcx_large_pages(size_t size);

// What is live, in whole pages; how many ever were.
void tcx_large_read_stats(uint64_t *live_bytes, uint64_t *allocations);

TCX_END_DECLS

#endif  // TCX_LIBC_LARGE_H_

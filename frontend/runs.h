// runs.h -- blocks of the run classes, 256 KiB to 4 MiB: one object per span.
//
// They bypass the middle: a block is a span of the page source. The pagemap has
// class 0 for it, so every free of one is slow, and says in the same entry
// whether the program has it. (heap.c keeps that; here it is made and ended.)
// Slabs cache up to four of a class, each slab within a budget of its own: a
// 32nd of the heap, but at least 4 and at most 16 MiB. Slabs of threads, which
// nobody but their threads can empty, hold TCX_RUN_SHARES budgets together.
#ifndef TCX_FRONTEND_RUNS_H_
#define TCX_FRONTEND_RUNS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/page_source.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// NULL: no memory. `*zeroed`: the block is known to read as zero.
TCX_NODISCARD void *tcx_run_allocate(struct tcx_page_source *pages,
                                     unsigned size_class, bool *zeroed);
void tcx_run_deallocate(struct tcx_page_source *pages, void *object);

// Makes the block of a live span, of a run class or (class 0) a large object,
// one of `size_class` where it is: a run class, or 0. False: not possible,
// nothing changed. The caller counts large objects.
TCX_NODISCARD bool tcx_run_resize(struct tcx_page_source *pages,
                                  struct tcx_span *span, unsigned size_class,
                                  size_t span_pages);

#define TCX_RUN_SHARES 4

// Bytes of such blocks that one slab has room for.
uint64_t tcx_run_budget(struct tcx_page_source *pages);

// Blocks of a run class that are live or in a slab, and how many ever were.
struct tcx_run_stats {
  uint64_t blocks;
  uint64_t blocks_total;
};
void tcx_run_read_stats(unsigned size_class, struct tcx_run_stats *out);

TCX_END_DECLS

#endif  // TCX_FRONTEND_RUNS_H_

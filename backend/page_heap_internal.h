// page_heap_internal.h -- what the files of the page heap share.
//
//   page_heap.c           allocate, grow, deallocate, resize; the table
//   page_heap_runs.c      the lock; cutting and merging free runs, the check
//   page_heap_release.c   memory back to the system, asked for or by demand
//
// SPARE HEADS. A cut needs a span head, and memory for it may be refused. So
//   each entry that may cut takes the lock by tcx_page_heap_lock(), which fails
//   before anything was changed; after that nothing can fail half-way.
//
// DEMAND. Between taking the lock and the first change of `backed`, each entry
//   calls tcx_page_heap_note_time; one that took pages for use calls
//   tcx_page_heap_note_taken before it drops the lock.
//
// LOCKING: all but tcx_page_heap_lock and the entries of the table are called
//   with heap->lock held.
#ifndef TCX_BACKEND_PAGE_HEAP_INTERNAL_H_
#define TCX_BACKEND_PAGE_HEAP_INTERNAL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/page_heap.h"
#include "base/atomic.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// The most that one operation uses between two calls that may add some.
#define TCX_PAGE_HEAP_HEADS_NEEDED 3
// No run is longer, so that lengths and sums of two fit a span's 32 bits.
#define TCX_PAGE_HEAP_PAGES_MAX ((size_t)UINT32_MAX >> 1)

static inline struct tcx_page_heap *tcx_page_heap_of(
    struct tcx_page_source *source) {
  return (struct tcx_page_heap *)source;
}

// A neighbour of another module may become SMALL meanwhile, without our lock;
// in no order of the two is it ours to merge.
static inline unsigned tcx_page_heap_state(const struct tcx_span *span) {
  return tcx_atomic_load_relaxed(&span->state);
}

static inline void tcx_page_heap_set_state(struct tcx_span *span,
                                           enum tcx_span_state state) {
  tcx_atomic_store_relaxed(&span->state, (uint8_t)state);
}

// Takes the lock, with TCX_PAGE_HEAP_HEADS_NEEDED spare heads there. False: no
// memory, and the lock is not taken.
TCX_NODISCARD bool tcx_page_heap_lock(struct tcx_page_heap *heap);

// What is backed has been so until now; it fell to what it is by demand.
static inline void tcx_page_heap_note_time(struct tcx_page_heap *heap,
                                           uint64_t now_ms) {
  tcx_low_water_advance(&heap->demand, heap->backed.pages, now_ms);
}

static inline void tcx_page_heap_note_taken(struct tcx_page_heap *heap) {
  tcx_low_water_note(&heap->demand, heap->backed.pages);
}

// A head for a run that is on no list yet.
struct tcx_span *tcx_page_heap_new_run(struct tcx_page_heap *heap,
                                       uint64_t first_page, size_t pages,
                                       enum tcx_span_state state);

// Into and out of the runs of its state, and of the pagemap; no merging.
void tcx_page_heap_enlist(struct tcx_page_heap *heap, struct tcx_span *run);
void tcx_page_heap_delist(struct tcx_page_heap *heap, struct tcx_span *run);

// Into the runs of its state, merged with its neighbours. Its ends need not be
// registered.
void tcx_page_heap_insert(struct tcx_page_heap *heap, struct tcx_span *run);

// Cuts a run that is on no list after `pages`; returns the new run behind, in
// the same state, on no list either, or NULL if nothing is left.
struct tcx_span *tcx_page_heap_cut(struct tcx_page_heap *heap,
                                   struct tcx_span *run, size_t pages);

// Entries of the table.
void tcx_page_heap_check(struct tcx_page_source *source);
size_t tcx_page_heap_release(struct tcx_page_source *source, size_t bytes,
                             enum tcx_page_release kind);
size_t tcx_page_heap_maintain(struct tcx_page_source *source, uint64_t now_ms,
                              size_t bytes_max, bool may_grow);
uint64_t tcx_page_heap_due_ms(struct tcx_page_source *source, uint64_t now_ms);
bool tcx_page_heap_release_part(struct tcx_page_source *source,
                                const struct tcx_span *span, void *start,
                                size_t bytes, uint64_t now_ms);

TCX_END_DECLS

#endif  // TCX_BACKEND_PAGE_HEAP_INTERNAL_H_

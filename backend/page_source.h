// page_source.h -- the seam between the middle (and large objects) and a back
// end: a table of functions that hands out spans.
//
// WHY A TABLE HERE. One call moves a whole span, which serves tens to
//   thousands of objects; an indirect call costs nothing that can be measured
//   per object. There is no table on the fast path; do not add one there.
//
// RULES FOR AN IMPLEMENTATION
//   1. Every entry is thread safe; the caller holds no lock of rank PAGE_SOURCE
//      or higher. It must not call malloc, and never changes errno.
//   2. `allocate` returns a span of exactly the pages asked for, at the
//      alignment asked for, in state LARGE, size_class 0, its first and last
//      page registered in the pagemap; or NULL (no memory), nothing lost.
//      TCX_SPAN_ZERO is set in flags exactly when all bytes are known zero.
//      With it may come any number of the `more` that are welcome, linked by
//      `next`: those that cost little now.
//   3. `deallocate` takes back spans that `allocate` returned, linked by
//      `next`, in state LARGE and unregistered from any class. It cannot fail.
//      They are gone. With TCX_SPAN_MOVED in its flags a span reads as zero and
//      no memory is behind it.
//   4. What is released of a span by `release_part` is its owner's to know; the
//      page source counts the span as in use, whole. When the span comes back
//      its released_words tell (pagemap/span_parts.h): the page source may
//      count those pages as released, or all as backed.
//   5. It passes backend/page_source_conformance_test.cc.
#ifndef TCX_BACKEND_PAGE_SOURCE_H_
#define TCX_BACKEND_PAGE_SOURCE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/check.h"
#include "base/compiler.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

struct tcx_page_request {
  size_t pages;        // > 0
  size_t align_pages;  // power of two; 1: any
  unsigned objects;    // per span: a hint on how long the run will live
  size_t moved_pages;  // of `pages`, whose memory will be moved there
  unsigned more;       // spans of this kind that are welcome besides the first
};

struct tcx_page_source_stats {
  uint64_t mapped_bytes;  // address space made usable, all that follows
  uint64_t in_use_bytes;  // handed out
  uint64_t free_bytes;    // free, with memory behind it
  uint64_t
      released_bytes;  // free, memory given back to the system or untouched
  uint64_t spans_allocated;  // calls, since start
  uint64_t spans_deallocated;
  uint64_t lock_waits;
  // Of free: kept for demand to come, whole; of a source that knows huge pages
  // whole huge pages.
  uint64_t kept_bytes;
  // What such a source can say of them; 0 of any other.
  uint64_t fragmented_bytes;   // of free: in huge pages of which parts are used
  uint64_t huge_in_use_bytes;  // of in use: in huge pages that the system was
                               // asked for, and that are not broken
  uint64_t advised_bytes;      // asked for as huge pages, since start
  uint64_t broken_huge;        // huge pages that are broken now
  uint64_t breaks;             // since start, as all that follow
  uint64_t breaks_refused;
  uint64_t splits_failed;  // broken, but the charge falls late
  uint64_t mended;
  uint64_t collapsed;  // of these, at once
};

struct tcx_page_source;

// What `release` may take.
enum tcx_page_release {
  TCX_PAGE_RELEASE_ALL,  // anything; huge pages are broken where they must be
  TCX_PAGE_RELEASE_KEPT  // what is kept whole (kept_bytes); none is broken
};

// So much at most does one call of `maintain` make resident.
#define TCX_PAGE_SOURCE_GROWTH_BYTES ((uint64_t)2 << 20)

struct tcx_page_source_ops {
  const char *name;
  struct tcx_span *(*allocate)(struct tcx_page_source *self,
                               const struct tcx_page_request *request);
  void (*deallocate)(struct tcx_page_source *self, struct tcx_span *spans);
  // Makes a LARGE span `pages` long without moving it, by giving back its end
  // or taking free pages behind it. False: not possible, nothing changed.
  bool (*resize)(struct tcx_page_source *self, struct tcx_span *span,
                 size_t pages);
  // The first `pages` of a span got other memory (mremap), and with it what the
  // system was told of that. NULL: nothing depends on it.
  void (*moved)(struct tcx_page_source *self, const struct tcx_span *span,
                size_t pages);
  // Gives at least `bytes` of free memory of that kind back to the system, if
  // there is that much. Returns how many bytes went back.
  size_t (*release)(struct tcx_page_source *self, size_t bytes,
                    enum tcx_page_release kind);
  // Gives back what demand has not needed for its time, about `bytes_max` at
  // most, and does what else waits for quiet; with `may_grow` also what makes
  // memory resident. Returns how many bytes went back.
  size_t (*maintain)(struct tcx_page_source *self, uint64_t now_ms,
                     size_t bytes_max, bool may_grow);
  // When `maintain` may find something to do, should demand stay as it is, and
  // what it was told last: now_ms or later; UINT64_MAX: there is nothing to
  // wait for.
  uint64_t (*due_ms)(struct tcx_page_source *self, uint64_t now_ms);
  // Gives back the memory of whole pages of the system inside a SMALL span,
  // which nobody reads or writes meanwhile. False: refused, all is as it was;
  // true: they read as zero. May break a huge page, which is slow.
  bool (*release_part)(struct tcx_page_source *self,
                       const struct tcx_span *span, void *start, size_t bytes,
                       uint64_t now_ms);
  // The caller has something to give back later, though no span came or went:
  // whoever gives memory back shall look at it. Quick; NULL: nobody does.
  void (*notice)(struct tcx_page_source *self);
  void (*stats)(struct tcx_page_source *self,
                struct tcx_page_source_stats *out);
  void (*fork_prepare)(struct tcx_page_source *self);
  void (*fork_parent)(struct tcx_page_source *self);
  void (*fork_child)(struct tcx_page_source *self);
  // Walks the invariants; stops the process where one does not hold.
  void (*check)(struct tcx_page_source *self);
};

// First member of every implementation's own struct.
struct tcx_page_source {
  const struct tcx_page_source_ops *ops;
};

// -- Calls: the contract's checks, on both sides, in one place ----------------

TCX_NODISCARD static inline struct tcx_span *tcx_page_source_request(
    struct tcx_page_source *self, const struct tcx_page_request *request) {
  TCX_ASSERT(request->pages > request->moved_pages);
  TCX_ASSERT(tcx_is_power_of_two(request->align_pages));
  struct tcx_span *spans = self->ops->allocate(self, request);
  unsigned count = 0;
  for (struct tcx_span *span = spans; TCX_ASSERTIONS && span != NULL;
       span = span->next) {
    TCX_ASSERT(span->pages == request->pages);
    TCX_ASSERT(span->first_page % request->align_pages == 0);
    TCX_ASSERT(span->state == TCX_SPAN_LARGE);
    TCX_ASSERT(count++ <= request->more);
  }
  return spans;
}

TCX_NODISCARD static inline struct tcx_span *tcx_page_source_allocate(
    struct tcx_page_source *self, size_t pages, size_t align_pages,
    unsigned objects) {
  struct tcx_page_request request = {pages, align_pages, objects, 0, 0};
  return tcx_page_source_request(self, &request);
}

// Linked by `next`.
static inline void tcx_page_source_deallocate_all(struct tcx_page_source *self,
                                                  struct tcx_span *spans) {
  TCX_ASSERT(spans->state == TCX_SPAN_LARGE);
  self->ops->deallocate(self, spans);
}

static inline void tcx_page_source_deallocate(struct tcx_page_source *self,
                                              struct tcx_span *span) {
  span->next = NULL;
  tcx_page_source_deallocate_all(self, span);
}

TCX_NODISCARD static inline bool tcx_page_source_resize(
    struct tcx_page_source *self, struct tcx_span *span, size_t pages) {
  TCX_ASSERT(span->state == TCX_SPAN_LARGE);
  TCX_ASSERT(pages > 0);
  return self->ops->resize(self, span, pages);
}

static inline void tcx_page_source_moved(struct tcx_page_source *self,
                                         const struct tcx_span *span,
                                         size_t pages) {
  TCX_ASSERT(pages <= span->pages);
  if (self->ops->moved != NULL)
    self->ops->moved(self, span, pages);
}

static inline void tcx_page_source_notice(struct tcx_page_source *self) {
  if (self->ops->notice != NULL)
    self->ops->notice(self);
}

static inline size_t tcx_page_source_release(struct tcx_page_source *self,
                                             size_t bytes) {
  return self->ops->release(self, bytes, TCX_PAGE_RELEASE_ALL);
}

TCX_END_DECLS

#endif  // TCX_BACKEND_PAGE_SOURCE_H_

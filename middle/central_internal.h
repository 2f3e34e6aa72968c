// central_internal.h -- what the files of the central free list share.
//
//   central_freelist.c   lists, objects out and back
//   central_release.c    memory under free objects back to the system
//   central_check.c      statistics, the walk of the invariants
//
// LOCKING: the list's lock is held, where nothing else is said.
#ifndef TCX_MIDDLE_CENTRAL_INTERNAL_H_
#define TCX_MIDDLE_CENTRAL_INTERNAL_H_

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "middle/central_freelist.h"
#include "pagemap/span.h"
#include "size_classes/size_classes.h"

TCX_BEGIN_DECLS

// `bucket` of a span that is on no list: full, new, or leaving; and of the one
// whose memory is being given back.
#define TCX_CENTRAL_NO_BUCKET TCX_CENTRAL_FREELIST_BUCKETS
#define TCX_CENTRAL_BUSY (TCX_CENTRAL_FREELIST_BUCKETS + 1)

static inline const struct tcx_size_class *tcx_central_row(
    const struct tcx_central_freelist *self) {
  return &tcx_size_classes[self->size_class];
}

// -- central_freelist.c -------------------------------------------------------

// The list of a span that is not full.
unsigned tcx_central_bucket_for(unsigned allocated, unsigned objects);
// Off its list. A walk that was about to look at it goes on behind it.
void tcx_central_unlist(struct tcx_central_freelist *self,
                        struct tcx_span *span);
// To the list where its count belongs; a BUSY one stays where it is.
void tcx_central_relist(struct tcx_central_freelist *self,
                        struct tcx_span *span);
// Gives back an empty span. Without the lock.
void tcx_central_destroy(struct tcx_central_freelist *self,
                         struct tcx_span *span);

// -- central_release.c --------------------------------------------------------

// Objects of the span with memory given back were handed out: it is there again
// as soon as they are touched.
void tcx_central_release_taken(struct tcx_central_freelist *self,
                               struct tcx_span *span, void *const *objects,
                               unsigned count);
// The span leaves: what is released of it counts here no more.
void tcx_central_release_forget(struct tcx_central_freelist *self,
                                const struct tcx_span *span);
// Whether memory goes back while its spans live.
static inline bool tcx_central_has_parts(
    const struct tcx_central_freelist *self) {
  const struct tcx_size_class *row = tcx_central_row(self);
  return row->size >= TCX_CENTRAL_RELEASE_SIZE_MIN && row->objects > 1 &&
         !self->is_hardened;
}

// Of the released parts of a span: bytes, and of these those in its tail.
struct tcx_central_released {
  uint64_t bytes;
  uint64_t tail_bytes;
};
struct tcx_central_released tcx_central_released_of(const struct tcx_span *span,
                                                    uint64_t parts);
// The parts that no object in use lies in.
uint64_t tcx_central_free_parts(const struct tcx_span *span);

// The walk has been at the span, or need not come by any more.
static inline bool tcx_central_is_looked(
    const struct tcx_central_freelist *self, const struct tcx_span *span) {
  return (span->flags & TCX_SPAN_LOOK_IS_ODD) == self->release.look;
}
static inline void tcx_central_set_looked(
    const struct tcx_central_freelist *self, struct tcx_span *span) {
  unsigned others = span->flags & ~(unsigned)TCX_SPAN_LOOK_IS_ODD;
  span->flags = (uint8_t)(others | self->release.look);
}

// Nothing was taken from the span for a while, or it was just now.
static inline unsigned tcx_central_age(const struct tcx_span *span) {
  return span->flags / TCX_SPAN_AGE & TCX_SPAN_AGE_MAX;
}
static inline void tcx_central_set_age(struct tcx_span *span, unsigned age) {
  unsigned others = span->flags & ~(unsigned)(TCX_SPAN_AGE_MAX * TCX_SPAN_AGE);
  span->flags = (uint8_t)(others | age * TCX_SPAN_AGE);
}

TCX_END_DECLS

#endif  // TCX_MIDDLE_CENTRAL_INTERNAL_H_

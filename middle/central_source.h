// central_source.h -- the central free lists alone, as an object source.
//
// PLACE IN THE SYSTEM
//   front end --(batches)--> central source: a central free list per class
//   For builds and tests without a transfer cache: the least memory, a lock
//   and the free bits for every batch.
//
// LOCKING: that of the lists. fork_prepare takes all of them, in ascending
//   address order.
#ifndef TCX_MIDDLE_CENTRAL_SOURCE_H_
#define TCX_MIDDLE_CENTRAL_SOURCE_H_

#include "backend/page_source.h"
#include "base/compiler.h"
#include "middle/central_freelist.h"
#include "middle/object_source.h"

TCX_BEGIN_DECLS

struct tcx_central_source {
  struct tcx_object_source source;  // first
  uint64_t released_bytes;          // a shared atomic: of all lists
  uint32_t release_class;           // where giving back memory goes on
  struct tcx_central_freelist lists[TCX_RUN_CLASS_FIRST];  // [0] is not used
};

// Prepares zeroed memory, which stays for ever; returns its object source.
struct tcx_object_source *tcx_central_source_init(
    struct tcx_central_source *self, struct tcx_page_source *pages);

// The entries `release` and `release_due_ms` of a source, over its lists.
typedef struct tcx_central_freelist *(*tcx_central_source_list)(
    struct tcx_object_source *source, unsigned size_class);
size_t tcx_central_source_release(struct tcx_object_source *source,
                                  tcx_central_source_list list_of,
                                  uint32_t *release_class, uint64_t now_ms,
                                  size_t bytes_max, bool is_now);
uint64_t tcx_central_source_release_due_ms(struct tcx_object_source *source,
                                           tcx_central_source_list list_of,
                                           uint64_t now_ms);

// The numbers of a list that are the same in every source built on it.
void tcx_central_source_fill_stats(const struct tcx_central_freelist *list,
                                   struct tcx_object_source_stats *out);

TCX_END_DECLS

#endif  // TCX_MIDDLE_CENTRAL_SOURCE_H_

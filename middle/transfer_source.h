// transfer_source.h -- transfer caches over central free lists, as an object
// source.
//
// PLACE IN THE SYSTEM
//   front end --(batches)--> transfer source: a transfer cache and a central
//   free list per class --(spans)--> page source
//
// LOCKING: that of the two tiers. fork_prepare takes all transfer caches, then
//   all central free lists, each in ascending address order.
#ifndef TCX_MIDDLE_TRANSFER_SOURCE_H_
#define TCX_MIDDLE_TRANSFER_SOURCE_H_

#include "backend/page_source.h"
#include "base/compiler.h"
#include "middle/central_freelist.h"
#include "middle/object_source.h"
#include "middle/transfer_cache.h"

TCX_BEGIN_DECLS

struct tcx_transfer_source_class {
  struct tcx_transfer_cache cache;
  struct tcx_central_freelist list;
};

struct tcx_transfer_source {
  struct tcx_object_source source;  // first
  uint64_t released_bytes;          // a shared atomic: of all lists
  uint32_t release_class;           // where giving back memory goes on
  struct tcx_transfer_source_class classes[TCX_RUN_CLASS_FIRST];  // not [0]
};

// Prepares zeroed memory, which stays for ever; returns its object source.
struct tcx_object_source *tcx_transfer_source_init(
    struct tcx_transfer_source *self, struct tcx_page_source *pages);

TCX_END_DECLS

#endif  // TCX_MIDDLE_TRANSFER_SOURCE_H_

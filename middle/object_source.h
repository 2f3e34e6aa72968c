// object_source.h -- the seam between a front end and the middle: a table of
// functions that moves batches of free objects of one size class.
//
// RULES FOR AN IMPLEMENTATION
//   1. Thread safe; the caller holds no lock of rank TRANSFER_CACHE or higher.
//      Does not call malloc, does not change errno.
//   2. Only small classes (1 .. TCX_RUN_CLASS_FIRST - 1), 1 <= count <=
//      TCX_BATCH_MAX.
//   3. `remove_range` returns how many objects it stored; fewer than asked only
//      when there is no memory for more. 0: none at all.
//   4. `insert_range` cannot fail. Each object is free exactly once; one that
//      is not (double free, wrong class, interior pointer) ends the process
//      with one line when it reaches its span.
//   5. An instance serves one domain; it is passed as a parameter everywhere.
//   6. It passes middle/object_source_conformance_test.cc.
#ifndef TCX_MIDDLE_OBJECT_SOURCE_H_
#define TCX_MIDDLE_OBJECT_SOURCE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/compiler.h"
#include "size_classes/size_classes.h"

TCX_BEGIN_DECLS

// Of one size class. Counts since start, or now.
struct tcx_object_source_stats {
  uint64_t spans;             // now, cut up for this class
  uint64_t spans_total;       // since start
  uint64_t out_objects;       // handed to the front end, net
  uint64_t transfer_objects;  // free, in the transfer cache
  uint64_t central_objects;   // free, in spans
  uint64_t span_tail_bytes;   // of all spans, behind their last object
  // Of central_objects and span_tail_bytes: memory that was given back; of
  // that, what lies in tails.
  uint64_t released_bytes;
  uint64_t released_tail_bytes;
  uint64_t transfer_hits;  // batches served or taken without the central list
  uint64_t transfer_misses;
  uint64_t lock_waits;
};

struct tcx_object_source;

struct tcx_object_source_ops {
  const char *name;
  unsigned (*remove_range)(struct tcx_object_source *self, unsigned size_class,
                           void **batch, unsigned count);
  void (*insert_range)(struct tcx_object_source *self, unsigned size_class,
                       void *const *batch, unsigned count);
  // Gives what it caches down to the spans, and empty spans to the page source.
  // `all`: everything; else what was idle since the last call (decay).
  void (*trim)(struct tcx_object_source *self, bool all);
  // Gives back the memory under free objects that nobody took for 30 s, with
  // `is_now` under all that it can; about `bytes_max` at most, going on where
  // the last call stopped. Returns how many bytes went back. Slow: the caller
  // holds no lock at all.
  size_t (*release)(struct tcx_object_source *self, uint64_t now_ms,
                    size_t bytes_max, bool is_now);
  // When release may find something, should all stay as it is: now_ms or later;
  // UINT64_MAX: there is nothing to wait for.
  uint64_t (*release_due_ms)(struct tcx_object_source *self, uint64_t now_ms);
  // Of all classes, the sum of released_bytes. Quick; takes no lock.
  uint64_t (*released_bytes)(struct tcx_object_source *self);
  void (*stats)(struct tcx_object_source *self, unsigned size_class,
                struct tcx_object_source_stats *out);
  void (*fork_prepare)(struct tcx_object_source *self);
  void (*fork_parent)(struct tcx_object_source *self);
  void (*fork_child)(struct tcx_object_source *self);
  void (*check)(struct tcx_object_source *self);
};

// First member of every implementation's own struct.
struct tcx_object_source {
  const struct tcx_object_source_ops *ops;
};

TCX_NODISCARD static inline unsigned tcx_object_source_remove_range(
    struct tcx_object_source *self, unsigned size_class, void **batch,
    unsigned count) {
  TCX_ASSERT(size_class > 0 && size_class < TCX_RUN_CLASS_FIRST);
  TCX_ASSERT(count > 0 && count <= TCX_BATCH_MAX);
  unsigned moved = self->ops->remove_range(self, size_class, batch, count);
  TCX_ASSERT(moved <= count);
  return moved;
}

static inline void tcx_object_source_insert_range(
    struct tcx_object_source *self, unsigned size_class, void *const *batch,
    unsigned count) {
  TCX_ASSERT(size_class > 0 && size_class < TCX_RUN_CLASS_FIRST);
  TCX_ASSERT(count > 0 && count <= TCX_BATCH_MAX);
  self->ops->insert_range(self, size_class, batch, count);
}

TCX_END_DECLS

#endif  // TCX_MIDDLE_OBJECT_SOURCE_H_

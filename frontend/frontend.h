// frontend.h -- the seam of a front end: its fast and its slow half.
//
// A front end caches free objects near the thread (or CPU) that uses them.
//   fast  tcx_frontend_pop and tcx_frontend_push, static inline, in the front
//         end's own header; the build picks it (frontend/selected.h). No table:
//         they are compiled into malloc and free.
//   slow  this table, reached only when the fast half gave up.
//
// Every entry is thread safe and is called without any lock held.
#ifndef TCX_FRONTEND_FRONTEND_H_
#define TCX_FRONTEND_FRONTEND_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/page_source.h"
#include "base/compiler.h"
#include "middle/object_source.h"

TCX_BEGIN_DECLS

// Highest number of CPUs that have caches: ids from 0 to one less.
#define TCX_FRONTEND_CPUS 1024

struct tcx_frontend_stats {
  uint64_t caches;            // live threads with a cache
  uint64_t caches_total;      // that ever had one
  uint64_t cpu_caches;        // CPUs with a cache
  uint64_t cached_bytes;      // free small objects in the caches of threads
  uint64_t cpu_cached_bytes;  // in those of CPUs
  uint64_t run_cache_bytes;   // free blocks of run classes in caches
  uint64_t run_out_bytes;     // blocks of run classes, live or in caches
  uint64_t run_tail_bytes;    // of their spans, behind the blocks
  uint64_t refills;
  uint64_t overflows;
  uint64_t removed_objects;   // from the object source, since start
  uint64_t inserted_objects;  // into it
  uint64_t run_spans;         // blocks of run classes made, since start
  uint64_t scavenges;
  uint64_t steals;      // of budget between caches, of room between classes
  uint64_t cpu_drains;  // caches of CPUs emptied from outside
  // Mappings of the front end's own, beside the metadata pools; of these, what
  // nothing has touched so far.
  uint64_t mapped_bytes;
  uint64_t untouched_bytes;
};

// Which caches serve, and why: words for the report.
struct tcx_frontend_use {
  const char *serves;  // "percpu", "perthread"
  const char *area;    // of restartable sequences: "libc", "own", "none"
  const char *ids;     // "mm_cid", "cpu_id", "none"
  const char *reason;  // "ok", or why no better
};

// Of one CPU.
struct tcx_frontend_cpu_stats {
  uint64_t cached_bytes;    // free objects, those of run classes too
  uint64_t capacity_bytes;  // room for small ones
  uint64_t budget_bytes;    // what that may become
  uint64_t refills;
  uint64_t overflows;
  uint64_t steals;
  uint64_t drains;
};

// Of one size class.
struct tcx_frontend_class_stats {
  uint64_t cached_objects;  // free, in caches
  // Run classes: blocks taken from the page source, now and since start.
  uint64_t run_blocks;
  uint64_t run_blocks_total;
};

struct tcx_frontend_ops {
  const char *name;  // "percpu", "perthread"
  // Called once, before any other entry, with the tiers below.
  void (*start)(struct tcx_object_source *objects,
                struct tcx_page_source *pages);
  // An object of the class after the fast half found none; makes the calling
  // thread's cache on its first call. NULL: no memory. `*zeroed` (may not be
  // NULL) tells whether the object is known to read as zero.
  void *(*refill)(unsigned size_class, bool *zeroed);
  // Takes a free object after the fast half found no room. The caller has
  // excluded the double free.
  void (*overflow)(unsigned size_class, void *object);
  // Gives the calling thread's cached objects to the tiers below.
  void (*flush)(void);
  // Gives down what was idle: of the calling thread's cache, and of the tiers
  // below. Does nothing that is not due.
  void (*tick)(void);
  // End of the calling thread; later calls of it bypass the cache.
  void (*thread_exit)(void);
  void (*use)(struct tcx_frontend_use *out);
  void (*stats)(struct tcx_frontend_stats *out);
  // NULL where there are no caches of CPUs. False: the CPU of this id, below
  // TCX_FRONTEND_CPUS, has none.
  bool (*cpu_stats)(unsigned id, struct tcx_frontend_cpu_stats *out);
  void (*class_stats)(unsigned size_class,
                      struct tcx_frontend_class_stats *out);
  // Walks the invariants of the calling thread's cache.
  void (*check)(void);
};

// The one that is linked.
extern const struct tcx_frontend_ops *const tcx_frontend;

TCX_END_DECLS

#endif  // TCX_FRONTEND_FRONTEND_H_

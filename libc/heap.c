// heap.c -- start of the library, and the slow paths. See heap.h.
#include "libc/heap.h"

#include <errno.h>
#include <string.h>

#include "backend/metadata.h"
#include "backend/selected.h"
#include "backend/system_allocator.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/log.h"
#include "frontend/selected.h"
#include "libc/fast_path.h"
#include "libc/large.h"
#include "libc/stack.h"
#include "middle/transfer_source.h"
#include "pagemap/pagemap.h"
#include "size_classes/size_classes.h"
#include "telemetry/stats.h"

static struct tcx_lock start_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_START);
static int started;  // 0, 1; written under start_lock
static struct tcx_page_source *pages;
static struct tcx_object_source *objects;

// -- start --------------------------------------------------------------------

// The tiers' tables have fork entries of their own types.
static void pages_prepare(void *self) {
  ((struct tcx_page_source *)self)->ops->fork_prepare(self);
}
static void pages_parent(void *self) {
  ((struct tcx_page_source *)self)->ops->fork_parent(self);
}
static void pages_child(void *self) {
  ((struct tcx_page_source *)self)->ops->fork_child(self);
}
static void objects_prepare(void *self) {
  ((struct tcx_object_source *)self)->ops->fork_prepare(self);
}
static void objects_parent(void *self) {
  ((struct tcx_object_source *)self)->ops->fork_parent(self);
}
static void objects_child(void *self) {
  ((struct tcx_object_source *)self)->ops->fork_child(self);
}

// The object source takes the locks of two ranks, one after the other.
static void register_tiers_for_fork(void) {
  static struct tcx_fork_hooks page_hooks = {TCX_LOCK_RANK_PAGE_SOURCE, NULL,
                                             pages_prepare, pages_parent,
                                             pages_child};
  static struct tcx_fork_hooks object_hooks = {TCX_LOCK_RANK_TRANSFER_CACHE,
                                               NULL, objects_prepare,
                                               objects_parent, objects_child};
  page_hooks.self = pages;
  object_hooks.self = objects;
  tcx_fork_register(&page_hooks);
  tcx_fork_register(&object_hooks);
}

static void wire_tiers(void) {
  static struct tcx_transfer_source transfer;
  static const struct tcx_fork_hooks start_hooks = {
      TCX_LOCK_RANK_START, &start_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&start_hooks);
  tcx_fatal_install(tcx_stack_print);
  tcx_metadata_start();
  tcx_pagemap_start();
  // Before there is a window: who finds a page in it uses the offset.
  tcx_pagemap_window.thread_offset = tcx_frontend_thread_offset();
  tcx_system_start();
  pages = tcx_page_source_start();
  objects = tcx_transfer_source_init(&transfer, pages);
  register_tiers_for_fork();
  tcx_frontend->start(objects, pages);
  tcx_stats_start(objects, pages);
  // Last: with the first entry of its table, fast paths begin to succeed.
  tcx_size_classes_init();
}

void tcx_heap_start(void) {
  if (TCX_LIKELY(tcx_atomic_load_acquire(&started) != 0))
    return;
  tcx_lock_acquire(&start_lock);
  bool is_first = started == 0;
  if (is_first) {
    wire_tiers();
    // Pairs with the acquire above: the tiers are there.
    tcx_atomic_store_release(&started, 1);
  }
  tcx_lock_release(&start_lock);
  // May allocate, so not under the lock.
  if (is_first)
    tcx_fork_start();
}

// A program that makes threads before it allocates, or forks at once, still
// finds everything set up.
__attribute__((constructor)) static void start_early(void) {
  tcx_heap_start();
}

// -- allocate -----------------------------------------------------------------

static void *class_allocate(unsigned size_class, bool *zeroed) {
  *zeroed = false;
  void *object = tcx_frontend_pop(size_class << TCX_SIZE_CLASS_SHIFT);
  if (object != NULL)
    return object;
  return tcx_frontend->refill(size_class, zeroed);
}

void *tcx_heap_allocate(size_t size, bool *zeroed) {
  tcx_heap_start();
  // Sampling is not on: the next visit is as far away as can be.
  if (size > tcx_thread.visit_bytes)
    tcx_thread.visit_bytes = TCX_VISIT_BYTES_MAX;
  unsigned size_class = tcx_size_class_of(size);
  void *object = size_class != 0 ? class_allocate(size_class, zeroed)
                                 : tcx_large_allocate(pages, 1, size, zeroed);
  if (TCX_UNLIKELY(object == NULL))
    errno = ENOMEM;
  return object;
}

static unsigned aligned_class(size_t align, size_t size) {
  TCX_ASSERT(tcx_is_power_of_two(align));
  return align <= TCX_PAGE_SIZE ? tcx_size_class_of_aligned(size, align) : 0;
}

void *tcx_heap_allocate_aligned(size_t align, size_t size) {
  tcx_heap_start();
  bool zeroed;
  unsigned size_class = aligned_class(align, size);
  void *object = size_class != 0
                     ? class_allocate(size_class, &zeroed)
                     : tcx_large_allocate(pages, align, size, &zeroed);
  if (TCX_UNLIKELY(object == NULL))
    errno = ENOMEM;
  return object;
}

// -- what a pointer is --------------------------------------------------------

TCX_COLD TCX_NORETURN static void bad_pointer(const char *caller,
                                              const void *pointer) {
  const struct tcx_span *span = tcx_pagemap_span_of(pointer);
  if (span == NULL) {
    tcx_fatal("%s(): invalid pointer %p (not from malloc)", caller, pointer);
  }
  if (span->state == TCX_SPAN_SMALL) {
    tcx_fatal("%s(): invalid pointer %p (inside an object of %u bytes)", caller,
              pointer, tcx_size_classes[span->size_class].size);
  }
  if (span->state == TCX_SPAN_LARGE) {
    tcx_fatal("%s(): invalid pointer %p (inside a large object)", caller,
              pointer);
  }
  tcx_fatal("%s(): invalid pointer %p (in free memory; freed twice?)", caller,
            pointer);
}

// The span of a live object, of which `pointer` is the start.
static struct tcx_span *span_of_object(const void *pointer,
                                       const char *caller) {
  struct tcx_span *span = tcx_pagemap_span_of(pointer);
  if (span == NULL)
    bad_pointer(caller, pointer);
  size_t offset = (size_t)((const char *)pointer - tcx_span_start(span));
  if (span->state == TCX_SPAN_LARGE && offset == 0)
    return span;
  if (span->state == TCX_SPAN_SMALL &&
      tcx_object_offset_is_exact(&tcx_size_classes[span->size_class],
                                 (uint32_t)offset)) {
    return span;
  }
  bad_pointer(caller, pointer);
}

static size_t usable_bytes(const struct tcx_span *span) {
  return span->size_class != 0 ? tcx_size_classes[span->size_class].size
                               : tcx_span_bytes(span);
}

size_t tcx_heap_usable_size(const void *pointer, const char *caller) {
  return usable_bytes(span_of_object(pointer, caller));
}

size_t tcx_heap_good_size(size_t size) {
  return tcx_heap_good_size_aligned(1, size);
}

size_t tcx_heap_good_size_aligned(size_t align, size_t size) {
  tcx_heap_start();
  unsigned size_class = aligned_class(align, size);
  if (size_class != 0)
    return tcx_size_classes[size_class].size;
  return tcx_large_pages(size) << TCX_PAGE_SHIFT;
}

// -- free ---------------------------------------------------------------------

// No room, beyond the window, large, or wrong.
TCX_NOINLINE static void free_slow(void *pointer) {
  if (pointer == NULL)
    return;
  struct tcx_span *span = span_of_object(pointer, "free");
  unsigned size_class = span->size_class;
  if (size_class == 0) {
    tcx_large_free(pages, span);
    return;
  }
  if (tcx_frontend_top_is(size_class << TCX_SIZE_CLASS_SHIFT, pointer)) {
    tcx_fatal("free(): double free of %p (object of %u bytes)", pointer,
              tcx_size_classes[size_class].size);
  }
  tcx_frontend->overflow(size_class, pointer);
}

void tcx_heap_free(void *pointer) {
  if (!tcx_free_outside(pointer))
    free_slow(pointer);
}

void tcx_heap_free_sized(void *pointer, size_t size) {
  if (pointer == NULL || tcx_free_sized_outside(pointer, size))
    return;
  size_t usable = usable_bytes(span_of_object(pointer, "free_sized"));
  if (tcx_heap_good_size(size) != usable) {
    tcx_fatal("free_sized(): %p has %zu bytes, not %zu", pointer, usable, size);
  }
  free_slow(pointer);
}

// -- realloc ------------------------------------------------------------------

void *tcx_heap_reallocate(void *pointer, size_t size) {
  struct tcx_span *span = span_of_object(pointer, "realloc");
  size_t old_bytes = usable_bytes(span);
  size_t good_bytes = tcx_heap_good_size(size);
  if (good_bytes == old_bytes)
    return pointer;
  if (span->size_class == 0 && good_bytes > TCX_MAX_RUN_SIZE) {
    void *object = tcx_large_resize(pages, span, size);
    if (object != NULL)
      return object;
  }
  bool zeroed;
  void *object = tcx_heap_allocate(size, &zeroed);
  if (object == NULL)
    return NULL;
  memcpy(object, pointer, tcx_min_size(old_bytes, size));
  tcx_heap_free(pointer);
  return object;
}

// -- giving back --------------------------------------------------------------

size_t tcx_heap_trim(void) {
  tcx_heap_start();
  tcx_frontend->flush();
  objects->ops->trim(objects, true);
  return tcx_page_source_release(pages, SIZE_MAX);
}

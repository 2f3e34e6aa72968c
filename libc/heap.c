// heap.c -- the slow paths. See heap.h.
#include "libc/heap.h"

#include <errno.h>
#include <string.h>

#include "backend/metadata.h"
#include "backend/system_allocator.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/log.h"
#include "frontend/selected.h"
#include "libc/fast_path.h"
#include "libc/foreign.h"
#include "libc/harden.h"
#include "libc/large.h"
#include "libc/pointer.h"
#include "libc/start.h"
#include "libc/upkeep.h"
#include "middle/object_source.h"
#include "pagemap/pagemap.h"
#include "size_classes/size_classes.h"
#include "telemetry/stats.h"

// -- allocate -----------------------------------------------------------------

static void *class_allocate(unsigned size_class, bool *zeroed) {
  *zeroed = false;
  void *object = tcx_frontend_pop(size_class << TCX_SIZE_CLASS_SHIFT);
  if (object == NULL)
    object = tcx_frontend->refill(size_class, zeroed);
  if (TCX_UNLIKELY(object == NULL))
    return NULL;
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    tcx_pagemap_set_run(object, size_class);
  } else if (tcx_harden_is_on()) {
    tcx_harden_object_out(object, size_class);
    *zeroed = true;
  }
  return object;
}

static unsigned aligned_class(size_t align, size_t size) {
  TCX_ASSERT(tcx_is_power_of_two(align));
  return align <= TCX_PAGE_SIZE ? tcx_size_class_of_aligned(size, align) : 0;
}

static void *allocate_aligned(size_t align, size_t size, bool *zeroed) {
  unsigned size_class = aligned_class(align, size);
  return size_class != 0
             ? class_allocate(size_class, zeroed)
             : tcx_large_allocate(tcx_start.pages, align, size, zeroed);
}

static void *allocate(size_t size, bool *zeroed) {
  unsigned size_class = tcx_size_class_of(size);
  return size_class != 0 ? class_allocate(size_class, zeroed)
                         : tcx_large_allocate(tcx_start.pages, 1, size, zeroed);
}

// The first try failed.
TCX_COLD static void *retry(size_t align, size_t size, bool *zeroed) {
  void *object = tcx_upkeep_retry(allocate_aligned, align, size, zeroed);
  if (object == NULL)
    errno = ENOMEM;
  return object;
}

void *tcx_heap_allocate(size_t size, bool *zeroed) {
  *zeroed = false;
  if (TCX_UNLIKELY(!tcx_start_is_serving()))
    return tcx_foreign_allocate(size);
  tcx_stats_poll();
  if (size > tcx_thread.visit_bytes)
    tcx_upkeep_visit(size);
  void *object = allocate(size, zeroed);
  return TCX_LIKELY(object != NULL) ? object : retry(1, size, zeroed);
}

static TCX_NOINLINE void *malloc_slow(size_t size) {
  bool zeroed;
  return tcx_heap_allocate(size, &zeroed);
}

TCX_ALWAYS_INLINE bool visit_is_spared(size_t size) {
  if (size < TCX_VISIT_SPARED_SIZE || tcx_thread.visits_spared == 0)
    return false;
  tcx_thread.visits_spared--;
  tcx_thread.visit_bytes = TCX_VISIT_BYTES_MAX;
  return true;
}

// All that large blocks need while the cache has them; the other ways are
// jumps, so it has no stack frame. (Without a slab, there may be no area
// either.)
void *tcx_heap_malloc(size_t size) {
  if (TCX_UNLIKELY(tcx_thread.slab == NULL) ||
      TCX_UNLIKELY(tcx_atomic_load_relaxed(&tcx_stats_requested) != 0) ||
      (size > tcx_thread.visit_bytes && !visit_is_spared(size))) {
    return malloc_slow(size);
  }
  unsigned size_class = tcx_size_class_of(size);
  void *object = tcx_frontend_pop(size_class << TCX_SIZE_CLASS_SHIFT);
  if (TCX_UNLIKELY(object == NULL))
    return malloc_slow(size);
  if (size_class >= TCX_RUN_CLASS_FIRST)
    tcx_pagemap_set_run(object, size_class);
  return object;
}

void *tcx_heap_allocate_zeroed(size_t size) {
  if (TCX_UNLIKELY(!tcx_heap_start()))
    return tcx_foreign_allocate_zeroed(size);
  bool zeroed;
  void *object = tcx_heap_allocate(size, &zeroed);
  if (object != NULL && !zeroed)
    memset(object, 0, size);
  return object;
}

void *tcx_heap_allocate_aligned(size_t align, size_t size) {
  if (TCX_UNLIKELY(!tcx_heap_start()))
    return tcx_foreign_allocate_aligned(align, size);
  bool zeroed = false;
  tcx_upkeep_count(size);
  void *object = allocate_aligned(align, size, &zeroed);
  return TCX_LIKELY(object != NULL) ? object : retry(align, size, &zeroed);
}

// -- what a pointer is --------------------------------------------------------

const struct tcx_span *tcx_heap_find(const void *pointer) {
  return tcx_pointer_find(pointer);
}

// Whether no span of tcx's holds the address. Starts tcx if this is the first
// call of the process: what follows depends on the settings.
TCX_COLD static bool is_outside(const void *pointer) {
  tcx_heap_start();
  return tcx_pagemap_span_around(pointer) == NULL;
}

static bool is_foreign(const void *pointer) {
  return TCX_UNLIKELY(tcx_pagemap_span_of(pointer) == NULL) &&
         is_outside(pointer);
}

size_t tcx_heap_object_bytes(const struct tcx_span *span) {
  return span->size_class != 0 ? tcx_size_classes[span->size_class].size
                               : tcx_span_bytes(span);
}

size_t tcx_heap_usable_size(void *pointer, const char *caller) {
  size_t bytes;
  if (is_foreign(pointer) && tcx_foreign_usable_size(pointer, &bytes))
    return bytes;
  const struct tcx_span *span = tcx_pointer_object(pointer, caller);
  unsigned size_class = span->size_class;
  if (tcx_frontend_top_is(size_class << TCX_SIZE_CLASS_SHIFT, pointer))
    tcx_pointer_reject_freed(pointer, size_class, caller);
  return tcx_heap_object_bytes(span);
}

size_t tcx_heap_good_size(size_t size) {
  return tcx_heap_good_size_aligned(1, size);
}

size_t tcx_heap_good_size_aligned(size_t align, size_t size) {
  if (!tcx_heap_start())
    return size;  // Only its allocator knows.
  unsigned size_class = aligned_class(align, size);
  if (size_class != 0)
    return tcx_size_classes[size_class].size;
  return tcx_large_pages(size) << TCX_PAGE_SHIFT;
}

// -- free ---------------------------------------------------------------------

// What free_run leaves to do: to erase, or to make room.
static TCX_NOINLINE void free_run_slow(void *block, unsigned size_class) {
  if (tcx_harden_is_on())
    tcx_harden_span_in(tcx_pagemap_span_of(block));
  tcx_frontend->overflow(size_class, block);
}

// Blocks of a run class have class 0 in the pagemap, so all of them come here.
// False: it is none that the program has.
TCX_ALWAYS_INLINE bool free_run(void *pointer) {
  unsigned run = tcx_pagemap_run(pointer);
  if (run == 0 || (run & TCX_PAGEMAP_RUN_CACHED) != 0 ||
      !tcx_is_aligned((uintptr_t)pointer, TCX_PAGE_SIZE)) {
    return false;
  }
  tcx_pagemap_set_run(pointer, run | TCX_PAGEMAP_RUN_CACHED);
  uintptr_t header = run << TCX_SIZE_CLASS_SHIFT;
  // In hardened mode the slab has no room.
  if (!tcx_frontend_push(header, pointer))
    free_run_slow(pointer, run);
  return true;
}

static void free_small(unsigned size_class, void *object, const char *caller) {
  if (tcx_frontend_top_is(size_class << TCX_SIZE_CLASS_SHIFT, object))
    tcx_pointer_reject_freed(object, size_class, caller);
  if (tcx_harden_is_on())
    tcx_harden_object_in(object, size_class);
  tcx_frontend->overflow(size_class, object);
}

// No room, beyond the window, large, or wrong.
TCX_NOINLINE static void free_slow(void *pointer, const char *caller) {
  tcx_start_bridge_thread();
  if (pointer == NULL || tcx_free_outside(pointer))
    return;
  if (is_foreign(pointer) && tcx_foreign_free(pointer))
    return;
  struct tcx_span *span = tcx_pointer_object(pointer, caller);
  unsigned size_class = span->size_class;
  if (size_class != 0) {
    free_small(size_class, pointer, caller);
    return;
  }
  if (tcx_harden_is_on())
    tcx_harden_span_in(span);
  tcx_large_free(tcx_start.pages, span);
}

void tcx_heap_free_as(void *pointer, const char *caller) {
  if (!free_run(pointer))
    free_slow(pointer, caller);
}

void tcx_heap_free(void *pointer) {
  if (!free_run(pointer))
    free_slow(pointer, "free");
}

// What malloc, or aligned_alloc, would have given for the size: no other object
// may be freed by it.
static void check_size(void *pointer, size_t align, size_t size,
                       const char *caller) {
  size_t usable = tcx_heap_object_bytes(tcx_pointer_object(pointer, caller));
  if (TCX_UNLIKELY(!tcx_is_power_of_two(align))) {
    tcx_fatal("%s(): %p has %zu bytes; %zu is no alignment", caller, pointer,
              usable, align);
  }
  if (TCX_UNLIKELY(tcx_heap_good_size_aligned(align, size) != usable)) {
    tcx_fatal("%s(): %p has %zu bytes, not %zu", caller, pointer, usable, size);
  }
}

void tcx_heap_free_sized(void *pointer, size_t size, const char *caller) {
  if (pointer == NULL || tcx_free_sized_outside(pointer, size))
    return;
  if (is_foreign(pointer) && tcx_foreign_free(pointer))
    return;
  check_size(pointer, 1, size, caller);
  if (!free_run(pointer))
    free_slow(pointer, caller);
}

void tcx_heap_free_aligned_sized(void *pointer, size_t align, size_t size,
                                 const char *caller) {
  if (pointer == NULL)
    return;
  if (is_foreign(pointer) && tcx_foreign_free(pointer))
    return;
  check_size(pointer, align, size, caller);
  if (!tcx_free_fast(pointer))
    tcx_heap_free_as(pointer, caller);
}

// -- realloc ------------------------------------------------------------------

void *tcx_heap_move(void *pointer, size_t old_bytes, size_t size,
                    const char *caller) {
  void *object = tcx_malloc_fast(size);
  if (object == NULL) {
    bool zeroed;
    object = tcx_heap_allocate(size, &zeroed);
    if (TCX_UNLIKELY(object == NULL))
      return NULL;
  }
  memcpy(object, pointer, tcx_min_size(old_bytes, size));
  if (!tcx_free_fast(pointer))
    tcx_heap_free_as(pointer, caller);
  return object;
}

// Whether it may stay, or its pages may move. Hardened mode wants erased what
// is cut off.
static bool can_resize(const struct tcx_span *span, size_t old_bytes,
                       size_t size) {
  return span->state == TCX_SPAN_LARGE && size > TCX_MAX_SMALL_SIZE &&
         (size > old_bytes || !tcx_harden_is_on());
}

void *tcx_heap_reallocate(void *pointer, size_t size, const char *caller) {
  void *moved;
  if (is_foreign(pointer) && tcx_foreign_reallocate(pointer, size, &moved))
    return moved;
  struct tcx_span *span = tcx_pointer_object(pointer, caller);
  size_t old_bytes = tcx_heap_object_bytes(span);
  size_t good_bytes = tcx_heap_good_size(size);
  if (good_bytes == old_bytes)
    return pointer;
  if (can_resize(span, old_bytes, size)) {
    void *object = tcx_large_resize(tcx_start.pages, span, size);
    if (object != NULL)
      return object;
  }
  return tcx_heap_move(pointer, old_bytes, size, caller);
}

// -- giving back --------------------------------------------------------------

size_t tcx_heap_release(size_t bytes) {
  return tcx_heap_start() ? tcx_upkeep_release(bytes) : 0;
}

void tcx_heap_tick(void) {
  if (!tcx_heap_start())
    return;
  tcx_stats_poll();
  tcx_upkeep_tick();
}

void tcx_heap_check(void) {
  if (!tcx_heap_start())
    return;
  tcx_frontend->check();
  tcx_start.objects->ops->check(tcx_start.objects);
  tcx_start.pages->ops->check(tcx_start.pages);
  tcx_system_check();
  tcx_metadata_check();
}

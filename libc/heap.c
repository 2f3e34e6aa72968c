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
#include "base/knobs.h"
#include "base/lock.h"
#include "base/log.h"
#include "frontend/selected.h"
#include "libc/fast_path.h"
#include "libc/foreign.h"
#include "libc/harden.h"
#include "libc/large.h"
#include "libc/pointer.h"
#include "libc/stack.h"
#include "middle/central_source.h"
#include "middle/transfer_source.h"
#include "pagemap/pagemap.h"
#include "size_classes/size_classes.h"
#include "telemetry/stats.h"

static struct tcx_lock start_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_START);
enum { NOT_STARTED, SERVING, ASIDE };
static int state;  // written under start_lock
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

static void read_large(uint64_t *live_bytes, uint64_t *allocations) {
  struct tcx_large_stats large;
  tcx_large_read_stats(&large);
  *live_bytes = large.live_bytes;
  *allocations = large.allocations;
}

static void wire_tiers(void) {
  static struct tcx_transfer_source transfer;
  static struct tcx_central_source central;
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
  if (tcx_harden_is_on()) {
    tcx_pagemap_hide_classes(true);
    objects = tcx_central_source_init(&central, pages);
  } else {
    objects = tcx_transfer_source_init(&transfer, pages);
  }
  register_tiers_for_fork();
  tcx_frontend->start(objects, pages);
  tcx_stats_start(&(struct tcx_stats_sources){objects, pages, read_large});
  // Last: with the first entry of its table, fast paths begin to succeed.
  tcx_size_classes_init();
}

// TCX_DISABLE. Then nothing is wired: the tables stay zero, so that all fast
// paths fail, and the slow ones go to the next allocator. Where there is none,
// the setting is taken back.
static bool steps_aside(void) {
  if (tcx_knobs.disable == 0)
    return false;
  if (tcx_foreign_calls() != NULL)
    return true;
  tcx_log("disable: not done, as this process has no other malloc");
  tcx_knobs.disable = 0;
  return false;
}

// A program's IFUNC resolver may allocate before the loader has filled the
// thread's block from its image (it does so after relocation). Until then the
// block is zero, and what is put there now does not stay.
static void bridge_early_thread(void) {
  if (TCX_LIKELY(tcx_thread.slab != NULL))
    return;
  tcx_frontend_bridge_thread();
  tcx_thread.flags |= TCX_THREAD_STARTING;
}

TCX_COLD static bool start(void) {
  tcx_lock_acquire(&start_lock);
  bool is_first = state == NOT_STARTED;
  if (is_first) {
    tcx_knobs_load();
    bool is_aside = steps_aside();
    if (!is_aside)
      wire_tiers();
    // Pairs with the acquire in tcx_heap_start: the tiers are there.
    tcx_atomic_store_release(&state, is_aside ? ASIDE : SERVING);
  }
  bool serves = state == SERVING;
  tcx_lock_release(&start_lock);
  // May allocate, so not under the lock.
  if (is_first && serves) {
    tcx_fork_start();
    if (tcx_knobs.foreign == TCX_FOREIGN_LIBC)
      (void)tcx_foreign_calls();
  }
  return serves;
}

static TCX_NOINLINE bool start_slow(void) {
  bridge_early_thread();
  int now = tcx_atomic_load_acquire(&state);
  if (now == SERVING)
    return true;
  // The look-up of the next allocator, inside `start`, may allocate.
  return now == NOT_STARTED && !tcx_foreign_is_looking() && start();
}

TCX_ALWAYS_INLINE bool is_serving(void) {
  bool is_ready =
      tcx_thread.slab != NULL && tcx_atomic_load_acquire(&state) == SERVING;
  return TCX_LIKELY(is_ready) || start_slow();
}

bool tcx_heap_start(void) {
  return is_serving();
}

const struct tcx_foreign_calls *tcx_heap_aside(void) {
  return tcx_heap_start() ? NULL : tcx_foreign_calls();
}

// A program that makes threads before it allocates, or forks at once, still
// finds everything set up. A tcx that is not the process's allocator (a second
// one is preloaded, or it was opened by hand) sleeps until it is called.
__attribute__((constructor)) static void start_early(void) {
  if (tcx_foreign_is_first())
    tcx_heap_start();
}

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

void *tcx_heap_allocate(size_t size, bool *zeroed) {
  *zeroed = false;
  if (TCX_UNLIKELY(!is_serving()))
    return tcx_foreign_allocate(size);
  tcx_stats_poll();
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

void *tcx_heap_allocate_zeroed(size_t size) {
  if (TCX_UNLIKELY(!tcx_heap_start()))
    return tcx_foreign_allocate_zeroed(size);
  bool zeroed;
  void *object = tcx_heap_allocate(size, &zeroed);
  if (object != NULL && !zeroed)
    memset(object, 0, size);
  return object;
}

static unsigned aligned_class(size_t align, size_t size) {
  TCX_ASSERT(tcx_is_power_of_two(align));
  return align <= TCX_PAGE_SIZE ? tcx_size_class_of_aligned(size, align) : 0;
}

void *tcx_heap_allocate_aligned(size_t align, size_t size) {
  if (TCX_UNLIKELY(!tcx_heap_start()))
    return tcx_foreign_allocate_aligned(align, size);
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
  bridge_early_thread();
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
  tcx_large_free(pages, span);
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

void *tcx_heap_reallocate(void *pointer, size_t size, const char *caller) {
  void *moved;
  if (is_foreign(pointer) && tcx_foreign_reallocate(pointer, size, &moved))
    return moved;
  struct tcx_span *span = tcx_pointer_object(pointer, caller);
  size_t old_bytes = tcx_heap_object_bytes(span);
  size_t good_bytes = tcx_heap_good_size(size);
  if (good_bytes == old_bytes)
    return pointer;
  if (span->size_class == 0 && good_bytes > TCX_MAX_RUN_SIZE) {
    void *object = tcx_large_resize(pages, span, size);
    if (object != NULL)
      return object;
  }
  return tcx_heap_move(pointer, old_bytes, size, caller);
}

// -- giving back --------------------------------------------------------------

size_t tcx_heap_release(size_t bytes) {
  if (!tcx_heap_start())
    return 0;
  tcx_frontend->flush();
  objects->ops->trim(objects, true);
  return tcx_page_source_release(pages, bytes);
}

void tcx_heap_tick(void) {
  if (!tcx_heap_start())
    return;
  tcx_stats_poll();
  tcx_frontend->tick();
}

void tcx_heap_check(void) {
  if (!tcx_heap_start())
    return;
  tcx_frontend->check();
  objects->ops->check(objects);
  pages->ops->check(pages);
  tcx_system_check();
  tcx_metadata_check();
}

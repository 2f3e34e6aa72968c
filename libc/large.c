// large.c -- objects above 4 MiB, or aligned beyond a page. See large.h.
#include "libc/large.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/os.h"
#include "frontend/runs.h"
#include "libc/heap.h"
#include "libc/upkeep.h"
#include "size_classes/size_classes.h"

// Objects from here on start on a huge page, so that moving one keeps every
// huge page of it whole.
#define HUGE_ALIGN_BYTES ((size_t)TCX_MAX_RUN_SIZE)
// Longer ones are whole huge pages, at most 1/16 more. Their ends would be
// shared with small objects, which stay when the object goes: then the next of
// its length does not fit there.
#define WHOLE_HUGE_BYTES (16 * TCX_HUGE_PAGE_SIZE)
// Moving pages costs two system calls; below this a copy is as cheap.
#define MOVE_BYTES_MIN ((size_t)4 * TCX_MIB)

static struct {
  uint64_t allocations;
  uint64_t live_bytes;
} counts;
// Targets of moves that were undone, with a hole. Linked by `next`; they count
// as live until they are whole.
static struct tcx_span *lost;

static void live_add(size_t pages, bool is_new) {
  tcx_atomic_fetch_add_relaxed(&counts.live_bytes,
                               (uint64_t)pages << TCX_PAGE_SHIFT);
  if (is_new)
    tcx_atomic_fetch_add_relaxed(&counts.allocations, 1);
}

static void live_subtract(size_t pages) {
  tcx_atomic_fetch_sub_relaxed(&counts.live_bytes,
                               (uint64_t)pages << TCX_PAGE_SHIFT);
}

size_t tcx_large_pages(size_t size) {
  if (size > (size_t)1 << TCX_ADDRESS_BITS)
    return 0;
  // Whole pages of the system too, or moving an object by its page tables would
  // move the start of its neighbour.
  size_t unit = TCX_PAGE_SIZE;
  if (size > TCX_MAX_RUN_SIZE)
    unit = tcx_max_size(unit, tcx_os_page_size());
  if (size > WHOLE_HUGE_BYTES)
    unit = tcx_max_size(unit, TCX_HUGE_PAGE_SIZE);
  size_t pages = tcx_align_up(size, unit) >> TCX_PAGE_SHIFT;
  if (pages > UINT32_MAX)
    return 0;
  return pages != 0 ? pages : 1;
}

static void lost_push(struct tcx_span *span) {
  struct tcx_span *next = tcx_atomic_load_relaxed(&lost);
  do {
    span->next = next;
  } while (!tcx_atomic_cas_release(&lost, &next, span));
}

// Tries to make lost targets whole. Where another mapping has taken the place,
// the span stays in use for ever.
static TCX_NOINLINE void lost_restore(struct tcx_page_source *pages) {
  struct tcx_span *next;
  struct tcx_span *span = tcx_atomic_exchange_acquire(&lost, NULL);
  for (; span != NULL; span = next) {
    next = span->next;
    int error = tcx_os_restore(span->hole, span->hole_bytes);
    if (error == 0) {
      tcx_page_source_moved(pages, span, span->pages);
      tcx_large_free(pages, span);
    } else if (error != EEXIST) {
      lost_push(span);
    }
  }
}

static struct tcx_span *span_allocate(struct tcx_page_source *pages,
                                      size_t align, size_t count,
                                      size_t moved_count) {
  if (TCX_UNLIKELY(tcx_atomic_load_relaxed(&lost) != NULL))
    lost_restore(pages);
  size_t bytes = count << TCX_PAGE_SHIFT;
  if (bytes > HUGE_ALIGN_BYTES && align < TCX_HUGE_PAGE_SIZE) {
    align = TCX_HUGE_PAGE_SIZE;
  }
  size_t align_pages = align >> TCX_PAGE_SHIFT;
  if (align_pages == 0)
    align_pages = 1;
  return tcx_page_source_request(
      pages, &(struct tcx_page_request){count, align_pages, 1, moved_count, 0});
}

void *tcx_large_allocate(struct tcx_page_source *pages, size_t align,
                         size_t size, bool *zeroed) {
  size_t count = tcx_large_pages(size);
  if (count == 0 || align >> TCX_ADDRESS_BITS != 0)
    return NULL;
  struct tcx_span *span = span_allocate(pages, align, count, 0);
  if (span == NULL)
    return NULL;
  *zeroed = (span->flags & TCX_SPAN_ZERO) != 0;
  span->flags = 0;
  live_add(count, true);
  return tcx_span_start(span);
}

void tcx_large_free(struct tcx_page_source *pages, struct tcx_span *span) {
  live_subtract(span->pages);
  tcx_page_source_deallocate(pages, span);
}

// Into a new span, page tables and all. The offsets within a huge page must
// agree, or the kernel would have to split huge pages.
static void *move(struct tcx_page_source *pages, struct tcx_span *span,
                  size_t count) {
  char *from = tcx_span_start(span);
  if (!tcx_is_aligned((uintptr_t)from, TCX_HUGE_PAGE_SIZE))
    return NULL;
  struct tcx_span *target =
      span_allocate(pages, TCX_HUGE_PAGE_SIZE, count, span->pages);
  if (target == NULL)
    return NULL;
  char *to = tcx_span_start(target);
  struct tcx_os_hole hole;
  int error = tcx_os_move(from, to, tcx_span_bytes(span), &hole);
  if (error > 0) {
    tcx_page_source_deallocate(pages, target);
    return NULL;
  }
  target->flags = 0;
  live_add(count, span->size_class != 0);
  if (error == TCX_OS_TARGET_LOST) {
    target->hole = hole.start;
    target->hole_bytes = hole.bytes;
    lost_push(target);
    return NULL;
  }
  tcx_page_source_moved(pages, target, span->pages);
  // The old pages read as zero now, and no memory is behind them, but where
  // they were copied and could not be released.
  span->flags = error == 0 ? TCX_SPAN_MOVED : 0;
  if (span->size_class != 0) {
    tcx_run_deallocate(pages, from);
  } else {
    tcx_large_free(pages, span);
  }
  return to;
}

static void *resize(struct tcx_page_source *pages, struct tcx_span *span,
                    size_t size) {
  unsigned run = size <= TCX_MAX_RUN_SIZE ? tcx_run_class_of(size) : 0;
  size_t count = run != 0 ? tcx_size_classes[run].pages : tcx_large_pages(size);
  size_t old_count = span->pages;
  bool was_large = span->size_class == 0;
  if (count == 0)
    return NULL;
  if (tcx_run_resize(pages, span, run, count)) {
    if (was_large)
      live_subtract(old_count);
    if (run == 0)
      live_add(count, !was_large);
    return tcx_span_start(span);
  }
  if (run != 0 || count < old_count || tcx_span_bytes(span) < MOVE_BYTES_MIN)
    return NULL;
  return move(pages, span, count);
}

// Where the hard limit is in the way, there may be room once all that is free
// has gone back: less than a copy would need.
void *tcx_large_resize(struct tcx_page_source *pages, struct tcx_span *span,
                       size_t size) {
  (void)tcx_upkeep_was_refused();
  void *object = resize(pages, span, size);
  if (TCX_LIKELY(object != NULL) || !tcx_upkeep_was_refused())
    return object;
  tcx_upkeep_make_room(size);
  return resize(pages, span, size);
}

void tcx_large_read_stats(uint64_t *live_bytes, uint64_t *allocations) {
  *allocations = tcx_atomic_load_relaxed(&counts.allocations);
  *live_bytes = tcx_atomic_load_relaxed(&counts.live_bytes);
}

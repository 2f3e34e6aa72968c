// large.c -- objects above 4 MiB, or aligned beyond a page. See large.h.
#include "libc/large.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/os.h"
#include "libc/heap.h"

// Objects from here on start on a huge page, so that moving one keeps every
// huge page of it whole.
#define HUGE_ALIGN_BYTES ((size_t)TCX_MAX_RUN_SIZE)
// Moving pages costs two system calls; below this a copy is as cheap.
#define MOVE_BYTES_MIN ((size_t)4 * TCX_MIB)

static struct tcx_large_stats counts;
// Targets of moves that failed half-way: nothing is mapped in their first
// `requested_bytes`. Linked by `next`; they count as live until they are whole.
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
    int error = tcx_os_restore(tcx_span_start(span), span->requested_bytes);
    if (error == 0) {
      tcx_large_free(pages, span);
    } else if (error != EEXIST) {
      lost_push(span);
    }
  }
}

static struct tcx_span *span_allocate(struct tcx_page_source *pages,
                                      size_t align, size_t count) {
  if (TCX_UNLIKELY(tcx_atomic_load_relaxed(&lost) != NULL))
    lost_restore(pages);
  size_t bytes = count << TCX_PAGE_SHIFT;
  if (bytes > HUGE_ALIGN_BYTES && align < TCX_HUGE_PAGE_SIZE) {
    align = TCX_HUGE_PAGE_SIZE;
  }
  size_t align_pages = align >> TCX_PAGE_SHIFT;
  if (align_pages == 0)
    align_pages = 1;
  return tcx_page_source_allocate(pages, count, align_pages, 1);
}

void *tcx_large_allocate(struct tcx_page_source *pages, size_t align,
                         size_t size, bool *zeroed) {
  size_t count = tcx_large_pages(size);
  if (count == 0 || align >> TCX_ADDRESS_BITS != 0)
    return NULL;
  struct tcx_span *span = span_allocate(pages, align, count);
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
  struct tcx_span *target = span_allocate(pages, 1, count);
  if (target == NULL)
    return NULL;
  char *from = tcx_span_start(span);
  char *to = tcx_span_start(target);
  bool is_congruent = ((from - to) & (ptrdiff_t)(TCX_HUGE_PAGE_SIZE - 1)) == 0;
  int error = EINVAL;
  if (is_congruent)
    error = tcx_os_move(from, to, tcx_span_bytes(span));
  if (error != 0 && error != TCX_OS_TARGET_LOST) {
    tcx_page_source_deallocate(pages, target);
    return NULL;
  }
  target->flags = 0;
  live_add(count, false);
  if (error == TCX_OS_TARGET_LOST) {
    target->requested_bytes = tcx_span_bytes(span);
    lost_push(target);
    return NULL;
  }
  // The old pages read as zero now, and no memory is behind them.
  span->flags = TCX_SPAN_MOVED;
  tcx_large_free(pages, span);
  return to;
}

void *tcx_large_resize(struct tcx_page_source *pages, struct tcx_span *span,
                       size_t size) {
  size_t count = tcx_large_pages(size);
  size_t old_count = span->pages;
  if (count == 0)
    return NULL;
  if (count == old_count)
    return tcx_span_start(span);
  if (tcx_page_source_resize(pages, span, count)) {
    live_subtract(old_count);
    live_add(count, false);
    return tcx_span_start(span);
  }
  if (count < old_count || tcx_span_bytes(span) < MOVE_BYTES_MIN)
    return NULL;
  return move(pages, span, count);
}

void tcx_large_read_stats(struct tcx_large_stats *out) {
  out->allocations = tcx_atomic_load_relaxed(&counts.allocations);
  out->live_bytes = tcx_atomic_load_relaxed(&counts.live_bytes);
}

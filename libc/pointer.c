// pointer.c -- tells objects from other addresses. See pointer.h.
#include "libc/pointer.h"

#include <string.h>

#include "base/log.h"
#include "libc/harden.h"
#include "pagemap/pagemap.h"
#include "size_classes/size_classes.h"

static bool is_object_of(const struct tcx_span *span, const void *pointer) {
  size_t offset = (size_t)((const char *)pointer - tcx_span_start(span));
  if (span->state == TCX_SPAN_LARGE)
    return offset == 0;
  return span->state == TCX_SPAN_SMALL && offset < tcx_span_bytes(span) &&
         tcx_object_offset_is_exact(&tcx_size_classes[span->size_class],
                                    (uint32_t)offset);
}

// As far as the span tells, for an object of it.
static bool is_freed(const struct tcx_span *span, const void *pointer) {
  if (span->state == TCX_SPAN_LARGE) {
    return (tcx_pagemap_run(pointer) & TCX_PAGEMAP_RUN_CACHED) != 0;
  }
  if (TCX_LIKELY(!tcx_harden_is_on()))
    return false;
  size_t offset = (size_t)((const char *)pointer - tcx_span_start(span));
  return tcx_span_is_free(
      span,
      tcx_object_index(&tcx_size_classes[span->size_class], (uint32_t)offset));
}

struct tcx_span *tcx_pointer_find(const void *pointer) {
  struct tcx_span *span = tcx_pagemap_span_of(pointer);
  bool is_object =
      span != NULL && is_object_of(span, pointer) && !is_freed(span, pointer);
  return is_object ? span : NULL;
}

struct tcx_span *tcx_pointer_object(const void *pointer, const char *caller) {
  struct tcx_span *span = tcx_pointer_find(pointer);
  if (TCX_UNLIKELY(span == NULL))
    tcx_pointer_reject(pointer, caller);
  return span;
}

// -- wrong pointers -----------------------------------------------------------

void tcx_pointer_reject_freed(const void *pointer, unsigned size_class,
                              const char *caller) {
  const char *what = strcmp(caller, "malloc_usable_size") == 0
                         ? "use of freed"
                         : "double free of";
  tcx_fatal("%s(): %s %p (object of %u bytes)", caller, what, pointer,
            (unsigned)tcx_size_classes[size_class].size);
}

void tcx_pointer_reject(const void *pointer, const char *caller) {
  const struct tcx_span *span = tcx_pagemap_span_around(pointer);
  if (span == NULL) {
    tcx_fatal("%s(): invalid pointer %p (not from malloc)", caller, pointer);
  }
  if (span->state != TCX_SPAN_SMALL && span->state != TCX_SPAN_LARGE) {
    tcx_fatal("%s(): invalid pointer %p (in free memory; freed twice?)", caller,
              pointer);
  }
  unsigned size_class = span->size_class;
  if (is_object_of(span, pointer))
    tcx_pointer_reject_freed(pointer, size_class, caller);
  if (size_class == 0) {
    tcx_fatal("%s(): invalid pointer %p (inside a large object of %zu bytes)",
              caller, pointer, tcx_span_bytes(span));
  }
  tcx_fatal("%s(): invalid pointer %p (inside an object of %u bytes)", caller,
            pointer, (unsigned)tcx_size_classes[size_class].size);
}

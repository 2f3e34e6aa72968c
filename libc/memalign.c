// memalign.c -- allocation at a stated alignment, and nallocx.
//
// WHAT IT DECIDES
//   The errors: aligned_alloc and posix_memalign refuse an alignment that is no
//   power of two, memalign rounds it up as glibc does. posix_memalign never
//   touches errno, nor its out parameter when it fails. Everything else that
//   fails sets ENOMEM. A size of 0 gives a pointer of its own.
//   The names are those of glibc's malloc.o as well, so that a static program
//   links (static_override.c has the rest of them).
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/compiler.h"
#include "base/config.h"
#include "base/os.h"
#include "libc/fast_path.h"
#include "libc/heap.h"
#include "libc/large.h"
#include "libc/libc.h"
#include "size_classes/size_classes.h"

TCX_EXPORT size_t nallocx(size_t size, int flags);
TCX_EXPORT void *pvalloc(size_t size);

// `align` is a power of two.
static void *allocate(size_t align, size_t size) {
  if (align <= TCX_ALIGNMENT) {
    void *object = tcx_malloc_fast(size);
    return TCX_LIKELY(object != NULL) ? object : tcx_heap_malloc(size);
  }
  // No larger object can exist, and no sum further down overflows.
  if (TCX_UNLIKELY(align > TCX_REQUEST_MAX || size > TCX_REQUEST_MAX - align)) {
    errno = ENOMEM;
    return NULL;
  }
  return tcx_heap_allocate_aligned(align, size);
}

TCX_EXPORT void *memalign(size_t align, size_t size) {
  if (TCX_UNLIKELY(align > SIZE_MAX / 2 + 1)) {
    errno = EINVAL;
    return NULL;
  }
  if (TCX_UNLIKELY(!tcx_is_power_of_two(align))) {
    size_t rounded = TCX_ALIGNMENT;
    while (rounded < align)
      rounded <<= 1;
    align = rounded;
  }
  return allocate(align, size);
}

TCX_EXPORT void *aligned_alloc(size_t align, size_t size) {
  if (TCX_UNLIKELY(!tcx_is_power_of_two(align))) {
    errno = EINVAL;
    return NULL;
  }
  return allocate(align, size);
}

TCX_EXPORT int posix_memalign(void **out, size_t align, size_t size) {
  if (TCX_UNLIKELY(!tcx_is_power_of_two(align) || align < sizeof(void *)))
    return EINVAL;
  int saved = errno;
  void *object = allocate(align, size);
  if (TCX_UNLIKELY(object == NULL)) {
    errno = saved;
    return ENOMEM;
  }
  *out = object;
  return 0;
}

TCX_EXPORT void *valloc(size_t size) {
  return allocate(tcx_os_page_size(), size);
}

TCX_EXPORT void *pvalloc(size_t size) {
  size_t page = tcx_os_page_size();
  if (TCX_UNLIKELY(size > TCX_REQUEST_MAX - page)) {
    errno = ENOMEM;
    return NULL;
  }
  size_t rounded = (size + page - 1) & ~(page - 1);
  return allocate(page, rounded != 0 ? rounded : page);
}

size_t nallocx(size_t size, int flags) {
  size_t align = (size_t)1 << (flags & TCX_LG_ALIGN_MASK);
  if (align <= TCX_ALIGNMENT)
    return tcx_heap_good_size(size);
  if (align > TCX_REQUEST_MAX || size > TCX_REQUEST_MAX - align)
    return 0;
  return tcx_heap_good_size_aligned(align, size);
}

TCX_LIBC_ALIAS(__libc_memalign, memalign);
TCX_LIBC_ALIAS(__memalign, memalign);
TCX_LIBC_ALIAS(__libc_valloc, valloc);
TCX_LIBC_ALIAS(__valloc, valloc);
TCX_LIBC_ALIAS(__libc_pvalloc, pvalloc);
TCX_LIBC_ALIAS(__pvalloc, pvalloc);
TCX_LIBC_ALIAS(__posix_memalign, posix_memalign);

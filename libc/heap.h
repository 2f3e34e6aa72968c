// heap.h -- the allocator as one thing: start, slow paths, large objects.
//
// PLACE IN THE SYSTEM
//   malloc.c, memalign.c, new_delete.c --> heap --> front end, page source
//   The entry points hold the fast paths; what those cannot do comes here.
//
// The tiers are wired once, by tcx_heap_start, on the first call of any entry
// point: it finds the byte table of the size classes still zero and so reaches
// a slow path.
//
// LOCKING: every function is thread safe; none is called with a lock held.
// ERRORS: NULL, with errno ENOMEM. A wrong pointer ends the process with one
//   line on standard error.
#ifndef TCX_LIBC_HEAP_H_
#define TCX_LIBC_HEAP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// Requests above this fail at once: no such object can exist.
#define TCX_REQUEST_MAX ((size_t)PTRDIFF_MAX)

// Wires the tiers; later calls return at once.
void tcx_heap_start(void);

// malloc after its fast path failed, for any reason. `*zeroed` tells whether
// the object is known to read as zero.
TCX_COLD TCX_NODISCARD void *tcx_heap_allocate(size_t size, bool *zeroed);

// The same at a multiple of `align`, a power of two.
TCX_NODISCARD void *tcx_heap_allocate_aligned(size_t align, size_t size);

// free after its fast path failed, for any reason. NULL is fine.
TCX_COLD void tcx_heap_free(void *pointer);

// Sized free after its fast path failed: the size must be of the same class.
TCX_COLD void tcx_heap_free_sized(void *pointer, size_t size);

// Bytes that may be used of a live object. Ends the process when the pointer is
// none; `caller` names the function in the message.
size_t tcx_heap_usable_size(const void *pointer, const char *caller);

// realloc of a live object, size > 0. NULL: no memory, the object is untouched.
TCX_NODISCARD void *tcx_heap_reallocate(void *pointer, size_t size);

// What malloc(size) would really give; 0 when it would fail.
size_t tcx_heap_good_size(size_t size);
// The same for an object at a multiple of `align`, a power of two.
size_t tcx_heap_good_size_aligned(size_t align, size_t size);

// Gives cached and free memory back to the system; bytes that went back.
size_t tcx_heap_trim(void);

TCX_END_DECLS

#endif  // TCX_LIBC_HEAP_H_

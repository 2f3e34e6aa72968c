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

struct tcx_span;
struct tcx_foreign_calls;

// Requests above this fail at once: no such object can exist.
#define TCX_REQUEST_MAX ((size_t)PTRDIFF_MAX)

// Wires the tiers; later calls return at once. False: tcx has stepped aside
// (TCX_DISABLE), and what is asked of it goes to the next allocator.
bool tcx_heap_start(void);

// Under TCX_DISABLE the next allocator (foreign.h), else NULL.
const struct tcx_foreign_calls *tcx_heap_aside(void);

// malloc after its fast path failed, for any reason.
TCX_NOINLINE TCX_NODISCARD void *tcx_heap_malloc(size_t size);
// The same; `*zeroed` tells whether the object is known to read as zero.
TCX_NOINLINE TCX_NODISCARD void *tcx_heap_allocate(size_t size, bool *zeroed);

// calloc after its fast path failed.
TCX_COLD TCX_NODISCARD void *tcx_heap_allocate_zeroed(size_t size);

// malloc's at a multiple of `align`, a power of two.
TCX_NODISCARD void *tcx_heap_allocate_aligned(size_t align, size_t size);

// free after its fast path failed, for any reason. NULL is fine.
TCX_NOINLINE void tcx_heap_free(void *pointer);
// The same of another function; `caller` names it in messages.
TCX_NOINLINE void tcx_heap_free_as(void *pointer, const char *caller);

// Sized free after its fast path failed: the size must be of the same class.
TCX_COLD void tcx_heap_free_sized(void *pointer, size_t size,
                                  const char *caller);

// The same by alignment and size; has no fast path.
void tcx_heap_free_aligned_sized(void *pointer, size_t align, size_t size,
                                 const char *caller);

// Bytes that may be used of a live object. Ends the process when the pointer is
// none; `caller` names the function in the message.
size_t tcx_heap_usable_size(void *pointer, const char *caller);

// The span of the object that starts at any address, or NULL. The caller knows
// that nobody frees it meanwhile.
const struct tcx_span *tcx_heap_find(const void *pointer);
// Bytes of each object of such a span.
size_t tcx_heap_object_bytes(const struct tcx_span *span);

// realloc of a live object, size > 0. NULL: no memory, the object is untouched.
TCX_NODISCARD void *tcx_heap_reallocate(void *pointer, size_t size,
                                        const char *caller);
// The same of an object of `old_bytes` that has no room for `size` where it is.
TCX_NODISCARD void *tcx_heap_move(void *pointer, size_t old_bytes, size_t size,
                                  const char *caller);

// What malloc(size) would really give; 0 when it would fail.
size_t tcx_heap_good_size(size_t size);
// The same for an object at a multiple of `align`, a power of two.
size_t tcx_heap_good_size_aligned(size_t align, size_t size);

// Gives cached and free memory back to the system, up to about `bytes`; bytes
// that went back.
size_t tcx_heap_release(size_t bytes);

// Gives down and back what was not used for its time, of this thread and of
// all.
void tcx_heap_tick(void);

// Walks the invariants of all tiers, and of the calling thread's cache; ends
// the process where one does not hold. No other thread is inside tcx.
void tcx_heap_check(void);

TCX_END_DECLS

#endif  // TCX_LIBC_HEAP_H_

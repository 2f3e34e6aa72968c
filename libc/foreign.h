// foreign.h -- the next allocator of the process, and pointers that are its.
//
// PLACE IN THE SYSTEM
//   heap.c --(a pointer that no span holds; under TCX_DISABLE every call)-->
//     foreign --> the functions that the process would use without tcx
//
// WHAT IT DECIDES
//   Which allocator is the next one: what the loader finds behind tcx
//   (RTLD_NEXT), glibc's malloc or that of another preloaded library. A fully
//   static program has none.
//   What becomes of a foreign pointer, by the setting `foreign`:
//     abort   the process ends with one line (heap.c writes it).
//     libc    its own allocator does what was asked for; realloc stays there.
//     ignore  free does nothing and the object leaks; its size counts as 0;
//             realloc makes a new object of tcx's and copies as many bytes of
//             the old one as are asked for and can be read, for nobody knows
//             how long it was.
//
// Looking up is left until it is needed, or done at start where the settings
// say that it will be: the loader takes its own lock for it.
//
// LOCKING: none. Threads that look up at the same time store the same values.
//   A thread that allocates inside its own look-up (the loader does where it
//   finds nothing) gets NULL.
#ifndef TCX_LIBC_FOREIGN_H_
#define TCX_LIBC_FOREIGN_H_

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// name of the function, its result and its parameters
#define TCX_FOREIGN_CALLS(X)                       \
  X(malloc, void *, (size_t size))                 \
  X(calloc, void *, (size_t count, size_t size))   \
  X(realloc, void *, (void *pointer, size_t size)) \
  X(memalign, void *, (size_t align, size_t size)) \
  X(free, void, (void *pointer))                   \
  X(malloc_usable_size, size_t, (void *pointer))   \
  X(malloc_trim, int, (size_t pad_bytes))          \
  X(malloc_stats, void, (void))                    \
  X(malloc_info, int, (int options, FILE *stream)) \
  X(mallinfo2, struct mallinfo2, (void))           \
  X(mallopt, int, (int parameter, int value))

// The first six are there; of an allocator other than glibc's, a later one may
// be NULL.
struct tcx_foreign_calls {
#define TCX_FOREIGN_FIELD(name, result, parameters) \
  result(*call_##name) parameters;
  TCX_FOREIGN_CALLS(TCX_FOREIGN_FIELD)
#undef TCX_FOREIGN_FIELD
};

// The next allocator. NULL: there is none, or the calling thread is about to
// look it up.
const struct tcx_foreign_calls *tcx_foreign_calls(void);

// True inside the calling thread's look-up.
bool tcx_foreign_is_looking(void);

// True if tcx is the first allocator among the libraries of the process: what
// it defines as malloc is what the process calls.
bool tcx_foreign_is_first(void);

// Under TCX_DISABLE. NULL with ENOMEM inside the look-up.
void *tcx_foreign_allocate(size_t size);
void *tcx_foreign_allocate_zeroed(size_t size);
void *tcx_foreign_allocate_aligned(size_t align, size_t size);

// What the settings say of a pointer that no span holds. False: it is an error
// of the program.
TCX_NODISCARD bool tcx_foreign_free(void *pointer);
TCX_NODISCARD bool tcx_foreign_usable_size(void *pointer, size_t *bytes);
// `*object` is NULL where there is no memory; the pointer stays valid then.
TCX_NODISCARD bool tcx_foreign_reallocate(void *pointer, size_t size,
                                          void **object);

TCX_END_DECLS

#endif  // TCX_LIBC_FOREIGN_H_

// foreign.c -- finds the next allocator, and treats its pointers. See
// foreign.h.
#include "libc/foreign.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/knobs.h"
#include "base/log.h"
#include "frontend/thread.h"
#include "libc/heap.h"

// Weak: a static program must not be given libc's loader for our sake.
extern __typeof__(dlsym) dlsym __attribute__((weak));

enum { NOT_LOOKED, FOUND, NONE };

static struct tcx_foreign_calls calls;
static int state;

// -- finding ------------------------------------------------------------------

bool tcx_foreign_is_looking(void) {
  return (tcx_thread.flags & TCX_THREAD_LOOKING) != 0;
}

// dlsym searches behind the library that calls it: this function must be ours.
static TCX_NOINLINE bool look_up(void) {
  struct tcx_foreign_calls found;
#define FIND(name, result, parameters) \
  found.call_##name = (result(*) parameters)dlsym(RTLD_NEXT, #name);
  TCX_FOREIGN_CALLS(FIND)
#undef FIND
  if (found.call_malloc == NULL || found.call_calloc == NULL ||
      found.call_realloc == NULL || found.call_memalign == NULL ||
      found.call_free == NULL || found.call_malloc_usable_size == NULL) {
    return false;
  }
#define STORE(name, result, parameters) \
  tcx_atomic_store_relaxed(&calls.call_##name, found.call_##name);
  TCX_FOREIGN_CALLS(STORE)
#undef STORE
  return true;
}

const struct tcx_foreign_calls *tcx_foreign_calls(void) {
  int now = tcx_atomic_load_acquire(&state);
  if (TCX_LIKELY(now == FOUND))
    return &calls;
  if (now == NONE || dlsym == NULL || tcx_foreign_is_looking())
    return NULL;
  int saved = errno;
  tcx_thread.flags |= TCX_THREAD_LOOKING;
  now = look_up() ? FOUND : NONE;
  tcx_thread.flags &= ~(uint32_t)TCX_THREAD_LOOKING;
  errno = saved;
  // Pairs with the acquire above: the calls are there.
  tcx_atomic_store_release(&state, now);
  return now == FOUND ? &calls : NULL;
}

// By two names: what the process calls, and ours whatever the process does. A
// program may be made of the heap alone, without malloc.c.
extern void *visible_malloc(size_t size) __asm__("malloc")
    __attribute__((visibility("default")));
extern TCX_HIDDEN void *tcx_libc_malloc(size_t size) __attribute__((weak));

bool tcx_foreign_is_first(void) {
  void *(*visible)(size_t) = visible_malloc;
  void *(*own)(size_t) = tcx_libc_malloc;
  // Or the compiler decides by the names.
  TCX_KEEP_SIMPLE(visible);
  TCX_KEEP_SIMPLE(own);
  return visible == own;
}

// -- all calls, under TCX_DISABLE ---------------------------------------------

static void *no_memory(void) {
  errno = ENOMEM;
  return NULL;
}

void *tcx_foreign_allocate(size_t size) {
  const struct tcx_foreign_calls *next = tcx_foreign_calls();
  return next != NULL ? next->call_malloc(size) : no_memory();
}

void *tcx_foreign_allocate_zeroed(size_t size) {
  const struct tcx_foreign_calls *next = tcx_foreign_calls();
  return next != NULL ? next->call_calloc(1, size) : no_memory();
}

void *tcx_foreign_allocate_aligned(size_t align, size_t size) {
  const struct tcx_foreign_calls *next = tcx_foreign_calls();
  return next != NULL ? next->call_memalign(align, size) : no_memory();
}

// -- foreign pointers ---------------------------------------------------------

static enum tcx_foreign_choice choice(void) {
  if (tcx_knobs.disable != 0)
    return TCX_FOREIGN_LIBC;
  return (enum tcx_foreign_choice)tcx_atomic_load_relaxed(&tcx_knobs.foreign);
}

// NULL: the setting is another one.
static const struct tcx_foreign_calls *owner_of(const void *pointer) {
  if (choice() != TCX_FOREIGN_LIBC)
    return NULL;
  const struct tcx_foreign_calls *owner = tcx_foreign_calls();
  if (owner == NULL) {
    tcx_fatal("%p is not from tcx, and this process has no other malloc",
              pointer);
  }
  return owner;
}

bool tcx_foreign_free(void *pointer) {
  const struct tcx_foreign_calls *owner = owner_of(pointer);
  if (owner != NULL)
    owner->call_free(pointer);
  return owner != NULL || choice() == TCX_FOREIGN_IGNORE;
}

bool tcx_foreign_usable_size(void *pointer, size_t *bytes) {
  const struct tcx_foreign_calls *owner = owner_of(pointer);
  *bytes = owner != NULL ? owner->call_malloc_usable_size(pointer) : 0;
  return owner != NULL || choice() == TCX_FOREIGN_IGNORE;
}

// The kernel copies up to the first byte that cannot be read, and no fault
// comes of it. False: not even the first byte, or the kernel refuses.
static bool copy_readable(void *to, void *from, size_t bytes) {
  struct iovec target = {to, bytes};
  struct iovec source = {from, bytes};
  return process_vm_readv(getpid(), &target, 1, &source, 1, 0) > 0;
}

bool tcx_foreign_reallocate(void *pointer, size_t size, void **object) {
  const struct tcx_foreign_calls *owner = owner_of(pointer);
  if (owner != NULL) {
    *object = owner->call_realloc(pointer, size);
    return true;
  }
  if (choice() != TCX_FOREIGN_IGNORE)
    return false;
  bool zeroed;
  *object = tcx_heap_allocate(size, &zeroed);
  if (*object != NULL && !copy_readable(*object, pointer, size)) {
    tcx_heap_free(*object);
    *object = no_memory();
  }
  return true;
}

// static_override.c -- the rest of glibc's malloc.o, for static programs.
//
// PLACE IN THE SYSTEM
//   In a fully static program other objects of libc.a name these symbols. One
//   that is not ours would pull glibc's malloc.o into the program, and its
//   malloc would collide with ours. So every symbol that malloc.o of glibc 2.36
//   defines is defined here, in malloc.c, memalign.c or mallinfo.c;
//   testing/libc/static_symbols_test.c names them all.
//   In a shared library nobody calls these.
//
// WHAT IT DECIDES
//   The hooks that glibc's fork calls are empty: tcx registers its own with
//   pthread_atfork, which glibc's fork runs as well. A thread's cache goes back
//   by a thread-specific key, so glibc's hook for thread exit has no work.
#include <stddef.h>
#include <unistd.h>

#include "base/compiler.h"

TCX_EXPORT void __malloc_fork_lock_parent(void);
TCX_EXPORT void __malloc_fork_unlock_parent(void);
TCX_EXPORT void __malloc_fork_unlock_child(void);
TCX_EXPORT void __malloc_arena_thread_freeres(void);
TCX_EXPORT void *__glibc_morecore(ptrdiff_t increment);

void __malloc_fork_lock_parent(void) {}

void __malloc_fork_unlock_parent(void) {}

void __malloc_fork_unlock_child(void) {}

void __malloc_arena_thread_freeres(void) {}

// As glibc's: sbrk, with NULL for failure. tcx itself never moves the break.
void *__glibc_morecore(ptrdiff_t increment) {
  void *start = sbrk(increment);
  return start == (void *)-1 ? NULL : start;
}

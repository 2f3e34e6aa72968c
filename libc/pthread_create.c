// pthread_create.c -- the program's pthread_create, which brings tcx-bg along.
//
// PLACE IN THE SYSTEM
//   program --> our pthread_create --> libc's; then background.c
//   In the products only: a sanitizer has a pthread_create of its own.
//
// WHAT IT DECIDES
//   Where libc's is. Behind us, as the loader sees it (RTLD_NEXT: it may be
//   another preloaded library's); in a fully static program by its second name,
//   __pthread_create, which our strong pthread_create does not hide.
//
//   The program's own thread comes first: where it takes the last one that
//   RLIMIT_NPROC allows, tcx does without.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <threads.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/log.h"
#include "libc/background.h"

typedef int create_function(pthread_t *thread, const pthread_attr_t *attributes,
                            void *(*run)(void *), void *arg);

// Weak: libc.so has the one as no symbol, a static program not the other.
extern create_function __pthread_create __attribute__((weak));
extern __typeof__(dlsym) dlsym __attribute__((weak));

// A weak name takes nothing out of libc.a. This one is there in both, and in
// libc.a its object names __pthread_create.
static __typeof__(thrd_create) *const needed __attribute__((used)) =
    thrd_create;

static create_function *look_up(void) {
  if (__pthread_create != NULL)
    return __pthread_create;
  return dlsym != NULL ? (create_function *)dlsym(RTLD_NEXT, "pthread_create")
                       : NULL;
}

int tcx_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                       void *(*run)(void *), void *arg) {
  static create_function *next;
  create_function *found = tcx_atomic_load_relaxed(&next);
  if (found == NULL) {
    found = look_up();
    if (found == NULL)
      tcx_fatal("pthread_create(): this process has none but that of tcx");
    tcx_atomic_store_relaxed(&next, found);
  }
  return found(thread, attributes, run, arg);
}

TCX_EXPORT int pthread_create(pthread_t *thread,
                              const pthread_attr_t *attributes,
                              void *(*run)(void *), void *arg) {
  int error = tcx_pthread_create(thread, attributes, run, arg);
  if (error == 0)
    tcx_background_enter();
  return error;
}

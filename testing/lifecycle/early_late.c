// early_late.c -- malloc and free at every point of a process's and a thread's
// life that a program can reach.
//
// Method: each point allocates of every kind, checks all objects that earlier
//   points left, frees the oldest and leaves one of its own. The last point,
//   after all other destructors, checks that each point was reached, and ends
//   the process with the result.
// usage: early_late tcx|libc   whose malloc it must be
#include <pthread.h>
#include <unistd.h>

#include "testing/lifecycle/check.h"

enum point {
#ifndef STATIC
  IFUNC_RESOLVER,
#endif
  PREINIT,
  CONSTRUCTOR_FIRST,
  CONSTRUCTOR,
  MAIN,
  THREAD,
  THREAD_LOCAL_DESTRUCTOR,  // of a thread
  KEY_DESTRUCTOR_1,         // the rounds of POSIX
  KEY_DESTRUCTOR_2,
  KEY_DESTRUCTOR_3,
  KEY_DESTRUCTOR_4,
  MAIN_THREAD_LOCAL_DESTRUCTOR,
  AT_EXIT,
  AT_EXIT_OF_CONSTRUCTOR,
  DESTRUCTOR,
  DESTRUCTOR_LAST,
  FINI,
  POINTS
};

static int reached[POINTS];
static void *left[POINTS];
static const char *whose = "";

static size_t size_of(int point) {
  return 100 + 900 * (size_t)point;
}

static void visit(enum point point) {
  CHECK(++reached[point] == 1);
  use_malloc();
  int is_oldest = 1;
  for (int i = 0; i < POINTS; i++) {
    if (left[i] == NULL)
      continue;
    CHECK(is_filled(left[i], size_of(i), i + 1));
    if (is_oldest && reached[MAIN]) {
      free(left[i]);
      left[i] = NULL;
    }
    is_oldest = 0;
  }
  left[point] = keep(malloc(size_of(point)));
  memset(left[point], point + 1, size_of(point));
}

// -- before main --------------------------------------------------------------

#ifndef STATIC
static int one(void) {
  return 1;
}
static int (*resolve_one(void))(void) {
  visit(IFUNC_RESOLVER);
  return one;
}
int resolved_one(void) __attribute__((ifunc("resolve_one")));
#endif

static void preinit(void) {
  visit(PREINIT);
}
__attribute__((section(".preinit_array"),
               used)) static void (*const preinit_entry)(void) = preinit;

static void at_exit_of_constructor(void) {
  visit(AT_EXIT_OF_CONSTRUCTOR);
}

__attribute__((constructor(101))) static void constructor_first(void) {
  visit(CONSTRUCTOR_FIRST);
  CHECK(atexit(at_exit_of_constructor) == 0);
}

__attribute__((constructor)) static void constructor(void) {
  visit(CONSTRUCTOR);
}

// -- a thread -----------------------------------------------------------------

// What C++ compiles thread_local objects with destructors to.
extern int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object,
                                    void *library);
extern void *__dso_handle;

static void thread_local_destructor(void *point) {
  visit((enum point)(intptr_t)point);
}

static pthread_key_t key;

static void key_destructor(void *point) {
  visit((enum point)(intptr_t)point);
  if ((intptr_t)point < KEY_DESTRUCTOR_4)
    CHECK(pthread_setspecific(key, (char *)point + 1) == 0);
}

static void at_thread_end(enum point point) {
  CHECK(__cxa_thread_atexit_impl(thread_local_destructor,
                                 (void *)(intptr_t)point, &__dso_handle) == 0);
}

static void *thread(void *unused) {
  visit(THREAD);
  at_thread_end(THREAD_LOCAL_DESTRUCTOR);
  CHECK(pthread_setspecific(key, (void *)(intptr_t)KEY_DESTRUCTOR_1) == 0);
  return unused;
}

// -- after main ---------------------------------------------------------------

static void at_exit(void) {
  visit(AT_EXIT);
}

__attribute__((destructor)) static void destructor(void) {
  visit(DESTRUCTOR);
}

__attribute__((destructor(101))) static void destructor_last(void) {
  visit(DESTRUCTOR_LAST);
}

static void fini(void) {
  visit(FINI);
  for (int i = 0; i < POINTS; i++) {
    CHECK(reached[i] == 1);
    free(left[i]);
  }
  void *object = keep(malloc(100));
  CHECK(is_of_tcx(object) == (strcmp(whose, "tcx") == 0));
  free(object);
  printf("early_late: %d points\n", POINTS);
  _exit(report("early_late"));
}
// The first entry runs last; the linker sorts those without a number to the
// end, so this one has the lowest.
__attribute__((section(".fini_array.00000"),
               used)) static void (*const fini_entry)(void) = fini;

int main(int argc, char **argv) {
  if (argc == 2)
    whose = argv[1];
#ifndef STATIC
  CHECK(resolved_one() == 1);
#endif
  visit(MAIN);
  CHECK(atexit(at_exit) == 0);
  at_thread_end(MAIN_THREAD_LOCAL_DESTRUCTOR);
  pthread_t id;
  CHECK(pthread_key_create(&key, key_destructor) == 0);
  CHECK(pthread_create(&id, NULL, thread, NULL) == 0);
  CHECK(pthread_join(id, NULL) == 0);
  return 0;
}

// fork_first_test.c -- fork before the first allocation, and right after it.
//
// Method: a function that runs before the constructors of all libraries forks:
//   nothing has been allocated, no handler of tcx is registered, and both
//   processes start tcx by themselves. Then it allocates once, and forks again:
//   now all handlers are there, which the watcher of locks sees by what the
//   fork takes.
// Method: a process whose main does nothing but fork, first with one thread and
//   then with two.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lock.h"
#include "testing/libc/support.h"

static void require(int holds, const char *what) {
  if (holds)
    return;
  static const char name[] = "fork_first_test: ";
  (void)!write(STDERR_FILENO, name, sizeof name - 1);
  (void)!write(STDERR_FILENO, what, strlen(what));
  (void)!write(STDERR_FILENO, "\n", 1);
  _exit(1);
}

static unsigned taken[TCX_LOCK_RANK_LIMIT];

static void watch(enum tcx_lock_event event, const struct tcx_lock *lock,
                  uint32_t rank) {
  (void)lock;
  if (event == TCX_LOCK_TAKEN)
    taken[rank]++;
}

static unsigned ranks_taken(void) {
  unsigned count = 0;
  for (unsigned i = 0; i < TCX_LOCK_RANK_LIMIT; i++)
    count += taken[i] != 0;
  return count;
}

static void allocate_every_size(void) {
  for (size_t size = 1; size < (size_t)16 << 20; size += size / 4 + 1) {
    unsigned char *object = malloc(Opaque(size));
    require(object != NULL, "no memory");
    object[0] = 1;
    object[size - 1] = 2;
    free(object);
  }
}

static void *allocate_in_thread(void *arg) {
  allocate_every_size();
  return arg;
}

static void live(void) {
  alarm(60);
  allocate_every_size();
  pthread_t thread;
  require(pthread_create(&thread, NULL, allocate_in_thread, NULL) == 0,
          "no thread");
  require(pthread_join(thread, NULL) == 0, "no join");
}

static void fork_and_live(const char *what) {
  pid_t child = fork();
  require(child >= 0, "no fork");
  if (child == 0) {
    live();
    pid_t grandchild = fork();
    if (grandchild == 0) {
      live();
      _exit(0);
    }
    int status;
    require(waitpid(grandchild, &status, 0) == grandchild && status == 0,
            "a grandchild failed");
    _exit(0);
  }
  int status;
  require(waitpid(child, &status, 0) == child && status == 0, what);
}

// What fork itself takes, in the parent.
static unsigned ranks_of_a_fork(void) {
  memset(taken, 0, sizeof taken);
  tcx_lock_install_watcher(watch);
  fork_and_live("child of a fork that was watched");
  tcx_lock_install_watcher(NULL);
  return ranks_taken();
}

// Registered before those of tcx, so it runs inside of them: while the thread
// that forks holds all locks.
static unsigned handler_runs;

static void allocate_in_handler(void) {
  allocate_every_size();
  malloc_trim(0);
  require(mallinfo2().arena != 0 || tcx_served_objects() == 0, "figures");
  handler_runs++;
}

static void run_before_constructors(void) {
  require(tcx_served_objects() == 0, "something allocated already");
  require(ranks_of_a_fork() == 0, "handlers are there already");
  require(pthread_atfork(allocate_in_handler, allocate_in_handler,
                         allocate_in_handler) == 0,
          "pthread_atfork");
  require(tcx_served_objects() == 0, "pthread_atfork allocates");
  free(Keep(malloc(Opaque(1))));
  // The first allocation registers them, before it returns.
#ifdef TCX_FRONTEND_PERCPU
  const unsigned ranks = TCX_LOCK_RANK_LIMIT - 1;
#else
  // Not that of the other front end.
  const unsigned ranks = TCX_LOCK_RANK_LIMIT - 2;
#endif
  require(ranks_of_a_fork() == ranks,
          "after the first allocation fork does not take all locks");
  require(handler_runs == 2, "handlers that were registered first do not run");
}

__attribute__((section(".preinit_array"),
               used)) static void (*const before_constructors)(void) =
    run_before_constructors;

static void *fork_in_thread(void *arg) {
  fork_and_live("child of a second thread");
  return arg;
}

int main(void) {
  fork_and_live("child of main");
  pthread_t thread;
  require(pthread_create(&thread, NULL, fork_in_thread, NULL) == 0, "thread");
  fork_and_live("child of main beside a thread that forks");
  require(pthread_join(thread, NULL) == 0, "join");
  puts("fork first: 5 forks, each with one of the child");
  return 0;
}

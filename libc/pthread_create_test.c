// pthread_create_test.c -- the program's pthread_create brings the thread
// along, and the process ends as it would without it.
//
// Method: a program over pthread_create.c, linked as programs are and with
//   -static, whose static TLS takes three quarters of 64 KiB: the thread's
//   stack must have that on top. Each case is a child process; its exit status
//   tells.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/fork.h"
#include "base/knobs.h"
#include "libc/background.h"

#define REQUIRE(c) ((c) ? (void)0 : fail(__LINE__, #c))

enum { EXIT_RAN = 7 };

enum { STACK_LEAST_BYTES = 56 << 10 };

static _Thread_local char large[48 << 10];

static void fail(int line, const char *text) {
  fprintf(stderr, "line %d: not so: %s\n", line, text);
  _exit(1);
}

static useconds_t work_us;

// Of the calling thread's stack, below this function.
static size_t stack_left_bytes(void) {
  pthread_attr_t attributes;
  void *start;
  size_t bytes;
  REQUIRE(pthread_getattr_np(pthread_self(), &attributes) == 0);
  REQUIRE(pthread_attr_getstack(&attributes, &start, &bytes) == 0);
  pthread_attr_destroy(&attributes);
  return (size_t)((char *)&attributes - (char *)start);
}

static uint64_t work(uint64_t now_ms) {
  (void)now_ms;
  REQUIRE(stack_left_bytes() >= STACK_LEAST_BYTES);
  usleep(work_us);
  large[sizeof large / 2]++;
  return TCX_BACKGROUND_IDLE;
}
static const struct tcx_background_job job = {work, NULL};

static void *nothing(void *arg) {
  large[0]++;
  return arg;
}

static void make_and_join(void) {
  pthread_t thread;
  void *result = NULL;
  REQUIRE(pthread_create(&thread, NULL, nothing, large) == 0);
  REQUIRE(pthread_join(thread, &result) == 0);
  REQUIRE(result == large);
}

static uint64_t made(void) {
  struct tcx_background_stats stats;
  tcx_background_read_stats(&stats);
  return stats.made;
}

static void brings_one(void) {
  REQUIRE(!tcx_background_is_running());
  make_and_join();
  REQUIRE(tcx_background_is_running());
  make_and_join();
  REQUIRE(made() == 1);
}

// -- The end of the process ---------------------------------------------------

// Of exit(), which libc calls in the process's last thread.
static void at_exit(void) {
  char name[16] = "";
  pthread_getname_np(pthread_self(), name, sizeof name);
  REQUIRE(strcmp(name, "tcx-bg") != 0);
  REQUIRE(!tcx_background_is_running());
  _exit(EXIT_RAN);
}

static void *outlive_main(void *arg) {
  (void)arg;
  for (int i = 0; i < 10000 && tcx_background_is_running(); i++)
    usleep(1000);
  REQUIRE(!tcx_background_is_running());
  // Nor does a thread made now bring another.
  make_and_join();
  REQUIRE(!tcx_background_is_running());
  return NULL;
}

static void main_thread_ends_first(void) {
  pthread_t thread;
  atexit(at_exit);
  make_and_join();
  REQUIRE(tcx_background_is_running());
  REQUIRE(pthread_create(&thread, NULL, outlive_main, NULL) == 0);
  pthread_exit(NULL);
}

// While the other one is at work, which it finishes before the main thread goes
// on to end.
static void main_thread_ends_last(void) {
  atexit(at_exit);
  work_us = 30000;
  make_and_join();
  REQUIRE(tcx_background_is_running());
  tcx_background_wake();
  usleep(5000);
  pthread_exit(NULL);
}

static int main_thread_leaves;

// Once the main thread has ended: in a static program a fork while it unwinds
// its stack would leave libgcc's lock taken in the child.
static void *fork_in_thread(void *arg) {
  (void)arg;
  while (tcx_atomic_load_acquire(&main_thread_leaves) == 0 ||
         tcx_background_is_running()) {
    usleep(1000);
  }
  pid_t child = fork();
  if (child == 0) {
    // The child's main thread now, and the only one.
    make_and_join();
    pthread_exit(NULL);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_RAN);
  return NULL;
}

static void child_of_a_thread_ends(void) {
  pthread_t thread;
  atexit(at_exit);
  REQUIRE(pthread_create(&thread, NULL, fork_in_thread, NULL) == 0);
  tcx_atomic_store_release(&main_thread_leaves, 1);
  pthread_exit(NULL);
}

static void run(void (*body)(void), const char *name, int want) {
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(30);
    tcx_background_start(&job, TCX_BACKGROUND_AUTO);
    tcx_fork_start();
    body();
    _exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  printf("%s: status %d\n", name, status);
  REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == want);
}

int main(void) {
  run(brings_one, "brings one", 0);
  run(main_thread_ends_first, "main thread ends first", EXIT_RAN);
  run(main_thread_ends_last, "main thread ends last", EXIT_RAN);
  run(child_of_a_thread_ends, "child of a thread ends", EXIT_RAN);
  return 0;
}

// back.c -- memory that goes back to the system by itself, in one process of
// each kind.
//
// Method: a burst of objects is freed; from then on RSS is looked at. Where
//   nobody is to call malloc, nobody does. The kernel's count, not tcx's.
// usage: back CASE   see the table at the end
#include <malloc.h>
#include <signal.h>

#include "testing/release/memory.h"

#define BURST_BYTES (256 * MIB)
// What may stay, on top of what was there before: 5 %.
#define REST_BYTES (BURST_BYTES / 20)
#define LEAST 16
// Ten are promised; a busy machine takes longer.
#define IDLE_S 30
// Two to five as a rule. A busy machine may be late once, not each time.
#define SOON_S 8
#define TRIES 3
#define PAUSE_S 3.1
#define CALLS 1000

static size_t base;  // RSS before all that

static void start(void) {
  free(keep(malloc(100)));
  base = rss_bytes();
}

static void burst(void) {
  struct burst burst = burst_fill(BURST_BYTES, LEAST);
  CHECK(rss_bytes() > BURST_BYTES);
  burst_free(&burst, BURST_BYTES, LEAST, 0);
}

static void shrinks_idle(void) {
  burst();
  CHECK(soon(rss_bytes, base + REST_BYTES, IDLE_S, NULL));
}

// A program that goes on, a little later.
static void shrinks_by_calls(void) {
  burst();
  sleep_s(PAUSE_S);
  for (int i = 0; i < CALLS; i++)
    free(keep(malloc(64)));
  size_t rss = rss_bytes();
  printf("%zu MiB after %d calls\n", rss / MIB, CALLS);
  CHECK(rss <= base + REST_BYTES);
}

// -- Threads ------------------------------------------------------------------

static pthread_barrier_t freed;

static void *burst_in_thread(void *arg) {
  burst_of(BURST_BYTES / 2, LEAST);
  pthread_barrier_wait(&freed);
  pthread_barrier_wait(&freed);
  return arg;
}

static void check_background_thread(void) {
  char path[64], text[4096];
  CHECK(has_background_thread());
  snprintf(path, sizeof path, "/proc/self/task/%d/status", background_thread());
  CHECK(read_proc(path, text, sizeof text) > 0);
  const char *line = strstr(text, "SigBlk:");
  CHECK(line != NULL);
  uint64_t blocked = line != NULL ? strtoull(line + 7, NULL, 16) : 0;
  for (int signal = 1; signal <= SIGRTMAX; signal++) {
    int is_free = signal == SIGKILL || signal == SIGSTOP ||
                  (signal > SIGSYS && signal < SIGRTMIN);
    CHECK(is_free || (blocked >> (signal - 1) & 1) != 0);
  }
}

static void idle_threads(void) {
  pthread_t threads[2];
  CHECK(make_and_join());
  start();
  check_background_thread();
  pthread_barrier_init(&freed, NULL, 3);
  for (int i = 0; i < 2; i++)
    CHECK(pthread_create(&threads[i], NULL, burst_in_thread, NULL) == 0);
  pthread_barrier_wait(&freed);
  CHECK(soon(rss_bytes, base + REST_BYTES, IDLE_S, NULL));
  pthread_barrier_wait(&freed);
  for (int i = 0; i < 2; i++)
    CHECK(pthread_join(threads[i], NULL) == 0);
}

// By the timer of demand, not when something else comes by at last.
static void in_time(void) {
  int is_in_time = 0;
  CHECK(make_and_join());
  start();
  CHECK(has_background_thread());
  for (int i = 0; i < TRIES && !is_in_time; i++) {
    burst();
    is_in_time = soon(rss_bytes, base + REST_BYTES, SOON_S, NULL);
  }
  CHECK(is_in_time);
}

static void single(void) {
  start();
  shrinks_by_calls();
  CHECK(background_thread() == 0);
}

static void *visits_in_thread(void *arg) {
  shrinks_by_calls();
  return arg;
}

// With TCX_BACKGROUND=off.
static void off(void) {
  pthread_t thread;
  CHECK(make_and_join());
  start();
  CHECK(pthread_create(&thread, NULL, visits_in_thread, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  shrinks_by_calls();
  CHECK(background_thread() == 0);
}

// With TCX_BACKGROUND=on.
static void on(void) {
  start();
  CHECK(has_background_thread());
  pid_t child = fork();
  if (child == 0) {
    CHECK(has_background_thread());
    shrinks_idle();
    _exit(failures != 0);
  }
  shrinks_idle();
  CHECK(child_did_well(child));
}

static void fork_child(void) {
  CHECK(make_and_join());
  start();
  CHECK(has_background_thread());
  pid_t child = fork();
  if (child == 0) {
    CHECK(background_thread() == 0);
    shrinks_by_calls();
    CHECK(background_thread() == 0);
    CHECK(make_and_join());
    CHECK(has_background_thread());
    shrinks_idle();
    _exit(failures != 0);
  }
  CHECK(child_did_well(child));
}

// -- The end ------------------------------------------------------------------

static void *outlive_main(void *arg) {
  usleep(200000);
  burst_of(BURST_BYTES / 4, LEAST);
  return arg;
}

static void at_exit(void) {
  CHECK(background_thread() == 0);
  _exit(report("the last thread ends the process"));
}

static void main_ends_first(void) {
  pthread_t thread;
  start();
  atexit(at_exit);
  CHECK(pthread_create(&thread, NULL, outlive_main, NULL) == 0);
  CHECK(has_background_thread());
  pthread_exit(NULL);
}

static void many_threads(void) {
  for (int i = 0; i < 3000; i++)
    CHECK(make_and_join());
  CHECK(has_background_thread());
}

// -- By hand ------------------------------------------------------------------

// With TCX_BACKGROUND=off.
static void by_hand(void) {
  start();
  burst();
  size_t before = rss_bytes();
  size_t released = tcx_release(64 * MIB);
  CHECK(released >= 64 * MIB && released < 128 * MIB);
  CHECK(rss_bytes() <= before - 63 * MIB);
  CHECK(malloc_trim(0) == 1);
  CHECK(rss_bytes() <= base + REST_BYTES);
  CHECK(tcx_release(SIZE_MAX) < MIB);
  // In steps, when it is due, and nothing but that.
  burst();
  CHECK(soon(rss_bytes, base + REST_BYTES, IDLE_S, tcx_tick));
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } cases[] = {
      {"idle_threads", idle_threads},
      {"in_time", in_time},
      {"single", single},
      {"off", off},
      {"on", on},
      {"fork_child", fork_child},
      {"main_ends_first", main_ends_first},
      {"many_threads", many_threads},
      {"by_hand", by_hand},
  };
  setvbuf(stdout, NULL, _IONBF, 0);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    if (argc > 1 && strcmp(argv[1], cases[i].name) == 0) {
      cases[i].run();
      return report(argv[1]);
    }
  }
  return 2;
}

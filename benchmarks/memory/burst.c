// burst.c -- a load that comes and goes: memory is filled, freed, and then
// hardly anybody or nobody calls malloc.
//
//   burst [MIB [LOW [HIGH [THREADS [KEEP [SECONDS [CALLS]]]]]]]
//
// THREADS threads fill MIB with objects of LOW .. HIGH bytes (powers of two);
// as many others free them in random order, all of them or all but one in KEEP.
// With one thread, main does both and there is no other thread. Then everybody
// waits SECONDS, threads parked. Then main makes CALLS mallocs of 64 bytes,
// each freed again, in ten parts, with a mark after each, and waits one second
// more.
//
// marks: filled, freed, waited, called (ten times); figure: live_bytes

#include <pthread.h>

#include "common.h"

#define MAX_THREADS 64
#define PARTS 10
#define SMALL_BYTES 64

static struct plan plans[MAX_THREADS];
static size_t live_bytes[MAX_THREADS];
static size_t keep;
// Of the threads that fill (or free) and main; `parked` never opens.
static pthread_barrier_t filled, freed, parked;

static void free_most(size_t i) {
  plan_shuffle(&plans[i]);
  live_bytes[i] = plan_free(&plans[i], keep == 0 ? 0 : plans[i].count / keep);
  plan_drop(&plans[i]);
}

static void *fill_thread(void *arg) {
  plan_fill((struct plan *)arg);
  pthread_barrier_wait(&filled);
  pthread_barrier_wait(&parked);
  return NULL;
}

static void *free_thread(void *arg) {
  free_most((size_t)((struct plan *)arg - plans));
  pthread_barrier_wait(&freed);
  pthread_barrier_wait(&parked);
  return NULL;
}

static void start(size_t threads, void *(*run)(void *)) {
  for (size_t i = 0; i < threads; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &plans[i]) != 0)
      die("pthread_create");
  }
}

static void load(size_t threads) {
  if (threads == 1) {
    plan_fill(&plans[0]);
    mark("filled");
    free_most(0);
    return;
  }
  pthread_barrier_init(&filled, NULL, (unsigned)threads + 1);
  pthread_barrier_init(&freed, NULL, (unsigned)threads + 1);
  pthread_barrier_init(&parked, NULL, 2 * (unsigned)threads + 1);
  start(threads, fill_thread);
  pthread_barrier_wait(&filled);
  mark("filled");
  start(threads, free_thread);
  pthread_barrier_wait(&freed);
}

static void call(size_t calls) {
  for (size_t part = 1; part <= PARTS; part++) {
    for (size_t i = 0; i < calls / PARTS; i++) {
      char *volatile p = (char *)malloc(SMALL_BYTES);
      if (p == NULL)
        die("malloc");
      *p = 1;
      free(p);
    }
    mark("called");
  }
}

int main(int argc, char **argv) {
  size_t bytes = argument(argc, argv, 1, 1024) * MIB;
  size_t low = argument(argc, argv, 2, 16);
  size_t high = argument(argc, argv, 3, 4096);
  size_t threads = argument(argc, argv, 4, 2);
  keep = argument(argc, argv, 5, 0);
  size_t seconds = argument(argc, argv, 6, 10);
  size_t calls = argument(argc, argv, 7, 0);
  if (threads == 0 || threads > MAX_THREADS) {
    fputs("usage: burst MIB LOW HIGH THREADS KEEP SECONDS CALLS\n", stderr);
    return 2;
  }
  for (size_t i = 0; i < threads; i++)
    plan_make(&plans[i], bytes / threads, low, high, i);
  load(threads);
  size_t live = 0;
  for (size_t i = 0; i < threads; i++)
    live += live_bytes[i];
  say("figure live_bytes %zu\n", live);
  mark("freed");
  double end = now_s() + (double)seconds;
  sleep_until_s(end);
  mark("waited");
  if (calls != 0) {
    call(calls);
    sleep_until_s(now_s() + 1);
  }
  return 0;
}

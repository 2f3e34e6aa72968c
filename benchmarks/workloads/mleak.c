// mleak.c -- threads that live for a handful of allocations.
//
// What an allocator spends on the start and the end of a thread, and whether
// it keeps what dead threads held. After the description of the test for leaks
// at thread exit in mimalloc's collection of benchmarks.
//
//   mleak [THREADS in all] [AT ONCE]

#include "benchmarks/workloads/common.h"

enum { MAX_AT_ONCE = 64, OBJECTS = 100 };

static void *live_briefly(void *arg) {
  uint64_t *bytes = (uint64_t *)arg;
  void *objects[OBJECTS];
  for (unsigned i = 0; i < OBJECTS; i++) {
    size_t size = 16 + (size_t)(i % 20) * 64;
    objects[i] = work_malloc(size);
    memset(objects[i], 1, size);
    *bytes += size;
  }
  for (unsigned i = 0; i < OBJECTS; i++)
    free(objects[i]);
  return NULL;
}

int main(int argc, char **argv) {
  unsigned threads = work_argument(argc, argv, 1, 20000);
  unsigned at_once = work_argument(argc, argv, 2, 8);
  uint64_t sum = 0;
  if (at_once < 1 || at_once > MAX_AT_ONCE)
    work_fail("1 to 64 at once");
  for (unsigned started = 0; started < threads; started += at_once) {
    pthread_t running[MAX_AT_ONCE];
    uint64_t bytes[MAX_AT_ONCE] = {0};
    for (unsigned k = 0; k < at_once; k++) {
      running[k] = work_thread_start(live_briefly, &bytes[k]);
    }
    for (unsigned k = 0; k < at_once; k++) {
      pthread_join(running[k], NULL);
      sum += bytes[k];
    }
  }
  work_done("mleak", sum);
  return 0;
}

// glibc_bench.c -- the two shapes of glibc's own malloc benchmarks.
//
// `simple`: blocks of 25 to 1600 objects of one size, all allocated, then all
// freed. `thread`: each thread replaces objects in a working set of 1024, with
// sizes of 4 B to 32 KiB of which small ones are far more likely.
//
//   glibc_bench simple [REPEATS]
//   glibc_bench thread [THREADS] [REPLACEMENTS]

#include "benchmarks/workloads/common.h"

enum { MAX_OBJECTS = 1600, WORKING_SET = 1024, MAX_THREADS = 16 };

static uint64_t run_simple(unsigned repeats) {
  static const size_t sizes[] = {16, 64, 128};
  static const unsigned counts[] = {25, 100, 400, MAX_OBJECTS};
  static char *objects[MAX_OBJECTS];
  uint64_t sum = 0;
  for (unsigned s = 0; s < 3; s++) {
    for (unsigned c = 0; c < 4; c++) {
      unsigned rounds = repeats * (MAX_OBJECTS / counts[c]);
      for (unsigned r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < counts[c]; i++) {
          objects[i] = (char *)work_malloc(sizes[s]);
          *objects[i] = 1;
        }
        for (unsigned i = 0; i < counts[c]; i++)
          free(objects[i]);
      }
      sum += (uint64_t)rounds * counts[c] * sizes[s];
    }
  }
  return sum;
}

struct worker {
  unsigned number;
  unsigned replacements;
  uint64_t bytes;
};

// 4 << k bytes is half as likely as 4 << (k - 1), up to 32 KiB.
static uint32_t next_size(struct work_random *random) {
  uint32_t lot = work_random_next(random) | (1u << 13);
  uint32_t low = 4u << __builtin_ctz(lot);
  return low + work_random_below(random, low);
}

static void *work(void *arg) {
  struct worker *w = (struct worker *)arg;
  struct work_random random = {w->number + 5};
  char *set[WORKING_SET] = {NULL};
  for (unsigned n = 0; n < w->replacements; n++) {
    char **slot = &set[work_random_below(&random, WORKING_SET)];
    uint32_t size = next_size(&random);
    free(*slot);
    *slot = (char *)work_malloc(size);
    **slot = 1;
    w->bytes += size;
  }
  for (unsigned i = 0; i < WORKING_SET; i++)
    free(set[i]);
  return NULL;
}

static uint64_t run_threads(unsigned threads, unsigned replacements) {
  struct worker workers[MAX_THREADS];
  pthread_t running[MAX_THREADS];
  uint64_t sum = 0;
  if (threads < 1 || threads > MAX_THREADS)
    work_fail("1 to 16 threads");
  for (unsigned k = 0; k < threads; k++) {
    workers[k].number = k;
    workers[k].replacements = replacements;
    workers[k].bytes = 0;
    running[k] = work_thread_start(work, &workers[k]);
  }
  for (unsigned k = 0; k < threads; k++) {
    pthread_join(running[k], NULL);
    sum += workers[k].bytes;
  }
  return sum;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "thread") == 0) {
    unsigned threads = work_argument(argc, argv, 2, 4);
    work_done("glibc-thread",
              run_threads(threads, work_argument(argc, argv, 3, 20000000)));
  } else {
    work_done("glibc-simple", run_simple(work_argument(argc, argv, 2, 8000)));
  }
  return 0;
}

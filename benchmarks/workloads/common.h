// common.h -- what the workloads share: random numbers, threads, one last line.
//
// Each workload does a fixed amount of work that depends on nothing but its
// arguments, and ends by printing a sum over that work: compare.py holds the
// sums of all allocators against each other. Sums must therefore not depend on
// how threads were scheduled or on addresses.

#ifndef TCX_BENCHMARKS_WORKLOADS_COMMON_H_
#define TCX_BENCHMARKS_WORKLOADS_COMMON_H_

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct work_random {
  uint64_t state;
};

static inline uint32_t work_random_next(struct work_random *r) {
  r->state = r->state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(r->state >> 32);
}

// 0 <= result < bound, without a division.
static inline uint32_t work_random_below(struct work_random *r,
                                         uint32_t bound) {
  return (uint32_t)(((uint64_t)work_random_next(r) * bound) >> 32);
}

static inline void work_fail(const char *what) {
  fprintf(stderr, "workload failed: %s\n", what);
  exit(1);
}

static inline void *work_malloc(size_t size) {
  void *p = malloc(size);
  if (p == NULL)
    work_fail("malloc");
  return p;
}

static inline pthread_t work_thread_start(void *(*run)(void *), void *arg) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, arg) != 0)
    work_fail("thread");
  return thread;
}

static inline void work_done(const char *name, uint64_t sum) {
  printf("%s %llu\n", name, (unsigned long long)sum);
}

// The nth argument as a number, or the default where it is not given.
static inline unsigned work_argument(int argc, char **argv, int n,
                                     unsigned otherwise) {
  return argc > n ? (unsigned)strtoul(argv[n], NULL, 10) : otherwise;
}

#endif  // TCX_BENCHMARKS_WORKLOADS_COMMON_H_

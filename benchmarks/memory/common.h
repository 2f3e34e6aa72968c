// common.h -- what the programs that are watched over time share: objects of
// mixed sizes from a fixed seed, tables that are not malloc's, marks.
//
// A program says "mark NAME" and waits for a byte, so that over_time.py can
// read its memory at that very moment; started by hand with an empty stdin it
// goes on at once. "figure NAME VALUE" is a result. Nothing here calls malloc
// but plan_fill, and nothing calls free but plan_free.

#ifndef TCX_BENCHMARKS_MEMORY_COMMON_H_
#define TCX_BENCHMARKS_MEMORY_COMMON_H_

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static void die(const char *what) {
  perror(what);
  exit(1);
}

// stdio would allocate its buffer.
__attribute__((format(printf, 1, 2))) static void say(const char *form, ...) {
  char line[128];
  va_list args;
  va_start(args, form);
  int length = vsnprintf(line, sizeof line, form, args);
  va_end(args);
  if (write(1, line, (size_t)length) != length)
    die("write");
}

static inline void mark(const char *name) {
  char reply;
  say("mark %s\n", name);
  if (read(0, &reply, 1) < 0)
    die("read");
}

static inline double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void sleep_until_s(double when) {
  struct timespec t = {(time_t)when,
                       (long)((when - (double)(time_t)when) * 1e9)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0) {
  }
}

static void *map(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    die("mmap");
  // A huge page would count what was never touched.
  (void)madvise(p, bytes, MADV_NOHUGEPAGE);
  return p;
}

static inline size_t argument(int argc, char **argv, int i, size_t otherwise) {
  return argc > i ? strtoul(argv[i], NULL, 10) : otherwise;
}

static inline uint64_t random_next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state >> 11;
}

// --- plans: which objects a thread allocates ---------------------------------

// Sizes are drawn beforehand, so that drawing them is not timed and the tables
// are resident before anything is counted.
struct plan {
  size_t count;
  size_t bytes;
  uint64_t random;
  uint32_t *sizes;
  void **objects;
};

// Log-uniform by doublings: each doubling between two powers of two is equally
// frequent, each size within one too.
static inline size_t random_size(uint64_t *state, size_t low, size_t high) {
  int doublings = __builtin_ctzl(high) - __builtin_ctzl(low);
  size_t base = low << random_next(state) % (unsigned)doublings;
  return base + random_next(state) % base;
}

static inline void plan_make(struct plan *plan, size_t bytes, size_t low,
                             size_t high, uint64_t seed) {
  uint64_t start = 88172645463325252u + seed * 0x9e3779b97f4a7c15u;
  if (low < 8 || low >= high || (low & (low - 1)) + (high & (high - 1)) != 0) {
    fputs("sizes are from one power of two to another\n", stderr);
    exit(2);
  }
  plan->random = start;
  plan->count = plan->bytes = 0;
  for (; plan->bytes < bytes; plan->count++)
    plan->bytes += random_size(&plan->random, low, high);
  plan->sizes = (uint32_t *)map(plan->count * sizeof plan->sizes[0]);
  plan->objects = (void **)map(plan->count * sizeof plan->objects[0]);
  memset(plan->objects, 0, plan->count * sizeof plan->objects[0]);
  plan->random = start;
  for (size_t i = 0; i < plan->count; i++)
    plan->sizes[i] = (uint32_t)random_size(&plan->random, low, high);
}

static inline void plan_drop(struct plan *plan) {
  munmap(plan->sizes, plan->count * sizeof plan->sizes[0]);
  munmap(plan->objects, plan->count * sizeof plan->objects[0]);
}

// Every byte of every object is written.
static inline void plan_fill(struct plan *plan) {
  for (size_t i = 0; i < plan->count; i++) {
    plan->objects[i] = malloc(plan->sizes[i]);
    if (plan->objects[i] == NULL)
      die("malloc");
    memset(plan->objects[i], 1, plan->sizes[i]);
  }
}

static inline void plan_shuffle(struct plan *plan) {
  for (size_t i = plan->count; i > 1; i--) {
    size_t k = random_next(&plan->random) % i;
    void *object = plan->objects[i - 1];
    uint32_t size = plan->sizes[i - 1];
    plan->objects[i - 1] = plan->objects[k];
    plan->sizes[i - 1] = plan->sizes[k];
    plan->objects[k] = object;
    plan->sizes[k] = size;
  }
}

// Frees all but the first `kept`; returns the bytes of these.
static inline size_t plan_free(struct plan *plan, size_t kept) {
  size_t kept_bytes = 0;
  for (size_t i = 0; i < kept; i++)
    kept_bytes += plan->sizes[i];
  for (size_t i = kept; i < plan->count; i++)
    free(plan->objects[i]);
  return kept_bytes;
}

#endif  // TCX_BENCHMARKS_MEMORY_COMMON_H_

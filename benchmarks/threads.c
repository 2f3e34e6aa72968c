// threads.c -- resident memory of a process with many threads, all of which
// hold live data and are parked.
//
//   threads THREADS [LIVE_KIB]
//     prints "live_kib RESIDENT_KIB_WITHOUT_STACKS stacks_kib"
//
// Each thread fills its share of LIVE_KIB (64 000 unless told: 62.5 MiB) with
// objects of mixed small sizes, all of it written; then it frees a quarter of
// them at random and fills up again, ROUNDS times over; then it waits. Whatever
// the number of threads, the same bytes are live and as many calls were made.
// All threads fill before any churns, and none ends before the measurement.
//
// Not counted: the stacks (with what libc keeps at their end for each thread)
// and this program's own tables, which are in mappings of their own.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 20
#define LARGEST 2048
#define STACK_BYTES ((size_t)64 << 10)
// Of the objects, if each were of the smallest size.
#define SMALLEST 16
#define PAGE_BYTES ((size_t)4096)

struct object {
  char *bytes;
  size_t size;
};

struct worker {
  struct object *objects;  // room for the smallest ones
  size_t count;
  size_t live_bytes;
  size_t share_bytes;
  uint64_t random;
};

// Of all threads, and main.
static pthread_barrier_t filled, parked, measured;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void *map(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    die("threads: mmap");
  // A huge page would count what was never touched.
  (void)madvise(p, bytes, MADV_NOHUGEPAGE);
  return p;
}

static uint64_t random_next(struct worker *w) {
  w->random ^= w->random << 13;
  w->random ^= w->random >> 7;
  w->random ^= w->random << 17;
  return w->random >> 11;
}

// 16 .. 2048 bytes; each doubling is half as frequent as the one before.
static size_t random_size(struct worker *w) {
  size_t low = SMALLEST;
  for (uint64_t r = random_next(w); low < LARGEST / 2 && (r & 1) != 0; r >>= 1)
    low *= 2;
  return low + (size_t)(random_next(w) % (low + 1));
}

static void fill(struct worker *w) {
  while (w->live_bytes + SMALLEST <= w->share_bytes) {
    size_t size = random_size(w);
    if (size > w->share_bytes - w->live_bytes)
      size = w->share_bytes - w->live_bytes;
    char *bytes = (char *)malloc(size);
    if (bytes == NULL)
      die("threads: malloc");
    memset(bytes, 1, size);
    w->objects[w->count++] = (struct object){bytes, size};
    w->live_bytes += size;
  }
}

static void free_some(struct worker *w) {
  size_t gone = w->count / 4;
  while (gone-- > 0) {
    size_t i = random_next(w) % w->count;
    w->live_bytes -= w->objects[i].size;
    free(w->objects[i].bytes);
    w->objects[i] = w->objects[--w->count];
  }
}

static void *work(void *arg) {
  struct worker *w = (struct worker *)arg;
  fill(w);
  pthread_barrier_wait(&filled);
  for (int i = 0; i < ROUNDS; i++) {
    free_some(w);
    fill(w);
  }
  pthread_barrier_wait(&parked);
  pthread_barrier_wait(&measured);
  return NULL;
}

static size_t resident_kib(void) {
  FILE *f = fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  size_t kib = 0;
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    if (sscanf(line, "Rss: %zu kB", &kib) == 1)
      break;
  }
  if (kib == 0)
    die("threads: smaps_rollup");
  fclose(f);
  return kib;
}

static size_t resident_kib_in(void *p, size_t bytes) {
  size_t pages = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
  unsigned char *is_in = (unsigned char *)map(pages);
  if (mincore(p, bytes, is_in) != 0)
    die("threads: mincore");
  size_t in = 0;
  for (size_t i = 0; i < pages; i++)
    in += is_in[i] & 1;
  munmap(is_in, pages);
  return in * PAGE_BYTES >> 10;
}

static void start(struct worker *w, char *stack) {
  pthread_attr_t attributes;
  pthread_t thread;
  if (pthread_attr_init(&attributes) != 0 ||
      pthread_attr_setstack(&attributes, stack, STACK_BYTES) != 0 ||
      pthread_create(&thread, &attributes, work, w) != 0) {
    die("threads: pthread_create");
  }
  pthread_attr_destroy(&attributes);
}

int main(int argc, char **argv) {
  size_t threads = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
  size_t live_bytes = (argc > 2 ? strtoul(argv[2], NULL, 10) : 64000) << 10;
  if (threads == 0 || live_bytes / threads < LARGEST) {
    fprintf(stderr, "usage: threads THREADS [LIVE_KIB]\n");
    return 2;
  }
  size_t share_bytes = live_bytes / threads;
  size_t most = share_bytes / SMALLEST;
  size_t tables_bytes =
      threads * (sizeof(struct worker) + most * sizeof(struct object));
  struct worker *workers = (struct worker *)map(tables_bytes);
  struct object *objects = (struct object *)(workers + threads);
  char *stacks = (char *)map(threads * STACK_BYTES);
  pthread_barrier_init(&filled, NULL, (unsigned)threads);
  pthread_barrier_init(&parked, NULL, (unsigned)threads + 1);
  pthread_barrier_init(&measured, NULL, (unsigned)threads + 1);
  for (size_t i = 0; i < threads; i++) {
    workers[i].objects = objects + i * most;
    workers[i].share_bytes = share_bytes;
    workers[i].random = 88172645463325252u + i * 0x9e3779b97f4a7c15u;
    start(&workers[i], stacks + i * STACK_BYTES);
  }
  pthread_barrier_wait(&parked);
  size_t own_kib = resident_kib_in(workers, tables_bytes);
  size_t stacks_kib = resident_kib_in(stacks, threads * STACK_BYTES);
  printf("%zu %zu %zu\n", live_bytes >> 10,
         resident_kib() - own_kib - stacks_kib, stacks_kib);
  fflush(stdout);
  pthread_barrier_wait(&measured);
  return 0;
}

// rows.c -- one-operation loops whose cost in nanoseconds is a row of RESULTS.
//
// PLACE IN THE SYSTEM
//   A program of its own: `rows ROW...` prints one line "ROW NS" for each row
//   named, `rows --list` prints the names. It is run by compare.py under one
//   allocator after the other; it is never linked with anything but libc and
//   the C++ runtime (for operator new), so an LD_PRELOAD decides what is
//   measured. `rows -n COUNT ROW` runs COUNT operations and prints nothing:
//   that is what icount/ counts instructions of.
//
// HOW A ROW IS MEASURED
//   The loop is grown until it takes 10 ms (that also warms the allocator up),
//   then timed in five chunks of about 40 ms; the row is the median chunk.
//   Rows of one thread are timed by that thread's CPU clock, so a neighbour
//   that takes the CPU for a while does not show; rows of two threads by wall
//   clock, so that waiting for a lock does show.
//
// The compiler must not see what malloc returns or that free ends it: the file
// is built with -fno-builtin and every pointer passes through tcx_escape.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// operator new(size_t) and operator delete(void*, size_t) by their mangled
// names, which C can call.
extern void *_Znwm(size_t size);
extern void _ZdlPvm(void *p, size_t size);

enum {
  TCX_CHUNKS = 5,
  TCX_CHUNK_NS = 40 * 1000 * 1000,
  TCX_WARM_UP_NS = 10 * 1000 * 1000,
  TCX_MAX_BATCH = 10000,
  TCX_MAX_SLOTS = 65536,
  TCX_REALLOC_STEPS = 20,
  TCX_KIB = 1024,
  TCX_MIB = 1024 * 1024
};

// Runs at least `count` operations and returns how many it ran.
typedef size_t row_function(size_t count, size_t arg);

struct tcx_row {
  const char *name;
  row_function *run;
  size_t arg;
  int threads;
};

static void *batch_objects[TCX_MAX_BATCH];
static void *slots[TCX_MAX_SLOTS];  // live objects of the random rows, or NULL

static inline void *tcx_escape(void *p) {
  __asm__ volatile("" : "+r"(p) : : "memory");
  return p;
}

static void *tcx_must(void *p) {
  if (p == NULL) {
    fputs("rows: out of memory\n", stderr);
    exit(1);
  }
  return p;
}

// The loop and nothing in it: icount/ subtracts it.
static size_t run_empty(size_t count, size_t arg) {
  for (size_t i = 0; i < count; i++)
    tcx_escape((void *)arg);
  return count;
}

static size_t run_pair(size_t count, size_t size) {
  for (size_t i = 0; i < count; i++)
    free(tcx_escape(malloc(size)));
  return count;
}

static size_t run_pair_written(size_t count, size_t size) {
  for (size_t i = 0; i < count; i++) {
    char *p = (char *)tcx_must(tcx_escape(malloc(size)));
    *p = 1;
    free(tcx_escape(p));
  }
  return count;
}

static size_t run_new_sized_delete(size_t count, size_t size) {
  for (size_t i = 0; i < count; i++)
    _ZdlPvm(tcx_escape(_Znwm(size)), size);
  return count;
}

static size_t run_calloc(size_t count, size_t size) {
  for (size_t i = 0; i < count; i++)
    free(tcx_escape(calloc(1, size)));
  return count;
}

// `batch` objects of 64 B allocated, then freed in the same order.
static size_t run_batch(size_t count, size_t batch) {
  size_t done = 0;
  while (done < count) {
    for (size_t i = 0; i < batch; i++) {
      batch_objects[i] = tcx_escape(malloc(64));
    }
    for (size_t i = 0; i < batch; i++)
      free(tcx_escape(batch_objects[i]));
    done += batch;
  }
  return done;
}

static uint64_t tcx_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 24;
}

// Random slot, random size of 8 .. 519 B, 1024 objects live.
static size_t run_random_1k(size_t count, size_t arg) {
  static uint64_t state = 1;
  (void)arg;
  for (size_t i = 0; i < count; i++) {
    uint64_t r = tcx_random(&state);
    void **slot = &slots[r & 1023];
    free(*slot);
    *slot = tcx_escape(malloc(8 + ((r >> 16) & 511)));
  }
  return count;
}

// Random slot, random size of 8 .. 1031 B, 65 536 objects live, 8 bytes
// written to each.
static size_t run_random_64k(size_t count, size_t arg) {
  static uint64_t state = 1;
  (void)arg;
  for (size_t i = 0; i < count; i++) {
    uint64_t r = tcx_random(&state);
    void **slot = &slots[r & 65535];
    free(*slot);
    uint64_t *p = (uint64_t *)tcx_escape(malloc(8 + ((r >> 16) & 1023)));
    *p = r;
    *slot = p;
  }
  return count;
}

// The random rows leave objects in the slots; the next row starts without.
static void drop_slots(void) {
  for (size_t i = 0; i < TCX_MAX_SLOTS; i++) {
    free(slots[i]);
    slots[i] = NULL;
  }
}

// A vector that grows: 20 steps of x 1.5 from 8 B. One operation is one step.
// With arg 2 two vectors grow by turns in a heap that has been used, as in any
// program that has run for a while. With arg 1 one grows alone in an empty
// heap, where an allocator may extend it at the heap's end each time.
static size_t run_realloc(size_t count, size_t vectors) {
  static bool used;
  size_t done = 0;
  if (vectors == 2 && !used) {
    run_random_64k(4 * TCX_MAX_SLOTS, 0);
    drop_slots();
    used = true;
  }
  while (done < count) {
    void *p[2] = {tcx_escape(malloc(8)), tcx_escape(malloc(8))};
    size_t size = 8;
    for (int step = 0; step < TCX_REALLOC_STEPS; step++) {
      size += size / 2;
      for (size_t v = 0; v < vectors; v++) {
        p[v] = tcx_must(tcx_escape(realloc(p[v], size)));
      }
    }
    free(p[0]);
    free(p[1]);
    done += vectors * TCX_REALLOC_STEPS;
  }
  return done;
}

static size_t run_two_by_turns(size_t count, size_t arg) {
  (void)arg;
  for (size_t i = 0; i < count; i += 2) {
    free(tcx_escape(malloc(64)));
    free(tcx_escape(malloc(128)));
  }
  return (count + 1) / 2 * 2;
}

static size_t run_eight_by_turns(size_t count, size_t arg) {
  static const size_t sizes[8] = {16, 32, 48, 64, 96, 128, 192, 256};
  (void)arg;
  for (size_t i = 0; i < count; i += 8) {
    for (size_t k = 0; k < 8; k++)
      free(tcx_escape(malloc(sizes[k])));
  }
  return (count + 7) / 8 * 8;
}

// Four lifetimes inside each other: last allocated, first freed.
static size_t run_four_nested(size_t count, size_t arg) {
  (void)arg;
  for (size_t i = 0; i < count; i += 4) {
    void *a = tcx_escape(malloc(64));
    void *b = tcx_escape(malloc(128));
    void *c = tcx_escape(malloc(32));
    void *d = tcx_escape(malloc(256));
    free(d);
    free(c);
    free(b);
    free(a);
  }
  return (count + 3) / 4 * 4;
}

struct tcx_job {
  row_function *run;
  size_t count;
  size_t size;
};

static void *job_thread(void *arg) {
  const struct tcx_job *job = (const struct tcx_job *)arg;
  job->run(job->count, job->size);
  return NULL;
}

// `count` operations on each of two threads at once.
static size_t run_two_threads(row_function *run, size_t count, size_t size) {
  struct tcx_job job = {run, count, size};
  pthread_t other;
  if (pthread_create(&other, NULL, job_thread, &job) != 0) {
    fputs("rows: pthread_create failed\n", stderr);
    exit(1);
  }
  run(count, size);
  pthread_join(other, NULL);
  return count;
}

static size_t run_pair_two_threads(size_t count, size_t size) {
  return run_two_threads(run_pair, count, size);
}

static size_t run_pair_written_two_threads(size_t count, size_t size) {
  return run_two_threads(run_pair_written, count, size);
}

static const struct tcx_row rows[] = {
    {"empty", run_empty, 64, 1},
    {"pair_16", run_pair, 16, 1},
    {"pair_64", run_pair, 64, 1},
    {"pair_256", run_pair, 256, 1},
    {"pair_1024", run_pair, 1024, 1},
    {"new_64", run_new_sized_delete, 64, 1},
    {"batch_100", run_batch, 100, 1},
    {"batch_10000", run_batch, TCX_MAX_BATCH, 1},
    {"random_1k", run_random_1k, 0, 1},
    {"random_64k", run_random_64k, 0, 1},
    {"calloc_256", run_calloc, 256, 1},
    {"realloc", run_realloc, 2, 1},
    {"realloc_alone", run_realloc, 1, 1},
    {"pair_32k", run_pair_written, 32 * TCX_KIB, 1},
    {"pair_256k", run_pair_written, 256 * TCX_KIB, 1},
    {"pair_1m", run_pair_written, 1 * TCX_MIB, 1},
    {"pair_4m", run_pair_written, 4 * TCX_MIB, 1},
    {"untouched_32k", run_pair, 32 * TCX_KIB, 1},
    {"untouched_256k", run_pair, 256 * TCX_KIB, 1},
    {"untouched_1m", run_pair, 1 * TCX_MIB, 1},
    {"untouched_4m", run_pair, 4 * TCX_MIB, 1},
    {"pair_32k_2threads", run_pair_written_two_threads, 32 * TCX_KIB, 2},
    {"pair_256k_2threads", run_pair_written_two_threads, 256 * TCX_KIB, 2},
    {"pair_1m_2threads", run_pair_written_two_threads, 1 * TCX_MIB, 2},
    {"pair_4m_2threads", run_pair_written_two_threads, 4 * TCX_MIB, 2},
    {"untouched_32k_2threads", run_pair_two_threads, 32 * TCX_KIB, 2},
    {"untouched_256k_2threads", run_pair_two_threads, 256 * TCX_KIB, 2},
    {"untouched_1m_2threads", run_pair_two_threads, 1 * TCX_MIB, 2},
    {"untouched_4m_2threads", run_pair_two_threads, 4 * TCX_MIB, 2},
    {"pair_64_2threads", run_pair_two_threads, 64, 2},
    {"turns_2", run_two_by_turns, 0, 1},
    {"turns_8", run_eight_by_turns, 0, 1},
    {"nested_4", run_four_nested, 0, 1},
};

static const size_t row_count = sizeof(rows) / sizeof(rows[0]);

static uint64_t now_ns(const struct tcx_row *row) {
  struct timespec t;
  clock_gettime(row->threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID,
                &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double timed_ns_per_op(const struct tcx_row *row, size_t count,
                              uint64_t *total_ns) {
  uint64_t begin = now_ns(row);
  size_t done = row->run(count, row->arg);
  *total_ns = now_ns(row) - begin;
  return (double)*total_ns / (double)done;
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double measure_row(const struct tcx_row *row) {
  double chunks[TCX_CHUNKS];
  uint64_t total_ns = 0;
  double ns = 0;
  size_t count = 1000;
  for (;; count *= 2) {
    ns = timed_ns_per_op(row, count, &total_ns);
    if (total_ns >= TCX_WARM_UP_NS)
      break;
  }
  count = (size_t)(TCX_CHUNK_NS / ns) + 1;
  for (int i = 0; i < TCX_CHUNKS; i++) {
    chunks[i] = timed_ns_per_op(row, count, &total_ns);
  }
  qsort(chunks, TCX_CHUNKS, sizeof(chunks[0]), compare_doubles);
  return chunks[TCX_CHUNKS / 2];
}

static const struct tcx_row *find_row(const char *name) {
  for (size_t i = 0; i < row_count; i++) {
    if (strcmp(rows[i].name, name) == 0)
      return &rows[i];
  }
  fprintf(stderr, "rows: no row named %s\n", name);
  exit(2);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (size_t i = 0; i < row_count; i++)
      puts(rows[i].name);
    return 0;
  }
  if (argc == 4 && strcmp(argv[1], "-n") == 0) {
    const struct tcx_row *row = find_row(argv[3]);
    row->run(strtoul(argv[2], NULL, 10), row->arg);
    return 0;
  }
  if (argc < 2) {
    fputs("usage: rows --list | rows ROW... | rows -n COUNT ROW\n", stderr);
    return 2;
  }
  for (int i = 1; i < argc; i++) {
    const struct tcx_row *row = find_row(argv[i]);
    printf("%s %.3f\n", row->name, measure_row(row));
    fflush(stdout);
    drop_slots();
  }
  return 0;
}

// cache_line.c -- does the allocator make threads share cache lines?
//
// `scratch`: the main thread allocates one small object for each worker; the
// worker frees it, then allocates, writes and frees its own. An allocator that
// gives a freed object to the thread that freed it, although its line is
// shared, makes the workers slow (passive sharing). `thrash`: the workers
// allocate from the start (active sharing). After Berger et al., "Hoard"
// (2000).
//
//   cache_line scratch|thrash [OBJECTS per worker] [WRITES per object]

#include "benchmarks/workloads/common.h"

enum { WORKERS = 2, SIZE = 8 };

struct job {
  char *given;
  unsigned objects;
  unsigned writes;
  uint64_t sum;
};

static void *work(void *arg) {
  struct job *job = (struct job *)arg;
  uint64_t sum = 0;
  free(job->given);
  for (unsigned n = 0; n < job->objects; n++) {
    volatile char *p = (volatile char *)work_malloc(SIZE);
    for (unsigned w = 0; w < job->writes; w++) {
      p[w % SIZE] = (char)w;
      sum += (unsigned char)p[w % SIZE];
    }
    free((void *)p);
  }
  job->sum = sum;
  return NULL;
}

int main(int argc, char **argv) {
  int scratch = argc > 1 && strcmp(argv[1], "scratch") == 0;
  struct job jobs[WORKERS];
  pthread_t workers[WORKERS];
  uint64_t sum = 0;
  for (unsigned k = 0; k < WORKERS; k++) {
    jobs[k].given = scratch ? (char *)work_malloc(SIZE) : NULL;
    jobs[k].objects = work_argument(argc, argv, 2, 500000);
    jobs[k].writes = work_argument(argc, argv, 3, 1000);
  }
  for (unsigned k = 0; k < WORKERS; k++) {
    workers[k] = work_thread_start(work, &jobs[k]);
  }
  for (unsigned k = 0; k < WORKERS; k++) {
    pthread_join(workers[k], NULL);
    sum += jobs[k].sum;
  }
  work_done(scratch ? "scratch" : "thrash", sum);
  return 0;
}

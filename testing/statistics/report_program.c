// report_program.c -- a process on tcx that report_test.py looks at.
//
// usage: report_program work|info|stats|no_memory
//        report_program last|quiet|storm SIGNAL
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define OBJECTS 3000

static void *objects[OBJECTS];

// Leaves objects of many kinds alive, with memory behind the small ones.
static void work(void) {
  for (int i = 0; i < OBJECTS; i++) {
    size_t size = (size_t)i * 7 % 9000 + 1;
    objects[i] = malloc(size);
    if (objects[i] == NULL)
      exit(1);
    memset(objects[i], 1, size);
  }
  for (int i = 0; i < OBJECTS; i += 3) {
    free(objects[i]);
    objects[i] = NULL;
  }
  objects[0] = malloc(1 << 20);
  objects[3] = malloc(10 << 20);
}

// The report cannot have memory of its own.
static void stats_without_memory(void) {
  struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_AS, &none) != 0)
    exit(1);
  malloc_stats();
}

static void say(const char *text) {
  if (write(STDERR_FILENO, text, strlen(text)) < 0)
    exit(1);
}

// Small pairs alone, that live on the fast paths, bring the report.
static void quiet(int number) {
  raise(number);
  say("raised\n");
  for (int i = 0; i < 200000; i++) {
    void *volatile object = malloc(100);
    free(object);
  }
  say("done\n");
}

static int stop;

// Slow paths of every kind, without end.
static void *churn(void *seed) {
  enum { MINE = 200 };
  void *mine[MINE] = {NULL};
  uint64_t random = (uint64_t)(uintptr_t)seed;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    unsigned i = (unsigned)(random >> 33) % MINE;
    free(mine[i]);
    mine[i] = malloc((random >> 40) % ((random >> 20) % 8 ? 5000 : 3 << 20));
    if (i == 0)
      malloc_trim(0);
  }
  for (unsigned i = 0; i < MINE; i++)
    free(mine[i]);
  return NULL;
}

// Signals hit threads wherever they are, also under tcx's locks.
static void storm(int number) {
  enum { THREADS = 4, SIGNALS = 400 };
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) {
    if (pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) != 0)
      exit(1);
  }
  for (int i = 0; i < SIGNALS; i++) {
    pthread_kill(threads[i % THREADS], number);
    usleep(500);
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  say("done\n");
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  int number = argc > 2 ? atoi(argv[2]) : 0;
  work();
  if (strcmp(what, "info") == 0)
    return malloc_info(0, stdout);
  if (strcmp(what, "stats") == 0)
    malloc_stats();
  if (strcmp(what, "no_memory") == 0)
    stats_without_memory();
  if (strcmp(what, "last") == 0)
    raise(number);
  if (strcmp(what, "quiet") == 0)
    quiet(number);
  if (strcmp(what, "storm") == 0)
    storm(number);
  return 0;
}

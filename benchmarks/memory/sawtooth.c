// sawtooth.c -- a load that comes and goes again and again.
//
//   sawtooth [MIB [LOW [HIGH [THREADS [PERIOD_MS [CYCLES]]]]]]
//
// Each of THREADS threads (main is one of them), every PERIOD_MS or as soon as
// it can: fills its share of MIB with objects of LOW .. HIGH bytes (powers of
// two), writes them, and frees them all in the order they came.
//
// marks: start, end; figures: work_s (wall time of filling and freeing, mean of
// the threads), cpu_s (of the process) and faults, all from start to end

#define _GNU_SOURCE
#include <pthread.h>
#include <sys/resource.h>

#include "common.h"

#define MAX_THREADS 64

struct worker {
  struct plan plan;
  double work_s;
  pthread_t thread;
};

static struct worker workers[MAX_THREADS];
static double begin_s, period_s;
static size_t cycles;
static pthread_barrier_t ready, done;

static void work(struct worker *w) {
  for (size_t i = 0; i < cycles; i++) {
    sleep_until_s(begin_s + period_s * (double)i);
    double from = now_s();
    plan_fill(&w->plan);
    plan_free(&w->plan, 0);
    w->work_s += now_s() - from;
  }
  // The last gap belongs to the load as well.
  sleep_until_s(begin_s + period_s * (double)cycles);
}

static void *work_thread(void *arg) {
  pthread_barrier_wait(&ready);
  work((struct worker *)arg);
  pthread_barrier_wait(&done);
  return NULL;
}

static double cpu_s(const struct rusage *use) {
  return (double)(use->ru_utime.tv_sec + use->ru_stime.tv_sec) +
         (double)(use->ru_utime.tv_usec + use->ru_stime.tv_usec) * 1e-6;
}

int main(int argc, char **argv) {
  size_t bytes = argument(argc, argv, 1, 512) * MIB;
  size_t low = argument(argc, argv, 2, 16);
  size_t high = argument(argc, argv, 3, 4096);
  size_t threads = argument(argc, argv, 4, 2);
  period_s = (double)argument(argc, argv, 5, 300) * 1e-3;
  cycles = argument(argc, argv, 6, 100);
  if (threads == 0 || threads > MAX_THREADS) {
    fputs("usage: sawtooth MIB LOW HIGH THREADS PERIOD_MS CYCLES\n", stderr);
    return 2;
  }
  pthread_barrier_init(&ready, NULL, (unsigned)threads);
  pthread_barrier_init(&done, NULL, (unsigned)threads);
  for (size_t i = 0; i < threads; i++)
    plan_make(&workers[i].plan, bytes / threads, low, high, i);
  for (size_t i = 1; i < threads; i++) {
    if (pthread_create(&workers[i].thread, NULL, work_thread, &workers[i]) != 0)
      die("pthread_create");
  }
  mark("start");
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  begin_s = now_s();
  pthread_barrier_wait(&ready);
  work(&workers[0]);
  pthread_barrier_wait(&done);
  getrusage(RUSAGE_SELF, &after);
  mark("end");
  double work_s = 0;
  for (size_t i = 0; i < threads; i++)
    work_s += workers[i].work_s / (double)threads;
  say("figure work_s %.4f\n", work_s);
  say("figure cpu_s %.4f\n", cpu_s(&after) - cpu_s(&before));
  say("figure faults %ld\n", after.ru_minflt - before.ru_minflt);
  return 0;
}

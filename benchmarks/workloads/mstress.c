// mstress.c -- object graphs that pass from thread to thread, threads that end
// each round.
//
// A thread keeps a growing list of small records, frees some in between, and
// swaps others with slots that all threads share. Each record is checked when
// it dies. After the description of mimalloc's stress test.
//
//   mstress [THREADS] [ROUNDS] [RECORDS per thread and round]

#include "benchmarks/workloads/common.h"

enum { SHARED = 1000, LARGE_PERCENT = 1 };

static uintptr_t *shared_records[SHARED];
static unsigned records_per_round;

struct job {
  unsigned number;
  uint64_t words;
};

// A record: its length in words, then words that say where they are.
static uintptr_t *record_new(struct work_random *random, uint64_t *words) {
  uint32_t length = 2 + work_random_below(random, 30);
  if (work_random_below(random, 100) < LARGE_PERCENT)
    length *= 100;
  uintptr_t *r = (uintptr_t *)work_malloc(length * sizeof(*r));
  r[0] = length;
  for (uint32_t i = 1; i < length; i++)
    r[i] = (length - i) ^ 0x5bd1e995;
  *words += length;
  return r;
}

static void record_free(uintptr_t *r) {
  if (r == NULL)
    return;
  for (uintptr_t i = 1; i < r[0]; i++) {
    if (r[i] != ((r[0] - i) ^ 0x5bd1e995))
      work_fail("a record was changed");
  }
  free(r);
}

static void *work(void *arg) {
  struct job *job = (struct job *)arg;
  struct work_random random = {job->number * 43 + 1};
  uintptr_t **kept = NULL;
  size_t kept_count = 0, kept_room = 0;
  for (unsigned n = 0; n < records_per_round; n++) {
    if (kept_count == kept_room) {
      kept_room = kept_room * 2 + 16;
      kept = (uintptr_t **)realloc(kept, kept_room * sizeof(*kept));
      if (kept == NULL)
        work_fail("realloc");
    }
    kept[kept_count++] = record_new(&random, &job->words);
    uint32_t lot = work_random_next(&random);
    size_t at = work_random_below(&random, (uint32_t)kept_count);
    if (lot % 4 != 0) {
      record_free(kept[at]);
      kept[at] = kept[--kept_count];
    } else if (lot % 8 == 0) {
      uintptr_t **slot = &shared_records[(lot >> 8) % SHARED];
      kept[at] = __atomic_exchange_n(slot, kept[at], __ATOMIC_ACQ_REL);
    }
  }
  while (kept_count > 0)
    record_free(kept[--kept_count]);
  free(kept);
  return NULL;
}

int main(int argc, char **argv) {
  unsigned threads = work_argument(argc, argv, 1, 8);
  unsigned rounds = work_argument(argc, argv, 2, 20);
  records_per_round = work_argument(argc, argv, 3, 60000);
  if (threads < 1 || threads > 64)
    work_fail("1 to 64 threads");
  uint64_t sum = 0;
  for (unsigned round = 0; round < rounds; round++) {
    pthread_t running[64];
    struct job jobs[64];
    for (unsigned k = 0; k < threads; k++) {
      jobs[k].number = round * threads + k;
      jobs[k].words = 0;
      running[k] = work_thread_start(work, &jobs[k]);
    }
    for (unsigned k = 0; k < threads; k++) {
      pthread_join(running[k], NULL);
      sum += jobs[k].words;
    }
    for (unsigned i = round % 2; i < SHARED; i += 2) {
      record_free(shared_records[i]);
      shared_records[i] = NULL;
    }
  }
  for (unsigned i = 0; i < SHARED; i++)
    record_free(shared_records[i]);
  work_done("mstress", sum);
  return 0;
}

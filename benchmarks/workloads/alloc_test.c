// alloc_test.c -- random replacement, a few slots taken far more often than
// the rest, every byte written and read back.
//
// What a program does that uses the memory it asks for: caches and pages count
// as much as instructions. After the description of "alloc-test" (Ignatchenko
// et al., 2018).
//
//   alloc_test [THREADS] [REPLACEMENTS per thread]

#include "benchmarks/workloads/common.h"

enum { MAX_THREADS = 16, SLOTS_LOG2 = 17, MAX_SIZE_LOG2 = 10 };

struct slot {
  uint8_t *object;
  uint32_t size;
};

struct worker {
  unsigned number;
  unsigned replacements;
  uint64_t sum;
};

// 80 % of the lots fall on 20 % of the slots, and so on within those.
static uint32_t next_slot(struct work_random *random) {
  uint32_t range = 1u << SLOTS_LOG2;
  for (unsigned level = 0; level < 4; level++) {
    if (work_random_below(random, 10) >= 8)
      break;
    range = range / 5;
  }
  return work_random_below(random, range);
}

static uint32_t next_size(struct work_random *random) {
  uint32_t top = 1u << (3 + work_random_below(random, MAX_SIZE_LOG2 - 2));
  return top - work_random_below(random, top / 2);
}

static void *work(void *arg) {
  struct worker *w = (struct worker *)arg;
  struct work_random random = {w->number + 17};
  struct slot *slots =
      (struct slot *)calloc((size_t)1 << SLOTS_LOG2, sizeof(*slots));
  if (slots == NULL)
    work_fail("calloc");
  for (unsigned n = 0; n < w->replacements; n++) {
    struct slot *s = &slots[next_slot(&random)];
    if (s->object != NULL) {
      for (uint32_t i = 0; i < s->size; i++)
        w->sum += s->object[i];
      free(s->object);
    }
    s->size = next_size(&random);
    s->object = (uint8_t *)work_malloc(s->size);
    memset(s->object, (int)(n & 0xff), s->size);
  }
  for (uint32_t i = 0; i < 1u << SLOTS_LOG2; i++)
    free(slots[i].object);
  free(slots);
  return NULL;
}

int main(int argc, char **argv) {
  unsigned threads = work_argument(argc, argv, 1, 1);
  struct worker workers[MAX_THREADS];
  pthread_t running[MAX_THREADS];
  uint64_t sum = 0;
  if (threads < 1 || threads > MAX_THREADS)
    work_fail("1 to 16 threads");
  for (unsigned k = 0; k < threads; k++) {
    workers[k].number = k;
    workers[k].replacements = work_argument(argc, argv, 2, 5000000);
    workers[k].sum = 0;
    running[k] = work_thread_start(work, &workers[k]);
  }
  for (unsigned k = 0; k < threads; k++) {
    pthread_join(running[k], NULL);
    sum += workers[k].sum;
  }
  work_done("alloc-test", sum);
  return 0;
}

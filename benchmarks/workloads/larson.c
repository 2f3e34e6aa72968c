// larson.c -- a server: each request replaces random objects of a session
// table; worker threads end and hand their table to a successor.
//
// Two chains of threads. A thread replaces objects of its chain's table, then
// starts the next thread of the chain and ends, so most objects are freed by a
// thread that did not allocate them. After Larson and Krishnan, "Memory
// Allocation for Long-Running Server Applications" (1998).
//
//   larson [GENERATIONS] [REPLACEMENTS per generation]

#include <semaphore.h>

#include "benchmarks/workloads/common.h"

enum { CHAINS = 2, TABLE = 5000, MIN_SIZE = 10, MAX_SIZE = 500 };

struct chain {
  struct work_random random;
  unsigned generations_left;
  uint64_t bytes;
  char *objects[TABLE];
};

static struct chain chains[CHAINS];
static unsigned replacements;
static sem_t chain_ended;

static char *new_object(struct chain *c) {
  uint32_t size = MIN_SIZE + work_random_below(&c->random, MAX_SIZE - MIN_SIZE);
  char *p = (char *)work_malloc(size);
  p[0] = 'a';
  p[size - 1] = 'z';
  c->bytes += size;
  return p;
}

static void *serve(void *arg) {
  struct chain *c = (struct chain *)arg;
  for (unsigned i = 0; i < replacements; i++) {
    uint32_t victim = work_random_below(&c->random, TABLE);
    free(c->objects[victim]);
    c->objects[victim] = new_object(c);
  }
  if (--c->generations_left == 0) {
    sem_post(&chain_ended);
  } else {
    pthread_detach(work_thread_start(serve, c));
  }
  return NULL;
}

int main(int argc, char **argv) {
  unsigned generations = work_argument(argc, argv, 1, 400);
  uint64_t sum = 0;
  replacements = work_argument(argc, argv, 2, 100000);
  sem_init(&chain_ended, 0, 0);
  for (unsigned k = 0; k < CHAINS; k++) {
    chains[k].random.state = k + 1;
    chains[k].generations_left = generations;
    for (unsigned i = 0; i < TABLE; i++) {
      chains[k].objects[i] = new_object(&chains[k]);
    }
  }
  for (unsigned k = 0; k < CHAINS; k++) {
    pthread_detach(work_thread_start(serve, &chains[k]));
  }
  for (unsigned k = 0; k < CHAINS; k++)
    sem_wait(&chain_ended);
  for (unsigned k = 0; k < CHAINS; k++) {
    sum += chains[k].bytes;
    for (unsigned i = 0; i < TABLE; i++)
      free(chains[k].objects[i]);
  }
  work_done("larson", sum);
  return 0;
}

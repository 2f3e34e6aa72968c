// xmalloc.c -- one thread only allocates, one only frees.
//
// Batches of objects of random size pass through a bounded queue: the flow of
// memory is one way, which starves the producer's cache and floods the
// consumer's. After Lever and Boreham, "malloc() Performance in a
// Multithreaded Linux Environment" (2000).
//
//   xmalloc [BATCHES]

#include "benchmarks/workloads/common.h"

enum { BATCH = 120, QUEUE = 64, MAX_SIZE = 500 };

struct batch {
  void *objects[BATCH];
};

static struct batch *queue[QUEUE];
static unsigned queue_head, queue_used;
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_changed = PTHREAD_COND_INITIALIZER;
static unsigned batches;

static void put(struct batch *b) {
  pthread_mutex_lock(&queue_lock);
  while (queue_used == QUEUE)
    pthread_cond_wait(&queue_changed, &queue_lock);
  queue[(queue_head + queue_used++) % QUEUE] = b;
  if (queue_used == 1)
    pthread_cond_signal(&queue_changed);
  pthread_mutex_unlock(&queue_lock);
}

static struct batch *take(void) {
  pthread_mutex_lock(&queue_lock);
  while (queue_used == 0)
    pthread_cond_wait(&queue_changed, &queue_lock);
  struct batch *b = queue[queue_head];
  queue_head = (queue_head + 1) % QUEUE;
  if (queue_used-- == QUEUE)
    pthread_cond_signal(&queue_changed);
  pthread_mutex_unlock(&queue_lock);
  return b;
}

static void *produce(void *arg) {
  struct work_random random = {7};
  uint64_t *bytes = (uint64_t *)arg;
  for (unsigned n = 0; n < batches; n++) {
    struct batch *b = (struct batch *)work_malloc(sizeof(*b));
    for (unsigned i = 0; i < BATCH; i++) {
      uint32_t size = 1 + work_random_below(&random, MAX_SIZE);
      b->objects[i] = work_malloc(size);
      *(char *)b->objects[i] = 1;
      *bytes += size;
    }
    put(b);
  }
  return NULL;
}

int main(int argc, char **argv) {
  uint64_t bytes = 0;
  batches = work_argument(argc, argv, 1, 100000);
  pthread_t producer = work_thread_start(produce, &bytes);
  for (unsigned n = 0; n < batches; n++) {
    struct batch *b = take();
    for (unsigned i = 0; i < BATCH; i++)
      free(b->objects[i]);
    free(b);
  }
  pthread_join(producer, NULL);
  work_done("xmalloc", bytes);
  return 0;
}

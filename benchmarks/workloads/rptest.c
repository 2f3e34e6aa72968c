// rptest.c -- threads that free each other's objects, mixed sizes.
//
// In each turn a thread allocates a batch of objects, small ones more often,
// frees half of it and passes the other half to its neighbour through a
// mailbox, which holds a few parcels at most: a sender that finds it full
// empties its own and tries again. After the description of rpmalloc's
// benchmark.
//
//   rptest [THREADS] [TURNS]

#include <sched.h>

#include "benchmarks/workloads/common.h"

enum {
  MAX_PARCELS = 8,
  MAX_THREADS = 16,
  BATCH = 200,
  MIN_SIZE = 16,
  MAX_SIZE = 8000
};

struct parcel {
  struct parcel *next;
  unsigned count;
  void *objects[BATCH];
};

struct worker {
  unsigned number;
  uint64_t bytes;
};

struct mailbox {
  struct parcel *first;
  int parcels;
  int closed;  // its owner has ended
};

static struct mailbox mailboxes[MAX_THREADS];
static unsigned threads, turns;

static void free_parcel(struct parcel *p) {
  for (unsigned i = 0; i < p->count; i++)
    free(p->objects[i]);
  free(p);
}

static void empty_mailbox(struct mailbox *m) {
  struct parcel *p = __atomic_exchange_n(&m->first, NULL, __ATOMIC_ACQUIRE);
  while (p != NULL) {
    struct parcel *next = p->next;
    free_parcel(p);
    __atomic_fetch_sub(&m->parcels, 1, __ATOMIC_RELAXED);
    p = next;
  }
}

static void send(struct mailbox *from, struct mailbox *to, struct parcel *p) {
  while (__atomic_load_n(&to->parcels, __ATOMIC_RELAXED) >= MAX_PARCELS) {
    if (__atomic_load_n(&to->closed, __ATOMIC_RELAXED)) {
      free_parcel(p);
      return;
    }
    empty_mailbox(from);
    sched_yield();
  }
  __atomic_fetch_add(&to->parcels, 1, __ATOMIC_RELAXED);
  p->next = __atomic_load_n(&to->first, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&to->first, &p->next, p, 1,
                                      __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
}

// Small sizes are likely: the product of two random numbers.
static uint32_t next_size(struct work_random *random) {
  uint32_t bound = 1 + work_random_below(random, MAX_SIZE - MIN_SIZE);
  return MIN_SIZE + work_random_below(random, bound);
}

static void *work(void *arg) {
  struct worker *w = (struct worker *)arg;
  struct mailbox *mine = &mailboxes[w->number];
  struct work_random random = {w->number + 99};
  for (unsigned turn = 0; turn < turns; turn++) {
    struct parcel *p = (struct parcel *)work_malloc(sizeof(*p));
    void *own[BATCH];
    unsigned own_count = 0;
    p->count = 0;
    for (unsigned i = 0; i < BATCH; i++) {
      uint32_t size = next_size(&random);
      char *object = (char *)work_malloc(size);
      object[0] = object[size - 1] = (char)i;
      w->bytes += size;
      if (i % 2 == 0) {
        own[own_count++] = object;
      } else {
        p->objects[p->count++] = object;
      }
    }
    send(mine, &mailboxes[(w->number + 1) % threads], p);
    empty_mailbox(mine);
    while (own_count > 0)
      free(own[--own_count]);
  }
  __atomic_store_n(&mine->closed, 1, __ATOMIC_RELAXED);
  return NULL;
}

int main(int argc, char **argv) {
  struct worker workers[MAX_THREADS];
  pthread_t running[MAX_THREADS];
  uint64_t sum = 0;
  threads = work_argument(argc, argv, 1, 4);
  turns = work_argument(argc, argv, 2, 20000);
  if (threads < 1 || threads > MAX_THREADS)
    work_fail("1 to 16 threads");
  for (unsigned k = 0; k < threads; k++) {
    workers[k].number = k;
    workers[k].bytes = 0;
    running[k] = work_thread_start(work, &workers[k]);
  }
  for (unsigned k = 0; k < threads; k++) {
    pthread_join(running[k], NULL);
    sum += workers[k].bytes;
  }
  for (unsigned k = 0; k < threads; k++)
    empty_mailbox(&mailboxes[k]);
  work_done("rptest", sum);
  return 0;
}

// churn.c -- blocks of all sizes that come and go: how much memory finds use
// again.
//
//   churn KIND [STEPS [THREADS]]
//
// Each thread has 64 slots and, STEPS times, gives a random one another block.
// The first byte of each 4 KiB of every block is written.
//
//   any      64 KiB to 8 MiB
//   wide     64 KiB to 64 MiB
//   headers  powers of two from 16 KiB to 8 MiB, and 64 bytes
//   aligned  4 KiB to 4 MiB, at multiples of 4 KiB to 2 MiB
//   shrunk   64 KiB to 8 MiB, then cut to a third
//   grown    from 4 KiB, by a half at a time, to 8 MiB
//
// figure: live_mib, the sum over threads of the most that was live

#include <pthread.h>

#include "common.h"

#define SLOTS 64
#define THREADS_MAX 16

enum kind { ANY, WIDE, HEADERS, ALIGNED, SHRUNK, GROWN, KINDS };
static const char *const names[KINDS] = {"any",     "wide",   "headers",
                                         "aligned", "shrunk", "grown"};
static const struct {
  size_t low;
  size_t high;
} sizes[KINDS] = {
    {MIB / 16, 8 * MIB},  {MIB / 16, 64 * MIB}, {MIB / 64, 8 * MIB},
    {MIB / 256, 4 * MIB}, {MIB / 16, 8 * MIB},  {MIB / 256, 8 * MIB},
};

struct slot {
  char *block;
  size_t size;
};

struct worker {
  pthread_t thread;
  enum kind kind;
  size_t steps;
  uint64_t random;
  size_t live;
  size_t live_max;
  struct slot slots[SLOTS];
};

static void touch(char *block, size_t from, size_t end) {
  for (size_t at = from; at < end; at += 4096)
    block[at] = 1;
}

static size_t choose_size(struct worker *w) {
  size_t size =
      random_size(&w->random, sizes[w->kind].low, sizes[w->kind].high);
  if (w->kind == HEADERS)
    return ((size_t)1 << (63 - __builtin_clzl(size))) + 64;
  return size;
}

static char *make(struct worker *w, size_t size) {
  void *block = NULL;
  if (w->kind != ALIGNED)
    return (char *)malloc(size);
  size_t align = (size_t)4096 << random_next(&w->random) % 10;
  return posix_memalign(&block, align, size) == 0 ? (char *)block : NULL;
}

static void replace(struct worker *w, struct slot *slot) {
  free(slot->block);
  slot->size = choose_size(w);
  slot->block = make(w, slot->size);
  if (slot->block == NULL)
    die("malloc");
  touch(slot->block, 0, slot->size);
  if (w->kind != SHRUNK)
    return;
  slot->size /= 3;
  slot->block = (char *)realloc(slot->block, slot->size);
}

static void grow(struct worker *w, struct slot *slot) {
  size_t from = slot->size;
  if (from > sizes[w->kind].high || random_next(&w->random) % 20 == 0) {
    free(slot->block);
    *slot = (struct slot){NULL, 0};
    from = 0;
  }
  slot->size = from != 0 ? from + from / 2 : sizes[w->kind].low;
  slot->block = (char *)realloc(slot->block, slot->size);
  if (slot->block == NULL)
    die("realloc");
  touch(slot->block, from, slot->size);
}

static void *work(void *argument) {
  struct worker *w = (struct worker *)argument;
  for (size_t i = 0; i < w->steps; i++) {
    struct slot *slot = &w->slots[random_next(&w->random) % SLOTS];
    w->live -= slot->size;
    if (w->kind == GROWN) {
      grow(w, slot);
    } else {
      replace(w, slot);
    }
    w->live += slot->size;
    if (w->live > w->live_max)
      w->live_max = w->live;
  }
  for (int i = 0; i < SLOTS; i++)
    free(w->slots[i].block);
  return NULL;
}

int main(int argc, char **argv) {
  static struct worker workers[THREADS_MAX];
  enum kind kind = 0;
  while (kind < KINDS && (argc < 2 || strcmp(argv[1], names[kind]) != 0))
    kind++;
  size_t threads = argument(argc, argv, 3, 1);
  if (kind == KINDS || threads == 0 || threads > THREADS_MAX) {
    fputs("churn KIND [STEPS [THREADS]]\n", stderr);
    return 2;
  }
  size_t live = 0;
  for (size_t i = 0; i < threads; i++) {
    workers[i].kind = kind;
    workers[i].steps = argument(argc, argv, 2, 10000);
    workers[i].random = 88172645463325252u + i * 0x9e3779b97f4a7c15u;
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
      die("pthread_create");
  }
  for (size_t i = 0; i < threads; i++) {
    pthread_join(workers[i].thread, NULL);
    live += workers[i].live_max;
  }
  say("figure live_mib %.1f\n", (double)live / (double)MIB);
  return 0;
}

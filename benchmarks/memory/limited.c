// limited.c -- loads that need less than a limit, but whose allocator holds
// more than it unless it gives back what is free.
//
//   limited fragments LIMIT_MIB [ROUNDS]
//     A heap of blocks of 64 KiB is freed but for one in 24, so that no two MiB
//     are free in a row; then blocks of 6 MiB are wanted, which fit in none of
//     the holes. Live at any time: at most 0.58 of the limit, what was ever
//     touched: 1.1 of it.
//   limited mapped LIMIT_MIB [ROUNDS]
//     A heap of mixed small objects is freed, then the program maps memory of
//     its own, 2 MiB each 20 ms, and goes on with a few small objects. Live: at
//     most 0.6 of the limit, what was ever touched: 1.2 of it.
//
// No more than LIMIT_MIB may be charged to the process. mark: done (survived)

#include "common.h"

#define BLOCK_BYTES ((size_t)64 << 10)
#define BIG_BYTES (6 * MIB)
#define KEEP 24
#define STEP_BYTES (2 * MIB)
#define STEP_S 0.02
#define CALLS 100

static void *written(size_t bytes) {
  void *p = malloc(bytes);
  if (p == NULL)
    die("malloc");
  memset(p, 1, bytes);
  return p;
}

static void fragments(size_t limit_bytes) {
  size_t part_bytes = limit_bytes / 100 * 55;
  size_t count = part_bytes / BLOCK_BYTES, bigs = part_bytes / BIG_BYTES;
  void **blocks = (void **)map((count + bigs) * sizeof blocks[0]);
  void **big = blocks + count;
  for (size_t i = 0; i < count; i++)
    blocks[i] = written(BLOCK_BYTES);
  for (size_t i = 0; i < count; i++) {
    if (i % KEEP != 0)
      free(blocks[i]);
  }
  for (size_t i = 0; i < bigs; i++)
    big[i] = written(BIG_BYTES);
  for (size_t i = 0; i < bigs; i++)
    free(big[i]);
  for (size_t i = 0; i < count; i += KEEP)
    free(blocks[i]);
  munmap(blocks, (count + bigs) * sizeof blocks[0]);
}

static void mapped(size_t limit_bytes) {
  size_t part_bytes = limit_bytes / 100 * 60;
  struct plan plan;
  plan_make(&plan, part_bytes, 16, 4096, 0);
  plan_fill(&plan);
  plan_free(&plan, 0);
  plan_drop(&plan);
  char *own = (char *)map(part_bytes);
  for (size_t at = 0; at + STEP_BYTES <= part_bytes; at += STEP_BYTES) {
    memset(own + at, 1, STEP_BYTES);
    for (size_t i = 0; i < CALLS; i++)
      free(written(64 + i));
    sleep_until_s(now_s() + STEP_S);
  }
  munmap(own, part_bytes);
}

int main(int argc, char **argv) {
  size_t limit_bytes = argument(argc, argv, 2, 256) * MIB;
  size_t rounds = argument(argc, argv, 3, 3);
  if (argc < 2 ||
      (strcmp(argv[1], "fragments") != 0 && strcmp(argv[1], "mapped") != 0)) {
    fputs("usage: limited fragments|mapped LIMIT_MIB ROUNDS\n", stderr);
    return 2;
  }
  for (size_t i = 0; i < rounds; i++) {
    if (argv[1][0] == 'f')
      fragments(limit_bytes);
    else
      mapped(limit_bytes);
  }
  mark("done");
  return 0;
}

// large.c -- buffers of 64 KiB to 8 MiB that come and go.
//
// Thirty-two buffers are live; random ones are replaced, their first, middle
// and last page written. It shows what an allocator asks the kernel for.
//
//   large [REPLACEMENTS]

#include "benchmarks/workloads/common.h"

enum { BUFFERS = 32, MIN_SIZE_LOG2 = 16, MAX_SIZE_LOG2 = 23 };

int main(int argc, char **argv) {
  unsigned replacements = work_argument(argc, argv, 1, 500000);
  struct work_random random = {23};
  char *buffers[BUFFERS] = {NULL};
  uint64_t sum = 0;
  for (unsigned n = 0; n < replacements; n++) {
    char **slot = &buffers[work_random_below(&random, BUFFERS)];
    uint32_t low =
        1u << (MIN_SIZE_LOG2 +
               work_random_below(&random, MAX_SIZE_LOG2 - MIN_SIZE_LOG2));
    uint32_t size = low + work_random_below(&random, low);
    free(*slot);
    *slot = (char *)work_malloc(size);
    (*slot)[0] = (*slot)[size / 2] = (*slot)[size - 1] = 1;
    sum += size;
  }
  for (unsigned i = 0; i < BUFFERS; i++)
    free(buffers[i]);
  work_done("large", sum);
  return 0;
}

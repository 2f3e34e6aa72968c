// main.c -- a C program on tcx: allocates, and says who served it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern size_t tcx_served_objects(void) __attribute__((weak));

enum { BLOCKS = 1000 };

int main(void) {
  char *blocks[BLOCKS];
  for (size_t i = 0; i < BLOCKS; i++) {
    blocks[i] = malloc(i + 1);
    if (blocks[i] == NULL)
      return 1;
    memset(blocks[i], (int)i, i + 1);
  }
  char *copy = strdup("served by tcx");
  blocks[0] = realloc(blocks[0], 1 << 20);
  if (copy == NULL || blocks[0] == NULL)
    return 1;
  size_t served = tcx_served_objects != NULL ? tcx_served_objects() : 0;
  puts(served >= BLOCKS ? copy : "NOT served by tcx");
  for (size_t i = 0; i < BLOCKS; i++)
    free(blocks[i]);
  free(copy);
  return served >= BLOCKS ? 0 : 1;
}

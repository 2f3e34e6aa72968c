// empty_malloc.c -- a malloc that does next to nothing, to preload: the row of
// a pair under it is what the two calls cost, whoever answers them.
//
// Serves 16 and 64 bytes, the sizes of the rows that it is for, from one place,
// everything else from an array that never ends in such a run; free is empty.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNED __attribute__((aligned(64)))

static char hot[64] ALIGNED;
static char rest[4 << 20] ALIGNED;
static size_t used;

static void *take(size_t bytes) {
  char *start = rest + used;
  used += (bytes + 15) & ~(size_t)15;
  if (used > sizeof rest)
    abort();
  return start;
}

void *malloc(size_t bytes) {
  return bytes == 64 || bytes == 16 ? hot : take(bytes);
}

void free(void *pointer) {
  (void)pointer;
}

void *calloc(size_t count, size_t bytes) {
  return take(count * bytes);
}

void *realloc(void *pointer, size_t bytes) {
  char *object = (char *)take(bytes);
  if (pointer != NULL)
    memcpy(object, pointer, bytes);
  return object;
}

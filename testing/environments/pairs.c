// pairs.c -- usage: pairs COUNT: so many pairs of malloc(64) and free.
#include <stdlib.h>

int main(int argc, char **argv) {
  long count = argc > 1 ? atol(argv[1]) : 0;
  for (long i = 0; i < count; i++) {
    void *object = malloc(64);
    __asm__ volatile("" : "+r"(object) : : "memory");
    free(object);
  }
  return 0;
}

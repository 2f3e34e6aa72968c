// memcheck.c -- what valgrind must find, and must not.
//
// usage: memcheck well | memcheck CASE: "after" reads a freed object, "beyond"
//        writes behind an object's end, "leak" loses one.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *keep(void *pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  char *volatile object = (char *)keep(malloc(100));
  memset(object, 1, 100);
  if (strcmp(mode, "beyond") == 0)
    object[100] = 1;
  if (strcmp(mode, "leak") != 0)
    free(object);
  int sum = strcmp(mode, "after") == 0 ? object[5] : 0;
  object = NULL;
  printf("%s %d\n", mode, sum);
  return 0;
}

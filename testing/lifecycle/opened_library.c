// opened_library.c -- a library that is linked with tcx's archive.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

size_t library_use(void);
void *library_malloc(size_t size);
void library_free(void *pointer);

// The usable size of an object of 100: which malloc the library calls.
size_t library_use(void) {
  for (int i = 0; i < 1000; i++) {
    char *copy = strdup("from libc");
    free(copy);
  }
  void *object = malloc(100);
  size_t bytes = malloc_usable_size(object);
  free(object);
  return bytes;
}

void *library_malloc(size_t size) {
  return malloc(size);
}

void library_free(void *pointer) {
  free(pointer);
}

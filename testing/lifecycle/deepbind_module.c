// deepbind_module.c -- a module like PHP's: opened with RTLD_DEEPBIND, and
// exchanging objects with its host and with libc.
#include <stdlib.h>
#include <string.h>

void *module_malloc(size_t size);
void module_free(void *pointer);
int module_own(void);

void *module_malloc(size_t size) {
  return malloc(size);
}

void module_free(void *pointer) {
  free(pointer);
}

// libc allocates by the process's malloc, whatever the module calls.
int module_own(void) {
  char *copy = strdup("from libc to the module");
  int is_right = strcmp(copy, "from libc to the module") == 0;
  free(copy);
  return is_right;
}

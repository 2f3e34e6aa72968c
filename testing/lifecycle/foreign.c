// foreign.c -- pointers that are glibc's, given to tcx.
//
// Method: libc's own functions are looked up in libc.so.6, so that they are not
//   tcx's; what they return goes to the functions of the process.
// usage: foreign libc|ignore         under TCX_FOREIGN of that name
//        foreign FUNCTION            gives it one glibc pointer (for abort)
//        foreign inside              frees the middle of a large object of tcx
#include <dlfcn.h>

#include "testing/lifecycle/check.h"

// Of the preloaded library.
#pragma weak free_sized
#pragma weak cfree
void free_sized(void *pointer, size_t size);
void cfree(void *pointer);
void operator_delete(void *pointer) __asm__("_ZdlPv") __attribute__((weak));
void operator_delete_sized(void *pointer, size_t size) __asm__("_ZdlPvm")
    __attribute__((weak));

static void *(*libc_malloc)(size_t size);
static void *(*libc_memalign)(size_t align, size_t size);
static size_t (*libc_usable)(void *pointer);
static struct mallinfo2 (*libc_mallinfo2)(void);

static void find_libc(void) {
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  CHECK(libc != NULL);
  *(void **)&libc_malloc = dlsym(libc, "malloc");
  *(void **)&libc_memalign = dlsym(libc, "memalign");
  *(void **)&libc_usable = dlsym(libc, "malloc_usable_size");
  *(void **)&libc_mallinfo2 = dlsym(libc, "mallinfo2");
  CHECK(libc_malloc != NULL && libc_malloc != malloc);
}

static char *foreign(size_t size) {
  char *object = (char *)keep(libc_malloc(size));
  CHECK(object != NULL);
  memset(object, 0x77, size);
  return object;
}

static void free_all_ways(void) {
  free(foreign(100));
  free(foreign(1 << 20));  // mapped on its own
  free(keep(libc_memalign(4096, 100)));
  cfree(foreign(100));
  free_sized(foreign(100), 100);
  operator_delete(foreign(100));
  operator_delete_sized(foreign(100), 100);
  CHECK(realloc(foreign(100), 0) == NULL);
}

static void check_libc(void) {
  size_t before = libc_mallinfo2().uordblks;
  for (int i = 0; i < 1000; i++)
    free_all_ways();
  char *object = foreign(100);
  CHECK(malloc_usable_size(object) == libc_usable(object));
  for (size_t size = 200; size < 1 << 20; size *= 3) {
    object = (char *)keep(realloc(object, size));
    CHECK(object != NULL && is_filled(object, 100, 0x77));
    CHECK(malloc_usable_size(object) == libc_usable(object));
  }
  free(object);
  // All of it went back to where it came from (but for a cache per thread).
  CHECK(libc_mallinfo2().uordblks < before + 50000);
}

static void check_ignore(void) {
  size_t before = libc_mallinfo2().uordblks;
  free_all_ways();
  CHECK(libc_mallinfo2().uordblks > before + 600);
  char *object = foreign(100);
  CHECK(malloc_usable_size(object) == 0);
  char *copy = (char *)keep(realloc(object, 5000));
  CHECK(copy != NULL && copy != object && is_filled(copy, 100, 0x77));
  CHECK(malloc_usable_size(copy) != 0);
  CHECK(is_filled(object, 100, 0x77));
  free(copy);
  // Far beyond what can be read: the end of the mapping must stop the copy.
  object = foreign(1 << 20);
  copy = (char *)keep(realloc(object, (size_t)1 << 30));
  CHECK(copy != NULL && is_filled(copy, 1 << 20, 0x77));
  free(copy);
  CHECK(realloc((void *)16, 100) == NULL);
}

static void give_one(const char *function) {
  char *object = foreign(100);
  if (strcmp(function, "free") == 0)
    free(object);
  if (strcmp(function, "realloc") == 0)
    keep(realloc(object, 200));
  if (strcmp(function, "malloc_usable_size") == 0)
    CHECK(malloc_usable_size(object) > 0);
  if (strcmp(function, "free_sized") == 0)
    free_sized(object, 100);
  if (strcmp(function, "delete") == 0)
    operator_delete(object);
  if (strcmp(function, "inside") == 0)
    free((char *)keep(malloc(64 << 20)) + (20 << 20));
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  find_libc();
  if (strcmp(what, "libc") == 0) {
    check_libc();
  } else if (strcmp(what, "ignore") == 0) {
    check_ignore();
  } else {
    give_one(what);
  }
  use_malloc();
  return report(what);
}

// check.h -- what the small programs of this folder share: counted checks, and
// values that the compiler cannot see through. The programs are C and are built
// by the tests themselves, as users build theirs.
#ifndef TCX_TESTING_LIFECYCLE_CHECK_H_
#define TCX_TESTING_LIFECYCLE_CHECK_H_

#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks;
static int failures;

#define CHECK(condition)                                                      \
  do {                                                                        \
    checks++;                                                                 \
    if (!(condition)) {                                                       \
      failures++;                                                             \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                         \
  } while (0)

// Prints what the test's script counts, and is the exit status.
static inline int report(const char *name) {
  printf("%s: %d checks, %d failures\n", name, checks, failures);
  fflush(stdout);
  return failures != 0;
}

static inline void *keep(void *pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

// An object of 100 bytes has 104 in glibc's malloc and 112 in tcx.
static inline int is_of_tcx(void *object_of_100) {
  return malloc_usable_size(object_of_100) == 112;
}

static inline int is_filled(const void *object, size_t size, int tag) {
  const unsigned char *bytes = (const unsigned char *)object;
  return size == 0 || (bytes[0] == (unsigned char)tag &&
                       memcmp(bytes, bytes + 1, size - 1) == 0);
}

// Every kind of call at a few sizes, small to large.
static inline void use_malloc(void) {
  static const size_t sizes[] = {1, 100, 4000, 70000, 300000, 5 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    size_t size = sizes[i];
    char *zeroed = (char *)keep(calloc(1, size));
    CHECK(zeroed != NULL && is_filled(zeroed, size, 0));
    char *object = (char *)keep(malloc(size));
    CHECK(object != NULL && malloc_usable_size(object) >= size);
    memset(object, 0x5a, size);
    object = (char *)keep(realloc(object, size + size / 2));
    CHECK(object != NULL && is_filled(object, size, 0x5a));
    void *aligned = NULL;
    CHECK(posix_memalign(&aligned, 256, size) == 0);
    CHECK(((uintptr_t)aligned & 255) == 0);
    free(zeroed);
    free(object);
    free(aligned);
  }
}

#endif  // TCX_TESTING_LIFECYCLE_CHECK_H_

// static_symbols_test.c -- a fully static program that names all of malloc.o.
//
// Method: linked with -static on tcx. It takes the address of every symbol that
//   malloc.o of glibc 2.36 defines and calls the callable ones, so any symbol
//   that tcx lacks would pull in malloc.o, and the link would fail with
//   duplicates. It also uses the parts of libc that name such symbols: fork,
//   threads, streams.
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testing/libc/support.h"

// Each with the name that it must equal; itself where it is the only one.
#define SYMBOLS(X)                                                \
  X(malloc, malloc)                                               \
  X(__malloc, malloc)                                             \
  X(__libc_malloc, malloc)                                        \
  X(free, free)                                                   \
  X(__free, free)                                                 \
  X(__libc_free, free)                                            \
  X(calloc, calloc)                                               \
  X(__calloc, calloc)                                             \
  X(__libc_calloc, calloc)                                        \
  X(realloc, realloc)                                             \
  X(__realloc, realloc)                                           \
  X(__libc_realloc, realloc)                                      \
  X(memalign, memalign)                                           \
  X(__memalign, memalign)                                         \
  X(__libc_memalign, memalign)                                    \
  X(aligned_alloc, aligned_alloc)                                 \
  X(posix_memalign, posix_memalign)                               \
  X(__posix_memalign, posix_memalign)                             \
  X(valloc, valloc)                                               \
  X(__valloc, valloc)                                             \
  X(__libc_valloc, valloc)                                        \
  X(pvalloc, pvalloc)                                             \
  X(__pvalloc, pvalloc)                                           \
  X(__libc_pvalloc, pvalloc)                                      \
  X(mallinfo, mallinfo)                                           \
  X(__mallinfo, mallinfo)                                         \
  X(__libc_mallinfo, mallinfo)                                    \
  X(mallinfo2, mallinfo2)                                         \
  X(__mallinfo2, mallinfo2)                                       \
  X(__libc_mallinfo2, mallinfo2)                                  \
  X(mallopt, mallopt)                                             \
  X(__mallopt, mallopt)                                           \
  X(__libc_mallopt, mallopt)                                      \
  X(malloc_info, malloc_info)                                     \
  X(__malloc_info, malloc_info)                                   \
  X(malloc_stats, malloc_stats)                                   \
  X(__malloc_stats, malloc_stats)                                 \
  X(malloc_trim, malloc_trim)                                     \
  X(__malloc_trim, malloc_trim)                                   \
  X(malloc_usable_size, malloc_usable_size)                       \
  X(__malloc_usable_size, malloc_usable_size)                     \
  X(__malloc_arena_thread_freeres, __malloc_arena_thread_freeres) \
  X(__malloc_fork_lock_parent, __malloc_fork_lock_parent)         \
  X(__malloc_fork_unlock_parent, __malloc_fork_unlock_parent)     \
  X(__malloc_fork_unlock_child, __malloc_fork_unlock_child)       \
  X(__glibc_morecore, __glibc_morecore)

// By assembler name, so that no declaration of libc is in the way.
#define DECLARE(name, same) extern char address_of_##name[] __asm__(#name);
SYMBOLS(DECLARE)

struct symbol {
  const char *name;
  const char *address;
  const char *same;
};

#define ROW(name, same) {#name, address_of_##name, address_of_##same},
static const struct symbol symbols[] = {SYMBOLS(ROW)};

static int failures;

#define EXPECT(condition)                                            \
  do {                                                               \
    if (!(condition)) {                                              \
      printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      failures++;                                                    \
    }                                                                \
  } while (0)

static void check_names(void) {
  for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
    if (Keep((void *)(uintptr_t)symbols[i].address) == NULL ||
        symbols[i].address != symbols[i].same) {
      printf("%s is not ours\n", symbols[i].name);
      failures++;
    }
  }
}

typedef void *allocate_function(size_t);
typedef void *allocate2_function(size_t, size_t);

static void check_allocations(void) {
  void *objects[10];
  size_t n = 0;
  objects[n++] = malloc(Opaque(100));
  objects[n++] = calloc(Opaque(10), 10);
  objects[n++] = memalign(64, Opaque(100));
  objects[n++] = aligned_alloc(64, Opaque(100));
  objects[n++] = valloc(Opaque(100));
  objects[n++] = pvalloc(Opaque(100));
  objects[n++] =
      ((allocate_function *)(uintptr_t)address_of___libc_malloc)(100);
  objects[n++] =
      ((allocate2_function *)(uintptr_t)address_of___libc_memalign)(64, 100);
  EXPECT(posix_memalign(&objects[n++], 64, 100) == 0);
  for (size_t i = 0; i < n; i++) {
    EXPECT(objects[i] != NULL);
    EXPECT(malloc_usable_size(objects[i]) >= 100);
    objects[i] = realloc(objects[i], Opaque(5000));
    EXPECT(objects[i] != NULL);
    Fill(objects[i], 5000, 1);
  }
  for (size_t i = 0; i < n; i++)
    free(objects[i]);
}

static void check_reports(void) {
  EXPECT(mallopt(M_MMAP_MAX, 0) == 1);
  EXPECT(mallinfo2().arena > 0);
  char *text = NULL;
  size_t bytes = 0;
  FILE *stream = open_memstream(&text, &bytes);
  EXPECT(malloc_info(0, stream) == 0);
  fclose(stream);
  EXPECT(bytes > 0 && strncmp(text, "<malloc", 7) == 0);
  free(text);
  malloc_trim(0);
  malloc_stats();
}

static void *allocate_in_thread(void *unused) {
  (void)unused;
  for (size_t size = 1; size < 100000; size += size / 3 + 1) {
    void *object = malloc(Opaque(size));
    Fill(object, size, 2);
    free(object);
  }
  return NULL;
}

static void check_threads_and_fork(void) {
  for (int i = 0; i < 20; i++) {
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, allocate_in_thread, NULL) == 0);
    pid_t child = fork();
    if (child == 0) {
      alarm(20);
      allocate_in_thread(NULL);
      _exit(0);
    }
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
  }
}

int main(void) {
  check_names();
  check_allocations();
  check_reports();
  check_threads_and_fork();
  EXPECT(tcx_served_objects() > 0);
  printf("%zu names, %d failures\n", sizeof symbols / sizeof symbols[0],
         failures);
  return failures != 0;
}

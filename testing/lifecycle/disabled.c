// disabled.c -- a process whose tcx has stepped aside: each function must
// answer as libc's, and the only memory of tcx is what the loader mapped.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testing/lifecycle/check.h"

// Of the preloaded library.
#pragma weak free_sized
void free_sized(void *pointer, size_t size);
void *operator_new(size_t size) __asm__("_Znwm") __attribute__((weak));
void operator_delete(void *pointer) __asm__("_ZdlPv") __attribute__((weak));

// Mappings of this process without a file and larger than 1 MiB, in KiB.
static size_t anonymous_kib(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  size_t kib = 0;
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long from, to;
    char access[8], path[256] = "";
    sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, access, path);
    if (path[0] == 0 && to - from > 1 << 20)
      kib += (to - from) >> 10;
  }
  fclose(maps);
  return kib;
}

static size_t resident_pages(void) {
  FILE *statm = fopen("/proc/self/statm", "r");
  size_t pages = 0;
  CHECK(statm != NULL && fscanf(statm, "%*s %zu", &pages) == 1);
  fclose(statm);
  return pages;
}

// libc's calloc does not touch what is fresh from the system.
static void check_calloc_is_lazy(void) {
  size_t before = resident_pages();
  void *object = keep(calloc(64, 1 << 20));
  CHECK(object != NULL && resident_pages() < before + 1000);
  free(object);
}

static void *allocate_in_thread(void *unused) {
  use_malloc();
  return unused;
}

static void check_libc_answers(void) {
  void *object = keep(malloc(100));
  CHECK(malloc_usable_size(object) == 104);
  free(object);
  object = keep(calloc(10, 10));
  CHECK(malloc_usable_size(object) == 104);
  object = keep(realloc(object, 1000));
  CHECK(malloc_usable_size(object) == 1000 ||
        malloc_usable_size(object) == 1008);
  free_sized(object, 1000);
  object = keep(operator_new(24));
  CHECK(malloc_usable_size(object) == 24);
  operator_delete(object);
  object = keep(aligned_alloc(4096, 8192));
  CHECK(((uintptr_t)object & 4095) == 0);
  free(object);
  errno = 0;
  CHECK(keep(malloc(PTRDIFF_MAX)) == NULL && errno == ENOMEM);
  CHECK(mallinfo2().arena >= 100000 && mallinfo2().arena < 10 << 20);
  CHECK(mallinfo2().hblks == 0 && mallinfo2().ordblks > 0);
  CHECK(mallopt(M_MXFAST, 1 << 20) == 0);  // tcx accepts everything
  char *text = NULL;
  size_t bytes = 0;
  FILE *stream = open_memstream(&text, &bytes);
  CHECK(malloc_info(0, stream) == 0 && fclose(stream) == 0);
  CHECK(strstr(text, "<heap nr=") != NULL && strstr(text, "tcx") == NULL);
  free(text);
}

int main(void) {
  size_t before = anonymous_kib();
  check_libc_answers();
  check_calloc_is_lazy();
  use_malloc();
  pthread_t id;
  CHECK(pthread_create(&id, NULL, allocate_in_thread, NULL) == 0);
  CHECK(pthread_join(id, NULL) == 0);
  pid_t child = fork();
  if (child == 0) {
    use_malloc();
    _exit(failures != 0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  malloc_trim(0);
  // Of .bss only; glibc's arenas and stacks of threads reserve 72 MiB each.
  CHECK(before < 100 << 10 && anonymous_kib() < 200 << 10);
  return report("disabled");
}

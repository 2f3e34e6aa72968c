// preloads.c -- whose malloc the process has, and that it works.
//
// usage: preloads FILE [asleep]   malloc must be of a library whose path ends
//          in FILE; "asleep": no tcx may have reserved its window (64 GiB)
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testing/lifecycle/check.h"

static int has_window(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  int found = 0;
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long from, to;
    sscanf(line, "%lx-%lx", &from, &to);
    found |= to - from >= (size_t)1 << 30;
  }
  fclose(maps);
  return found;
}

static void *allocate_in_thread(void *unused) {
  use_malloc();
  return unused;
}

int main(int argc, char **argv) {
  if (argc < 2)
    return 2;
  Dl_info info;
  CHECK(dladdr((void *)(uintptr_t)malloc, &info) != 0);
  size_t length = strlen(info.dli_fname);
  size_t wanted = strlen(argv[1]);
  CHECK(length >= wanted &&
        strcmp(info.dli_fname + length - wanted, argv[1]) == 0);
  use_malloc();
  pthread_t ids[4];
  for (int i = 0; i < 4; i++)
    CHECK(pthread_create(&ids[i], NULL, allocate_in_thread, NULL) == 0);
  pid_t child = fork();
  if (child == 0) {
    use_malloc();
    _exit(failures != 0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  for (int i = 0; i < 4; i++)
    CHECK(pthread_join(ids[i], NULL) == 0);
  CHECK(has_window() == (argc == 2));
  return report(argv[1]);
}

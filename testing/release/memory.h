// memory.h -- what the programs of this folder share: what the kernel says that
// the process holds, bursts of objects, waiting for something to become so.
// Nothing but burst_fill calls malloc, nothing but burst_free calls free.
#ifndef TCX_TESTING_RELEASE_MEMORY_H_
#define TCX_TESTING_RELEASE_MEMORY_H_

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "include/tcx/tcx.h"
#include "testing/lifecycle/check.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

// Of the preloaded library.
#pragma weak tcx_get
#pragma weak tcx_release
#pragma weak tcx_set
#pragma weak tcx_set_hard_limit_callback
#pragma weak tcx_statistics_get
#pragma weak tcx_tick

// Reads a file of /proc; its length, 0 where there is none.
static inline size_t read_proc(const char *path, char *text, size_t bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = fd >= 0 ? read(fd, text, bytes - 1) : 0;
  if (fd >= 0)
    close(fd);
  text[length > 0 ? length : 0] = 0;
  return length > 0 ? (size_t)length : 0;
}

static inline size_t rss_bytes(void) {
  char text[128];
  CHECK(read_proc("/proc/self/statm", text, sizeof text) > 0);
  char *second = strchr(text, ' ');
  return strtoul(second != NULL ? second : text, NULL, 10) * 4096;
}

// By tcx's own books.
static inline size_t resident_bytes(void) {
  struct tcx_statistics statistics = {};
  statistics.struct_size = sizeof statistics;
  CHECK(tcx_statistics_get(&statistics) == 0);
  return statistics.resident_bytes;
}

static inline double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void sleep_s(double seconds) {
  double end = now_s() + seconds;
  while (now_s() < end)
    usleep(10000);
}

// Whether `measure` comes to at most `most` within so many seconds. `step` is
// called before each look.
static inline int soon(size_t (*measure)(void), size_t most, double seconds,
                       void (*step)(void)) {
  double start = now_s();
  size_t bytes;
  do {
    if (step != NULL)
      step();
    bytes = measure();
    if (bytes <= most) {
      printf("%zu MiB after %.1f s\n", bytes / MIB, now_s() - start);
      return 1;
    }
    usleep(20000);
  } while (now_s() < start + seconds);
  printf("still %zu MiB after %.0f s, not %zu\n", bytes / MIB, seconds,
         most / MIB);
  return 0;
}

// -- Bursts of objects --------------------------------------------------------

struct burst {
  void **objects;
  size_t count;
};

// Objects of `least` to about 256 times as many bytes, each written.
static inline struct burst burst_fill(size_t bytes, size_t least) {
  struct burst burst = {};
  size_t room = bytes / least * sizeof(void *);
  burst.objects = (void **)mmap(NULL, room, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(burst.objects, room, MADV_NOHUGEPAGE);
  uint64_t random = 88172645463325252u;
  for (size_t sum = 0; sum < bytes;) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    size_t size = least << (random >> 61);
    size += size * (random >> 40 & 255) / 256;
    burst.objects[burst.count] = malloc(size);
    if (burst.objects[burst.count] == NULL)
      break;
    memset(burst.objects[burst.count++], 1, size);
    sum += size;
  }
  return burst;
}

// All but each `kept`-th; 0: all, and the table.
static inline void burst_free(struct burst *burst, size_t bytes, size_t least,
                              size_t kept) {
  for (size_t i = 0; i < burst->count; i++) {
    if (kept == 0 || i % kept != 0) {
      free(burst->objects[i]);
      burst->objects[i] = NULL;
    }
  }
  if (kept == 0)
    munmap(burst->objects, bytes / least * sizeof(void *));
}

static inline void burst_of(size_t bytes, size_t least) {
  struct burst burst = burst_fill(bytes, least);
  burst_free(&burst, bytes, least, 0);
}

// -- Threads ------------------------------------------------------------------

// The id of the thread of this process that is called tcx-bg; 0: none. Without
// opendir, which allocates.
static inline pid_t background_thread(void) {
  char entries[4096], path[64], name[32];
  int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
  pid_t found = 0;
  for (;;) {
    long bytes = syscall(SYS_getdents64, folder, entries, sizeof entries);
    if (bytes <= 0)
      break;
    for (long at = 0; at < bytes;) {
      struct dirent64 *entry = (struct dirent64 *)(void *)&entries[at];
      at += entry->d_reclen;
      snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", entry->d_name);
      read_proc(path, name, sizeof name);
      if (strcmp(name, "tcx-bg\n") == 0)
        found = (pid_t)atoi(entry->d_name);
    }
  }
  close(folder);
  return found;
}

// The thread names itself, so a little later.
static inline int has_background_thread(void) {
  for (int i = 0; i < 1000 && background_thread() == 0; i++)
    usleep(10000);
  return background_thread() != 0;
}

static inline void *nothing(void *arg) {
  return arg;
}

static inline int make_and_join(void) {
  pthread_t thread;
  return pthread_create(&thread, NULL, nothing, NULL) == 0 &&
         pthread_join(thread, NULL) == 0;
}

// Of a child that must end well.
static inline int child_did_well(pid_t child) {
  int status = -1;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#endif  // TCX_TESTING_RELEASE_MEMORY_H_

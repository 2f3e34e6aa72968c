// measure.c -- runs one program on chosen CPUs under a preload and reports
// wall, user and system time and peak resident memory.
//
// PLACE IN THE SYSTEM
//   compare.py starts it for each run. Linux keeps in a process's ru_maxrss
//   the peak of what it was before execve; started from Python directly, every
//   program would seem to need Python's 10 MiB. This launcher is small, and
//   only the final program sees LD_PRELOAD.
//
//   measure [-c CPU[,CPU]] [-p PRELOAD] [-f FD] -- PROGRAM [ARGS]
//     writes "wall_s user_s sys_s peak_kib exit_status" to FD (default 2)
//   measure -t MIB
//     touches so much memory once: a guest's first touch of a page of its
//     host costs far more than later ones, and must hit no allocator's run

#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
  perror(what);
  exit(125);
}

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds(struct timeval t) {
  return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

static void touch_memory(size_t mib) {
  size_t bytes = mib << 20;
  char *p = (char *)mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    die("measure: mmap");
  for (size_t i = 0; i < bytes; i += 4096)
    p[i] = 1;
  munmap(p, bytes);
}

static void pin(char *list) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (char *s = strtok(list, ","); s != NULL; s = strtok(NULL, ",")) {
    CPU_SET(atoi(s), &set);
  }
  if (sched_setaffinity(0, sizeof(set), &set) != 0)
    die("measure: affinity");
}

int main(int argc, char **argv) {
  const char *preload = NULL;
  int fd = 2;
  for (int c; (c = getopt(argc, argv, "+c:p:f:t:")) != -1;) {
    switch (c) {
      case 'c':
        pin(optarg);
        break;
      case 'p':
        preload = optarg;
        break;
      case 'f':
        fd = atoi(optarg);
        break;
      case 't':
        touch_memory(strtoul(optarg, NULL, 10));
        return 0;
      default:
        return 125;
    }
  }
  if (optind >= argc) {
    fputs("usage: measure [-c CPUS] [-p PRELOAD] [-f FD] -- PROGRAM\n", stderr);
    return 125;
  }
  double begin = now_s();
  pid_t child = fork();
  if (child < 0)
    die("measure: fork");
  if (child == 0) {
    if (preload != NULL)
      setenv("LD_PRELOAD", preload, 1);
    if (fd > 2)
      close(fd);
    execv(argv[optind], argv + optind);
    die(argv[optind]);
  }
  int status = 0;
  struct rusage use;
  if (wait4(child, &status, 0, &use) != child)
    die("measure: wait4");
  double wall = now_s() - begin;
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  dprintf(fd, "%.6f %.6f %.6f %ld %d\n", wall, seconds(use.ru_utime),
          seconds(use.ru_stime), use.ru_maxrss, code);
  return code;
}

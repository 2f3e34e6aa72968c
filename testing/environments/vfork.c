// vfork.c -- malloc and free in the children of vfork.
//
// usage: vfork storm COUNT  COUNT vforks by each of two threads, while two
//                           others are at full speed. Each child makes and ends
//                           50 objects, ends some of its parent's, leaves it
//                           some; every 16th ends by exec.
//        vfork alone CACHED one thread: the child and its child allocate past
//                           the caches of CPUs (CACHED: 0) or from the thread's
//                           (1); the parent from its cache as before
//        vfork nested       a child's child does the same
//        vfork early        threads whose first malloc is in a child
//        vfork fails        vfork returns -1 and sets errno
//        vfork signals      with a timer whose handler allocates
//        vfork others       posix_spawn, system, popen, fork of a child
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "testing/environments/load.h"

enum { CHILD_OBJECTS = 50, GIFTS = 8, EXIT = 42 };

static unsigned storm_count;

struct exchange {
  struct object *to_child[GIFTS];
  struct object *to_parent[GIFTS];
};

// The kernel does not tell the parent's area.
static void move_to_another_cpu(void) {
  int here = sched_getcpu();
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0 || CPU_COUNT(&cpus) < 2)
    return;
  CPU_CLR(here, &cpus);
  (void)sched_setaffinity(0, sizeof cpus, &cpus);
}

static __attribute__((noinline)) void child_work(struct exchange *gifts,
                                                 uint64_t *random) {
  struct object *objects[CHILD_OBJECTS];
  for (int i = 0; i < CHILD_OBJECTS; i++) {
    objects[i] = object_make(load_size(random));
    if (i == CHILD_OBJECTS / 2)
      move_to_another_cpu();
  }
  for (int i = 0; i < GIFTS; i++) {
    object_end(gifts->to_child[i]);
    gifts->to_parent[i] = object_make(load_size(random));
  }
  for (int i = 0; i < CHILD_OBJECTS; i++)
    object_end(objects[i]);
}

static void wait_for(pid_t pid, int expected) {
  int status;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
      WEXITSTATUS(status) != expected) {
    wrong("WRONG: a child ended otherwise\n");
  }
}

// The gifts lie outside the frame of the function that calls vfork.
static __attribute__((noinline)) void vfork_once(struct exchange *gifts,
                                                 uint64_t *random,
                                                 int by_exec) {
  for (int i = 0; i < GIFTS; i++)
    gifts->to_child[i] = object_make(load_size(random));
  pid_t pid = vfork();
  if (pid == 0) {
    child_work(gifts, random);
    if (by_exec)
      execl("/bin/true", "true", (char *)NULL);
    _exit(EXIT);
  }
  wait_for(pid, by_exec ? 0 : EXIT);
  for (int i = 0; i < GIFTS; i++)
    object_end(gifts->to_parent[i]);
}

static void *vfork_run(void *seed) {
  uint64_t random = (uintptr_t)seed * MIX;
  struct exchange *gifts = (struct exchange *)malloc(sizeof *gifts);
  for (unsigned i = 0; i < storm_count; i++) {
    load_steps(&random, 20);
    vfork_once(gifts, &random, i % 16 == 0);
  }
  free(gifts);
  return NULL;
}

static int storm(unsigned count) {
  pthread_t threads[4];
  uint64_t before = load_allocated();
  storm_count = count;
  for (uintptr_t i = 0; i < 4; i++)
    thread_start(&threads[i], i < 2 ? vfork_run : load_run, i + 1);
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  atomic_store(&load_ends, 1);
  pthread_join(threads[2], NULL);
  pthread_join(threads[3], NULL);
  return load_report("storm", before);
}

static __attribute__((noinline)) void nested_child(uint64_t *random,
                                                   int depth) {
  struct object *objects[CHILD_OBJECTS];
  for (int i = 0; i < CHILD_OBJECTS; i++)
    objects[i] = object_make(load_size(random));
  if (depth > 0) {
    pid_t pid = vfork();
    if (pid == 0) {
      nested_child(random, depth - 1);
      _exit(EXIT);
    }
    wait_for(pid, EXIT);
    move_to_another_cpu();
    load_steps(random, 100);
  }
  for (int i = 0; i < CHILD_OBJECTS; i++)
    object_end(objects[i]);
}

static void *nested_run(void *seed) {
  uint64_t random = (uintptr_t)seed * MIX;
  for (int i = 0; i < 50; i++) {
    pid_t pid = vfork();
    if (pid == 0) {
      nested_child(&random, 2);
      _exit(EXIT);
    }
    wait_for(pid, EXIT);
    load_steps(&random, 20);
  }
  return NULL;
}

static __attribute__((noinline)) void early_vfork(struct exchange *gifts,
                                                  uint64_t *random) {
  pid_t pid = vfork();
  if (pid == 0) {
    for (int i = 0; i < GIFTS; i++)
      gifts->to_parent[i] = object_make(load_size(random));
    _exit(EXIT);
  }
  wait_for(pid, EXIT);
}

static void *early_run(void *seed) {
  uint64_t random = (uintptr_t)seed * MIX;
  struct exchange gifts;
  early_vfork(&gifts, &random);
  for (int i = 0; i < GIFTS; i++)
    object_end(gifts.to_parent[i]);
  load_steps(&random, 100);
  return NULL;
}

// `run` in two threads at a time, `count` times, beside one at full speed.
static int pairs_of(void *(*run)(void *), uintptr_t count, const char *name) {
  pthread_t load;
  uint64_t before = load_allocated();
  thread_start(&load, load_run, 1);
  for (uintptr_t i = 0; i < count; i++) {
    pthread_t threads[2];
    thread_start(&threads[0], run, 2 * i + 2);
    thread_start(&threads[1], run, 2 * i + 3);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
  }
  atomic_store(&load_ends, 1);
  pthread_join(load, NULL);
  return load_report(name, before);
}

unsigned long tcx_served_objects(void);
#pragma weak tcx_served_objects

// Whether a cache serves this thread. No other is at work.
static int is_cached(void) {
  enum { PAIRS = 1000, SIZE = 200 };
  object_end(object_make(SIZE));
  unsigned long before = tcx_served_objects();
  for (int i = 0; i < PAIRS; i++)
    object_end(object_make(SIZE));
  return tcx_served_objects() - before < PAIRS / 10;
}

// Where vfork_steps.py begins.
static __attribute__((noinline)) void vfork_parent(void) {
  __asm__ volatile("");
}

static __attribute__((noinline)) int cached_in_child(int depth) {
  vfork_parent();
  pid_t pid = vfork();
  if (pid == 0) {
    int inner = depth > 0 ? cached_in_child(depth - 1) : is_cached();
    _exit(inner == is_cached() ? inner : 99);
  }
  int status;
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
    wrong("WRONG: a child ended otherwise\n");
  return WEXITSTATUS(status);
}

static int alone(int cached) {
  uint64_t before = load_allocated();
  for (int i = 0; i < 100; i++) {
    if (!is_cached())
      wrong("WRONG: the parent has no cache\n");
    if (cached_in_child(i % 3) != cached)
      wrong("WRONG: the child has another kind of cache\n");
  }
  return load_report("alone", before);
}

#ifdef SYS_vfork
#define VFORK_CALL SYS_vfork
#else
#define VFORK_CALL SYS_clone
#endif

static int fails(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, VFORK_CALL, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof code / sizeof code[0], code};
  uint64_t random = 1;
  uint64_t before = load_allocated();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    wrong("WRONG: no seccomp\n");
  }
  load_steps(&random, 10);
  for (int i = 0; i < 1000; i++) {
    errno = 0;
    vfork_parent();
    if (vfork() != -1 || errno != EAGAIN)
      wrong("WRONG: vfork did not fail\n");
    load_steps(&random, 10);
    if (i % 100 == 0 && !is_cached())
      wrong("WRONG: no cache after a failure\n");
  }
  return load_report("fails", before);
}

static atomic_uint handled;

static void on_signal(int number) {
  (void)number;
  int saved = errno;
  uint64_t random = atomic_fetch_add(&handled, 1);
  struct object *objects[GIFTS];
  for (int i = 0; i < GIFTS; i++)
    objects[i] = object_make(load_size(&random));
  for (int i = GIFTS - 1; i >= 0; i--)
    object_end(objects[i]);
  errno = saved;
}

// Signals hit this thread alone, which does nothing but vfork: no slow path of
// the parent is interrupted, and the child has no timer.
static int with_signals(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  uint64_t before = load_allocated();
  pthread_t load;
  sigprocmask(SIG_BLOCK, &alarm, NULL);
  thread_start(&load, load_run, 1);
  sigprocmask(SIG_UNBLOCK, &alarm, NULL);
  sigaction(SIGALRM, &action, NULL);
  struct itimerval each = {{0, 50}, {0, 50}};
  setitimer(ITIMER_REAL, &each, NULL);
  for (int i = 0; i < 500; i++) {
    pid_t pid = vfork();
    if (pid == 0)
      _exit(EXIT);
    wait_for(pid, EXIT);
  }
  struct itimerval none = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &none, NULL);
  atomic_store(&load_ends, 1);
  pthread_join(load, NULL);
  if (handled == 0)
    wrong("WRONG: no signals\n");
  return load_report("signals", before);
}

static void fork_of_a_child(uint64_t *random) {
  pid_t pid = vfork();
  if (pid == 0) {
    pid_t grandchild = fork();
    if (grandchild == 0) {
      load_steps(random, 1000);
      _exit(EXIT);
    }
    wait_for(grandchild, EXIT);
    _exit(EXIT);
  }
  wait_for(pid, EXIT);
}

static void *others_run(void *seed) {
  static char *arguments[] = {(char *)"true", NULL};
  uint64_t random = (uintptr_t)seed * MIX;
  for (int i = 0; i < 10; i++) {
    pid_t pid;
    if (posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, NULL) != 0)
      wrong("WRONG: posix_spawn\n");
    wait_for(pid, 0);
    if (system("exit 42") != EXIT << 8)
      wrong("WRONG: system\n");
    char line[16] = "";
    FILE *pipe = popen("echo hello", "r");
    if (pipe == NULL || fgets(line, sizeof line, pipe) == NULL ||
        strcmp(line, "hello\n") != 0 || pclose(pipe) != 0) {
      wrong("WRONG: popen\n");
    }
    fork_of_a_child(&random);
    load_steps(&random, 100);
  }
  return NULL;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "storm") == 0 && argc > 2)
    return storm((unsigned)atoi(argv[2]));
  if (strcmp(mode, "alone") == 0 && argc > 2)
    return alone(atoi(argv[2]));
  if (strcmp(mode, "nested") == 0)
    return pairs_of(nested_run, 2, mode);
  if (strcmp(mode, "early") == 0)
    return pairs_of(early_run, 300, mode);
  if (strcmp(mode, "fails") == 0)
    return fails();
  if (strcmp(mode, "signals") == 0)
    return with_signals();
  if (strcmp(mode, "others") == 0)
    return pairs_of(others_run, 1, mode);
  return 2;
}

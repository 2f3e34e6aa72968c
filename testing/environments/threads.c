// threads.c -- threads that trade objects, where the kernel and libc differ.
//
// usage: threads able            prints which ids this kernel keeps for a
//                                registered thread: mm_cid, cpu_id or none
//        threads run STEPS       four threads at once, STEPS each
//        threads turnover COUNT  COUNT threads one after the other, beside one
//                                that stays; they have destructors of keys that
//                                use malloc to the last round
//        threads leavers COUNT  where libc registers nothing: each of COUNT
//        threads
//                                has an area of tcx's, and none any more in its
//                                last round of destructors
//        threads mixed           of four threads two have no area: they take
//                                back libc's registration before their first
//                                malloc
//        threads taken           of four threads two have registered an area of
//                                the program's before their first malloc
//        threads moved           four threads, while their affinity changes: to
//                                each CPU alone, and back
//        threads wait           four threads, until standard input ends
//        threads fences          trim after trim, which stops caches of CPUs
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "testing/environments/load.h"

#pragma weak tcx_tick

enum { THREADS = 4, UNREGISTER = 1, MM_CID_END = 28 };

// As libc registers its areas.
#ifdef __aarch64__
#define SIGNATURE 0xd428bc00
#else
#define SIGNATURE 0x53053053
#endif
#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#endif

struct area {
  uint32_t cpu_id_start;
  int32_t cpu_id;
  uint64_t fields[3];
} __attribute__((aligned(32)));

extern const ptrdiff_t __rseq_offset;
static __thread struct area own_area;

static struct area *libcs_area(void) {
  char *thread = (char *)__builtin_thread_pointer();
  return (struct area *)(void *)(thread + __rseq_offset);
}

static long call_rseq(struct area *area, int flags) {
  return syscall(SYS_rseq, area, sizeof *area, flags, SIGNATURE);
}

static int print_able(void) {
  int is_registered = libcs_area()->cpu_id >= 0;
  int has_mm_cid = getauxval(AT_RSEQ_FEATURE_SIZE) >= MM_CID_END;
  puts(!is_registered ? "none" : has_mm_cid ? "mm_cid" : "cpu_id");
  return 0;
}

static unsigned steps_each = 100000;

static void *run(void *seed) {
  uint64_t random = (uintptr_t)seed * MIX;
  for (unsigned i = 0; i < steps_each; i += 100)
    load_steps(&random, 100);
  return NULL;
}

static void *run_without(void *seed) {
  if (call_rseq(libcs_area(), UNREGISTER) != 0)
    wrong("WRONG: cannot unregister\n");
  return run(seed);
}

static void *run_taken(void *seed) {
  if (call_rseq(&own_area, 0) != 0)
    wrong("WRONG: cannot register\n");
  run(seed);
  (void)call_rseq(&own_area, UNREGISTER);
  return NULL;
}

static int four(const char *name, void *(*first)(void *),
                void *(*second)(void *),
                void (*meanwhile)(const pthread_t *threads)) {
  pthread_t threads[THREADS];
  uint64_t before = load_allocated();
  for (uintptr_t i = 0; i < THREADS; i++)
    thread_start(&threads[i], i % 2 == 0 ? first : second, i + 1);
  if (meanwhile != NULL)
    meanwhile(threads);
  atomic_store(&load_ends, 1);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  return load_report(name, before);
}

// -- threads that come and go -------------------------------------------------

static pthread_key_t keys[3];

// Comes back in each round of destructors, the last one included.
static void destructor(void *value) {
  uint64_t random = (uintptr_t)value;
  struct object *objects[10];
  for (int i = 0; i < 10; i++)
    objects[i] = object_make(load_size(&random));
  load_steps(&random, 20);
  for (int i = 0; i < 10; i++)
    object_end(objects[i]);
  uintptr_t key = (uintptr_t)value % 3;
  pthread_setspecific(keys[key], (char *)value + 3);
}

static void *short_run(void *seed) {
  uint64_t random = (uintptr_t)seed * MIX;
  load_steps(&random, 200);
  // One key is older than tcx's own, one is set before it: any order.
  for (uintptr_t i = 0; i < 3; i++)
    pthread_setspecific(keys[i], (void *)(3000 + i));
  load_steps(&random, 200);
  return NULL;
}

static int turnover(unsigned count) {
  for (int i = 0; i < 3; i++)
    pthread_key_create(&keys[i], destructor);
  pthread_t stays;
  uint64_t before = load_allocated();
  thread_start(&stays, load_run, 1);
  for (uintptr_t i = 0; i < count; i += 2) {
    pthread_t pair[2];
    thread_start(&pair[0], short_run, i + 2);
    thread_start(&pair[1], short_run, i + 3);
    pthread_join(pair[0], NULL);
    pthread_join(pair[1], NULL);
  }
  atomic_store(&load_ends, 1);
  pthread_join(stays, NULL);
  return load_report("turnover", before);
}

static void leaver_ends(void *value) {
  uintptr_t round = (uintptr_t)value;
  uint64_t random = round;
  load_steps(&random, 20);
  if (round < PTHREAD_DESTRUCTOR_ITERATIONS) {
    pthread_setspecific(keys[0], (void *)(round + 1));
  } else if (call_rseq(&own_area, 0) != 0 ||
             call_rseq(&own_area, UNREGISTER) != 0) {
    wrong("WRONG: the thread's memory goes, its area is registered\n");
  }
}

static void *leaver_run(void *seed) {
  uint64_t random = (uintptr_t)seed * MIX;
  load_steps(&random, 200);
  if (call_rseq(&own_area, 0) == 0 || errno != EINVAL)
    wrong("WRONG: the thread is not registered\n");
  pthread_setspecific(keys[0], (void *)1);
  return NULL;
}

static int leavers(unsigned count) {
  pthread_key_create(&keys[0], leaver_ends);
  uint64_t before = load_allocated();
  for (uintptr_t i = 0; i < count; i++) {
    pthread_t thread;
    thread_start(&thread, leaver_run, i + 1);
    pthread_join(thread, NULL);
  }
  return load_report("leavers", before);
}

// -- affinity, fences ---------------------------------------------------------

static void set_affinity(const pthread_t *threads, const cpu_set_t *cpus) {
  for (int i = 0; i < THREADS; i++)
    pthread_setaffinity_np(threads[i], sizeof *cpus, cpus);
  usleep(2000);
}

static void move(const pthread_t *threads) {
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof all, &all) != 0)
    wrong("WRONG: no affinity\n");
  for (int i = 0; i < 20; i++) {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (!CPU_ISSET(cpu, &all))
        continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      set_affinity(threads, &one);
    }
    set_affinity(threads, &all);
  }
}

static void wait_for_end(const pthread_t *threads) {
  char bytes[64];
  (void)threads;
  while (read(STDIN_FILENO, bytes, sizeof bytes) > 0)
    continue;
}

static void tick(const pthread_t *threads) {
  (void)threads;
  for (int i = 0; i < 200; i++) {
    tcx_release(SIZE_MAX);
    tcx_tick();
    usleep(1000);
  }
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  unsigned number = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
  if (strcmp(mode, "able") == 0)
    return print_able();
  if (strcmp(mode, "run") == 0) {
    steps_each = number;
    return four(mode, run, run, NULL);
  }
  if (strcmp(mode, "turnover") == 0)
    return turnover(number);
  if (strcmp(mode, "leavers") == 0)
    return leavers(number);
  if (strcmp(mode, "mixed") == 0)
    return four(mode, run_without, run, NULL);
  if (strcmp(mode, "taken") == 0)
    return four(mode, run_taken, run, NULL);
  if (strcmp(mode, "moved") == 0)
    return four(mode, load_run, load_run, move);
  if (strcmp(mode, "wait") == 0)
    return four(mode, load_run, load_run, wait_for_end);
  if (strcmp(mode, "fences") == 0)
    return four(mode, load_run, load_run, tick);
  return 2;
}

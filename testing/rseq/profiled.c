// profiled.c -- a program that profiles itself while it allocates.
//
// profiled SAMPLES HANDLERS
//
// Every section that a signal hits is left for its abort handler, and the
// signal handler sees that address: so a profile is full of abort handlers.
// Each stack must reach main, and one in tcx do so through a function that
// allocates. The program ends when it has so many samples by ITIMER_PROF and by
// a fast timer together, and so many of them at abort handlers, in malloc and
// in free both: not after some time.
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "base/rseq.h"

#define FAST_NS 200000
#define PROFILER_US 1000
#define DEPTH_MAX 64
#define FUNCTIONS 3

extern const ptrdiff_t __rseq_offset __attribute__((weak));

typedef void function(void);
int main(int argc, char **argv);
static function pairs, batches, moves;
static function *const functions[FUNCTIONS] = {pairs, batches, moves};

struct counts {
  long samples, library, handlers, in_malloc, in_free, broken;
};
static volatile struct counts counts;
static volatile int is_running;
static const char *library;  // where it is loaded
static long samples_wanted, handlers_wanted;

static int is_done(void) {
  return counts.samples >= samples_wanted &&
         counts.handlers >= handlers_wanted && counts.in_malloc > 0 &&
         counts.in_free > 0;
}

// -- what is profiled ---------------------------------------------------------

static void __attribute__((noinline)) pairs(void) {
  for (int i = 0; i < 2000; i++)
    free(malloc(16 + (size_t)i % 512));
}

static void __attribute__((noinline)) batches(void) {
  static void *objects[5000];
  for (int i = 0; i < 5000; i++)
    objects[i] = malloc(200);
  for (int i = 0; i < 5000; i++)
    free(objects[i]);
}

static void __attribute__((noinline)) moves(void) {
  void *object = NULL;
  for (size_t size = 16; size < 4096; size += 64)
    object = realloc(object, size);
  free(object);
  free(calloc(7, 11));
}

// -- the profiler -------------------------------------------------------------

struct walk {
  int depth, saw_function, saw_main;
};

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *data) {
  struct walk *walk = data;
  void *begin =
      _Unwind_FindEnclosingFunction((void *)(_Unwind_GetIP(context) - 1));
  for (int i = 0; i < FUNCTIONS; i++)
    walk->saw_function |= begin == (void *)functions[i];
  walk->saw_main |= begin == (void *)main;
  return ++walk->depth < DEPTH_MAX ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

static int is_in(Dl_info *info, const char *name) {
  return info->dli_sname != NULL && strstr(info->dli_sname, name) != NULL;
}

static void sample(int number, siginfo_t *siginfo, void *context) {
  (void)number;
  (void)siginfo;
  const ucontext_t *interrupted = context;
  const char *pc =
      (const char *)(uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
  struct walk walk = {0};
  Dl_info info;
  if (!is_running)
    return;
  counts.samples++;
  _Unwind_Backtrace(frame, &walk);
  counts.broken += !walk.saw_main;
  if (dladdr(pc, &info) == 0 || info.dli_fbase != library)
    return;
  counts.broken += walk.saw_main && !walk.saw_function;
  counts.library++;
  uint32_t before;
  memcpy(&before, pc - sizeof before, sizeof before);
  if (before != TCX_RSEQ_SIGNATURE)
    return;
  counts.handlers++;
  counts.in_malloc += is_in(&info, "malloc");
  counts.in_free += is_in(&info, "free");
}

// ITIMER_PROF has the kernel's tick for its finest period.
static int start_timers(void) {
  struct sigaction action = {.sa_sigaction = sample,
                             .sa_flags = SA_SIGINFO | SA_RESTART};
  struct itimerval profiler = {{0, PROFILER_US}, {0, PROFILER_US}};
  struct itimerspec fast = {{0, FAST_NS}, {0, FAST_NS}};
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                           .sigev_signo = SIGPROF};
  timer_t timer;
  return sigaction(SIGPROF, &action, NULL) == 0 &&
         setitimer(ITIMER_PROF, &profiler, NULL) == 0 &&
         timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
         timer_settime(timer, 0, &fast, NULL) == 0;
}

// The thread is registered: else no section is ever aborted.
static int has_rseq(void) {
  if (&__rseq_offset == NULL)
    return 0;
  char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
  return ((const struct tcx_rseq_area *)(void *)area)->cpu_id >= 0;
}

int main(int argc, char **argv) {
  Dl_info info;
  if (argc != 3 || dladdr((void *)malloc, &info) == 0)
    return 2;
  if (!has_rseq())
    return 77;
  library = info.dli_fbase;
  samples_wanted = atol(argv[1]);
  handlers_wanted = atol(argv[2]);
  struct walk walk = {0};
  _Unwind_Backtrace(frame, &walk);  // It allocates at its first call.
  if (!start_timers())
    return 3;
  is_running = 1;
  long samples_max = 10 * (samples_wanted + 100);
  for (int i = 0; !is_done() && counts.samples < samples_max; i++)
    functions[i % FUNCTIONS]();
  is_running = 0;
  printf(
      "%ld samples, %ld in tcx, %ld at abort handlers (%ld in malloc, %ld in "
      "free), %ld broken stacks\n",
      counts.samples, counts.library, counts.handlers, counts.in_malloc,
      counts.in_free, counts.broken);
  return is_done() && counts.broken == 0 ? 0 : 1;
}

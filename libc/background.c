// background.c -- makes the thread, wakes it, ends it. See background.h.
#include "libc/background.h"

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bell.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/fork.h"
#include "base/knobs.h"

// For what it calls, on top of what libc needs of a stack for itself.
#define STACK_BYTES (64 * TCX_KIB)
// A process that is refused a thread so often (RLIMIT_NPROC, a sandbox) is not
// asked again.
#define FAILURES_MAX 3

enum { NONE, RUNNING };

static struct {
  const struct tcx_background_job *job;  // NULL: not started, or off
  uint64_t choice;
  uint32_t state;
  uint32_t must_end;
  uint32_t failures;  // of this process to make one
  bool has_key;
  pthread_key_t key;  // of the main thread: its destructor ends the other one
  pthread_t thread;
  size_t stack_bytes;  // 0: not known yet
  struct tcx_bell bell;
  struct tcx_background_stats stats;
} self;

// -- The thread ---------------------------------------------------------------

static void *run(void *arg) {
  (void)arg;
  (void)pthread_setname_np(pthread_self(), "tcx-bg");
  while (tcx_atomic_load_relaxed(&self.must_end) == 0) {
    tcx_counter_add(&self.stats.rounds, 1);
    uint64_t wait_ms = self.job->work(tcx_clock_ms());
    (void)tcx_bell_wait(&self.bell, wait_ms);
  }
  return NULL;
}

void tcx_background_wake(void) {
  if (tcx_atomic_load_relaxed(&self.state) == RUNNING)
    tcx_bell_ring(&self.bell);
}

bool tcx_background_is_running(void) {
  return tcx_atomic_load_relaxed(&self.state) == RUNNING;
}

// -- Making and ending it -----------------------------------------------------

static int create(pthread_t *thread, const pthread_attr_t *attributes) {
  return tcx_pthread_create != NULL
             ? tcx_pthread_create(thread, attributes, run, NULL)
             : pthread_create(thread, attributes, run, NULL);
}

static int add_tls(struct dl_phdr_info *info, size_t bytes, void *arg) {
  (void)bytes;
  size_t *sum = (size_t *)arg;
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type == PT_TLS)
      *sum += info->dlpi_phdr[i].p_memsz + info->dlpi_phdr[i].p_align;
  }
  return 0;
}

// libc puts static TLS on the stack, and refuses none that has room for two
// KiB beside it. Static TLS does not grow: once is enough, and best early, as
// the loader's lock is taken, which another thread may hold at a fork.
static void find_stack_bytes(void) {
  if (self.stack_bytes != 0)
    return;
  size_t tls_bytes = 0;
  (void)dl_iterate_phdr(add_tls, &tls_bytes);
  long libc_bytes = sysconf(_SC_THREAD_STACK_MIN);
  self.stack_bytes =
      tls_bytes + (libc_bytes > 0 ? (size_t)libc_bytes : 0) + STACK_BYTES;
}

// With all signals blocked but libc's own: the thread inherits that.
static int create_blocked(void) {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0)
    return error;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  error = pthread_attr_setstacksize(&attributes, self.stack_bytes);
  if (error == 0) {
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = create(&self.thread, &attributes);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  (void)pthread_attr_destroy(&attributes);
  return error;
}

// I1. Runs in the main thread when that ends by pthread_exit.
static void end(void *arg) {
  (void)arg;
  if (self.state != RUNNING)
    return;
  tcx_atomic_store_relaxed(&self.must_end, 1);
  tcx_bell_ring(&self.bell);
  (void)pthread_join(self.thread, NULL);
  tcx_atomic_store_relaxed(&self.state, NONE);
}

// The watch comes first: a thread that nobody ends would keep the process.
static bool watch_main_thread(void) {
  if (!self.has_key)
    self.has_key = pthread_key_create(&self.key, end) == 0;
  return self.has_key && pthread_setspecific(self.key, &self) == 0;
}

static void make(void) {
  int saved = errno;
  self.must_end = 0;
  tcx_bell_reset(&self.bell);
  find_stack_bytes();
  if (watch_main_thread() && create_blocked() == 0) {
    tcx_counter_add(&self.stats.made, 1);
    tcx_atomic_store_relaxed(&self.state, RUNNING);
    // For work that came after the first round and did not ring yet.
    tcx_bell_ring(&self.bell);
  } else {
    self.failures++;
    tcx_counter_add(&self.stats.failures, 1);
  }
  errno = saved;
}

static bool is_main_thread(void) {
  return gettid() == getpid();
}

// Pairs with the store at start; that may be in another thread.
static bool has_job(void) {
  return tcx_atomic_load_acquire(&self.job) != NULL;
}

static bool may_make(void) {
  return tcx_atomic_load_relaxed(&self.state) != RUNNING && has_job() &&
         is_main_thread() && self.must_end == 0 && self.failures < FAILURES_MAX;
}

void tcx_background_enter(void) {
  if (may_make() && (self.job->is_wanted == NULL || self.job->is_wanted()))
    make();
}

// The user's "on" counts before there is work, too.
static void enter_unasked(void) {
  if (may_make())
    make();
}

// -- Start, fork --------------------------------------------------------------

// I2. Nobody rings and nobody waits here yet.
static void forget_thread(void *arg) {
  (void)arg;
  self.state = NONE;
  self.must_end = 0;
  self.failures = 0;
  self.stats.made = 0;
  self.stats.failures = 0;
  tcx_bell_reset(&self.bell);
}

void tcx_background_start(const struct tcx_background_job *job,
                          uint64_t choice) {
  static const struct tcx_fork_hooks hooks = {TCX_LOCK_RANK_RELEASE, &self,
                                              NULL, NULL, forget_thread};
  TCX_ASSERT(job->work != NULL);
  tcx_fork_register(&hooks);
  self.choice = choice;
  if (choice != TCX_BACKGROUND_OFF)
    tcx_atomic_store_release(&self.job, job);
}

void tcx_background_start_early(void) {
  if (!has_job())
    return;
  find_stack_bytes();
  if (self.choice != TCX_BACKGROUND_ON)
    return;
  // Registered after those of tcx itself, so that the child may allocate there.
  (void)pthread_atfork(NULL, NULL, enter_unasked);
  enter_unasked();
}

void tcx_background_read_stats(struct tcx_background_stats *out) {
  out->made = tcx_atomic_load_relaxed(&self.stats.made);
  out->failures = tcx_atomic_load_relaxed(&self.stats.failures);
  out->rounds = tcx_atomic_load_relaxed(&self.stats.rounds);
}

// stepped.c -- the process that stepping_test.py steps through the sections of
// a preloaded tcx.
//
// It starts tcx, tells where its area and its board are, and stops at an int3.
// From there on the test sets its registers and its memory: it never runs by
// itself again, but for the signal handler.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "base/rseq.h"

extern const ptrdiff_t __rseq_offset __attribute__((weak));

// The test knows this layout. The first `headers` are a slab's of three
// classes.
static struct board {
  uint64_t area;
  uint64_t handled;   // signals
  uint64_t seen;      // where the last one came in
  uint64_t reserved;  // so that what follows is aligned
  uint64_t headers[6];
  uint64_t slots[12];
  uint64_t batch[8];
} board __attribute__((aligned(64)));

static void handle(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)info;
  const ucontext_t *interrupted = context;
  board.seen = (uint64_t)interrupted->uc_mcontext.gregs[REG_RIP];
  board.handled++;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
  free(malloc(64));
  if (&__rseq_offset == NULL)
    return 77;
  board.area = (uint64_t)__builtin_thread_pointer() + (uint64_t)__rseq_offset;
  if (((const struct tcx_rseq_area *)board.area)->cpu_id < 0)
    return 77;  // Not registered: the kernel has no rseq, or refuses it.
  if (sigaction(SIGUSR1, &action, NULL) != 0)
    return 1;
  __asm__ volatile("int3" : : "a"(&board) : "memory");
  return 1;
}

// stack.c -- prints a stack through the abseil shim. See stack.h.
#include "libc/stack.h"

#include "base/absl_shim.h"
#include "base/log.h"

#define FRAMES_MAX 32
#define NAME_BYTES 256

void tcx_stack_print(void) {
  void *frames[FRAMES_MAX];
  int count = tcx_absl_stack_trace(frames, FRAMES_MAX, 0);
  for (int i = 0; i < count; i++) {
    char name[NAME_BYTES];
    // One byte back: a call may be the last instruction of its function.
    const char *pc = (const char *)frames[i] - 1;
    bool is_known = tcx_absl_symbolize(pc, name, NAME_BYTES);
    tcx_log("  at %p %s", frames[i], is_known ? name : "?");
  }
}

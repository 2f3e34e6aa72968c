// stack.c -- prints a stack through the abseil shim. See stack.h.
//
// WHAT IT DECIDES
//   Frame pointers first: they need nothing of the process. Programs without
//   them end the walk at the function that called tcx, for tcx itself has them
//   and its entry points leave that function's alone. So where the walk ends
//   early, the unwinder of libgcc is asked, if the process has it (C++ programs
//   do); nothing is linked for it, and the longer stack counts.
#include "libc/stack.h"

#include <stdbool.h>
#include <stddef.h>
#include <unwind.h>

#include "base/absl_shim.h"
#include "base/log.h"

#pragma weak _Unwind_Backtrace
#pragma weak _Unwind_GetIP

#define FRAMES_MAX 32
#define NAME_BYTES 256
// tcx's own frames and a few of the program's.
#define FRAMES_EARLY 10

struct stack {
  void *frames[FRAMES_MAX];
  int count;
};

static _Unwind_Reason_Code store_frame(struct _Unwind_Context *context,
                                       void *argument) {
  struct stack *stack = (struct stack *)argument;
  void *frame = (void *)_Unwind_GetIP(context);
  if (stack->count == FRAMES_MAX || frame == NULL)
    return _URC_END_OF_STACK;
  stack->frames[stack->count++] = frame;
  return _URC_NO_REASON;
}

static void print_frame(const void *frame) {
  char name[NAME_BYTES];
  // One byte back: a call may be the last instruction of its function.
  const char *pc = (const char *)frame - 1;
  bool is_known = tcx_absl_symbolize(pc, name, NAME_BYTES);
  tcx_log("  at %p %s", frame, is_known ? name : "?");
}

void tcx_stack_print(void) {
  struct stack walked;
  walked.count = tcx_absl_stack_trace(walked.frames, FRAMES_MAX, 0);
  const struct stack *longest = &walked;
  struct stack unwound = {.count = 0};
  if (walked.count < FRAMES_EARLY && _Unwind_Backtrace != NULL) {
    _Unwind_Backtrace(store_frame, &unwound);
    if (unwound.count > walked.count)
      longest = &unwound;
  }
  for (int i = 0; i < longest->count; i++)
    print_frame(longest->frames[i]);
}

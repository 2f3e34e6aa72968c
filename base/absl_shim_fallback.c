// absl_shim_fallback.c -- the shim in plain C, for builds without Abseil.
//
// WHAT IT DECIDES
//   Stacks by frame pointers, as far as they are plausible and readable; where
//   that ends at once (code without frame pointers) by the unwinder of libgcc,
//   if the program happens to have it. Names by dladdr, if there is one: only
//   exported functions have names then. Nothing is linked for either.
#include <dlfcn.h>
#include <linux/futex.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

#include "base/absl_shim.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/fmt.h"
#include "base/os.h"
#include "base/syscall.h"

#pragma weak _Unwind_Backtrace
#pragma weak _Unwind_GetIP
#pragma weak dladdr

// What the compiler leaves at a frame pointer, on x86-64 and on arm64.
struct frame {
  const struct frame *caller;
  void *return_address;
};

// A larger frame is taken for a register that holds something else.
#define FRAME_BYTES_MAX 100000
// Fewer frames than this: try the unwinder.
#define FRAMES_PLAUSIBLE 3

#define SPIN_LOOPS 20
#define YIELD_LOOPS 30
#define SLEEP_NS 1000000

const char *tcx_absl_name(void) {
  return "fallback";
}

// The kernel reads the signal mask before it looks at the operation, which is
// not a valid one: EINVAL if the address can be read, else EFAULT.
static bool is_readable(const void *address) {
  enum { NO_OPERATION = -1, MASK_BYTES = 8, BAD_ADDRESS = -14 };
  return tcx_syscall4(SYS_rt_sigprocmask, NO_OPERATION, (intptr_t)address, 0,
                      MASK_BYTES) != BAD_ADDRESS;
}

static bool is_plausible(const struct frame *from, const struct frame *to) {
  uintptr_t low = (uintptr_t)from;
  uintptr_t high = (uintptr_t)to;
  if (high <= low || high - low > FRAME_BYTES_MAX)
    return false;
  if (!tcx_is_aligned(high, sizeof(void *)))
    return false;
  return is_readable(to) && is_readable(&to->return_address);
}

static int walk_frames(const struct frame *frame, void **frames, int frames_max,
                       int skip) {
  int stored = 0;
  while (stored < frames_max && frame->return_address != NULL) {
    if (skip > 0) {
      skip--;
    } else {
      frames[stored++] = frame->return_address;
    }
    if (!is_plausible(frame, frame->caller))
      break;
    frame = frame->caller;
  }
  return stored;
}

struct unwinding {
  void **frames;
  int frames_max;
  int skip;
  int stored;
};

static _Unwind_Reason_Code store_frame(struct _Unwind_Context *context,
                                       void *argument) {
  struct unwinding *state = (struct unwinding *)argument;
  if (state->skip > 0) {
    state->skip--;
    return _URC_NO_REASON;
  }
  if (state->stored == state->frames_max)
    return _URC_END_OF_STACK;
  state->frames[state->stored++] = (void *)_Unwind_GetIP(context);
  return _URC_NO_REASON;
}

TCX_NOINLINE int tcx_absl_stack_trace(void **frames, int frames_max, int skip) {
  const struct frame *own = (const struct frame *)__builtin_frame_address(0);
  int stored = walk_frames(own, frames, frames_max, skip);
  int wanted = frames_max < FRAMES_PLAUSIBLE ? frames_max : FRAMES_PLAUSIBLE;
  if (stored >= wanted || _Unwind_Backtrace == NULL)
    return stored;
  // The unwinder begins with this function itself.
  struct unwinding state = {frames, frames_max, skip + 1, 0};
  _Unwind_Backtrace(store_frame, &state);
  return state.stored;
}

bool tcx_absl_symbolize(const void *pc, char *out, int out_bytes) {
  Dl_info info;
  if (dladdr == NULL || out_bytes <= 0)
    return false;
  if (dladdr(pc, &info) == 0 || info.dli_sname == NULL)
    return false;
  struct tcx_fmt name;
  tcx_fmt_init(&name, out, (size_t)out_bytes);
  tcx_fmt_add(&name, "%s", info.dli_sname);
  return true;
}

void tcx_absl_raw_log(const char *message) {
  char line[512];
  struct tcx_fmt out;
  tcx_fmt_init(&out, line, sizeof(line) - 1);
  tcx_fmt_add(&out, "%s", message);
  line[out.bytes] = '\n';
  tcx_os_write(STDERR_FILENO, line, out.bytes + 1);
}

void tcx_absl_spin_delay(uint32_t *word, uint32_t value, int loop) {
  if (tcx_atomic_load_acquire(word) != value)
    return;
  if (loop < SPIN_LOOPS) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
  } else if (loop < YIELD_LOOPS) {
    tcx_syscall3(SYS_sched_yield, 0, 0, 0);
  } else {
    // Bounded, so that a waker may leave out the call where it is unlikely.
    struct timespec timeout = {0, SLEEP_NS};
    tcx_syscall4(SYS_futex, (intptr_t)word, FUTEX_WAIT_PRIVATE, value,
                 (intptr_t)&timeout);
  }
}

void tcx_absl_spin_wake(uint32_t *word, bool all) {
  tcx_syscall3(SYS_futex, (intptr_t)word, FUTEX_WAKE_PRIVATE,
               all ? INT32_MAX : 1);
}

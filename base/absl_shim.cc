// absl_shim.cc -- the shim over Abseil; the only file that includes absl/.
//
// WHAT IT DECIDES
//   Only functions of Abseil that do not allocate: InitializeSymbolizer does
//   (strdup) and is not called, so Symbolize finds names by /proc/self/maps.
//   No function may end in a tail call: a frame would be missing in the stack.
#include "base/absl_shim.h"

#include <atomic>

#include "absl/base/internal/raw_logging.h"
#include "absl/base/internal/spinlock_wait.h"
#include "absl/debugging/stacktrace.h"
#include "absl/debugging/symbolize.h"

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) &&
                  alignof(std::atomic<uint32_t>) == alignof(uint32_t),
              "an atomic word is a word");

extern "C" {

const char *tcx_absl_name(void) {
  return "abseil";
}

int tcx_absl_stack_trace(void **frames, int frames_max, int skip) {
  int stored = absl::GetStackTrace(frames, frames_max, skip + 1);
  __asm__ volatile("" ::: "memory");  // No tail call.
  return stored;
}

bool tcx_absl_symbolize(const void *pc, char *out, int out_bytes) {
  return absl::Symbolize(pc, out, out_bytes);
}

void tcx_absl_raw_log(const char *message) {
  ABSL_RAW_LOG(INFO, "%s", message);
}

void tcx_absl_spin_delay(uint32_t *word, uint32_t value, int loop) {
  absl::base_internal::SpinLockDelay(
      reinterpret_cast<std::atomic<uint32_t> *>(word), value, loop,
      absl::base_internal::SCHEDULE_KERNEL_ONLY);
}

void tcx_absl_spin_wake(uint32_t *word, bool all) {
  absl::base_internal::SpinLockWake(
      reinterpret_cast<std::atomic<uint32_t> *>(word), all);
}

}  // extern "C"

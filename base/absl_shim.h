// absl_shim.h -- the base utilities that tcx takes from Abseil, as C functions.
//
// Two implementations behind this header, chosen by the build flag
// //bazel/config:abseil: absl_shim.cc over Abseil, absl_shim_fallback.c in
// plain C. Abseil's symbols never leave the library. No function allocates.
#ifndef TCX_BASE_ABSL_SHIM_H_
#define TCX_BASE_ABSL_SHIM_H_

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// Which one is linked: "abseil" or "fallback".
const char *tcx_absl_name(void);

// Return addresses of the calling thread's stack, innermost first, without the
// first `skip` frames above the caller. Returns how many were stored.
int tcx_absl_stack_trace(void **frames, int frames_max, int skip);

// Name of the function at `pc` into `out`. False: not known. Opens files: never
// under a lock of tcx.
bool tcx_absl_symbolize(const void *pc, char *out, int out_bytes);

// Writes one line to standard error, raw.
void tcx_absl_raw_log(const char *message);

// Waits a little while *word == value: spins, then yields, then sleeps in the
// kernel. `loop` counts the calls of one wait from 0.
void tcx_absl_spin_delay(uint32_t *word, uint32_t value, int loop);
// Wakes one (or all) of those who sleep on the word.
void tcx_absl_spin_wake(uint32_t *word, bool all);

TCX_END_DECLS

#endif  // TCX_BASE_ABSL_SHIM_H_

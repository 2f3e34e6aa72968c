// clock.h -- coarse time, cheap enough for a slow path (2.8 ns, vDSO).
#ifndef TCX_BASE_CLOCK_H_
#define TCX_BASE_CLOCK_H_

#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// Milliseconds of CLOCK_MONOTONIC_COARSE; steps of 1 to 4 ms.
uint64_t tcx_clock_ms(void);

// Tests: from now on the clock reads what `source` returns; NULL: real time.
void tcx_clock_install(uint64_t (*source)(void));

TCX_END_DECLS

#endif  // TCX_BASE_CLOCK_H_

// clock.c -- coarse time.
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

#include "base/atomic.h"

static uint64_t (*installed)(void);

uint64_t tcx_clock_ms(void) {
  uint64_t (*source)(void) = tcx_atomic_load_relaxed(&installed);
  if (source != NULL)
    return source();
  struct timespec now = {0, 0};
  // Cannot fail on Linux 2.6.32 and newer, so errno stays as it is.
  (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void tcx_clock_install(uint64_t (*source)(void)) {
  tcx_atomic_store_relaxed(&installed, source);
}

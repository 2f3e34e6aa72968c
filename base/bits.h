// bits.h -- powers of two, rounding and bit scans.
#ifndef TCX_BASE_BITS_H_
#define TCX_BASE_BITS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/compiler.h"

static inline bool tcx_is_power_of_two(size_t x) {
  return x != 0 && (x & (x - 1)) == 0;
}

// Rounds up to a multiple of `align`, a power of two. Wraps past SIZE_MAX: the
// caller bounds x first.
static inline size_t tcx_align_up(size_t x, size_t align) {
  TCX_ASSERT(tcx_is_power_of_two(align));
  return (x + align - 1) & ~(align - 1);
}

static inline size_t tcx_align_down(size_t x, size_t align) {
  TCX_ASSERT(tcx_is_power_of_two(align));
  return x & ~(align - 1);
}

static inline bool tcx_is_aligned(size_t x, size_t align) {
  return (x & (align - 1)) == 0;
}

// Index of the lowest set bit; x != 0.
static inline unsigned tcx_lowest_bit(uint64_t x) {
  TCX_ASSERT(x != 0);
  return (unsigned)__builtin_ctzll(x);
}

// Index of the highest set bit, which is floor(log2(x)); x != 0.
static inline unsigned tcx_highest_bit(uint64_t x) {
  TCX_ASSERT(x != 0);
  return 63u - (unsigned)__builtin_clzll(x);
}

static inline size_t tcx_min_size(size_t a, size_t b) {
  return a < b ? a : b;
}
static inline size_t tcx_max_size(size_t a, size_t b) {
  return a > b ? a : b;
}

#endif  // TCX_BASE_BITS_H_

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

// How many bits are set. Not the built-in: without an option for newer
// processors that is a call and a table.
static inline unsigned tcx_count_bits(uint64_t x) {
  x -= x >> 1 & UINT64_C(0x5555555555555555);
  x = (x & UINT64_C(0x3333333333333333)) +
      (x >> 2 & UINT64_C(0x3333333333333333));
  x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
  return (unsigned)(x * UINT64_C(0x0101010101010101) >> 56);
}

// Length of the longest range of set bits.
static inline unsigned tcx_longest_ones(uint64_t x) {
  unsigned length = 0;
  for (uint64_t shorter;; x = shorter, length += 4) {
    shorter = x & x >> 1;
    shorter &= shorter >> 2 & x >> 4;  // each range is shorter by 4
    if (shorter == 0)
      break;
  }
  for (; x != 0; length++)
    x &= x >> 1;
  return length;
}

static inline size_t tcx_min_size(size_t a, size_t b) {
  return a < b ? a : b;
}
static inline size_t tcx_max_size(size_t a, size_t b) {
  return a > b ? a : b;
}

#endif  // TCX_BASE_BITS_H_

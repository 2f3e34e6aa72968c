// bits_test.cc -- rounding and scans against their plain definitions.
//
// Method: every power of two with its neighbours.
#include "base/bits.h"

#include <gtest/gtest.h>

#include "base/config.h"

namespace {

TEST(BitsTest, PowersOfTwo) {
  EXPECT_FALSE(tcx_is_power_of_two(0));
  for (unsigned i = 0; i < 64; i++) {
    size_t power = size_t{1} << i;
    EXPECT_TRUE(tcx_is_power_of_two(power));
    EXPECT_EQ(tcx_is_power_of_two(power + 1), i == 0);
    EXPECT_EQ(tcx_lowest_bit(power), i);
    EXPECT_EQ(tcx_highest_bit(power), i);
    EXPECT_EQ(tcx_highest_bit(power | 1), i);
    EXPECT_EQ(tcx_lowest_bit(power | size_t{1} << 63), i);
  }
}

TEST(BitsTest, CountsBits) {
  EXPECT_EQ(tcx_count_bits(0), 0u);
  uint64_t word = 0;
  for (unsigned i = 0; i < 64; i++) {
    EXPECT_EQ(tcx_count_bits(uint64_t{1} << i), 1u);
    word |= uint64_t{1} << (37 * i % 64);
    EXPECT_EQ(tcx_count_bits(word), i + 1);
  }
}

TEST(BitsTest, LongestOnes) {
  EXPECT_EQ(tcx_longest_ones(0), 0u);
  for (unsigned length = 1; length <= 64; length++) {
    uint64_t ones = ~uint64_t{0} >> (64 - length);
    EXPECT_EQ(tcx_longest_ones(ones), length);
    EXPECT_EQ(tcx_longest_ones(ones << (64 - length)), length);
    // And a shorter range behind it.
    if (2 * length <= 64) {
      uint64_t two = ones >> 1 << 1 << (64 - length) | ones;
      EXPECT_EQ(tcx_longest_ones(two), length);
    }
  }
}

TEST(BitsTest, Rounding) {
  for (size_t align = 1; align <= 4096; align *= 2) {
    for (size_t x = 0; x < 9000; x += 7) {
      size_t up = tcx_align_up(x, align);
      size_t down = tcx_align_down(x, align);
      EXPECT_EQ(up, (x + align - 1) / align * align);
      EXPECT_EQ(down, x / align * align);
      EXPECT_EQ(tcx_is_aligned(x, align), up == down);
    }
  }
}

TEST(BitsTest, MinAndMax) {
  EXPECT_EQ(tcx_min_size(1, SIZE_MAX), 1u);
  EXPECT_EQ(tcx_max_size(1, SIZE_MAX), SIZE_MAX);
  EXPECT_EQ(tcx_min_size(TCX_KIB, TCX_MIB), size_t{1024});
}

#if TCX_ASSERTIONS
TEST(BitsDeathTest, AssertsArguments) {
  EXPECT_DEATH((void)tcx_align_up(5, 3), "check failed");
  EXPECT_DEATH((void)tcx_lowest_bit(0), "check failed: x != 0");
}
#endif

}  // namespace

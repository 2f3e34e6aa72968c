// large_test.cc -- blocks above 256 KiB: what is zeroed, what moves.
//
// Method: the test runs on tcx as its malloc. mincore tells which pages have
//   memory behind them. Contents are checked by tags and by position.
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "testing/libc/support.h"

namespace {

constexpr size_t kKib = 1024;
constexpr size_t kMib = 1024 * kKib;

size_t ResidentBytes(void *object, size_t size) {
  const size_t page = sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> states(size / page);
  EXPECT_EQ(mincore(object, size / page * page, states.data()), 0);
  return std::count_if(states.begin(), states.end(),
                       [](unsigned char state) { return (state & 1) != 0; }) *
         page;
}

// What is fresh from the system reads as zero anyway. All blocks live together,
// and are more than is free from before.
TEST(CallocTest, TouchesNoFreshMemoryOfLargeBlocks) {
  for (size_t size : {300 * kKib, kMib, 4 * kMib, 20 * kMib}) {
    malloc_trim(0);
    std::vector<void *> blocks;
    size_t resident = 0;
    for (size_t bytes = 0; bytes < 512 * kMib; bytes += size) {
      blocks.push_back(calloc(Opaque(1), Opaque(size)));
      ASSERT_NE(blocks.back(), nullptr);
      resident += ResidentBytes(blocks.back(), size);
    }
    EXPECT_LT(resident, 64 * kMib) << size;
    for (void *block : blocks) {
      EXPECT_TRUE(IsFilled(block, 64 * kKib, 0)) << size;
      free(block);
    }
  }
}

TEST(CallocTest, ZeroesLargeBlocksThatWereUsed) {
  for (size_t size : {300 * kKib, kMib, 4 * kMib, 20 * kMib}) {
    for (int round = 0; round < 8; round++) {
      void *block = calloc(Opaque(1), Opaque(size));
      ASSERT_NE(block, nullptr);
      ASSERT_TRUE(IsFilled(block, size, 0)) << size << ", round " << round;
      Fill(block, malloc_usable_size(block), 0xff);
      free(block);
    }
  }
}

TEST(LargeTest, BeyondSixteenHugePagesAllAreWhole) {
  for (size_t size : {32 * kMib + 1, 33 * kMib, 100 * kMib}) {
    void *block = malloc(Opaque(size));
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(malloc_usable_size(block) % (2 * kMib), 0u);
    EXPECT_LE(malloc_usable_size(block), size + 2 * kMib);
    EXPECT_EQ(nallocx(size, 0), malloc_usable_size(block));
    free(block);
  }
}

// Each of its words tells where it is, and whose.
struct Growing {
  uint64_t *words = nullptr;
  size_t count = 0;
  uint64_t tag;

  void Resize(size_t bytes) {
    void *moved = realloc(words, Opaque(bytes));
    ASSERT_NE(moved, nullptr);
    ASSERT_EQ(malloc_usable_size(moved), nallocx(bytes, 0));
    words = static_cast<uint64_t *>(moved);
    size_t kept = std::min(count, bytes / 8);
    for (size_t i = 0; i < kept; i += 509)
      ASSERT_EQ(words[i], tag + i) << bytes;
    if (kept > 0) {
      ASSERT_EQ(words[kept - 1], tag + kept - 1) << bytes;
    }
    for (size_t i = kept; i < bytes / 8; i++)
      words[i] = tag + i;
    count = bytes / 8;
  }
};

// From small classes through all run classes to large objects, and back; by
// turns, so that now one is in the other's way and now not.
TEST(ReallocTest, BlocksThatGrowAndShrinkByTurnsKeepContent) {
  for (size_t percent : {10, 25, 100}) {
    std::vector<Growing> all = {
        {.tag = 1000000000}, {.tag = 2000000000}, {.tag = 3000000000}};
    std::vector<size_t> sizes;
    for (size_t size = 100 * kKib; size < 24 * kMib;
         size += size / 100 * percent)
      sizes.push_back(size);
    for (size_t size : sizes) {
      for (Growing &one : all)
        one.Resize(size);
    }
    std::reverse(sizes.begin(), sizes.end());
    for (Growing &one : all) {
      for (size_t size : sizes)
        one.Resize(size);
    }
    for (Growing &one : all)
      free(one.words);
  }
}

}  // namespace

// huge_source_test.cc -- pieces of the system cut into huge pages.
//
// Method: pieces by a script, at places of its choice, and a system whose mmap
// fails; then random pieces against a count of all bytes; then the real system
// allocator.
#include "backend/hpaa/huge_source.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "backend/hpaa/huge_map.h"
#include "backend/system_allocator.h"
#include "base/config.h"
#include "pagemap/pagemap.h"
#include "testing/fuzz_system.h"

namespace {

constexpr uint64_t kHuge = TCX_HUGE_BYTES;
constexpr uint64_t kPage = TCX_PAGE_SIZE;

tcx::testing::FailingSystem *System() {
  static auto *system = new tcx::testing::FailingSystem;
  return system;
}

// -- A system allocator by a script -------------------------------------------

std::deque<tcx_system_piece> pieces;
std::vector<size_t> requests;
uint64_t given_bytes;

tcx_system_piece NextPiece(size_t bytes_min) {
  requests.push_back(bytes_min);
  if (pieces.empty())
    return {nullptr, 0};
  tcx_system_piece piece = pieces.front();
  pieces.pop_front();
  given_bytes += piece.bytes;
  return piece;
}

class HugeSourceTest : public ::testing::Test {
 protected:
  HugeSourceTest() {
    System()->FailAll(0);
    pieces.clear();
    requests.clear();
    given_bytes = 0;
    tcx_huge_nodes_init(&nodes_);
    tcx_huge_map_init(&map_, &nodes_);
    tcx_huge_source_init(&source_, NextPiece);
    // Each test has leaves of the pagemap that no other had.
    static uintptr_t next_base = uintptr_t{1} << 40;
    base_ = next_base;
    next_base += uintptr_t{64} << TCX_PAGEMAP_LEAF_SHIFT;
  }

  void Add(uint64_t offset, uint64_t bytes) {
    pieces.push_back({reinterpret_cast<char *>(base_ + offset), bytes});
  }

  bool Grow(uint64_t count) {
    uint64_t before = map_.huge;
    bool is_grown = tcx_huge_source_grow(&source_, &map_, count);
    uint64_t longest = tcx_huge_map_longest(&map_);
    EXPECT_TRUE(!is_grown || longest >= count);
    EXPECT_TRUE(!is_grown || map_.huge >= before + count);
    uint64_t added = 0;
    for (unsigned i = 0; i < source_.added_count; i++)
      added += source_.added[i].count;
    EXPECT_EQ(map_.huge, before + added);
    Check();
    return is_grown;
  }

  void Check() {
    tcx_huge_source_check(&source_);
    tcx_huge_map_check(&map_);
    tcx_huge_nodes_check(&nodes_);
    EXPECT_EQ(source_.huge, map_.huge);
    EXPECT_EQ(source_.huge * kHuge + tcx_huge_source_unused_bytes(&source_),
              given_bytes);
  }

  tcx_huge_run Run(uint64_t offset_huge, uint64_t count) const {
    return {(base_ >> TCX_HUGE_SHIFT) + offset_huge, count};
  }

  bool Takes(tcx_huge_run run) {
    return tcx_huge_map_take_at(&map_, run);
  }

  uintptr_t base_;
  tcx_huge_nodes nodes_;
  tcx_huge_map map_;
  tcx_huge_source source_;
};

TEST_F(HugeSourceTest, WholePieces) {
  Add(0, 3 * kHuge);
  Add(3 * kHuge, kHuge);
  EXPECT_TRUE(Grow(3));
  EXPECT_TRUE(Grow(1));
  EXPECT_EQ(requests, (std::vector<size_t>{3 * kHuge, kHuge}));
  EXPECT_EQ(map_.runs, 1u);
  EXPECT_EQ(source_.left_bytes, 0u);
  EXPECT_TRUE(Takes(Run(0, 4)));
}

TEST_F(HugeSourceTest, TheEndWaitsForItsNeighbour) {
  Add(0, kHuge + kPage);
  Add(kHuge + kPage, kHuge - kPage);
  EXPECT_TRUE(Grow(1));
  EXPECT_EQ(tcx_huge_source_unused_bytes(&source_), kPage);
  EXPECT_TRUE(Grow(1));
  EXPECT_EQ(requests.back(), kHuge - kPage);
  EXPECT_EQ(tcx_huge_source_unused_bytes(&source_), 0u);
  EXPECT_TRUE(Takes(Run(0, 2)));
}

TEST_F(HugeSourceTest, APieceElsewhereIsAskedForAgain) {
  Add(0, 2 * kHuge - kPage);
  Add(10 * kHuge, kPage);  // not behind: too short
  Add(20 * kHuge + kPage, 2 * kHuge - kPage);
  EXPECT_TRUE(Grow(1));
  EXPECT_TRUE(Grow(1));
  EXPECT_EQ(requests, (std::vector<size_t>{kHuge, kPage, 2 * kHuge - kPage}));
  EXPECT_EQ(source_.left_bytes, kHuge - kPage + kPage + kHuge - kPage);
  EXPECT_TRUE(Takes(Run(0, 1)));
  EXPECT_TRUE(Takes(Run(21, 1)));
}

TEST_F(HugeSourceTest, NoMemoryLosesNothing) {
  EXPECT_FALSE(Grow(1));
  Add(kPage, 2 * kHuge);  // one whole, two asked for
  EXPECT_FALSE(Grow(2));
  EXPECT_EQ(map_.huge, 1u);
  Add(2 * kHuge + kPage, 2 * kHuge - kPage);
  EXPECT_TRUE(Grow(2));
  EXPECT_FALSE(Grow(UINT64_MAX));
  EXPECT_FALSE(Grow(TCX_HUGE_LIMIT));
  EXPECT_TRUE(Takes(Run(1, 3)));
}

TEST_F(HugeSourceTest, KeepsWhatThePagemapHasNoMemoryFor) {
  Add(0, 5 * kHuge);
  System()->FailAll(UINT32_MAX);
  EXPECT_FALSE(Grow(5));
  EXPECT_FALSE(Grow(5));
  EXPECT_EQ(requests.size(), 1u);
  EXPECT_EQ(map_.huge, 0u);
  System()->FailAll(0);
  EXPECT_TRUE(Grow(5));
  EXPECT_EQ(requests.size(), 1u);
  EXPECT_TRUE(Takes(Run(0, 5)));
}

TEST_F(HugeSourceTest, KeepsWhatThereAreNoNodesFor) {
  constexpr uint64_t kMany = 10000;  // their nodes are a mapping of their own
  Add(0, kMany * kHuge);
  ASSERT_TRUE(tcx_pagemap_ensure(base_, kMany * kHuge));
  System()->FailAll(UINT32_MAX);
  EXPECT_FALSE(Grow(kMany));
  EXPECT_EQ(nodes_.promised, 0u);
  System()->FailAll(0);
  EXPECT_TRUE(Grow(kMany));
  EXPECT_EQ(nodes_.promised, kMany);
  EXPECT_TRUE(Takes(Run(0, kMany)));
}

TEST_F(HugeSourceTest, RegistersLeavesOfThePagemap) {
  Add(0, kHuge);
  EXPECT_EQ(tcx_pagemap_root[base_ >> 30], nullptr);
  EXPECT_TRUE(Grow(1));
  EXPECT_NE(tcx_pagemap_root[base_ >> 30], nullptr);
}

TEST_F(HugeSourceTest, RandomPieces) {
  std::mt19937 random(1);
  uint64_t end = 0;
  for (int i = 0; i < 3000; i++) {
    uint64_t count = 1 + random() % 4;
    for (int n = 0; n < 2; n++) {
      // As the system does: as a rule behind the last one, and enough.
      uint64_t gap = random() % 4 == 0 ? random() % 2048 * kPage : 0;
      if (end + gap + 8 * kHuge > uint64_t{64} << TCX_PAGEMAP_LEAF_SHIFT)
        return;
      uint64_t missing =
          (base_ + end + gap == source_.end ? 0 : kHuge) + count * kHuge;
      uint64_t bytes = missing + random() % 64 * kPage % kHuge;
      Add(end + gap, bytes);
      end += gap + bytes;
      if (!Grow(count)) {
        ADD_FAILURE() << "long enough wherever it lies";
        return;
      }
      if (!pieces.empty())
        end -= gap + bytes;
      pieces.clear();
    }
  }
}

// The real one: once in a process.
TEST(HugeSourceSystemTest, FreshHugePagesReadAsZero) {
  System()->FailAll(0);
  tcx_system_start();
  tcx_huge_nodes nodes;
  tcx_huge_nodes_init(&nodes);
  tcx_huge_map map;
  tcx_huge_map_init(&map, &nodes);
  tcx_huge_source source;
  tcx_huge_source_init(&source, tcx_system_allocate);
  std::mt19937 random(1);
  for (int i = 0; i < 50; i++) {
    uint64_t count = 1 + random() % 20;
    ASSERT_TRUE(tcx_huge_source_grow(&source, &map, count));
    tcx_huge_run run = tcx_huge_map_take(&map, count, 1);
    ASSERT_EQ(run.count, count);
    char *start = tcx_huge_run_start(run);
    for (uint64_t at = 0; at < tcx_huge_run_bytes(run); at += kHuge / 4)
      ASSERT_EQ(start[at], 0);
    memset(start, 1, 4096);
    tcx_huge_source_check(&source);
    tcx_huge_map_check(&map);
    tcx_system_stats stats;
    tcx_system_read_stats(&stats);
    EXPECT_EQ(source.huge * kHuge + tcx_huge_source_unused_bytes(&source),
              stats.committed_bytes);
  }
  EXPECT_EQ(source.left_bytes, 0u);
}

}  // namespace

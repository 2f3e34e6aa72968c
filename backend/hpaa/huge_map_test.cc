// huge_map_test.cc -- the map of free runs, and its stock of nodes.
//
// Method: what the header promises, by hand; then random steps, each compared
// with a std::map (huge_map_model.h), with few runs and with many.
#include "backend/hpaa/huge_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "backend/hpaa/huge_map_model.h"
#include "backend/hpaa/huge_nodes.h"
#include "base/config.h"

namespace {

using tcx::testing::HugeMapAndModel;
using tcx::testing::NodesForTests;

constexpr uint64_t kFirst = HugeMapAndModel::kFirst;

TEST(HugeTest, NumbersConvert) {
  EXPECT_EQ(TCX_HUGE_PAGES * TCX_PAGE_SIZE, TCX_HUGE_BYTES);
  EXPECT_EQ(tcx_huge_of_page(7 * TCX_HUGE_PAGES), 7u);
  EXPECT_EQ(tcx_huge_of_page(8 * TCX_HUGE_PAGES - 1), 7u);
  EXPECT_EQ(tcx_page_of_huge(7), 7 * TCX_HUGE_PAGES);
  tcx_huge_run run = {3, 2};
  EXPECT_EQ(tcx_huge_run_end(run), 5u);
  EXPECT_EQ(tcx_huge_run_start(run), reinterpret_cast<char *>(6 << 20));
  EXPECT_EQ(tcx_huge_run_bytes(run), uint64_t{4} << 20);
}

TEST(HugeMapTest, EmptyHasNothing) {
  HugeMapAndModel map(8);
  EXPECT_EQ(map.Take(1, 1).count, 0u);
  EXPECT_EQ(map.Take(UINT64_MAX / 2, 1).count, 0u);
  EXPECT_EQ(map.Take(1, 8).count, 0u);
  EXPECT_EQ(map.TakeLast(1).count, 0u);
  EXPECT_FALSE(map.TakeAt(0, 1));
  EXPECT_EQ(map.Next(0).count, 0u);
  map.Check();
}

TEST(HugeMapTest, MergesOnBothSides) {
  HugeMapAndModel map(9);
  map.Insert(0, 3);
  map.Insert(6, 3);
  EXPECT_EQ(map.runs(), 2u);
  map.Insert(3, 1);
  EXPECT_EQ(map.runs(), 2u);
  map.Insert(5, 1);
  EXPECT_EQ(map.runs(), 2u);
  map.Insert(4, 1);
  EXPECT_EQ(map.runs(), 1u);
  EXPECT_EQ(map.Next(4).first, kFirst);
  EXPECT_EQ(map.Next(4).count, 9u);
  map.Check();
}

TEST(HugeMapTest, TakesTheShortestAndOfItTheLowEnd) {
  HugeMapAndModel map(100);
  map.Insert(0, 50);
  map.Insert(60, 5);
  map.Insert(70, 8);
  EXPECT_EQ(map.Take(4, 1).first, kFirst + 60);
  EXPECT_EQ(map.Take(4, 1).first, kFirst + 70);
  EXPECT_EQ(map.Take(4, 1).first, kFirst + 74);
  EXPECT_EQ(map.Take(4, 1).first, kFirst);
  EXPECT_EQ(map.Take(1, 1).first, kFirst + 64);
  map.Check();
}

TEST(HugeMapTest, TakesTheLowestOfTwoThatAreEqual) {
  HugeMapAndModel map(100);
  map.Insert(40, 5);
  map.Insert(10, 5);
  EXPECT_EQ(map.Take(5, 1).first, kFirst + 10);
}

TEST(HugeMapTest, TakesAligned) {
  HugeMapAndModel map(200);
  map.Insert(0, 5);  // ends before the next multiple of 16, 11 further on
  map.Insert(11, 4);
  map.Insert(30, 40);
  EXPECT_EQ(map.Take(4, 16).first, kFirst + 11);
  EXPECT_EQ(map.Take(4, 16).first, kFirst + 30 + 13);
  EXPECT_EQ(map.runs(), 3u);
  map.Check();
}

TEST(HugeMapTest, FindsAlignedAmongMany) {
  HugeMapAndModel map(2000);
  for (uint64_t i = 1; i < 16; i++)
    map.Insert(12 + 16 * i, 4);
  EXPECT_EQ(map.Take(4, 16).count, 0u);
  map.Insert(11 + 64, 1);  // makes the one at 12 + 64 begin at a multiple
  EXPECT_EQ(map.Take(4, 16).first, kFirst + 11 + 64);
  map.Check();
}

TEST(HugeMapTest, TakesExactlyWhatIsThere) {
  HugeMapAndModel map(20);
  map.Insert(5, 10);
  EXPECT_FALSE(map.TakeAt(4, 2));
  EXPECT_FALSE(map.TakeAt(14, 2));
  EXPECT_FALSE(map.TakeAt(15, 1));
  EXPECT_TRUE(map.TakeAt(8, 3));
  EXPECT_EQ(map.runs(), 2u);
  EXPECT_FALSE(map.TakeAt(8, 1));
  EXPECT_TRUE(map.TakeAt(5, 3));
  EXPECT_TRUE(map.TakeAt(14, 1));
  EXPECT_TRUE(map.TakeAt(11, 3));
  EXPECT_EQ(map.huge(), 0u);
  map.Check();
}

TEST(HugeMapTest, TakesTheLastFromItsEnd) {
  HugeMapAndModel map(20);
  map.Insert(0, 4);
  map.Insert(10, 6);
  EXPECT_EQ(map.TakeLast(4).first, kFirst + 12);
  EXPECT_EQ(map.TakeLast(4).first, kFirst + 10);
  EXPECT_EQ(map.TakeLast(4, kFirst).count, 0u);
  EXPECT_EQ(map.TakeLast(1, kFirst + 3).first, kFirst + 2);
  EXPECT_EQ(map.TakeLast(4, kFirst + 3).first, kFirst);
  EXPECT_EQ(map.TakeLast(4).first, kFirst + 3);
  EXPECT_EQ(map.huge(), 0u);
}

TEST(HugeMapDeathTest, StopsAtARunThatIsInAlready) {
  tcx_huge_map map;
  tcx_huge_map_init(&map, NodesForTests(20));
  tcx_huge_map_insert(&map, {100, 10});
  EXPECT_DEATH(tcx_huge_map_insert(&map, {100, 10}), "check failed");
  EXPECT_DEATH(tcx_huge_map_insert(&map, {109, 1}), "check failed");
  EXPECT_DEATH(tcx_huge_map_insert(&map, {95, 6}), "check failed");
  EXPECT_DEATH(tcx_huge_map_insert(&map, {90, 30}), "check failed");
  EXPECT_EQ(tcx_huge_map_take_last(&map, TCX_HUGE_LIMIT, 10).count, 10u);
}

void RandomSteps(uint64_t huge, uint64_t count_max, int steps, int every) {
  HugeMapAndModel map(huge);
  std::mt19937 random(static_cast<unsigned>(huge));
  auto below = [&](uint64_t n) { return random() % n; };
  for (int i = 0; i < steps; i++) {
    switch (below(8)) {
      case 0:
      case 1:
      case 2:
      case 3:
        map.Insert(below(huge), 1 + below(count_max));
        break;
      case 4:
        map.Take(1 + below(count_max), 1);
        break;
      case 5:
        map.Take(1 + below(count_max), uint64_t{1} << below(6));
        break;
      case 6:
        map.TakeAt(below(huge), 1 + below(count_max));
        break;
      default:
        map.TakeLast(1 + below(count_max),
                     below(2) == 0 ? TCX_HUGE_LIMIT : kFirst + below(huge));
    }
    map.Next(below(huge));
    if (i % every == 0)
      map.Check();
  }
  map.Check();
}

TEST(HugeMapTest, RandomStepsFewRuns) {
  RandomSteps(64, 8, 20000, 1);
}

TEST(HugeMapTest, RandomStepsManyRuns) {
  RandomSteps(20000, 3, 40000, 500);
}

TEST(HugeMapTest, RandomStepsLongRuns) {
  RandomSteps(4000, 200, 20000, 50);
}

unsigned Depth(const tcx_huge_node *node) {
  if (node == nullptr)
    return 0;
  return 1 + std::max(Depth(node->left), Depth(node->right));
}

// In the worst order for a tree without balance.
TEST(HugeMapTest, StaysFlat) {
  constexpr uint64_t kRuns = 1 << 17;
  tcx_huge_nodes nodes;
  tcx_huge_nodes_init(&nodes);
  ASSERT_TRUE(tcx_huge_nodes_reserve(&nodes, kRuns));
  tcx_huge_map map;
  tcx_huge_map_init(&map, &nodes);
  for (uint64_t i = 0; i < kRuns; i++)
    tcx_huge_map_insert(&map, {2 * i, 1});
  EXPECT_LE(Depth(map.root), 17u * 4);
  for (uint64_t i = 0; i < kRuns; i += 2)
    EXPECT_TRUE(tcx_huge_map_take_at(&map, {2 * i, 1}));
  EXPECT_LE(Depth(map.root), 17u * 4);
  tcx_huge_map_check(&map);
}

TEST(HugeNodesTest, AsManyAsWerePromised) {
  tcx_huge_nodes nodes;
  tcx_huge_nodes_init(&nodes);
  std::vector<tcx_huge_node *> got;
  for (uint64_t count : {1, 1000, 3, 20000}) {
    ASSERT_TRUE(tcx_huge_nodes_reserve(&nodes, count));
    for (uint64_t i = 0; i < count; i++) {
      got.push_back(tcx_huge_nodes_get(&nodes));
      got.back()->first = static_cast<uint32_t>(got.size());
    }
    tcx_huge_nodes_check(&nodes);
  }
  for (size_t i = 0; i < got.size(); i++)
    EXPECT_EQ(got[i]->first, i + 1);
  uint64_t capacity = nodes.capacity;
  for (tcx_huge_node *node : got)
    tcx_huge_nodes_put(&nodes, node);
  tcx_huge_nodes_check(&nodes);
  for (size_t i = 0; i < got.size(); i++)
    tcx_huge_nodes_get(&nodes);
  EXPECT_EQ(nodes.capacity, capacity);
  tcx_huge_nodes_check(&nodes);
}

}  // namespace

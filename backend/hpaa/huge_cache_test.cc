// huge_cache_test.cc -- what the cache of free huge pages keeps, and how long.
//
// Method: simulated time. The promises of the header by hand, loads that rise
// and fall, then random steps against a model that knows each millisecond
// (huge_cache_model.h).
#include "backend/hpaa/huge_cache.h"

#include <gtest/gtest.h>

#include <random>

#include "backend/hpaa/huge_cache_model.h"

namespace {

using tcx::testing::HugeCacheAndModel;

constexpr uint64_t kFirst = HugeCacheAndModel::kFirst;
constexpr uint64_t kStart = 123456;
constexpr uint64_t kKeep = TCX_LOW_WATER_KEEP_MS;
constexpr uint64_t kSlot = TCX_LOW_WATER_SLOT_MS;

// Gives back all that is due, at most 16 at once. Returns how many.
uint64_t ReleaseDue(HugeCacheAndModel *cache) {
  uint64_t sum = 0;
  for (;;) {
    tcx_huge_run run = cache->Due(16);
    if (run.count == 0)
      return sum;
    cache->Unbacked(true);
    sum += run.count;
  }
}

TEST(HugeCacheTest, EmptyHasNothing) {
  HugeCacheAndModel cache(10, 0);
  EXPECT_EQ(cache.Take(1, 1).count, 0u);
  EXPECT_EQ(cache.Due(100).count, 0u);
  EXPECT_EQ(cache.Evict(100).count, 0u);
  EXPECT_EQ(cache.Wait(), UINT64_MAX);
  EXPECT_EQ(cache.Stats().misses, 1u);
  cache.Check();
}

TEST(HugeCacheTest, GivesOutWhatItGot) {
  HugeCacheAndModel cache(10, kStart);
  cache.Put(3, 4);
  cache.Sleep(100);
  EXPECT_EQ(cache.Take(2, 1).first, kFirst + 3);
  EXPECT_TRUE(cache.TakeAt(6, 1));
  EXPECT_FALSE(cache.TakeAt(6, 1));
  EXPECT_EQ(cache.Stats().hits, 2u);
  EXPECT_EQ(cache.Stats().taken, 3u);
  EXPECT_EQ(cache.held(), 1u);
  cache.Check();
}

TEST(HugeCacheTest, KeepsForTwoSeconds) {
  for (uint64_t start : {uint64_t{0}, kStart, kStart + 1, kStart + 60}) {
    HugeCacheAndModel cache(100, start);
    cache.Put(0, 50);
    cache.Sleep(kKeep);
    EXPECT_EQ(cache.Due(100).count, 0u);
    cache.Sleep(kSlot);
    EXPECT_EQ(ReleaseDue(&cache), 50u);
    EXPECT_EQ(cache.held(), 0u);
    EXPECT_EQ(cache.Stats().unbacked, 50u);
    cache.Check();
  }
}

TEST(HugeCacheTest, KeepsWhatDemandCameFor) {
  HugeCacheAndModel cache(100, kStart);
  cache.Put(0, 50);
  cache.Sleep(kKeep - 10);
  EXPECT_EQ(cache.Take(20, 1).count, 20u);
  cache.Put(0, 20);
  cache.Sleep(10 + kSlot);
  EXPECT_EQ(ReleaseDue(&cache), 30u);
  EXPECT_EQ(cache.held(), 20u);
  cache.Sleep(kKeep);
  EXPECT_EQ(ReleaseDue(&cache), 20u);
  cache.Check();
}

TEST(HugeCacheTest, GivesBackTheEndFirst) {
  HugeCacheAndModel cache(100, kStart);
  cache.Put(0, 50);
  cache.Sleep(10 * kKeep);
  tcx_huge_run run = cache.Due(16);
  EXPECT_EQ(run.first, kFirst + 34);
  EXPECT_EQ(run.count, 16u);
  EXPECT_EQ(cache.Stats().due, 34u);
  EXPECT_EQ(cache.Stats().unbacking, 16u);
  cache.Check();
}

TEST(HugeCacheTest, FastSawtoothNeverGivesBack) {
  HugeCacheAndModel cache(1000, kStart);
  for (int i = 0; i < 100; i++) {
    cache.Put(0, 256);
    cache.Sleep(150);
    EXPECT_EQ(ReleaseDue(&cache), 0u);
    EXPECT_EQ(cache.Take(256, 1).count, 256u);
    cache.Sleep(150);
    EXPECT_EQ(ReleaseDue(&cache), 0u);
    cache.Check();
  }
}

TEST(HugeCacheTest, SlowSawtoothGivesBackAll) {
  HugeCacheAndModel cache(1000, kStart);
  for (int i = 0; i < 10; i++) {
    cache.Put(0, 256);
    cache.Sleep(2500);
    EXPECT_EQ(ReleaseDue(&cache), 256u);
    cache.Sleep(2500);
    cache.Check();
  }
}

// What has been free for two seconds goes, though the load is still falling.
TEST(HugeCacheTest, FallingLoadGivesBackMeanwhile) {
  HugeCacheAndModel cache(1000, kStart);
  uint64_t released = 0;
  for (int i = 0; i < 50; i++) {
    cache.Put(10 * i, 10);
    cache.Sleep(100);
    released += ReleaseDue(&cache);
    cache.Check();
  }
  EXPECT_GE(released, 10u * (5000 - kKeep - kSlot) / 100);
  EXPECT_LE(released, 10u * (5000 - kKeep) / 100 + 10);
}

TEST(HugeCacheTest, EvictsWhateverDemandIs) {
  HugeCacheAndModel cache(100, kStart);
  cache.Put(0, 50);
  EXPECT_EQ(cache.Evict(20).count, 20u);
  cache.Unbacked(true);
  EXPECT_EQ(cache.held(), 30u);
  EXPECT_EQ(cache.Evict(100).count, 30u);
  EXPECT_EQ(cache.Wait(), UINT64_MAX);
  cache.Check();
}

TEST(HugeCacheTest, WhatFailedWaitsForTheRetry) {
  HugeCacheAndModel cache(100, kStart);
  cache.Put(0, 50);
  cache.Sleep(2 * kKeep);
  for (uint64_t count = 16; count <= 48; count += 16) {
    EXPECT_EQ(cache.Due(16).count, 16u);
    cache.Unbacked(false);
    EXPECT_EQ(cache.Stats().failed, count);
    EXPECT_EQ(cache.Stats().due, 50 - count);
  }
  EXPECT_EQ(cache.Due(16).count, 2u);
  cache.Unbacked(false);
  EXPECT_EQ(cache.Due(16).count, 0u);
  EXPECT_EQ(cache.held(), 50u);
  cache.Sleep(kKeep + kSlot);
  EXPECT_EQ(cache.Wait(), UINT64_MAX);
  EXPECT_EQ(ReleaseDue(&cache), 0u);
  EXPECT_EQ(cache.Evict(1).count, 0u);
  cache.Retry();
  EXPECT_EQ(ReleaseDue(&cache), 50u);
  cache.Check();
}

TEST(HugeCacheTest, WhatFailedDoesNotKeepOthers) {
  HugeCacheAndModel cache(100, kStart);
  cache.Put(0, 1);
  cache.Put(10, 1);
  cache.Put(20, 1);
  EXPECT_EQ(cache.Evict(1).first, kFirst + 20);
  cache.Unbacked(false);
  EXPECT_EQ(cache.Evict(1).first, kFirst + 10);
  cache.Unbacked(true);
  EXPECT_EQ(cache.Evict(1).first, kFirst);
  cache.Unbacked(true);
  EXPECT_EQ(cache.Take(1, 1).first, kFirst + 20);
}

TEST(HugeCacheTest, SaysHowLongToWait) {
  HugeCacheAndModel cache(100, 80 * kSlot + 40);
  cache.Put(0, 10);
  EXPECT_EQ(cache.Wait(), kKeep + kSlot - 40);
  cache.Sleep(1000);
  EXPECT_EQ(cache.Wait(), kKeep + kSlot - 1040);
  cache.Take(10, 1);
  cache.Put(0, 10);
  cache.Sleep(kSlot - 40);
  EXPECT_EQ(cache.Wait(), kKeep);
  cache.Sleep(kKeep);
  EXPECT_EQ(cache.Wait(), 0u);
  cache.Check();
}

TEST(HugeCacheTest, ClockThatGoesBackStandsStill) {
  tcx_huge_cache cache;
  tcx_huge_cache_init(&cache, tcx::testing::NodesForTests(10), kStart);
  tcx_huge_cache_put(&cache, {100, 5}, kStart + 1000);
  EXPECT_EQ(tcx_huge_cache_due(&cache, 9, 0).count, 0u);
  EXPECT_EQ(tcx_huge_cache_take(&cache, 1, 1, 5).count, 1u);
  tcx_huge_cache_check(&cache);
  EXPECT_EQ(tcx_huge_cache_due(&cache, 9, kStart + 1000 + kKeep).count, 0u);
  EXPECT_EQ(tcx_huge_cache_due(&cache, 9, kStart + 1200 + kKeep).count, 4u);
  tcx_huge_cache_check(&cache);
}

void RandomSteps(uint64_t huge, int steps, unsigned seed) {
  std::mt19937 random(seed);
  auto below = [&](uint64_t n) { return random() % n; };
  HugeCacheAndModel cache(huge, below(5000));
  uint64_t pace = 1;
  for (int i = 0; i < steps; i++) {
    if (i % 100 == 0)
      pace = uint64_t{1} << below(10);
    switch (below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        cache.Put(below(huge), 1 + below(huge / 4));
        break;
      case 5:
      case 6:
        cache.Take(1 + below(8), 1);
        break;
      case 7:
        cache.Take(1 + below(8), uint64_t{1} << below(4));
        break;
      case 8:
        cache.TakeAt(below(huge), 1 + below(4));
        break;
      case 9:
        cache.Evict(below(4));
        break;
      case 10:
      case 11:
        cache.Due(1 + below(16));
        break;
      case 12:
        if (below(4) == 0)
          cache.Retry();
        break;
      case 13:
        cache.Unbacked(false);
        break;
      default:
        cache.Unbacked(true);
    }
    cache.Sleep(below(pace));
    cache.Check();
  }
}

TEST(HugeCacheTest, RandomSteps) {
  for (unsigned seed = 0; seed < 10; seed++)
    RandomSteps(100, 3000, seed);
}

}  // namespace

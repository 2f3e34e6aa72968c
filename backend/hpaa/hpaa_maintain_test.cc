// hpaa_maintain_test.cc -- what goes back by itself, and when.
//
// Method: the whole back end on a simulated clock and a kernel that refuses
// what the test says, counts what it is asked, and has pages of any size.
// Maintenance is called only when due_ms says so, as by the library.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <vector>

#include "backend/hpaa/hpaa_maintain_testing.h"
#include "base/knobs.h"
#include "pagemap/pagemap.h"

namespace {

using tcx::testing::HpaaMaintainTest;
using tcx::testing::kernel;
using tcx::testing::kP;

TEST_F(HpaaMaintainTest, AllKindsGoBackByThemselves) {
  MakeAllKinds();
  EXPECT_GT(Stats().free_bytes, 12 * TCX_HUGE_BYTES);
  Pass(60000);
  EXPECT_EQ(Due(), UINT64_MAX);
  EXPECT_LT(Stats().free_bytes, TCX_HUGE_BYTES);
}

TEST_F(HpaaMaintainTest, ARefusingKernelIsLeftAlone) {
  MakeAllKinds();
  uint64_t free_bytes = Stats().free_bytes;
  kernel.refuses = true;
  EXPECT_EQ(Release(), 0u);
  // A few tries of each kind, of one range each or some.
  EXPECT_LT(kernel.releases, 150u);
  kernel.releases = 0;
  Pass(600000);
  EXPECT_GE(Stats().free_bytes, free_bytes);
  EXPECT_GT(kernel.releases, 10u);
  EXPECT_LT(kernel.releases, 1000u);
  // As seldom as may be.
  kernel.releases = 0;
  EXPECT_LT(Pass(600000), 60u);
  kernel.refuses = false;
  Pass(300000);
  EXPECT_EQ(Due(), UINT64_MAX);
  EXPECT_LT(Stats().free_bytes, TCX_HUGE_BYTES);
}

TEST_F(HpaaMaintainTest, ALockedPageKeepsNothingElse) {
  for (int kind = 0; kind < 4; kind++) {
    MakeAllKinds();
    // Nothing but the page's own kind is touched by it.
    tcx_span *span = Allocate(kind == 0 ? 6 * kP : kind == 1 ? 5 * kP - 1 : 1);
    kernel.locked = reinterpret_cast<uintptr_t>(tcx_span_start(span)) +
                    (kind == 0 ? 4 * TCX_HUGE_BYTES : 0);
    Free(span);
    Pass(100000);
    EXPECT_LE(Stats().free_bytes, 2 * TCX_HUGE_BYTES) << kind;
    kernel.locked = 0;
    Pass(300000);
    EXPECT_EQ(Due(), UINT64_MAX);
    while (!live_.empty())
      Free(live_.size() - 1);
    Pass(100000);
    EXPECT_EQ(Stats().free_bytes, 0u);
  }
}

TEST_F(HpaaMaintainTest, HolesShorterThanASystemPageKeepNothingElse) {
  if (!InstallLargePages())
    return;
  // Every other page of one huge page, more than half of the next.
  std::vector<tcx_span *> holes;
  for (size_t i = 0; i < kP; i++) {
    tcx_span *span = Allocate(1);
    if (i % 2 == 0)
      holes.push_back(span);
  }
  tcx_span *most = Allocate(kP / 2);
  Allocate(kP / 2 - 1);
  for (tcx_span *span : holes)
    Free(span);
  Free(most);
  EXPECT_EQ(Release(), TCX_HUGE_BYTES / 2);
  Allocate(kP / 2 - 2);
  Free(live_.back());
  Pass(100000);
  EXPECT_LE(Stats().free_bytes, TCX_HUGE_BYTES / 2 + 2 * kernel.page_bytes);
  EXPECT_LT(Pass(600000), 60u);
}

// What was released of it is a page of the system but for one page of ours.
TEST_F(HpaaMaintainTest, AnEmptyHugePageLeavesWhole) {
  if (!InstallLargePages())
    return;
  world_->Start(TCX_HUGE_THP_NEVER, TCX_HUGEPAGES_DEFAULT);
  size_t unit = kernel.page_bytes >> TCX_PAGE_SHIFT;
  Allocate(unit);
  Allocate(kP / 2);
  Allocate(kP / 2 - unit);
  Free(size_t{0});
  Pass(5000);
  ASSERT_EQ(Parts().filler.released_pages, unit);
  Allocate(1);
  while (!live_.empty())
    Free(live_.size() - 1);
  Pass(300000);
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_EQ(Parts().filler.trackers, 0u);
  EXPECT_EQ(Due(), UINT64_MAX);
}

// Each costs a look, and there may be many.
TEST_F(HpaaMaintainTest, APassGivesUpAfterAFewShortHoles) {
  if (!InstallLargePages())
    return;
  world_->Start(TCX_HUGE_THP_NEVER, TCX_HUGEPAGES_DEFAULT);
  for (size_t i = 0; i < 40 * kP; i++)
    Allocate(1);
  std::vector<tcx_span *> all = live_;
  for (size_t i = 1; i < all.size(); i += kP)
    Free(all[i]);
  ASSERT_EQ(Parts().filler.free_pages, 40u);
  EXPECT_EQ(Release(), 0u);
  EXPECT_LE(Parts().filler.pinned_pages, 16u);
}

TEST_F(HpaaMaintainTest, RegionsAreBrokenAfterThirtySeconds) {
  world_->Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  while (Parts().regions == 0)
    Allocate(kP + 1);
  tcx_span *span = Allocate(kP - 1 + kP / 2);
  Allocate(kP + kP / 2);
  Free(span);
  Pass(30000);
  size_t part = Parts().region_free_pages;
  EXPECT_GE(part, kP / 4);
  Pass(2000);
  EXPECT_EQ(Parts().region_free_pages, 0u);
  EXPECT_GE(Parts().policy.broken, 1u);
  EXPECT_EQ(Due(), UINT64_MAX);
}

// -- Any load -----------------------------------------------------------------

TEST_F(HpaaMaintainTest, AfterAnyLoadAllThatIsDueGoesBack) {
  for (unsigned seed = 0; seed < 40; seed++) {
    std::mt19937 random(seed);
    world_->Start(static_cast<tcx_huge_thp>(seed % 3),
                  seed % 4 == 3 ? TCX_HUGEPAGES_ALWAYS : TCX_HUGEPAGES_DEFAULT);
    size_t live_max = 10 + random() % 300;
    uint64_t pace = 1 + random() % 400;
    for (int step = 0; step < 1500; step++) {
      if (live_.size() < live_max && random() % 2 == 0) {
        unsigned kind = random() % 16;
        size_t pages = 1 + random() % (kind == 0 ? 4 * kP : kP / 4);
        Allocate(kind < 6 ? 1 : pages, kind < 4 ? 64 : 1);
      } else if (!live_.empty()) {
        Free(random() % live_.size());
      }
      if (random() % 8 == 0)
        Pass(random() % pace);
    }
    kernel.refuses = seed % 5 == 4;
    Pass(random() % 60000);
    kernel.refuses = false;
    Pass(400000);
    EXPECT_EQ(Due(), UINT64_MAX) << seed;
    tcx_hpaa_stats parts = Parts();
    EXPECT_EQ(parts.cache.held, 0u);
    EXPECT_EQ(parts.region_idle_huge, 0u);
    EXPECT_EQ(world_->heap.regions.first[TCX_REGION_WORTH], nullptr);
    // Too little is left of each huge page to break it.
    EXPECT_EQ(parts.filler.free_pages, parts.filler.huge_free_pages);
    EXPECT_LE(parts.filler.huge_free_pages,
              parts.filler.huge_trackers * (kP / 8));
    while (!live_.empty())
      Free(live_.size() - 1);
    Pass(100000);
    EXPECT_EQ(Stats().free_bytes, 0u);
    EXPECT_EQ(Parts().policy.broken, 0u);
    EXPECT_EQ(Due(), UINT64_MAX);
  }
}

// -- Much memory --------------------------------------------------------------

constexpr uint64_t kMuch = uint64_t{1} << 30;

TEST_F(HpaaMaintainTest, FifteenOfSixteenGoBack) {
  std::mt19937 random(1);
  while (Stats().in_use_bytes < kMuch) {
    unsigned kind = random() % 4;
    size_t bytes = kind == 0 ? 8192 : (1 + random() % 8) * 8192;
    Allocate(tcx_max_size(bytes >> TCX_PAGE_SHIFT, 1), kind == 0 ? 64 : 4);
  }
  std::shuffle(live_.begin(), live_.end(), random);
  for (size_t left = live_.size() / 16; live_.size() > left;)
    Free(live_.size() - 1);
  Pass(45000);
  tcx_page_source_stats stats = Stats();
  double held = static_cast<double>(stats.in_use_bytes + stats.free_bytes) /
                static_cast<double>(stats.in_use_bytes);
  RecordProperty("held_by_live", std::to_string(held));
  EXPECT_LT(held, 1.1);
  EXPECT_EQ(Due(), UINT64_MAX);
}

TEST_F(HpaaMaintainTest, AFullHeapIsOnHugePages) {
  world_->Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT);
  std::mt19937 random(1);
  while (Stats().in_use_bytes < kMuch) {
    Allocate(1 + random() % (kP / 8), 4);
    Allocate(1, 64);
    if (live_.size() % 5000 == 0)
      Pass(10);
  }
  Pass(5000);
  uint64_t asked = 0;
  for (const auto &huge : kernel.advice)
    asked += huge.second == MADV_HUGEPAGE;
  tcx_hpaa_stats parts = Parts();
  // All, what came before the heap was worth it too.
  EXPECT_EQ(asked, world_->heap.fresh.huge);
  EXPECT_GE(parts.filler.huge_trackers + 1, parts.filler.trackers);
  EXPECT_EQ(parts.filler.broken_trackers, 0u);
  EXPECT_LE(parts.filler.trackers,
            (kMuch >> TCX_HUGE_SHIFT) + (kMuch >> TCX_HUGE_SHIFT) / 50 + 2);
}

TEST_F(HpaaMaintainTest, BackedHugePagesServeFirstThenTheLowest) {
  std::vector<uint64_t> pages;
  for (int i = 0; i < 8; i++)
    pages.push_back(Allocate(2 * kP)->first_page);
  std::sort(pages.begin(), pages.end());
  auto free_at = [&](size_t i) {
    for (const tcx_span *span : live_) {
      if (span->first_page == pages[i])
        return Free(span);
    }
  };
  for (size_t i : {2, 5, 1})
    free_at(i);
  EXPECT_EQ(Allocate(2 * kP)->first_page, pages[5]);
  EXPECT_EQ(Allocate(kP)->first_page, pages[1]);
  EXPECT_EQ(Allocate(3 * kP)->first_page, pages[1] + kP);
  EXPECT_NE(Allocate(kP)->flags & TCX_SPAN_ZERO, 0);
}

// -- Start --------------------------------------------------------------------

// What was said of huge pages of the heap; metadata is another matter.
std::vector<int> AdviceOfTheHeap() {
  std::vector<int> advice;
  for (const auto &huge : kernel.advice) {
    if (tcx_pagemap_huge_note(huge.first) != nullptr)
      advice.push_back(huge.second);
  }
  return advice;
}

TEST_F(HpaaMaintainTest, ASmallHeapIsOnSmallPagesWhereHugeOnesAreGiven) {
  world_->Start(TCX_HUGE_THP_ALWAYS, TCX_HUGEPAGES_DEFAULT);
  kernel.advice.clear();
  Allocate(1);
  Allocate(kP / 2);
  Allocate(1, 64);  // Of another huge page.
  Allocate(kP / 4);
  EXPECT_EQ(AdviceOfTheHeap(), std::vector<int>(2, MADV_NOHUGEPAGE));
  Allocate(kP + kP / 2);
  EXPECT_EQ(AdviceOfTheHeap(), std::vector<int>(4, MADV_HUGEPAGE));
}

}  // namespace

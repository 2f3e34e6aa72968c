// region_test.cc -- regions against a model, single decisions, the set.
//
// Method: random operations (region_model.h), the invariants and the model's
// count of pages compared after each; then one decision each.
#include "backend/hpaa/region.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "backend/hpaa/region_model.h"
#include "backend/hpaa/region_set.h"

namespace {

using tcx::testing::RegionModel;

constexpr size_t kP = TCX_HUGE_PAGES;

TEST(RegionTest, RandomOperations) {
  for (unsigned seed = 1; seed <= 12; seed++) {
    std::mt19937 random(seed);
    RegionModel model(1 + seed % 3);
    for (int i = 0; i < 400; i++) {
      model.Step([&random](size_t bound) { return random() % bound; });
      if (i < 40 || i % 4 == 0)
        model.Check();
    }
  }
}

class RegionDecisionTest : public ::testing::Test {
 protected:
  RegionDecisionTest() : region_(new tcx_region) {
    tcx_region_init(region_.get(), kHuge);
  }

  uint64_t Allocate(size_t pages, bool *is_zero = nullptr) {
    return Place(pages, 1, is_zero);
  }
  uint64_t Place(size_t pages, size_t align, bool *is_zero = nullptr) {
    bool zero;
    uint64_t page = tcx_region_allocate(region_.get(), pages, align, &zero);
    tcx_region_check(region_.get());
    if (is_zero != nullptr)
      *is_zero = zero;
    return page - kFirst;
  }
  void Free(uint64_t first, size_t pages, bool is_released = false) {
    tcx_region_free(region_.get(), kFirst + first, pages, is_released);
    tcx_region_check(region_.get());
  }
  bool Begin(bool may_break, size_t unit, tcx_region_range *range) {
    uint64_t candidates = region_->idle;
    if (candidates == 0 && may_break)
      candidates = region_->breakable;
    bool has_any =
        tcx_region_release_begin(region_.get(), candidates, unit, range);
    tcx_region_check(region_.get());
    return has_any;
  }
  void End(const tcx_region_range &range, bool is_released) {
    tcx_region_release_end(region_.get(), &range, is_released);
    tcx_region_check(region_.get());
  }

  static constexpr uint64_t kHuge = 12345;
  static constexpr uint64_t kFirst = kHuge * kP;
  std::unique_ptr<tcx_region> region_;
};

TEST_F(RegionDecisionTest, StartsReleasedAndWhole) {
  EXPECT_EQ(tcx_region_longest(region_.get()), TCX_REGION_PAGES);
  EXPECT_EQ(tcx_region_backed_pages(region_.get()), 0u);
  bool is_zero = false;
  EXPECT_EQ(Allocate(TCX_REGION_PAGES, &is_zero), 0u);
  EXPECT_TRUE(is_zero);
  EXPECT_EQ(tcx_region_longest(region_.get()), 0u);
}

TEST_F(RegionDecisionTest, TakesTheLowestThatFits) {
  EXPECT_EQ(Allocate(kP), 0u);
  EXPECT_EQ(Allocate(kP + 1), kP);
  EXPECT_EQ(Allocate(2), 2 * kP + 1);
  Free(0, kP);
  EXPECT_EQ(Allocate(kP + 1), 2 * kP + 3);
  EXPECT_EQ(Allocate(kP - 1), 0u);
}

TEST_F(RegionDecisionTest, Aligns) {
  EXPECT_EQ(Allocate(1), 0u);
  EXPECT_EQ(Place(kP + 1, kP), kP);
  EXPECT_EQ(Place(kP - 1, kP), 3 * kP);
  // In the first range that has a place wherever it starts.
  EXPECT_EQ(Place(1, 2), 2u);
  EXPECT_EQ(Place(kP - 3, 2), 2 * kP + 2);
  Free(2, 1);
  Free(2 * kP + 2, kP - 3);
  // The last huge pages, whole; then none that starts one.
  size_t rest = TCX_REGION_PAGES - 4 * kP;
  EXPECT_FALSE(tcx_region_fits(region_.get(), rest + 1, kP));
  EXPECT_EQ(Place(rest, kP), 4 * kP);
  EXPECT_FALSE(tcx_region_fits(region_.get(), 1, kP));
  EXPECT_TRUE(tcx_region_fits(region_.get(), kP - 1, 1));
  EXPECT_EQ(Allocate(kP - 1), 1u);
}

TEST_F(RegionDecisionTest, ZeroOnlyWhereNothingWasBehindAnyPage) {
  bool is_zero;
  Allocate(2, &is_zero);
  EXPECT_TRUE(is_zero);
  Free(0, 2);
  Allocate(3, &is_zero);
  EXPECT_FALSE(is_zero);
  Free(0, 3, true);
  Allocate(3, &is_zero);
  EXPECT_TRUE(is_zero);
}

TEST_F(RegionDecisionTest, TakeNeedsFreePagesOfTheRegion) {
  EXPECT_EQ(Allocate(3), 0u);
  EXPECT_TRUE(tcx_region_take(region_.get(), kFirst + 3, 5));
  EXPECT_FALSE(tcx_region_take(region_.get(), kFirst + 7, 5));
  uint64_t end = kFirst + TCX_REGION_PAGES;
  EXPECT_FALSE(tcx_region_take(region_.get(), end - 1, 2));
  EXPECT_FALSE(tcx_region_take(region_.get(), end, 1));
  EXPECT_FALSE(tcx_region_take(region_.get(), kFirst - 1, 1));
  EXPECT_TRUE(tcx_region_take(region_.get(), end - 1, 1));
  tcx_region_check(region_.get());
}

TEST_F(RegionDecisionTest, ReleasesTheHighestIdleHugePageFirst) {
  Allocate(3 * kP);
  Free(kP, 2 * kP);
  tcx_region_range range;
  ASSERT_TRUE(Begin(true, 1, &range));
  EXPECT_EQ(range.first_page, kFirst + 2 * kP);
  EXPECT_EQ(range.pages, kP);
  EXPECT_EQ(range.backed_pages, kP);
  EXPECT_FALSE(range.breaks);
  // Not to be had meanwhile.
  EXPECT_FALSE(tcx_region_take(region_.get(), kFirst + 2 * kP, 1));
  EXPECT_EQ(tcx_region_backed_pages(region_.get()), 2 * kP);
  End(range, true);
  EXPECT_EQ(tcx_region_backed_pages(region_.get()), kP);
  ASSERT_TRUE(Begin(false, 1, &range));
  EXPECT_EQ(range.first_page, kFirst + kP);
  End(range, false);
  EXPECT_EQ(tcx_region_backed_pages(region_.get()), kP);
}

TEST_F(RegionDecisionTest, BreaksOnlyWhenTold) {
  Allocate(kP);
  Free(1, 3);
  tcx_region_range range;
  EXPECT_FALSE(Begin(false, 1, &range));
  ASSERT_TRUE(Begin(true, 1, &range));
  EXPECT_EQ(range.first_page, kFirst + 1);
  EXPECT_EQ(range.pages, 3u);
  EXPECT_TRUE(range.breaks);
  End(range, true);
  EXPECT_FALSE(Begin(true, 1, &range));
}

TEST_F(RegionDecisionTest, OnlyWholePagesOfTheSystem) {
  Allocate(kP);
  Free(1, 7);
  tcx_region_range range;
  ASSERT_TRUE(Begin(true, 4, &range));
  EXPECT_EQ(range.first_page, kFirst + 4);
  EXPECT_EQ(range.pages, 4u);
  End(range, true);
  EXPECT_FALSE(Begin(true, 4, &range));
}

// -- The set ------------------------------------------------------------------

class RegionSetTest : public ::testing::Test {
 protected:
  RegionSetTest() {
    tcx_region_set_init(&set_);
  }

  tcx_region *Add() {
    regions_.emplace_back(new tcx_region);
    tcx_region_init(regions_.back().get(),
                    TCX_REGION_HUGE_PAGES * (100 + regions_.size()));
    tcx_region_set_add(&set_, regions_.back().get());
    tcx_region_set_check(&set_);
    return regions_.back().get();
  }
  uint64_t Allocate(size_t pages, tcx_region **region) {
    bool is_zero;
    uint64_t page =
        tcx_region_set_allocate(&set_, pages, 1, now_ms_, region, &is_zero);
    tcx_region_set_check(&set_);
    return page;
  }
  void Free(tcx_region *region, uint64_t page, size_t pages) {
    tcx_region_set_free(&set_, region, page, pages, false, now_ms_);
    tcx_region_set_check(&set_);
  }
  // Pages that went back.
  size_t Release(tcx_region_release kind, bool succeeds = true) {
    tcx_region_range range;
    tcx_region *region =
        tcx_region_set_release_begin(&set_, kind, 1, now_ms_, &range);
    tcx_region_set_check(&set_);
    if (region == nullptr)
      return 0;
    tcx_region_set_release_end(&set_, region, &range, succeeds, now_ms_);
    tcx_region_set_check(&set_);
    return succeeds ? range.backed_pages : 0;
  }
  bool ReleaseOne(bool may_break) {
    return Release(may_break ? TCX_REGION_RELEASE_ALL
                             : TCX_REGION_RELEASE_IDLE) != 0;
  }
  uint64_t Due() {
    return tcx_region_set_due_ms(&set_, now_ms_);
  }

  uint64_t now_ms_ = 100000;
  tcx_region_set set_;
  std::vector<std::unique_ptr<tcx_region>> regions_;
};

TEST_F(RegionSetTest, EmptySetHasNothing) {
  tcx_region *region;
  EXPECT_EQ(Allocate(1, &region), 0u);
  EXPECT_FALSE(ReleaseOne(true));
  EXPECT_EQ(Due(), UINT64_MAX);
}

TEST_F(RegionSetTest, TheFullerRegionServes) {
  tcx_region *a = Add();
  tcx_region *region;
  ASSERT_NE(Allocate(TCX_REGION_PAGES / 2, &region), 0u);
  EXPECT_EQ(region, a);
  tcx_region *b = Add();
  ASSERT_NE(Allocate(TCX_REGION_PAGES / 4, &region), 0u);
  EXPECT_EQ(region, a);
  ASSERT_NE(Allocate(TCX_REGION_PAGES / 2, &region), 0u);
  EXPECT_EQ(region, b);
  ASSERT_NE(Allocate(TCX_REGION_PAGES / 4, &region), 0u);
  EXPECT_EQ(region, a);
  EXPECT_EQ(Allocate(TCX_REGION_PAGES / 2 + 1, &region), 0u);
}

TEST_F(RegionSetTest, IdleHugePagesGoFirstAndARegionMayLeave) {
  tcx_region *region = Add();
  tcx_region *found;
  uint64_t a = Allocate(kP + 1, &found);
  uint64_t b = Allocate(kP - 1, &found);
  Free(region, a, kP + 1);
  EXPECT_EQ(set_.idle_huge, 1u);
  EXPECT_TRUE(ReleaseOne(true));
  EXPECT_EQ(set_.idle_huge, 0u);
  EXPECT_FALSE(ReleaseOne(false));
  EXPECT_TRUE(ReleaseOne(true));
  EXPECT_EQ(tcx_region_set_backed_pages(&set_), 0u);
  Free(region, b, kP - 1);
  EXPECT_TRUE(ReleaseOne(false));
  ASSERT_TRUE(tcx_region_is_released(region));
  tcx_region_set_remove(&set_, region);
  tcx_region_set_check(&set_);
}

TEST_F(RegionSetTest, IdleHugePagesAreDueWhenNothingNeededThem) {
  tcx_region *region = Add();
  tcx_region *found;
  uint64_t page = Allocate(8 * kP, &found);
  now_ms_ += 10000;
  EXPECT_EQ(Due(), UINT64_MAX);
  Free(region, page, 8 * kP);
  EXPECT_EQ(Due(), now_ms_ + 3000);  // Of whole seconds.
  EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), 0u);
  now_ms_ += 2000;
  page = Allocate(3 * kP, &found);
  Free(region, page, 3 * kP);
  now_ms_ += 1000;
  EXPECT_EQ(Due(), now_ms_);
  for (int i = 0; i < 5; i++)
    EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), kP);
  EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), 0u);
  EXPECT_EQ(Due(), now_ms_ + 2000);
  now_ms_ += 2000;
  for (int i = 0; i < 3; i++)
    EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), kP);
  EXPECT_EQ(Due(), UINT64_MAX);
}

TEST_F(RegionSetTest, PartsAreDueAfterThirtySecondsAndNotForLittle) {
  tcx_region *region = Add();
  tcx_region *found;
  uint64_t little = kP / 8 - 1;
  uint64_t page = Allocate(3 * kP, &found);
  if (little > 0)
    Free(region, page, little);
  EXPECT_EQ(Due(), UINT64_MAX);
  Free(region, page + kP, kP / 8);
  EXPECT_EQ(Due(), now_ms_ + 31000);
  now_ms_ += 30999;
  EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), 0u);
  now_ms_++;
  EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), kP / 8);
  EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), 0u);
  EXPECT_EQ(Due(), UINT64_MAX);
  EXPECT_EQ(tcx_region_set_backed_pages(&set_), little);
}

TEST_F(RegionSetTest, ABrokenHugePageIsWorthAnyPart) {
  tcx_region *region = Add();
  tcx_region *found;
  uint64_t page = Allocate(kP, &found);
  region->broken = 1;
  Free(region, page, 1);
  now_ms_ += 31000;
  EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), 1u);
}

TEST_F(RegionSetTest, WhatFailsIsSetAsideUntilRetried) {
  tcx_region *region = Add();
  tcx_region *found;
  uint64_t page = Allocate(2 * kP, &found);
  Free(region, page, 2 * kP);
  EXPECT_EQ(Release(TCX_REGION_RELEASE_ALL, false), 0u);
  EXPECT_EQ(Due(), UINT64_MAX);
  EXPECT_EQ(Release(TCX_REGION_RELEASE_ALL), 0u);
  now_ms_ += 60000;
  EXPECT_EQ(Release(TCX_REGION_RELEASE_UNNEEDED), 0u);
  tcx_region_set_retry(&set_, now_ms_);
  tcx_region_set_check(&set_);
  EXPECT_EQ(Release(TCX_REGION_RELEASE_ALL), kP);
  EXPECT_EQ(Release(TCX_REGION_RELEASE_ALL), kP);
}

}  // namespace

// low_water_test.cc -- what of a level is spare, and when.
//
// Method: random steps in simulated time against a model that keeps the level
// of every millisecond; then the promises of the header by hand.
#include "backend/low_water.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace {

constexpr uint64_t kKeep = TCX_LOW_WATER_KEEP_MS;
constexpr uint64_t kSlot = TCX_LOW_WATER_SLOT_MS;
constexpr uint64_t kStart = 80 * kSlot + 40;

// One of these and its owner.
class Kept {
 public:
  explicit Kept(uint64_t now_ms) : now_ms_(now_ms) {
    tcx_low_water_init(&water_, now_ms);
    lows_[now_ms] = 0;
  }

  void Sleep(uint64_t ms) {
    now_ms_ += ms;
  }
  void Put(uint64_t amount) {
    SetLevel(level_ + amount);
  }
  void Take(uint64_t amount) {
    SetLevel(level_ - std::min(level_, amount));
    tcx_low_water_note(&water_, level_);
  }
  // Returns how much went.
  uint64_t GiveBack(uint64_t amount_max) {
    uint64_t amount = std::min(Spare(), amount_max);
    level_ -= amount;
    Drop(amount);
    return amount;
  }
  // After Spare().
  void Drop(uint64_t amount) {
    tcx_low_water_drop(&water_, amount);
    for (auto &low : lows_) {
      low.second -= std::min(low.second, amount);
    }
    lows_[now_ms_ + 1] = level_;
  }

  uint64_t Spare() {
    tcx_low_water_advance(&water_, level_, now_ms_);
    return tcx_low_water_spare(&water_, level_);
  }
  uint64_t DueMs() {
    tcx_low_water_advance(&water_, level_, now_ms_);
    return tcx_low_water_due_ms(&water_, level_, now_ms_);
  }
  uint64_t DueIn() {
    uint64_t due_ms = DueMs();
    return due_ms == UINT64_MAX ? UINT64_MAX : due_ms - now_ms_;
  }

  // It counts in slots, so up to one more than the time to keep may matter.
  void Check() {
    uint64_t spare = Spare();
    ASSERT_LE(spare, LeastSince(kKeep));
    ASSERT_GE(spare, LeastSince(kKeep + kSlot));
    tcx_low_water_check(&water_, level_);
    uint64_t due_in = DueIn();
    ASSERT_EQ(due_in == UINT64_MAX, level_ == 0);
    if (level_ > 0) {
      ASSERT_LE(due_in, kKeep + kSlot);
      ASSERT_GT(SpareIn(due_in), 0u);
      ASSERT_TRUE(due_in == 0 || SpareIn(due_in - 1) == 0);
    }
  }

  uint64_t level() const {
    return level_;
  }

 private:
  // In this millisecond there were both.
  void SetLevel(uint64_t level) {
    tcx_low_water_advance(&water_, level_, now_ms_);
    auto it = lows_.insert({now_ms_, level_}).first;
    it->second = std::min({it->second, level_, level});
    level_ = level;
    lows_[now_ms_ + 1] = level;
  }

  uint64_t LeastSince(uint64_t ms) const {
    uint64_t from_ms = now_ms_ < ms ? 0 : now_ms_ - ms;
    uint64_t least = level_;
    auto it = lows_.upper_bound(from_ms);
    if (it != lows_.begin()) {
      it--;
    }
    for (; it != lows_.end() && it->first <= now_ms_; it++) {
      least = std::min(least, it->second);
    }
    return least;
  }

  // Of a copy: a look ahead changes its idea of time.
  uint64_t SpareIn(uint64_t ms) const {
    tcx_low_water copy = water_;
    tcx_low_water_advance(&copy, level_, now_ms_ + ms);
    return tcx_low_water_spare(&copy, level_);
  }

  tcx_low_water water_;
  uint64_t level_ = 0;
  uint64_t now_ms_;
  std::map<uint64_t, uint64_t> lows_;  // from when on, the level
};

TEST(LowWaterTest, RandomSteps) {
  for (unsigned seed = 0; seed < 20; seed++) {
    std::mt19937 random(seed);
    Kept kept(random() % 5000);
    uint64_t pace = 1;
    for (int i = 0; i < 1000 && !::testing::Test::HasFatalFailure(); i++) {
      if (i % 50 == 0) {
        pace = uint64_t{1} << random() % 10;
      }
      switch (random() % 5) {
        case 0:
          kept.Put(random() % 100);
          break;
        case 1:
          kept.Take(random() % 100);
          break;
        case 2:
          kept.GiveBack(random() % 100);
          break;
        case 3:
          kept.Drop(random() % 8 == 0 ? kept.Spare() : 0);
          break;
        default:
          kept.Sleep(random() % pace);
      }
      kept.Check();
    }
  }
}

TEST(LowWaterTest, NothingIsNeverDue) {
  Kept kept(kStart);
  EXPECT_EQ(kept.Spare(), 0u);
  EXPECT_EQ(kept.DueMs(), UINT64_MAX);
  kept.Sleep(10 * kKeep);
  EXPECT_EQ(kept.DueMs(), UINT64_MAX);
}

TEST(LowWaterTest, SpareAfterTwoSecondsNotBefore) {
  for (uint64_t start : {uint64_t{0}, uint64_t{1}, kStart, kStart + 60}) {
    Kept kept(start);
    kept.Put(50);
    kept.Sleep(kKeep);
    EXPECT_EQ(kept.Spare(), 0u);
    kept.Sleep(kSlot);
    EXPECT_EQ(kept.Spare(), 50u);
    EXPECT_EQ(kept.DueIn(), 0u);
  }
}

TEST(LowWaterTest, WhatDemandCameForIsKept) {
  Kept kept(kStart);
  kept.Put(50);
  kept.Sleep(kKeep - 10);
  kept.Take(20);
  kept.Put(20);
  kept.Sleep(10 + kSlot);
  EXPECT_EQ(kept.GiveBack(UINT64_MAX), 30u);
  EXPECT_EQ(kept.level(), 20u);
  kept.Sleep(kKeep);
  EXPECT_EQ(kept.GiveBack(UINT64_MAX), 20u);
}

// What leaves in parts is spare to its end, and no more than that.
TEST(LowWaterTest, SpareGoesInParts) {
  Kept kept(kStart);
  kept.Put(50);
  kept.Sleep(2 * kKeep);
  kept.Put(7);
  for (uint64_t left : {34, 18, 2}) {
    EXPECT_EQ(kept.GiveBack(16), 16u);
    EXPECT_EQ(kept.Spare(), left);
  }
  EXPECT_EQ(kept.GiveBack(16), 2u);
  EXPECT_EQ(kept.Spare(), 0u);
  EXPECT_EQ(kept.level(), 7u);
}

TEST(LowWaterTest, DroppedStaysButWaitsAgain) {
  Kept kept(kStart);
  kept.Put(50);
  kept.Sleep(2 * kKeep);
  EXPECT_EQ(kept.Spare(), 50u);
  kept.Drop(50);
  EXPECT_EQ(kept.Spare(), 0u);
  EXPECT_EQ(kept.level(), 50u);
  EXPECT_GE(kept.DueIn(), kKeep);
  kept.Sleep(kKeep + kSlot);
  EXPECT_EQ(kept.Spare(), 50u);
}

TEST(LowWaterTest, SaysWhen) {
  Kept kept(kStart);
  kept.Put(10);
  EXPECT_EQ(kept.DueIn(), kKeep + kSlot - 40);
  kept.Sleep(1000);
  EXPECT_EQ(kept.DueIn(), kKeep + kSlot - 1040);
  kept.Take(10);
  EXPECT_EQ(kept.DueIn(), UINT64_MAX);
  kept.Put(10);
  kept.Sleep(kSlot - 40);
  EXPECT_EQ(kept.DueIn(), kKeep);
}

TEST(LowWaterTest, ClockThatGoesBackStandsStill) {
  tcx_low_water water;
  tcx_low_water_init(&water, kStart);
  tcx_low_water_advance(&water, 5, kStart + 1000);
  tcx_low_water_advance(&water, 5, 0);
  EXPECT_EQ(tcx_low_water_spare(&water, 5), 0u);
  uint64_t due_ms = tcx_low_water_due_ms(&water, 5, 0);
  EXPECT_LE(due_ms, kStart + kKeep + kSlot);
  tcx_low_water_advance(&water, 5, due_ms);
  EXPECT_EQ(tcx_low_water_spare(&water, 5), 5u);
}

}  // namespace

// filler_demand_test.cc -- what the last seconds did not need, by simulated
// time.
//
// Method: each edge of the window by itself, then random levels and times
// against a model that keeps every second.
#include "backend/hpaa/filler_demand.h"

#include <gtest/gtest.h>

#include <random>

#include "backend/hpaa/filler_pages_testing.h"

namespace {

TEST(FillerDemandTest, NothingEverWasIdle) {
  tcx_filler_demand demand = {};
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 30, 0), 0u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 30, 123456789), 0u);
  EXPECT_EQ(tcx_filler_demand_due(&demand, 30, 0, 5000), 5000u);
  EXPECT_EQ(tcx_filler_demand_due(&demand, 30, 1, 5000),
            TCX_FILLER_DEMAND_NEVER);
}

TEST(FillerDemandTest, IdleForSoManySeconds) {
  tcx_filler_demand demand = {};
  tcx_filler_demand_set(&demand, 40, 10500);
  // The level holds until it changes.
  tcx_filler_demand_set(&demand, 100, 20999);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 20999), 40u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 22999), 40u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 23000), 100u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 30, 40999), 0u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 30, 41000), 40u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 30, 51000), 100u);
  EXPECT_EQ(tcx_filler_demand_due(&demand, 30, 41, 30000), 51000u);
  EXPECT_EQ(tcx_filler_demand_due(&demand, 30, 40, 30000), 41000u);
  EXPECT_EQ(tcx_filler_demand_due(&demand, 2, 100, 20999), 23000u);
  EXPECT_EQ(tcx_filler_demand_due(&demand, 2, 101, 20999),
            TCX_FILLER_DEMAND_NEVER);
}

TEST(FillerDemandTest, AShortNeedWithinOneSecondCounts) {
  tcx_filler_demand demand = {};
  tcx_filler_demand_set(&demand, 500, 1000);
  tcx_filler_demand_set(&demand, 7, 5001);
  tcx_filler_demand_set(&demand, 500, 5002);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 7999), 7u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 8000), 500u);
}

TEST(FillerDemandTest, WhatIsTakenWasNotNeeded) {
  tcx_filler_demand demand = {};
  tcx_filler_demand_set(&demand, 100, 0);
  tcx_filler_demand_set(&demand, 500, 50000);
  tcx_filler_demand_take(&demand, 60, 60000);
  EXPECT_EQ(demand.level, 440u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 60000), 440u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 30, 60000), 40u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 30, 81000), 440u);
}

TEST(FillerDemandTest, AClockThatRunsBackwardsStandsStill) {
  tcx_filler_demand demand = {};
  tcx_filler_demand_set(&demand, 3, 100000);
  tcx_filler_demand_set(&demand, 9, 50000);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 0), 0u);
  EXPECT_EQ(tcx_filler_demand_unneeded(&demand, 2, 103000), 9u);
}

TEST(FillerDemandTest, AgreesWithAModelThatForgetsLittle) {
  std::mt19937 random(11);
  tcx_filler_demand demand = {};
  tcx::testing::DemandModel model;
  uint64_t now = 0;
  for (int step = 0; step < 20000; step++) {
    now += random() % 8 == 0 ? random() % 60000 : random() % 700;
    if (random() % 2 == 0) {
      uint64_t level = random() % 1000;
      tcx_filler_demand_set(&demand, level, now);
      model.Set(level, now);
    }
    if (random() % 8 == 0) {
      uint64_t amount = random() % (demand.level + 1);
      tcx_filler_demand_take(&demand, amount, now);
      model.Take(amount, now);
    }
    unsigned seconds = random() % TCX_FILLER_DEMAND_SLOTS;
    uint64_t unneeded = model.Unneeded(seconds, now);
    ASSERT_EQ(tcx_filler_demand_unneeded(&demand, seconds, now), unneeded);
    uint64_t amount = random() % 1000;
    uint64_t due = tcx_filler_demand_due(&demand, seconds, amount, now);
    ASSERT_EQ(due == now, unneeded >= amount);
    if (due != now && due != TCX_FILLER_DEMAND_NEVER) {
      ASSERT_GE(model.Unneeded(seconds, due), amount);
      ASSERT_LT(model.Unneeded(seconds, due - 1), amount);
    }
  }
}

}  // namespace

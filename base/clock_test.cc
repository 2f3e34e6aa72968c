// clock_test.cc -- real time moves forward, installed time is what is read.
//
// Method: against CLOCK_MONOTONIC around a sleep.
#include "base/clock.h"

#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

namespace {

uint64_t fake_ms = 0;

uint64_t ReadFake() {
  return fake_ms;
}

TEST(ClockTest, FollowsRealTime) {
  struct timespec now;
  uint64_t before = tcx_clock_ms();
  usleep(30000);
  uint64_t after = tcx_clock_ms();
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t fine = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  EXPECT_GE(after - before, 20u);
  EXPECT_LE(after, fine);
}

TEST(ClockTest, ReadsTheInstalledSource) {
  tcx_clock_install(ReadFake);
  fake_ms = 5;
  EXPECT_EQ(tcx_clock_ms(), 5u);
  fake_ms = uint64_t{1} << 40;
  EXPECT_EQ(tcx_clock_ms(), uint64_t{1} << 40);
  tcx_clock_install(nullptr);
  EXPECT_NE(tcx_clock_ms(), uint64_t{1} << 40);
}

}  // namespace

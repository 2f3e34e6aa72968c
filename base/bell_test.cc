// bell_test.cc -- no ringing is lost, and what came before it is seen.
//
// Method: a thread that waits for ever, and others that store a number and
// ring; were one ringing lost, the test would not end.
#include "base/bell.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace {

TEST(BellTest, RungBeforeReturnsAtOnce) {
  tcx_bell bell = TCX_BELL_INIT;
  tcx_bell_ring(&bell);
  tcx_bell_ring(&bell);
  EXPECT_TRUE(tcx_bell_wait(&bell, TCX_BELL_FOR_EVER));
  EXPECT_FALSE(tcx_bell_wait(&bell, 0)) << "twice rung is rung once";
}

TEST(BellTest, TimeEndsTheWait) {
  tcx_bell bell = TCX_BELL_INIT;
  auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(tcx_bell_wait(&bell, 20));
  EXPECT_GE(std::chrono::steady_clock::now() - start,
            std::chrono::milliseconds(20));
}

TEST(BellTest, ResetForgets) {
  tcx_bell bell = TCX_BELL_INIT;
  tcx_bell_ring(&bell);
  tcx_bell_reset(&bell);
  EXPECT_FALSE(tcx_bell_wait(&bell, 0));
}

TEST(BellTest, RingWakesSleeper) {
  tcx_bell bell = TCX_BELL_INIT;
  std::thread ringer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    tcx_bell_ring(&bell);
  });
  EXPECT_TRUE(tcx_bell_wait(&bell, TCX_BELL_FOR_EVER));
  ringer.join();
}

TEST(BellTest, WhatWasStoredBeforeIsSeen) {
  constexpr unsigned kThreads = 3;
  constexpr unsigned kRounds = 20000;
  tcx_bell bell = TCX_BELL_INIT;
  // Relaxed: only the bell orders them.
  std::atomic<unsigned> done[kThreads] = {};
  std::vector<std::thread> ringers;
  for (auto &mine : done) {
    ringers.emplace_back([&bell, &mine] {
      for (unsigned i = 1; i <= kRounds; i++) {
        mine.store(i, std::memory_order_relaxed);
        tcx_bell_ring(&bell);
      }
    });
  }
  for (;;) {
    unsigned sum = 0;
    for (auto &one : done)
      sum += one.load(std::memory_order_relaxed);
    if (sum == kThreads * kRounds)
      break;
    tcx_bell_wait(&bell, TCX_BELL_FOR_EVER);
  }
  for (auto &thread : ringers)
    thread.join();
}

}  // namespace

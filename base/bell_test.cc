// bell_test.cc -- no ringing is lost, and what came before it is seen.
//
// Method: a thread that rings just when another one is about to sleep, once, at
// all distances; and several that store numbers and ring for one, which must
// see the last.
#include "base/bell.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace {

void Spin(unsigned times) {
  for (volatile unsigned i = 0; i < times;)
    i = i + 1;
}

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

// A wait may end early.
bool RungWithin(tcx_bell *bell, unsigned ms) {
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
  do {
    if (tcx_bell_wait(bell, ms))
      return true;
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// Nobody rings again for one that was lost.
TEST(BellTest, NoRingingIsLost) {
  constexpr unsigned kRounds = 200000;
  tcx_bell bell = TCX_BELL_INIT;
  std::atomic<unsigned> round{0};
  unsigned present = 0;  // only the bell orders it
  std::thread ringer([&] {
    for (unsigned i = 1; i <= kRounds; i++) {
      for (unsigned tries = 1; round < i; tries++) {
        if (tries % 1000 == 0)
          std::this_thread::yield();
      }
      Spin(i % 64);
      present = i;
      tcx_bell_ring(&bell);
    }
  });
  unsigned lost = 0;
  for (unsigned i = 1; i <= kRounds; i++) {
    round = i;
    Spin(i / 64 % 64);
    bool has_rung = RungWithin(&bell, lost == 0 ? 5000 : 10);
    lost += !has_rung;
    EXPECT_TRUE(!has_rung || present == i);
  }
  ringer.join();
  EXPECT_EQ(lost, 0u);
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

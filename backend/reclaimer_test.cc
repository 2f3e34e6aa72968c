// reclaimer_test.cc -- rounds and limits over a page source that is easily
// watched.
//
// Method: simulated time; hooks that note what they were asked for. The fake
// page source gives back each page two seconds after it was freed, so what is
// due is known. Threads at the hard limit: the real order of things, many
// times.
#include "backend/reclaimer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "backend/fake_page_source.h"
#include "backend/metadata.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/knobs.h"
#include "pagemap/pagemap.h"

namespace {

using tcx::testing::FakePageSource;

constexpr uint64_t kKeepMs = 2000;  // of the fake

uint64_t now_ms;
int drains, full_drains;
std::atomic<int> calls, urgent_calls, refused;
uint64_t objects_due;
std::vector<tcx_span *> cached;  // that a full drain gives back
tcx_page_source *source;

void Drain(bool all) {
  (all ? full_drains : drains)++;
  while (all && !cached.empty()) {
    tcx_page_source_deallocate(source, cached.back());
    cached.pop_back();
  }
}

size_t ReleaseObjects(uint64_t, size_t, bool) {
  return 0;
}

uint64_t ObjectsReleased() {
  return 0;
}

uint64_t ObjectsDue(uint64_t) {
  return objects_due;
}

void Attend(bool is_urgent) {
  calls++;
  urgent_calls += is_urgent;
}

void Refused() {
  refused++;
}

class ReclaimerTest : public ::testing::Test {
 protected:
  ReclaimerTest() {
    static const tcx_reclaimer_hooks hooks = {
        Drain, ReleaseObjects, ObjectsReleased, ObjectsDue, Attend, Refused};
    now_ms = uint64_t{1} << 40;
    drains = full_drains = 0;
    calls = urgent_calls = refused = 0;
    objects_due = UINT64_MAX;
    tcx_knobs.limit = tcx_knobs.hard_limit = tcx_knobs.hard_limit_policy = 0;
    tcx_clock_install([] { return now_ms; });
    source = tcx_reclaimer_init(&reclaimer_, fake_.get(), &hooks);
  }
  ~ReclaimerTest() override {
    source->ops->check(source);
    FreeAll();
    tcx_clock_install(nullptr);
  }

  tcx_span *Allocate(size_t pages = 1) {
    return tcx_page_source_allocate(source, pages, 1, 1);
  }
  bool Fill(size_t spans) {
    for (size_t i = 0; i < spans; i++) {
      tcx_span *span = Allocate();
      if (span == nullptr)
        return false;
      live_.push_back(span);
    }
    return true;
  }
  void FreeAll() {
    for (tcx_span *span : live_)
      tcx_page_source_deallocate(source, span);
    live_.clear();
  }
  uint64_t Round() {
    return tcx_reclaimer_round(&reclaimer_, now_ms);
  }
  bool MakeRoom(tcx_reclaimer_tries *tries) {
    return tcx_reclaimer_make_room(&reclaimer_, TCX_PAGE_SIZE, tries, true);
  }
  tcx_page_source_stats Stats() const {
    tcx_page_source_stats stats;
    source->ops->stats(source, &stats);
    return stats;
  }
  uint64_t Resident() const {
    tcx_metadata_stats metadata;
    tcx_metadata_read_stats(&metadata);
    tcx_page_source_stats stats = Stats();
    return stats.in_use_bytes + stats.free_bytes + metadata.mapped_bytes -
           metadata.untouched_bytes + tcx_pagemap_bytes();
  }
  tcx_reclaimer_stats Counts() {
    tcx_reclaimer_stats stats;
    tcx_reclaimer_read_stats(&reclaimer_, &stats);
    return stats;
  }
  // Makes rounds when they are due, until there is no next one.
  uint64_t RunUntilQuiet() {
    uint64_t begin = now_ms;
    for (int i = 0; i < 10000; i++) {
      uint64_t wait = Round();
      if (wait == TCX_RECLAIMER_NEVER)
        return now_ms - begin;
      now_ms += wait;
    }
    ADD_FAILURE() << "rounds for ever";
    return 0;
  }

  FakePageSource fake_;
  tcx_reclaimer reclaimer_ = {};
  std::vector<tcx_span *> live_;
};

TEST_F(ReclaimerTest, TheFirstSpanAfterTheLastRoundCallsForOne) {
  ASSERT_TRUE(Fill(1));
  EXPECT_EQ(urgent_calls, 1);
  ASSERT_TRUE(Fill(3));
  EXPECT_EQ(urgent_calls, 1);
  EXPECT_EQ(calls, 4);
  FreeAll();
  EXPECT_EQ(calls, 8);
  RunUntilQuiet();
  EXPECT_EQ(urgent_calls, 1);
  ASSERT_TRUE(Fill(1));
  EXPECT_EQ(urgent_calls, 2);
}

TEST_F(ReclaimerTest, RoundsGiveBackAllThatIsDueThenEnd) {
  ASSERT_TRUE(Fill(50));
  FreeAll();
  EXPECT_GT(Stats().free_bytes, 0u);
  uint64_t took = RunUntilQuiet();
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_GE(took, TCX_RECLAIMER_LINGER_MS - TCX_RECLAIMER_DRAIN_MS);
  EXPECT_LE(took, TCX_RECLAIMER_LINGER_MS + 2 * TCX_RECLAIMER_DRAIN_MS);
  EXPECT_GE(drains, 30);
  EXPECT_EQ(full_drains, 0);
  EXPECT_EQ(Counts().released_bytes, 50u << TCX_PAGE_SHIFT);
}

TEST_F(ReclaimerTest, ARoundIsMadeWhenObjectsAreDue) {
  ASSERT_TRUE(Fill(1));
  now_ms += TCX_RECLAIMER_LINGER_MS;
  objects_due = now_ms + 1234;
  EXPECT_EQ(Round(), 1234u);
  objects_due = UINT64_MAX;
  EXPECT_EQ(Round(), TCX_RECLAIMER_NEVER);
}

TEST_F(ReclaimerTest, WhatCannotGoDoesNotKeepRoundsBusy) {
  fake_.RefuseReleases(true);
  ASSERT_TRUE(Fill(5));
  FreeAll();
  now_ms += kKeepMs;
  for (int i = 0; i < 100; i++) {
    uint64_t wait = Round();
    ASSERT_GE(wait, TCX_RECLAIMER_PRESSURE_MS);
    ASSERT_NE(wait, TCX_RECLAIMER_NEVER);
    now_ms += wait;
  }
  fake_.RefuseReleases(false);
  RunUntilQuiet();
  EXPECT_EQ(Stats().free_bytes, 0u);
}

TEST_F(ReclaimerTest, AVisitComesOnlyWhenARoundIsDue) {
  EXPECT_EQ(tcx_reclaimer_visit(&reclaimer_, now_ms), TCX_RECLAIMER_NEVER);
  ASSERT_TRUE(Fill(1));
  uint64_t wait = tcx_reclaimer_visit(&reclaimer_, now_ms);
  EXPECT_EQ(Counts().rounds, 1u);
  EXPECT_EQ(tcx_reclaimer_visit(&reclaimer_, now_ms + wait - 1), 1u);
  EXPECT_EQ(Counts().rounds, 1u);
  now_ms += wait;
  tcx_reclaimer_visit(&reclaimer_, now_ms);
  EXPECT_EQ(Counts().rounds, 2u);
}

// The spans that the caches held come back during the visit itself, yet nobody
// has needed them for their time.
TEST_F(ReclaimerTest, AVisitAfterAnIdleTimeGivesBackWhatCachesHeld) {
  ASSERT_TRUE(Fill(40));
  cached.swap(live_);
  (void)tcx_reclaimer_visit(&reclaimer_, now_ms);
  EXPECT_EQ(full_drains, 0);
  now_ms += TCX_RECLAIMER_IDLE_MS;
  (void)tcx_reclaimer_visit(&reclaimer_, now_ms);
  EXPECT_EQ(full_drains, 1);
  EXPECT_EQ(Stats().free_bytes, 0u);
}

// More is kept than a round gives back. Between the rounds most of what is left
// is used again in part, then it is free again.
TEST_F(ReclaimerTest, WhatWasNeededAgainIsNotUnneeded) {
  constexpr size_t kPart = TCX_RECLAIMER_ROUND_BYTES / 2;
  for (int i = 0; i < 10; i++)
    cached.push_back(Allocate(kPart >> TCX_PAGE_SHIFT));
  (void)tcx_reclaimer_visit(&reclaimer_, now_ms);
  now_ms += TCX_RECLAIMER_IDLE_MS;
  EXPECT_EQ(tcx_reclaimer_visit(&reclaimer_, now_ms), 0u);
  EXPECT_EQ(Stats().free_bytes, 8 * kPart);
  EXPECT_EQ(fake_.last_release(), TCX_PAGE_RELEASE_KEPT) << "or it breaks some";
  fake_.SetFragmented(5 * kPart >> TCX_PAGE_SHIFT);
  (void)tcx_reclaimer_visit(&reclaimer_, now_ms);
  EXPECT_EQ(Stats().free_bytes, 6 * kPart);
  fake_.SetFragmented(0);
  now_ms += 1000;
  (void)tcx_reclaimer_visit(&reclaimer_, now_ms);
  EXPECT_EQ(Stats().free_bytes, 5 * kPart);
}

TEST_F(ReclaimerTest, AfterAReleaseARoundLooksAtWhatIsLeft) {
  ASSERT_TRUE(Fill(1));
  RunUntilQuiet();
  urgent_calls = 0;
  (void)tcx_reclaimer_release(&reclaimer_, SIZE_MAX);
  EXPECT_EQ(urgent_calls, 1);
  objects_due = now_ms + 1234;
  EXPECT_EQ(tcx_reclaimer_visit(&reclaimer_, now_ms), 1234u);
  objects_due = UINT64_MAX;
}

// It allocates, but from the caches: nothing moves.
TEST_F(ReclaimerTest, AVisitOfAProcessThatCameByKeepsTheCaches) {
  ASSERT_TRUE(Fill(1));
  for (int i = 0; i < 100; i++) {
    now_ms += TCX_RECLAIMER_IDLE_MS / 2;
    (void)tcx_reclaimer_visit(&reclaimer_, now_ms);
  }
  EXPECT_EQ(full_drains, 0);
}

TEST_F(ReclaimerTest, ANoticeCallsForARoundAsASpanDoes) {
  ASSERT_TRUE(Fill(1));
  RunUntilQuiet();
  urgent_calls = 0;
  tcx_page_source_notice(source);
  EXPECT_EQ(urgent_calls, 1);
  EXPECT_NE(tcx_reclaimer_visit(&reclaimer_, now_ms), TCX_RECLAIMER_NEVER);
}

TEST_F(ReclaimerTest, AVisitOfABusyProcessKeepsTheCaches) {
  for (int i = 0; i < 100; i++) {
    ASSERT_TRUE(Fill(1));
    now_ms += TCX_RECLAIMER_IDLE_MS / 2;
    (void)tcx_reclaimer_visit(&reclaimer_, now_ms);
  }
  EXPECT_EQ(full_drains, 0);
}

// -- Limits -------------------------------------------------------------------

TEST_F(ReclaimerTest, AboveTheSoftLimitWhatIsFreeGoesAtOnce) {
  ASSERT_TRUE(Fill(100));
  std::vector<tcx_span *> keep(live_.begin(), live_.begin() + 40);
  live_.erase(live_.begin(), live_.begin() + 40);
  FreeAll();
  live_ = keep;
  Round();
  urgent_calls = 0;
  tcx_knobs.limit = Resident() - (30 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  ASSERT_TRUE(Fill(1));
  EXPECT_GE(urgent_calls, 1);
  Round();
  EXPECT_EQ(full_drains, 1);
  EXPECT_LE(Resident(), tcx_knobs.limit);
  EXPECT_GT(Stats().free_bytes, 0u) << "no more than the excess";
  EXPECT_GT(Counts().limits.soft_released_bytes, 0u);
}

TEST_F(ReclaimerTest, ASoftLimitBelowWhatLivesEmptiesCachesNowAndThen) {
  ASSERT_TRUE(Fill(20));
  tcx_knobs.limit = 1 << 20;
  tcx_reclaimer_set_limits(&reclaimer_);
  for (int i = 0; i < 1000; i++) {
    if (i % 10 == 0) {
      ASSERT_TRUE(Fill(1));
    }
    (void)tcx_reclaimer_visit(&reclaimer_, now_ms++);
  }
  // After 0, 100, 300, 700 ms.
  EXPECT_GE(full_drains, 3);
  EXPECT_LE(full_drains, 5);
}

// What would be made resident near a limit would be given back again.
TEST_F(ReclaimerTest, NearALimitMemoryDoesNotGrowByItself) {
  ASSERT_TRUE(Fill(20));
  Round();
  EXPECT_TRUE(fake_.may_grow());
  for (uint64_t *limit : {&tcx_knobs.limit, &tcx_knobs.hard_limit}) {
    for (bool is_near : {true, false}) {
      *limit = Resident() + TCX_PAGE_SOURCE_GROWTH_BYTES - is_near;
      tcx_reclaimer_set_limits(&reclaimer_);
      Round();
      EXPECT_EQ(fake_.may_grow(), !is_near);
    }
    *limit = 0;
  }
}

TEST_F(ReclaimerTest, AtTheHardLimitASpanIsRefusedAndNothingElse) {
  ASSERT_TRUE(Fill(10));
  tcx_knobs.hard_limit = Resident() + (5 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  EXPECT_FALSE(Fill(100));
  EXPECT_LE(Resident(), tcx_knobs.hard_limit);
  EXPECT_EQ(refused, 1);
  tcx_span *span = live_.back();
  EXPECT_FALSE(tcx_page_source_resize(source, span, 2)) << "or no room behind";
  FreeAll();
  // What was freed is still there: only after it went back there is room.
  tcx_reclaimer_tries tries = {};
  EXPECT_TRUE(MakeRoom(&tries));
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_TRUE(Fill(5));
  EXPECT_TRUE(MakeRoom(&tries)) << "once more";
  EXPECT_FALSE(MakeRoom(&tries)) << "the policy is to fail";
  EXPECT_EQ(Counts().limits.refused, 1u);
  EXPECT_EQ(Counts().limits.hard_hits, 1u);
}

TEST_F(ReclaimerTest, RoomIsMadeAgainWhileAnythingGoesBack) {
  tcx_reclaimer_tries tries = {}, other = {};
  for (int i = 0; i < TCX_RECLAIMER_TRIES_MAX; i++) {
    cached.push_back(Allocate());
    // The other finds nothing, but something went since it last looked.
    EXPECT_TRUE(MakeRoom(&tries));
    EXPECT_TRUE(MakeRoom(&other));
  }
  cached.push_back(Allocate());
  EXPECT_FALSE(MakeRoom(&tries)) << "for ever";
  EXPECT_EQ(Counts().limits.hard_hits, 2u);
  EXPECT_EQ(Counts().limits.refused, 1u);
}

TEST_F(ReclaimerTest, ACallbackThatIsNeverRightIsRefusedInTheEnd) {
  static const tcx_limits_callback callback = {[](void *, size_t) { return 1; },
                                               nullptr};
  tcx_knobs.hard_limit_policy = TCX_HARD_LIMIT_CALLBACK;
  tcx_knobs.hard_limit = 1;
  tcx_reclaimer_set_limits(&reclaimer_);
  tcx_reclaimer_set_callback(&reclaimer_, &callback);
  tcx_reclaimer_tries tries = {};
  int times = 0;
  while (times < 1000 && MakeRoom(&tries))
    times++;
  EXPECT_EQ(Counts().limits.callbacks, TCX_RECLAIMER_CALLBACKS_MAX);
  EXPECT_EQ(times, TCX_RECLAIMER_CALLBACKS_MAX + 1);
  EXPECT_EQ(Counts().limits.refused, 1u);
}

// 8 pages of the fake are resident before anybody knows how many: what a huge
// page is to the real one.
TEST_F(ReclaimerTest, ASpanThatMadeTooMuchResidentGoesBack) {
  tcx_knobs.hard_limit = Resident() + (10 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  ASSERT_TRUE(Fill(8));
  FreeAll();
  EXPECT_EQ(Allocate(6), nullptr) << "beside 8 free ones";
  EXPECT_EQ(refused, 1);
  tcx_reclaimer_tries tries = {};
  EXPECT_TRUE(MakeRoom(&tries));
  tcx_span *span = Allocate(6);
  ASSERT_NE(span, nullptr);
  tcx_page_source_deallocate(source, span);
}

TEST_F(ReclaimerTest, AnImpossibleRequestIsNoTroubleForOthers) {
  tcx_knobs.hard_limit = Resident() + (64 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  size_t before = fake_.allocations();
  EXPECT_EQ(Allocate(65), nullptr);
  EXPECT_EQ(fake_.allocations(), before);
  EXPECT_TRUE(Fill(64));
}

TEST_F(ReclaimerTest, AtTheHardLimitSpansComeOneByOne) {
  tcx_knobs.hard_limit = Resident() + (20 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  tcx_page_request request = {1, 1, 1, 0, 9};
  while (tcx_span *span = tcx_page_source_request(source, &request))
    live_.push_back(span);
  EXPECT_EQ(live_.size(), 20u);
}

TEST_F(ReclaimerTest, WhatIsMovedIsNotNew) {
  live_.push_back(Allocate(40));
  tcx_knobs.hard_limit = Resident() + (10 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  tcx_page_request request = {50, 1, 1, 0, 0};
  EXPECT_EQ(tcx_page_source_request(source, &request), nullptr);
  request.moved_pages = 40;
  tcx_span *target = tcx_page_source_request(source, &request);
  ASSERT_NE(target, nullptr);
  live_.push_back(target);
}

// There is room for one. Without the lock each sees that both have got theirs,
// and both give it back.
TEST_F(ReclaimerTest, OfTwoThreadsAtOnceOneIsServed) {
  tcx_knobs.hard_limit = Resident() + (64 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  std::atomic<int> arrived{0}, served{0};
  auto meet = [&](int times) {
    arrived++;
    while (arrived < 2 * times)
      std::this_thread::yield();
  };
  auto work = [&] {
    for (int i = 0; i < 1500; i++) {
      meet(3 * i + 1);
      tcx_span *span = Allocate(40);
      served += span != nullptr;
      meet(3 * i + 2);
      EXPECT_EQ(served, 1);
      meet(3 * i + 3);
      if (span != nullptr) {
        tcx_page_source_deallocate(source, span);
        tcx_page_source_release(fake_.get(), SIZE_MAX);
        served = 0;
      }
    }
  };
  std::thread one(work), two(work);
  one.join();
  two.join();
}

TEST_F(ReclaimerTest, ThreadsTogetherStayBelowTheHardLimit) {
  tcx_knobs.hard_limit = Resident() + (64 << TCX_PAGE_SHIFT);
  tcx_reclaimer_set_limits(&reclaimer_);
  auto work = [this](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<tcx_span *> mine;
    for (int i = 0; i < 3000; i++) {
      if (random() % 2 == 0) {
        tcx_span *span = Allocate(1 + random() % 8);
        if (span != nullptr)
          mine.push_back(span);
      } else if (!mine.empty()) {
        tcx_page_source_deallocate(source, mine.back());
        mine.pop_back();
      }
      EXPECT_LE(Stats().in_use_bytes, uint64_t{64} << TCX_PAGE_SHIFT);
    }
    for (tcx_span *span : mine)
      tcx_page_source_deallocate(source, span);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; i++)
    threads.emplace_back(work, i);
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_GT(refused, 0);
}

TEST_F(ReclaimerTest, AChildOfForkBeginsAnew) {
  ASSERT_TRUE(Fill(2));
  Round();
  source->ops->fork_prepare(source);
  reclaimer_.is_busy = 1;  // another thread was at it
  source->ops->fork_child(source);
  urgent_calls = 0;
  FreeAll();
  EXPECT_EQ(urgent_calls, 1);
  RunUntilQuiet();
  EXPECT_EQ(Stats().free_bytes, 0u);
}

}  // namespace

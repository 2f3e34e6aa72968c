// hpaa_test.cc -- the whole back end against a model, and single decisions.
//
// Method: random inputs to the model of the fuzz target (hpaa_model.h), with
// failing system calls and a clock of our own, invariants walked after each
// step; then which part serves a request, and what goes back when.
#include "backend/hpaa/hpaa.h"

#include <errno.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

#include "backend/hpaa/hpaa_model.h"
#include "base/knobs.h"

namespace {

using tcx::testing::HpaaWorld;

constexpr size_t kP = TCX_HUGE_PAGES;

TEST(HpaaTest, RandomInputs) {
  for (unsigned seed = 1; seed <= 60; seed++) {
    std::mt19937 random(seed);
    std::vector<uint8_t> input(300);
    for (uint8_t &byte : input)
      byte = static_cast<uint8_t>(random());
    tcx::testing::RunHpaaModel(input.data(), input.size());
  }
}

class HpaaDecisionTest : public ::testing::Test {
 protected:
  HpaaDecisionTest() {
    world_ = HpaaWorld::Get();
    Start(TCX_HUGE_THP_NEVER, TCX_HUGEPAGES_DEFAULT);
  }
  ~HpaaDecisionTest() override {
    world_->system.FailAll(0);
    Check();
    for (tcx_span *span : live_)
      tcx_page_source_deallocate(world_->source, span);
    EXPECT_EQ(Stats().in_use_bytes, 0u);
    Check();
  }

  void Start(tcx_huge_thp thp, uint64_t choice) {
    world_->Start(thp, choice);
  }
  void Check() {
    world_->source->ops->check(world_->source);
  }
  tcx_span *Allocate(size_t pages, size_t align = 1, unsigned objects = 1) {
    tcx_span *span =
        tcx_page_source_allocate(world_->source, pages, align, objects);
    if (span != nullptr)
      live_.push_back(span);
    return span;
  }
  void Free(tcx_span *span) {
    for (size_t i = 0; i < live_.size(); i++) {
      if (live_[i] == span) {
        live_.erase(live_.begin() + static_cast<long>(i));
        break;
      }
    }
    tcx_page_source_deallocate(world_->source, span);
  }
  bool Resize(tcx_span *span, size_t pages) {
    bool is_done = tcx_page_source_resize(world_->source, span, pages);
    Check();
    return is_done;
  }
  tcx_page_source_stats Stats() {
    tcx_page_source_stats stats;
    world_->source->ops->stats(world_->source, &stats);
    return stats;
  }
  tcx_hpaa_stats Parts() {
    tcx_hpaa_stats stats;
    tcx_hpaa_read_stats(&world_->heap, world_->now_ms, &stats);
    return stats;
  }
  size_t Maintain(uint64_t after_ms) {
    world_->now_ms += after_ms;
    return tcx_hpaa_maintain(&world_->heap, world_->now_ms, SIZE_MAX, true);
  }
  static uint64_t HugeOf(const tcx_span *span) {
    return tcx_huge_of_page(span->first_page);
  }

  HpaaWorld *world_;
  std::vector<tcx_span *> live_;
};

TEST_F(HpaaDecisionTest, ShortRunsShareAHugePage) {
  uint64_t huge = HugeOf(Allocate(1));
  for (size_t i = 1; i < kP / 2; i++)
    EXPECT_EQ(HugeOf(Allocate(1)), huge);
  EXPECT_EQ(HugeOf(Allocate(kP / 2)), huge);
  EXPECT_NE(HugeOf(Allocate(1)), huge);
  EXPECT_EQ(Parts().filler.trackers, 2u);
  EXPECT_EQ(Parts().raw_huge, 0u);
}

TEST_F(HpaaDecisionTest, DenseAndSparseDoNotShare) {
  EXPECT_NE(HugeOf(Allocate(1, 1, 1)), HugeOf(Allocate(1, 1, 100)));
}

TEST_F(HpaaDecisionTest, WholeHugePagesAreRaw) {
  const tcx_span *span = Allocate(3 * kP);
  EXPECT_EQ(span->first_page % kP, 0u);
  EXPECT_NE(span->flags & TCX_SPAN_ZERO, 0);
  EXPECT_EQ(Parts().raw_huge, 3u);
  EXPECT_EQ(Parts().filler.trackers, 0u);
}

TEST_F(HpaaDecisionTest, SmallRunsFillTheEndsOfLargeOnes) {
  tcx_span *large = Allocate(kP + 1);
  EXPECT_EQ(Parts().raw_huge, 1u);
  EXPECT_EQ(Parts().filler.slack_pages, kP - 1);
  tcx_span *small = Allocate(2);
  EXPECT_EQ(HugeOf(small), HugeOf(large) + 1);
  EXPECT_EQ(Parts().filler.slack_pages, kP - 3);
  // The small one keeps the last huge page, but not the first.
  Free(large);
  Check();
  EXPECT_EQ(Parts().cache.held, 1u);
  EXPECT_EQ(Parts().filler.slack_pages, kP - 2);
  Free(small);
  // Part of it never had memory: it stays until all is given back.
  EXPECT_EQ(Parts().filler.trackers, 1u);
  EXPECT_EQ(Maintain(3000), 3 * TCX_PAGE_SIZE + TCX_HUGE_BYTES);
  EXPECT_EQ(Parts().filler.trackers, 0u);
  EXPECT_EQ(Stats().free_bytes, 0u);
}

TEST_F(HpaaDecisionTest, ManyUnusedEndsMakeARegion) {
  size_t raw = 0;
  while (Parts().filler.slack_pages << TCX_PAGE_SHIFT < TCX_HPAA_SLACK_BYTES) {
    ASSERT_NE(Allocate(kP + 1), nullptr);
    raw++;
  }
  EXPECT_EQ(Parts().raw_huge, raw);
  EXPECT_EQ(Parts().regions, 0u);
  const tcx_span *a = Allocate(kP + 1);
  const tcx_span *b = Allocate(2 * kP - 1);
  EXPECT_EQ(Parts().regions, 1u);
  EXPECT_EQ(Parts().raw_huge, raw);
  EXPECT_EQ(b->first_page, a->first_page + kP + 1);
  EXPECT_NE(a->flags & TCX_SPAN_ZERO, 0);
  const tcx_span *aligned = Allocate(2 * kP + 1, kP);
  EXPECT_EQ(HugeOf(aligned), HugeOf(b) + 2);
  EXPECT_EQ(aligned->first_page % kP, 0u);
  // Too long for a region; whole ones do not need one.
  Allocate(17 * kP + 1);
  Allocate(kP);
  EXPECT_EQ(Parts().raw_huge, raw + 18);
}

TEST_F(HpaaDecisionTest, AlignsBeyondAHugePage) {
  for (size_t align = 1; align <= 8 * kP; align *= 2) {
    const tcx_span *span = Allocate(3, align);
    ASSERT_NE(span, nullptr);
    EXPECT_EQ(span->first_page % align, 0u);
    Check();
  }
}

TEST_F(HpaaDecisionTest, FreedHugePagesAreKeptTwoSecondsPastThePeak) {
  Free(Allocate(4 * kP));
  EXPECT_EQ(Parts().cache.held, 4u);
  EXPECT_EQ(Maintain(1000), 0u);
  tcx_span *again = Allocate(2 * kP);
  EXPECT_EQ(again->flags & TCX_SPAN_ZERO, 0);
  Free(again);
  EXPECT_EQ(Maintain(1500), 2 * TCX_HUGE_BYTES);
  EXPECT_EQ(Maintain(2000), 2 * TCX_HUGE_BYTES);
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_NE(Allocate(4 * kP)->flags & TCX_SPAN_ZERO, 0);
}

TEST_F(HpaaDecisionTest, AHugePageIsBrokenAfterThirtySeconds) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  tcx_span *most = Allocate(kP / 2);
  tcx_span *rest = Allocate(kP / 4);
  EXPECT_EQ(HugeOf(most), HugeOf(rest));
  EXPECT_EQ(Parts().filler.huge_trackers, 1u);
  Free(most);
  EXPECT_EQ(Maintain(3000), 0u);
  size_t bytes = (kP - kP / 4) << TCX_PAGE_SHIFT;
  EXPECT_EQ(Maintain(31000), bytes);
  EXPECT_EQ(Parts().filler.broken_trackers, 1u);
  EXPECT_EQ(Parts().policy.broken, 1u);
  EXPECT_EQ(Parts().filler.released_pages, kP - kP / 4);
  Check();
  // It is whole again when it has left the filler.
  Free(rest);
  EXPECT_EQ(Stats().free_bytes, (kP / 4) << TCX_PAGE_SHIFT);
  EXPECT_EQ(Maintain(3000), (kP / 4) << TCX_PAGE_SHIFT);
  EXPECT_EQ(Parts().policy.broken, 0u);
}

TEST_F(HpaaDecisionTest, FullHugePagesAreMended) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  tcx_span *most = Allocate(kP / 2);
  Allocate(kP / 4);
  Free(most);
  (void)Maintain(0);
  (void)Maintain(31000);
  ASSERT_EQ(Parts().policy.broken, 1u);
  Allocate(kP / 2);
  Allocate(kP / 4);
  (void)Maintain(0);
  EXPECT_EQ(Parts().policy.broken, 0u);
  EXPECT_EQ(Parts().filler.huge_trackers, 1u);
}

TEST_F(HpaaDecisionTest, StatisticsTellOfHugePages) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  tcx_span *raw = Allocate(2 * kP);
  tcx_span *most = Allocate(kP / 2);
  Allocate(kP / 4);
  uint64_t page = TCX_PAGE_SIZE;
  EXPECT_EQ(Stats().huge_in_use_bytes, Stats().in_use_bytes);
  EXPECT_EQ(Stats().kept_bytes, 0u);
  EXPECT_EQ(Stats().fragmented_bytes, kP / 4 * page);
  EXPECT_GE(Stats().advised_bytes, 3 * TCX_HUGE_BYTES);
  Free(raw);
  Free(most);
  EXPECT_EQ(Stats().huge_in_use_bytes, kP / 4 * page);
  EXPECT_EQ(Stats().kept_bytes, 2 * TCX_HUGE_BYTES);
  EXPECT_EQ(Stats().fragmented_bytes, kP / 4 * 3 * page);
  (void)Maintain(0);
  (void)Maintain(31000);
  EXPECT_EQ(Stats().broken_huge, 1u);
  EXPECT_EQ(Stats().breaks, 1u);
  EXPECT_EQ(Stats().mended, 0u);
  EXPECT_EQ(Stats().huge_in_use_bytes, 0u);
  EXPECT_EQ(Stats().kept_bytes, 0u);
  EXPECT_EQ(Stats().fragmented_bytes, 0u);
  Allocate(kP / 2);
  Allocate(kP / 4);
  (void)Maintain(0);
  EXPECT_EQ(Stats().broken_huge, 0u);
  EXPECT_EQ(Stats().mended, 1u);
  EXPECT_EQ(Stats().huge_in_use_bytes, TCX_HUGE_BYTES);
}

TEST_F(HpaaDecisionTest, ALargerHeapIsWorthHugePages) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT);
  Allocate(1);
  EXPECT_EQ(Parts().policy.advised_bytes, 0u);
  EXPECT_EQ(Parts().filler.huge_trackers, 0u);
  tcx_span *raw = Allocate(20 * kP);
  // What there was before too; but not what nobody wrote to.
  EXPECT_EQ(Parts().policy.advised_bytes, TCX_HUGE_BYTES);
  Allocate(kP / 2);
  Allocate(kP / 2);
  EXPECT_EQ(Parts().policy.advised_bytes, 2 * TCX_HUGE_BYTES);
  EXPECT_EQ(Parts().filler.huge_trackers, 1u);
  Free(raw);
  Allocate(10 * kP);
  EXPECT_EQ(Parts().policy.advised_bytes, 12 * TCX_HUGE_BYTES);
  EXPECT_EQ(Parts().policy.advise_failures, 0u);
}

TEST_F(HpaaDecisionTest, IdleHugePagesOfRegionsGoBack) {
  while (Parts().regions == 0)
    ASSERT_NE(Allocate(kP + 1), nullptr);
  tcx_span *last = live_.back();
  Free(last);
  EXPECT_EQ(Parts().region_idle_huge, 2u);
  EXPECT_EQ(Maintain(1999), 0u);
  EXPECT_EQ(Maintain(1001), (kP + 1) << TCX_PAGE_SHIFT);
  EXPECT_EQ(Parts().regions, 0u);
}

TEST_F(HpaaDecisionTest, MovedPagesHaveNoMemory) {
  // Of the filler, of a raw run and its end, of a region.
  for (size_t pages : {size_t{3}, 2 * kP + 3, kP + kP / 2}) {
    while (pages == kP + kP / 2 && Parts().regions == 0)
      ASSERT_NE(Allocate(kP + 1), nullptr);
    tcx_span *span = Allocate(pages);
    span->flags = TCX_SPAN_MOVED;
    Free(span);
    Check();
    EXPECT_EQ(Stats().free_bytes, 0u) << pages;
    span = Allocate(pages);
    EXPECT_NE(span->flags & TCX_SPAN_ZERO, 0) << pages;
  }
}

// -- Resize -------------------------------------------------------------------

TEST_F(HpaaDecisionTest, RawRunsShrinkAndGrow) {
  tcx_span *span = Allocate(3 * kP);
  uint64_t first = span->first_page;
  size_t lengths[] = {3 * kP - 1, kP + 1, kP, kP - 1, 2,     kP - 1,
                      kP,         kP + 1, 2,  2 * kP, 3 * kP};
  for (size_t pages : lengths) {
    ASSERT_TRUE(Resize(span, pages)) << pages;
    EXPECT_EQ(span->first_page, first);
    EXPECT_EQ(Stats().in_use_bytes, pages << TCX_PAGE_SHIFT);
  }
}

TEST_F(HpaaDecisionTest, GrowingStopsAtWhatIsInUse) {
  tcx_span *a = Allocate(kP);
  tcx_span *b = Allocate(kP);
  if (b->first_page < a->first_page)
    std::swap(a, b);
  ASSERT_EQ(b->first_page, a->first_page + kP);
  EXPECT_FALSE(Resize(a, kP + 1));
  ASSERT_TRUE(Resize(a, kP - 2));
  Allocate(1);
  EXPECT_FALSE(Resize(a, kP));
  EXPECT_EQ(a->pages, kP - 2);
}

// -- Systems that refuse ------------------------------------------------------

TEST_F(HpaaDecisionTest, NeighboursServeWithMemoryAndWithout) {
  tcx_span *large = Allocate(3 * kP);
  uint64_t page = large->first_page;
  Free(large);
  EXPECT_EQ(tcx_page_source_release(world_->source, TCX_HUGE_BYTES),
            TCX_HUGE_BYTES);
  world_->system.FailAll(UINT32_MAX);
  large = Allocate(3 * kP);
  ASSERT_NE(large, nullptr);
  EXPECT_EQ(large->first_page, page);
  EXPECT_EQ(large->flags & TCX_SPAN_ZERO, 0);
  world_->system.FailAll(0);
}

// Of the huge page that a large run ended in, another has the rest.
TEST_F(HpaaDecisionTest, WhatWasJustFreedCanBeHadAgain) {
  tcx_span *large = Allocate(5 * kP + kP / 2);
  uint64_t page = large->first_page;
  Allocate(kP / 4);
  world_->system.FailAll(UINT32_MAX);
  while (Allocate(kP / 2) != nullptr) {
  }
  Free(large);
  EXPECT_EQ(Allocate(5 * kP + kP / 2 + kP / 4 + 1), nullptr);
  large = Allocate(5 * kP + kP / 2);
  ASSERT_NE(large, nullptr);
  EXPECT_EQ(large->first_page, page);
  Check();
  world_->system.FailAll(0);
}

// Where a head and a tracker are at hand: so many heads were made for it.
TEST_F(HpaaDecisionTest, SeveralSpansComeWithOneCall) {
  Allocate(1);
  tcx_page_request request = {1, 1, 1, 0, 7};
  tcx_span *spans = tcx_page_source_request(world_->source, &request);
  for (tcx_span *span = spans; span != nullptr; span = span->next)
    live_.push_back(span);
  EXPECT_EQ(live_.size(), 1u + 8);
  Check();
}

// The first may be the last that memory suffices for.
TEST_F(HpaaDecisionTest, FewerSpansComeWhereMemoryEnds) {
  Allocate(1);
  world_->system.FailAll(UINT32_MAX);
  tcx_page_request request = {kP / 2, 1, 1, 0, 7};
  size_t count = 0;
  while (tcx_span *spans = tcx_page_source_request(world_->source, &request)) {
    for (tcx_span *span = spans; span != nullptr; span = span->next)
      live_.push_back(span);
    count++;
  }
  EXPECT_GE(count, 1u);
  EXPECT_EQ(Stats().in_use_bytes,
            TCX_PAGE_SIZE + (live_.size() - 1) * kP / 2 * TCX_PAGE_SIZE);
  Check();
}

TEST_F(HpaaDecisionTest, NoMemoryIsNullAndNothingIsLost) {
  Allocate(1);
  tcx_page_source_stats before = Stats();
  world_->system.FailAll(UINT32_MAX);
  errno = 4711;
  while (Allocate(kP / 2) != nullptr) {
  }
  EXPECT_EQ(Allocate(40 * kP + 1), nullptr);
  EXPECT_EQ(errno, 4711);
  EXPECT_EQ(Stats().mapped_bytes, before.mapped_bytes);
  Check();
  world_->system.FailAll(0);
  EXPECT_NE(Allocate(40 * kP + 1), nullptr);
}

TEST_F(HpaaDecisionTest, RefusedReleaseKeepsMemoryFree) {
  Allocate(1);
  Free(Allocate(4 * kP));
  uint64_t free_bytes = Stats().free_bytes;
  world_->system.FailAll(UINT32_MAX);
  EXPECT_EQ(tcx_page_source_release(world_->source, SIZE_MAX), 0u);
  EXPECT_EQ(Stats().free_bytes, free_bytes);
  Check();
  world_->system.FailAll(0);
  EXPECT_EQ(tcx_page_source_release(world_->source, SIZE_MAX), free_bytes);
  EXPECT_EQ(Stats().free_bytes, 0u);
}

// -- Threads ------------------------------------------------------------------

// Writes the number at both ends of a span, then back to be read.
void Stamp(tcx_span *span, uint64_t number) {
  char *end = tcx_span_start(span) + tcx_span_bytes(span);
  *reinterpret_cast<uint64_t *>(tcx_span_start(span)) = number;
  *reinterpret_cast<uint64_t *>(end - sizeof(uint64_t)) = number;
}

bool HasStamp(const tcx_span *span, uint64_t number) {
  const char *end = tcx_span_start(span) + tcx_span_bytes(span);
  return *reinterpret_cast<uint64_t *>(tcx_span_start(span)) == number &&
         *reinterpret_cast<const uint64_t *>(end - sizeof(uint64_t)) == number;
}

void AllocateAndFree(tcx_page_source *source, unsigned id) {
  std::mt19937 random(id);
  std::vector<tcx_span *> spans(12);
  for (int i = 0; i < 600; i++) {
    tcx_span *&span = spans[random() % spans.size()];
    if (span != nullptr) {
      EXPECT_TRUE(HasStamp(span, id));
      tcx_page_source_deallocate(source, span);
      span = nullptr;
      continue;
    }
    size_t pages = 1 + random() % (i % 4 == 0 ? 3 * kP : kP / 4);
    span = tcx_page_source_allocate(source, pages, 1, 1);
    ASSERT_NE(span, nullptr);
    Stamp(span, id);
  }
  for (tcx_span *span : spans) {
    if (span != nullptr)
      tcx_page_source_deallocate(source, span);
  }
}

TEST_F(HpaaDecisionTest, ThreadsShareItWithMaintenance) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT);
  while (Parts().regions == 0)
    ASSERT_NE(Allocate(kP + 1), nullptr);
  std::vector<std::thread> threads;
  for (unsigned id = 1; id <= 3; id++)
    threads.emplace_back(AllocateAndFree, world_->source, id);
  uint64_t now_ms = world_->now_ms;
  for (int i = 0; i < 60; i++) {
    now_ms += 1000;
    (void)tcx_hpaa_maintain(&world_->heap, now_ms, TCX_HUGE_BYTES * 4, true);
    (void)tcx_page_source_release(world_->source, TCX_PAGE_SIZE * 100);
    (void)tcx_hpaa_due_ms(&world_->heap, now_ms);
    Check();
  }
  for (std::thread &thread : threads)
    thread.join();
}

// -- Wrong pointers -----------------------------------------------------------

TEST_F(HpaaDecisionTest, FreeMemoryIsKnownAsOurs) {
  tcx_span *small = Allocate(2);
  tcx_span *large = Allocate(5 * kP);
  std::vector<const char *> inside = {
      tcx_span_start(small) + 1, tcx_span_start(large),
      tcx_span_start(large) + 3 * TCX_HUGE_BYTES + 5};
  const tcx_span *keeps = Allocate(1);
  Free(small);
  Free(large);
  for (const char *pointer : inside) {
    const tcx_span *found = tcx_pagemap_span_around(pointer);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->state, TCX_SPAN_FREE);
  }
  EXPECT_EQ(tcx_pagemap_span_around(tcx_span_start(keeps)), keeps);
  char local;
  EXPECT_EQ(tcx_pagemap_span_around(&local), nullptr);
}

}  // namespace

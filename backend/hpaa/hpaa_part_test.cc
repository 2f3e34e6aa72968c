// hpaa_part_test.cc -- memory of parts of live spans goes back.
//
// Method: the whole back end with a clock of its own, on a system whose calls
// fail when told to. Spans play the part of those of the central free list:
// state SMALL, released_words kept by the test. First single decisions; then
// random spans and parts against a model that knows what each 4 KiB must read,
// with the invariants walked after each step, memory that is said to be zero
// read, and the sums compared.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "backend/hpaa/hpaa.h"
#include "backend/hpaa/hpaa_model.h"
#include "base/knobs.h"
#include "pagemap/span_parts.h"

namespace {

using tcx::testing::HpaaWorld;

constexpr size_t kP = TCX_HUGE_PAGES;

class HpaaPartTest : public ::testing::Test {
 protected:
  HpaaPartTest() : world_(HpaaWorld::Get()) {
    Start(TCX_HUGE_THP_NEVER, TCX_HUGEPAGES_DEFAULT);
  }
  ~HpaaPartTest() override {
    world_->system.FailAll(0);
    while (!live_.empty())
      Free(live_.back());
    Check();
    EXPECT_EQ(Stats().in_use_bytes, 0u);
  }

  void Start(tcx_huge_thp thp, uint64_t choice) {
    world_->Start(thp, choice);
  }
  void Check() {
    world_->source->ops->check(world_->source);
    tcx_page_source_stats stats = Stats();
    EXPECT_EQ(stats.mapped_bytes,
              stats.in_use_bytes + stats.free_bytes + stats.released_bytes);
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
  // Written all over.
  tcx_span *Allocate(size_t pages) {
    tcx_span *span = tcx_page_source_allocate(world_->source, pages, 1, 8);
    if (span == nullptr)
      return nullptr;
    EXPECT_EQ(span->released_words, 0u);
    if ((span->flags & TCX_SPAN_ZERO) != 0) {
      for (size_t at = 0; at < tcx_span_bytes(span); at += 4096)
        EXPECT_EQ(*Word(span, at), 0u);
    }
    for (size_t at = 0; at < tcx_span_bytes(span); at += 4096)
      *Word(span, at) = Tag(span, at);
    span->state = TCX_SPAN_SMALL;
    live_.push_back(span);
    return span;
  }
  void Free(tcx_span *span) {
    CheckContent(span);
    for (tcx_span *&at : live_) {
      if (at == span) {
        at = live_.back();
        live_.pop_back();
        break;
      }
    }
    span->state = TCX_SPAN_LARGE;
    span->flags = 0;
    tcx_page_source_deallocate(world_->source, span);
  }
  // Parts [first, first + count) of the span.
  bool Release(tcx_span *span, unsigned first, unsigned count) {
    tcx_span_parts parts = tcx_span_parts_of(span);
    bool is_done = world_->source->ops->release_part(
        world_->source, span,
        tcx_span_start(span) + tcx_span_part_offset(parts, first),
        size_t{count} << parts.shift, world_->now_ms);
    if (is_done)
      span->released_words |= tcx_span_parts_mask(first, count);
    return is_done;
  }
  bool ReleaseAll(tcx_span *span) {
    return Release(span, 0, tcx_span_parts_of(span).count);
  }
  void Touch(tcx_span *span, unsigned part) {
    tcx_span_parts parts = tcx_span_parts_of(span);
    size_t start = tcx_span_part_offset(parts, part);
    for (size_t at = 0; at < size_t{1} << parts.shift; at += 4096)
      *Word(span, start + at) = Tag(span, start + at);
    span->released_words &= ~(uint64_t{1} << part);
  }
  void CheckContent(const tcx_span *span) {
    tcx_span_parts parts = tcx_span_parts_of(span);
    for (size_t at = 0; at < tcx_span_bytes(span); at += 4096) {
      uint64_t touched = tcx_span_parts_touched(parts, at, at + 1);
      bool is_released = (touched & span->released_words) != 0;
      ASSERT_EQ(*Word(span, at), is_released ? 0 : Tag(span, at));
    }
  }
  size_t Maintain(uint64_t after_ms) {
    world_->now_ms += after_ms;
    return tcx_hpaa_maintain(&world_->heap, world_->now_ms, SIZE_MAX, true);
  }
  static uint64_t *Word(const tcx_span *span, size_t at) {
    return reinterpret_cast<uint64_t *>(tcx_span_start(span) + at);
  }
  static uint64_t Tag(const tcx_span *span, size_t at) {
    return reinterpret_cast<uintptr_t>(span) + at + 1;
  }
  // Of an eighth of a huge page.
  static constexpr size_t kEighth = kP / 8;

  HpaaWorld *world_;
  std::vector<tcx_span *> live_;
};

TEST_F(HpaaPartTest, WithoutHugePagesItGoesAtOnce) {
  tcx_span *span = Allocate(1);
  EXPECT_TRUE(Release(span, 0, 1));
  CheckContent(span);
  Check();
  // It is in use as before.
  EXPECT_EQ(Stats().in_use_bytes, TCX_PAGE_SIZE);
  EXPECT_EQ(Parts().policy.breaks, 0u);
}

TEST_F(HpaaPartTest, FreedSpanHasNoMemoryWhereItWasReleased) {
  tcx_span *keeps = Allocate(1);
  tcx_span *span = Allocate(3);  // parts: a multiple of 3
  uint64_t free_bytes = Stats().free_bytes;
  uint64_t released_bytes = Stats().released_bytes;
  unsigned third = tcx_span_parts_of(span).count / 3;
  ASSERT_TRUE(Release(span, 0, third));
  ASSERT_TRUE(Release(span, third, third));
  Free(span);
  Check();
  EXPECT_EQ(Stats().free_bytes, free_bytes + TCX_PAGE_SIZE);
  EXPECT_EQ(Stats().released_bytes, released_bytes + 2 * TCX_PAGE_SIZE);
  Free(keeps);
}

TEST_F(HpaaPartTest, AHugePageIsBrokenForAnEighthOfIt) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  ASSERT_EQ(Parts().filler.huge_trackers, 1u);
  for (size_t i = 0; i + 1 < kEighth; i++)
    EXPECT_FALSE(ReleaseAll(spans[i]));
  // The same again is no more.
  for (size_t i = 0; i + 1 < kEighth; i++)
    EXPECT_FALSE(ReleaseAll(spans[i]));
  EXPECT_EQ(Parts().policy.breaks, 0u);
  EXPECT_TRUE(ReleaseAll(spans[kEighth - 1]));
  EXPECT_EQ(Parts().policy.broken, 1u);
  EXPECT_EQ(Parts().filler.broken_trackers, 1u);
  Check();
  for (size_t i = 0; i + 1 < kEighth; i++)
    EXPECT_TRUE(ReleaseAll(spans[i]));
  EXPECT_EQ(Parts().policy.breaks, 1u);
  for (tcx_span *span : spans)
    CheckContent(span);
}

TEST_F(HpaaPartTest, OldOffersAreForgotten) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  for (size_t i = 0; i + 1 < kEighth; i++)
    EXPECT_FALSE(ReleaseAll(spans[i]));
  world_->now_ms += 30000;
  bool is_first_enough = kEighth == 1;
  EXPECT_EQ(ReleaseAll(spans[kP - 1]), is_first_enough);
}

// Of one from before the heap was worth huge pages, too: they are no holes.
TEST_F(HpaaPartTest, OldOffersAreForgottenOfThoseToBecomeHuge) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  ASSERT_NE(Allocate((size_t{32} << 20) >> TCX_PAGE_SHIFT), nullptr);
  for (size_t i = kP * 3 / 4; i < kP; i++)
    Free(spans[i]);
  for (size_t i = 0; i + 1 < kEighth; i++)
    EXPECT_FALSE(ReleaseAll(spans[i]));
  world_->now_ms += 30000;
  EXPECT_EQ(ReleaseAll(spans[kEighth]), kEighth == 1);
}

TEST_F(HpaaPartTest, OffersDoNotKeepItFromBeingMended) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  ASSERT_NE(Allocate((size_t{32} << 20) >> TCX_PAGE_SHIFT), nullptr);
  for (size_t i = 0; i + 1 < kEighth; i++)
    EXPECT_FALSE(ReleaseAll(spans[i]));
  ASSERT_EQ(Parts().filler.huge_trackers, 0u);
  (void)Maintain(1000);
  EXPECT_EQ(Parts().filler.huge_trackers, 1u);
  world_->now_ms += 30000;
  EXPECT_EQ(ReleaseAll(spans[kP - 1]), kEighth == 1);
}

TEST_F(HpaaPartTest, OffersOfFreedSpansAreForgotten) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  for (size_t i = 0; i + 1 < kEighth; i++)
    EXPECT_FALSE(ReleaseAll(spans[i]));
  for (size_t i = 0; i + 1 < kEighth; i++)
    Free(spans[i]);
  Check();
  EXPECT_EQ(ReleaseAll(spans[kP - 1]), kEighth == 1);
}

TEST_F(HpaaPartTest, HolesAreNotMended) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  for (size_t i = 0; i < kEighth; i++)
    (void)ReleaseAll(spans[i]);
  ASSERT_EQ(Parts().policy.broken, 1u);
  (void)Maintain(100000);
  EXPECT_EQ(Parts().policy.broken, 1u);
  for (size_t i = 0; i < kEighth; i++) {
    Free(spans[i]);
    Allocate(1);
  }
  (void)Maintain(100000);
  EXPECT_EQ(Parts().policy.broken, 0u);
}

// Holes from before the heap was worth huge pages are not mended either.
TEST_F(HpaaPartTest, HolesFromBeforeTheBreakAreNotMended) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  ASSERT_TRUE(ReleaseAll(spans[0]));
  ASSERT_NE(Allocate((size_t{32} << 20) >> TCX_PAGE_SHIFT), nullptr);
  for (size_t i = 1; i <= kEighth; i++)
    (void)ReleaseAll(spans[i]);
  ASSERT_EQ(Parts().policy.broken, 1u);
  for (size_t i = 1; i <= kEighth; i++) {
    Free(spans[i]);
    Allocate(1);
  }
  (void)Maintain(100000);
  EXPECT_EQ(Parts().policy.broken, 1u);
  Check();
  Free(spans[0]);
  Allocate(1);
  (void)Maintain(100000);
  EXPECT_EQ(Parts().policy.broken, 0u);
}

TEST_F(HpaaPartTest, RefusedByTheSystemAllIsAsItWas) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < kP; i++)
    spans.push_back(Allocate(1));
  world_->system.FailAll(UINT32_MAX);
  for (tcx_span *span : spans) {
    EXPECT_FALSE(ReleaseAll(span));
    CheckContent(span);
  }
  Check();
  EXPECT_EQ(Parts().policy.broken, 0u);
  world_->system.FailAll(0);
  world_->now_ms += 15000;  // After a refusal no huge page is broken for 10 s.
  for (tcx_span *span : spans)
    (void)ReleaseAll(span);
  EXPECT_EQ(Parts().policy.broken, 1u);
}

TEST_F(HpaaPartTest, RandomSpansAndParts) {
  for (unsigned seed = 1; seed <= 30; seed++) {
    std::mt19937 random(seed);
    Start(static_cast<tcx_huge_thp>(seed % 3), random() % 3);
    for (int step = 0; step < 250; step++) {
      unsigned choice = random() % 16;
      tcx_span *some = live_.empty() ? nullptr : live_[random() % live_.size()];
      if (choice < 5 && live_.size() < 60) {
        (void)Allocate(1 + random() % (random() % 4 == 0 ? kP / 2 : kP / 8));
      } else if (choice < 8 && some != nullptr) {
        Free(some);
      } else if (choice < 12 && some != nullptr) {
        unsigned parts = tcx_span_parts_of(some).count;
        unsigned first = static_cast<unsigned>(random() % parts);
        unsigned count = 1 + static_cast<unsigned>(random() % (parts - first));
        uint64_t mask = tcx_span_parts_mask(first, count);
        if ((some->released_words & mask) == 0)
          (void)Release(some, first, count);
      } else if (choice == 12 && some != nullptr) {
        if (some->released_words != 0)
          Touch(some, tcx_lowest_bit(some->released_words));
      } else if (choice == 13) {
        (void)Maintain(random() % 20000);
      } else if (choice == 14) {
        (void)tcx_page_source_release(world_->source, random() % 4000000);
      } else {
        world_->system.FailAll(random() % 3 == 0 ? UINT32_MAX : 0);
      }
      ASSERT_NO_FATAL_FAILURE(Check());
      if (!live_.empty()) {
        const tcx_span *any = live_[random() % live_.size()];
        ASSERT_NO_FATAL_FAILURE(CheckContent(any));
      }
    }
    world_->system.FailAll(0);
    while (!live_.empty())
      Free(live_.back());
  }
}

void GiveBackAndFree(tcx_page_source *source, unsigned id) {
  std::mt19937 random(id);
  for (int i = 0; i < 800; i++) {
    tcx_span *span =
        tcx_page_source_allocate(source, 1 + random() % (kP / 8), 1, 8);
    ASSERT_NE(span, nullptr);
    memset(tcx_span_start(span), static_cast<int>(id), tcx_span_bytes(span));
    span->state = TCX_SPAN_SMALL;
    tcx_span_parts parts = tcx_span_parts_of(span);
    unsigned count = 1 + static_cast<unsigned>(random() % parts.count);
    size_t bytes = size_t{count} << parts.shift;
    if (source->ops->release_part(source, span, tcx_span_start(span), bytes,
                                  1000000 + static_cast<unsigned>(i) * 100)) {
      span->released_words = tcx_span_parts_mask(0, count);
      EXPECT_EQ(*tcx_span_start(span), 0);
      if (bytes < tcx_span_bytes(span)) {
        EXPECT_EQ(tcx_span_start(span)[bytes], static_cast<char>(id));
      }
    }
    span->state = TCX_SPAN_LARGE;
    tcx_page_source_deallocate(source, span);
  }
}

TEST_F(HpaaPartTest, ThreadsGiveBackBesideMaintenance) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  std::vector<std::thread> threads;
  for (unsigned id = 1; id <= 3; id++)
    threads.emplace_back(GiveBackAndFree, world_->source, id);
  uint64_t now_ms = world_->now_ms;
  for (int i = 0; i < 60; i++) {
    now_ms += 1000;
    (void)tcx_hpaa_maintain(&world_->heap, now_ms, TCX_HUGE_BYTES, true);
    Check();
  }
  for (std::thread &thread : threads)
    thread.join();
}

}  // namespace

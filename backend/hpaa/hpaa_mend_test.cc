// hpaa_mend_test.cc -- broken huge pages become whole again.
//
// Method: as hpaa_maintain_test.cc. What another thread would do during a call
// of the kernel is done by the kernel.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <map>
#include <vector>

#include "backend/hpaa/hpaa_maintain_testing.h"
#include "base/knobs.h"

namespace {

using tcx::testing::kernel;
using tcx::testing::kP;

class HpaaMendTest : public tcx::testing::HpaaMaintainTest {
 protected:
  // The spans of so many full huge pages, half of whose memory went back.
  std::vector<tcx_span *> Break(size_t huge_pages) {
    std::vector<tcx_span *> spans;
    for (size_t i = 0; i < huge_pages * kP; i++)
      spans.push_back(Allocate(1));
    std::vector<tcx_span *> kept;
    for (size_t i = 0; i < spans.size(); i++) {
      if (i % 2 == 0) {
        kept.push_back(spans[i]);
      } else {
        Free(spans[i]);
      }
    }
    (void)Release();
    EXPECT_EQ(Parts().policy.broken, huge_pages);
    return kept;
  }
  // All that is free there is used.
  void Fill(const std::vector<tcx_span *> &kept) {
    for (size_t i = 0; i < kept.size(); i++)
      Allocate(1);
    EXPECT_EQ(Stats().released_bytes, 0u);
  }
  // Somebody wants memory of so many full ones, then they are full again.
  void BreakFull(size_t huge_pages) {
    std::map<uint64_t, tcx_span *> one_of;
    for (tcx_span *span : live_)
      one_of[span->first_page / kP] = span;
    for (const auto &one : one_of)
      Free(one.second);
    EXPECT_EQ(Release(), huge_pages << TCX_PAGE_SHIFT);
    EXPECT_EQ(Parts().policy.broken, huge_pages);
    for (size_t i = 0; i < huge_pages; i++)
      Allocate(1);
  }
};

TEST_F(HpaaMendTest, ManyFreeHugePagesAreMended) {
  (void)Break(3 * TCX_HPAA_MENDS);
  while (!live_.empty())
    Free(live_.size() - 1);
  Pass(100000);
  EXPECT_EQ(Parts().policy.broken, 0u);
  EXPECT_EQ(Due(), UINT64_MAX);
}

// -- Where memory is wanted ---------------------------------------------------

TEST_F(HpaaMendTest, WhatWasWantedOfUsedOnesIsNotTakenAgainSoon) {
  Fill(Break(3));
  uint64_t wait_ms = TCX_HPAA_MEND_USED_MIN_MS;
  for (int i = 0; i < 6; i++) {
    EXPECT_EQ(Due(), world_->now_ms + wait_ms);
    EXPECT_EQ(Pass(wait_ms - 1), 0u);
    EXPECT_EQ(Pass(1), 1u);
    EXPECT_EQ(Parts().policy.broken, 0u);
    EXPECT_EQ(Stats().free_bytes, 0u);
    BreakFull(3);
    wait_ms = std::min<uint64_t>(2 * wait_ms, TCX_HPAA_MEND_USED_MAX_MS);
  }
  // Wanted again before they could be mended is not again and again.
  Pass(wait_ms / 2);
  Free(live_.back());
  (void)Release();
  Allocate(1);
  EXPECT_EQ(Due(), world_->now_ms + wait_ms);
  Pass(3 * wait_ms);
  BreakFull(3);
  EXPECT_EQ(Due(), world_->now_ms + TCX_HPAA_MEND_USED_MIN_MS);
}

TEST_F(HpaaMendTest, UsedOnesAreMendedWhereMemoryMayGrow) {
  Fill(Break(3));
  world_->now_ms += TCX_HPAA_MEND_USED_MIN_MS;
  may_grow_ = false;
  EXPECT_EQ(Pass(100000), 1u);
  EXPECT_EQ(Parts().policy.broken, 3u);
  EXPECT_EQ(Due(), UINT64_MAX);
  may_grow_ = true;
  (void)tcx_hpaa_maintain(&world_->heap, world_->now_ms, SIZE_MAX, true);
  EXPECT_EQ(Parts().policy.broken, 0u);
}

TEST_F(HpaaMendTest, FreeOnesAreMendedAtOnceAndTakeNothing) {
  may_grow_ = false;
  for (tcx_span *span : Break(3))
    Free(span);
  (void)Release();
  uint64_t free_bytes = Stats().free_bytes;
  Pass(1000);
  EXPECT_EQ(Parts().policy.broken, 0u);
  EXPECT_EQ(Stats().free_bytes, free_bytes);
}

TEST_F(HpaaMendTest, WhatIsKeptGoesWithoutTheRest) {
  MakeAllKinds();
  tcx_page_source_stats before = Stats();
  EXPECT_GT(before.kept_bytes, 6 * TCX_HUGE_BYTES);
  EXPECT_GT(before.fragmented_bytes, 0u);
  uint64_t released = world_->source->ops->release(world_->source, SIZE_MAX,
                                                   TCX_PAGE_RELEASE_KEPT);
  // Of idle ones in regions there may be parts without memory.
  EXPECT_LE(released, before.kept_bytes);
  EXPECT_GT(released + TCX_HUGE_BYTES, before.kept_bytes);
  EXPECT_EQ(Stats().free_bytes, before.free_bytes - released);
  EXPECT_EQ(Stats().kept_bytes, 0u);
  EXPECT_EQ(Stats().breaks, 0u);
}

// -- Free ones, ends of runs --------------------------------------------------

TEST_F(HpaaMendTest, EndsOfLargeRunsAreMendedWhenTheseGo) {
  tcx_span *raw = Allocate(kP + kP / 2);
  Free(Allocate(kP / 2));
  (void)Release();
  ASSERT_EQ(Parts().policy.broken, 1u);
  ASSERT_TRUE(tcx_page_source_resize(world_->source, raw, 2 * kP));
  Pass(100000);
  EXPECT_EQ(Parts().policy.broken, 1u);
  Free(raw);
  Pass(100000);
  EXPECT_EQ(Parts().policy.broken, 0u);
}

TEST_F(HpaaMendTest, ARefusedMendIsTriedAgain) {
  for (tcx_span *span : Break(3))
    Free(span);
  kernel.refused_advice = MADV_HUGEPAGE;
  EXPECT_LT(Pass(600000), 80u);
  EXPECT_EQ(Parts().policy.broken, 3u);
  kernel.refused_advice = 0;
  Pass(100000);
  EXPECT_EQ(Parts().policy.broken, 0u);
  EXPECT_EQ(Due(), UINT64_MAX);
}

TEST_F(HpaaMendTest, ARefusedMendOfOneThatServesAgainIsKnown) {
  // As part of the filler, and as a large run.
  for (size_t pages : {kP / 2, kP}) {
    for (tcx_span *span : Break(2))
      Free(span);
    kernel.meanwhile_at = MADV_HUGEPAGE;
    kernel.refused_advice = MADV_HUGEPAGE;
    kernel.meanwhile = [&] {
      while (world_->heap.unbacked.huge + world_->heap.cache.map.huge > 0)
        Allocate(pages);
    };
    Pass(5000);
    kernel.refused_advice = 0;
    EXPECT_GT(Parts().policy.broken, 0u);
    if (pages < kP) {
      EXPECT_EQ(Parts().filler.broken_trackers, Parts().policy.broken);
    }
    Check();
    while (!live_.empty())
      Free(live_.size() - 1);
    Pass(100000);
    EXPECT_EQ(Parts().policy.broken, 0u);
  }
}

// -- Asking ------------------------------------------------------------------

// Another thread's growth makes the heap worth it before this one's is told.
TEST_F(HpaaMendTest, TheLastWordIsThatOfTheLargeHeap) {
  world_->Start(TCX_HUGE_THP_ALWAYS, TCX_HUGEPAGES_DEFAULT);
  kernel.advice.clear();
  kernel.meanwhile_at = MADV_NOHUGEPAGE;
  kernel.meanwhile = [this] { Allocate(2 * kP); };
  const tcx_span *first = Allocate(1);
  ASSERT_EQ(kernel.meanwhile_at, 0);
  EXPECT_EQ(kernel.advice[first->first_page / kP], MADV_HUGEPAGE);
}

TEST_F(HpaaMendTest, FullHugePagesFromBeforeAreAskedForHoweverScattered) {
  world_->Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT);
  static tcx_system_piece (*inner)(size_t);
  inner = world_->heap.fresh.allocate;
  world_->heap.fresh.allocate = [](size_t bytes) {
    (void)inner(TCX_HUGE_BYTES);  // Somebody else's.
    return inner(bytes);
  };
  kernel.advice.clear();
  for (size_t i = 0; i < 12 * kP; i++)
    Allocate(1);
  std::vector<tcx_span *> early = live_;
  Allocate(32 * kP);
  Pass(10000);
  for (const tcx_span *span : early)
    ASSERT_EQ(kernel.advice[span->first_page / kP], MADV_HUGEPAGE);
  EXPECT_EQ(Parts().filler.huge_trackers, 12u);
}

}  // namespace

// hpaa_mend_test.cc -- broken huge pages become whole again.
//
// Method: as hpaa_maintain_test.cc. What another thread would do during a call
// of the kernel is done by the kernel.
#include <gtest/gtest.h>
#include <sys/mman.h>

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
};

TEST_F(HpaaMendTest, ManyFreeHugePagesAreMended) {
  (void)Break(3 * TCX_HPAA_MENDS);
  while (!live_.empty())
    Free(live_.size() - 1);
  Pass(100000);
  EXPECT_EQ(Parts().policy.broken, 0u);
  EXPECT_EQ(Due(), UINT64_MAX);
}

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

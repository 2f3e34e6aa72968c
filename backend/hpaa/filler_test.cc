// filler_test.cc -- the filler's choices, one by one, then against the model.
//
// Method: each rule of filler.h has a test that sets up the choice by hand; the
// last tests take random steps on the model of filler_testing.h, which compares
// each answer with a search of all pages, with simulated time and releases that
// fail, and walk the invariants.
#include "backend/hpaa/filler.h"

#include <gtest/gtest.h>

#include <random>

#include "backend/hpaa/filler_steps_testing.h"

namespace {

using tcx::testing::FillerModel;
using tcx::testing::FillerPointer;
using tcx::testing::FillerStep;
using tcx::testing::NewFiller;

constexpr unsigned kPages = static_cast<unsigned>(TCX_HUGE_PAGES);
constexpr unsigned kHuge = TCX_TRACKER_HUGE;

class FillerTest : public ::testing::Test {
 protected:
  FillerTest() : filler_(NewFiller()) {
    EXPECT_TRUE(tcx_filler_reserve(filler_.get(), {100, 1000}));
  }
  ~FillerTest() override {
    tcx_filler_check(filler_.get());
  }

  // A new huge page with one run at its front; returns the run's page.
  uint64_t Add(size_t pages, unsigned flags = kHuge, unsigned objects = 1) {
    tcx_tracker *tracker = tcx_tracker_new();
    tcx_tracker_init(tracker, next_huge_++, flags);
    tcx_page_request request = {pages, 1, objects, 0, 0};
    tcx_filler_grant grant;
    tcx_filler_add(filler_.get(), tracker, &request, now_, &grant);
    tcx_filler_check(filler_.get());
    return grant.page;
  }
  uint64_t Donate(unsigned head_pages) {
    tcx_tracker *tracker = tcx_tracker_new();
    tcx_tracker_init(tracker, next_huge_++, kHuge);
    tcx_filler_grant grant;
    tcx_filler_donate(filler_.get(), tracker, head_pages, now_, &grant);
    tcx_filler_check(filler_.get());
    return grant.page;
  }
  // 0: there was no room.
  uint64_t Allocate(size_t pages, size_t align_pages = 1,
                    unsigned objects = 1) {
    tcx_page_request request = {pages, align_pages, objects, 0, 0};
    tcx_filler_grant grant;
    if (!tcx_filler_allocate(filler_.get(), &request, now_, &grant))
      return 0;
    tcx_filler_check(filler_.get());
    return grant.page;
  }
  // True: the huge page is empty now.
  bool Free(uint64_t page, unsigned pages) {
    tcx_tracker *empty = tcx_filler_free(filler_.get(), page, pages, now_);
    tcx_filler_check(filler_.get());
    if (empty != nullptr)
      tcx_tracker_delete(empty);
    return empty != nullptr;
  }
  // Releases one candidate; returns its first page, or 0.
  uint64_t Release(tcx_filler_release_kind kind) {
    tcx_filler_release work;
    if (!tcx_filler_begin_release(filler_.get(), kind, now_, &work))
      return 0;
    uint64_t page = 0;
    uint64_t pages = 0;
    while (tcx_filler_release_next(&work, &page, &pages))
      tcx_filler_release_done(&work, page, pages);
    EXPECT_EQ(work.done_pages, work.total_pages);
    EXPECT_EQ(tcx_filler_end_release(filler_.get(), &work, work.is_huge, now_),
              nullptr);
    tcx_filler_check(filler_.get());
    return tcx_page_of_huge(work.tracker->huge);
  }
  tcx_filler_stats Stats() {
    tcx_filler_stats stats;
    tcx_filler_read_stats(filler_.get(), &stats);
    return stats;
  }
  static bool InSameHuge(uint64_t a, uint64_t b) {
    return tcx_huge_of_page(a) == tcx_huge_of_page(b);
  }

  FillerPointer filler_;
  uint64_t next_huge_ = 100;
  uint64_t now_ = 1000000;
};

TEST_F(FillerTest, TakesTheShortestRangeThatSuffices) {
  Add(1);
  uint64_t tight = Add(kPages - 3);
  Add(kPages / 2);
  EXPECT_TRUE(InSameHuge(Allocate(3), tight));
  EXPECT_EQ(Allocate(kPages), 0u);
}

TEST_F(FillerTest, TakesTheOneWithMoreAllocations) {
  uint64_t many = Add(1);
  EXPECT_EQ(Allocate(1), many + 1);
  Add(2);  // The same free range.
  EXPECT_EQ(Allocate(1), many + 2);
}

TEST_F(FillerTest, DenseAndSparseNeverShare) {
  uint64_t dense = Add(1, kHuge, 64);
  EXPECT_EQ(Allocate(1), 0u);
  EXPECT_EQ(Allocate(2, 1, 64), 0u);
  uint64_t sparse = Add(1);
  EXPECT_TRUE(InSameHuge(Allocate(1, 1, 17), dense));
  EXPECT_TRUE(InSameHuge(Allocate(1, 1, 16), sparse));
  tcx_filler_grant grant;
  EXPECT_FALSE(tcx_filler_grow(filler_.get(), dense, 1, 2, now_, &grant));
}

TEST_F(FillerTest, DenseFillsTheFullest) {
  uint64_t emptier = Add(1, kHuge, 64);
  uint64_t fuller = Add(1, kHuge, 64);
  uint64_t one = Allocate(1, 1, 64);
  uint64_t gains = InSameHuge(one, fuller) ? fuller : emptier;
  for (unsigned i = 2; i < kPages; i++)
    EXPECT_TRUE(InSameHuge(Allocate(1, 1, 64), gains));
  EXPECT_FALSE(InSameHuge(Allocate(1, 1, 64), gains));
}

TEST_F(FillerTest, FamiliesInOrder) {
  uint64_t released = Add(1, TCX_TRACKER_UNBACKED);
  uint64_t partial = Add(1, TCX_TRACKER_BROKEN);
  uint64_t donated = Donate(1);
  uint64_t regular = Add(1);
  unsigned rest = kPages - 1;
  EXPECT_TRUE(InSameHuge(Allocate(rest), regular));
  EXPECT_TRUE(InSameHuge(Allocate(rest), donated));
  EXPECT_TRUE(InSameHuge(Allocate(rest), partial));
  EXPECT_TRUE(InSameHuge(Allocate(rest), released));
  EXPECT_EQ(Allocate(1), 0u);
}

TEST_F(FillerTest, AlignsWithinAHugePage) {
  uint64_t run = Add(1);
  uint64_t aligned = Allocate(2, 4);
  EXPECT_TRUE(InSameHuge(run, aligned));
  EXPECT_EQ(aligned % 4, 0u);
  // The pages between serve others.
  EXPECT_EQ(Allocate(3), run + 1);
}

TEST_F(FillerTest, AnEmptyHugePageLeaves) {
  uint64_t first = Add(2);
  uint64_t second = Allocate(3);
  EXPECT_FALSE(Free(first, 2));
  EXPECT_TRUE(Free(second, 3));
  EXPECT_EQ(tcx_filler_tracker_of(filler_.get(), first), nullptr);
  EXPECT_EQ(Stats().trackers, 0u);
  EXPECT_EQ(Stats().used_pages, 0u);
}

TEST_F(FillerTest, DonatedHeadFreedFirstLeavesSlack) {
  uint64_t head = Donate(kPages / 2);
  uint64_t tail = Allocate(1);
  EXPECT_EQ(tail, head + kPages / 2);
  EXPECT_EQ(Stats().donated_pages, kPages / 2);
  EXPECT_FALSE(Free(head, kPages / 2));
  EXPECT_EQ(Stats().donated_pages, 0u);
  EXPECT_EQ(Stats().slack_pages, kPages - 1);
  // The head's pages are free like any.
  EXPECT_TRUE(InSameHuge(Allocate(kPages / 2), head));
  EXPECT_FALSE(Free(head, kPages / 2));
  EXPECT_TRUE(Free(tail, 1));
  EXPECT_EQ(Stats().slack_pages, 0u);
}

TEST_F(FillerTest, DonatedTailFreedFirstIsDonatedAgain) {
  uint64_t head = Donate(kPages / 2);
  uint64_t tail = Allocate(1);
  EXPECT_EQ(Stats().families[TCX_FILLER_REGULAR][0].trackers, 1u);
  EXPECT_FALSE(Free(tail, 1));
  EXPECT_EQ(Stats().families[TCX_FILLER_DONATED][0].trackers, 1u);
  EXPECT_TRUE(Free(head, kPages / 2));
}

TEST_F(FillerTest, ReleasesWhatWasIdleForTwoSeconds) {
  uint64_t kept = Add(1, 0);
  uint64_t freed = Allocate(kPages / 2);
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), 0u);  // It is new.
  now_ += 60000;
  EXPECT_FALSE(Free(freed, kPages / 2));
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), 0u);
  uint64_t due = tcx_filler_release_due(filler_.get(), now_);
  EXPECT_GT(due, now_ + 2000);
  EXPECT_LE(due, now_ + 3000);
  now_ = due - 1;
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), 0u);
  now_ = due;
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), kept);
  EXPECT_EQ(Stats().released_pages, kPages - 1u);
  EXPECT_EQ(Stats().broken_trackers, 0u);
  EXPECT_EQ(tcx_filler_release_due(filler_.get(), now_),
            TCX_FILLER_DEMAND_NEVER);
}

TEST_F(FillerTest, WhatIsNeededNowAndThenStays) {
  Add(1, 0);
  for (int i = 0; i < 50; i++) {
    now_ += 1500;
    uint64_t run = Allocate(kPages / 2);
    EXPECT_FALSE(Free(run, kPages / 2));
    EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), 0u);
  }
}

TEST_F(FillerTest, BreaksAHugePageOnlyAfterThirtySeconds) {
  uint64_t kept = Add(1);
  uint64_t freed = Allocate(kPages - 1);
  EXPECT_FALSE(Free(freed, kPages - 1));
  now_ += 30999;  // The second of the free is the first of 31.
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), 0u);
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_CHEAP), 0u);
  EXPECT_EQ(tcx_filler_release_due(filler_.get(), now_), now_ + 1);
  now_ += 1;
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), kept);
  EXPECT_EQ(Stats().broken_trackers, 1u);
  EXPECT_EQ(Stats().huge_trackers, 0u);
  EXPECT_EQ(Stats().pages_released, kPages - 1u);
}

TEST_F(FillerTest, BreaksTheEmptiestFirstAndNoneForLittle) {
  uint64_t full = Add(kPages - kPages / 8 + 1);
  uint64_t half = Add(kPages / 2);
  uint64_t empty = Add(1);
  now_ += 40000;
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), empty);
  EXPECT_TRUE(InSameHuge(Release(TCX_FILLER_RELEASE_UNNEEDED), half));
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_UNNEEDED), 0u);
  if (kPages > 8) {  // Else it is full.
    EXPECT_TRUE(InSameHuge(Release(TCX_FILLER_RELEASE_ALL), full));
  }
}

TEST_F(FillerTest, NothingLeavesOrEntersWhatIsBeingReleased) {
  uint64_t run = Add(2, 0);
  uint64_t last = Allocate(1);
  tcx_filler_release work;
  ASSERT_TRUE(tcx_filler_begin_release(filler_.get(), TCX_FILLER_RELEASE_ALL,
                                       now_, &work));
  EXPECT_EQ(Allocate(1), 0u);
  tcx_filler_grant grant;
  EXPECT_FALSE(tcx_filler_grow(filler_.get(), last, 1, 2, now_, &grant));
  tcx_filler_release other;
  EXPECT_FALSE(tcx_filler_begin_release(filler_.get(), TCX_FILLER_RELEASE_ALL,
                                        now_, &other));
  EXPECT_EQ(tcx_filler_begin_mend(filler_.get(), now_), nullptr);
  EXPECT_FALSE(Free(run, 2));
  EXPECT_FALSE(Free(last, 1));
  uint64_t page = 0;
  uint64_t pages = 0;
  ASSERT_TRUE(tcx_filler_release_next(&work, &page, &pages));
  EXPECT_EQ(page, last + 1);
  EXPECT_EQ(pages, kPages - 3u);
  EXPECT_FALSE(tcx_filler_release_next(&work, &page, &pages));
  tcx_filler_release_done(&work, last + 1, kPages - 3u);
  // What came back meanwhile has memory: it is not for the owner yet.
  EXPECT_EQ(tcx_filler_end_release(filler_.get(), &work, false, now_), nullptr);
  EXPECT_EQ(Stats().free_pages, 3u);
  EXPECT_EQ(Stats().released_pages, kPages - 3u);
  ASSERT_TRUE(tcx_filler_begin_release(filler_.get(), TCX_FILLER_RELEASE_ALL,
                                       now_, &work));
  tcx_filler_release_done(&work, run, 3);
  tcx_tracker *empty =
      tcx_filler_end_release(filler_.get(), &work, false, now_);
  ASSERT_NE(empty, nullptr);
  EXPECT_EQ(empty->released_pages, kPages);
  EXPECT_EQ(tcx_filler_tracker_of(filler_.get(), run), nullptr);
  tcx_tracker_delete(empty);
}

TEST_F(FillerTest, AnEmptyHugePageOfBothKindsServesAndIsReleased) {
  uint64_t run = Add(3, TCX_TRACKER_UNBACKED);
  EXPECT_FALSE(Free(run, 3));
  EXPECT_EQ(Stats().free_pages, 3u);
  EXPECT_EQ(Stats().released_pages, kPages - 3u);
  EXPECT_EQ(Allocate(kPages), run);
  EXPECT_TRUE(Free(run, kPages));
}

TEST_F(FillerTest, WhatGaveNothingIsSetAsideUntilRetried) {
  uint64_t first = Add(1);
  uint64_t second = Add(2);
  tcx_filler_release work;
  ASSERT_TRUE(tcx_filler_begin_release(filler_.get(), TCX_FILLER_RELEASE_ALL,
                                       now_, &work));
  EXPECT_EQ(work.tracker->huge, tcx_huge_of_page(first));
  EXPECT_EQ(tcx_filler_end_release(filler_.get(), &work, false, now_), nullptr);
  tcx_filler_check(filler_.get());
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_ALL), second);
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_ALL), 0u);
  now_ += 60000;
  EXPECT_EQ(tcx_filler_release_due(filler_.get(), now_),
            TCX_FILLER_DEMAND_NEVER);
  tcx_filler_retry(filler_.get(), now_);
  tcx_filler_check(filler_.get());
  EXPECT_NE(tcx_filler_release_due(filler_.get(), now_),
            TCX_FILLER_DEMAND_NEVER);
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_ALL), first);
}

TEST_F(FillerTest, OfEqualsTheOneThatWasIdleFirst) {
  uint64_t first = Add(1);
  uint64_t second = Add(1);
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_ALL), first);
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_ALL), second);
  EXPECT_EQ(Release(TCX_FILLER_RELEASE_ALL), 0u);
}

TEST_F(FillerTest, AHugePageReleasedInPartIsOneNoMore) {
  uint64_t run = Add(1);
  tcx_filler_release work;
  ASSERT_TRUE(tcx_filler_begin_release(filler_.get(), TCX_FILLER_RELEASE_ALL,
                                       now_, &work));
  tcx_filler_release_done(&work, run + 2, 3);
  // The system was not told to keep huge pages out.
  EXPECT_EQ(tcx_filler_end_release(filler_.get(), &work, false, now_), nullptr);
  tcx_filler_check(filler_.get());
  EXPECT_EQ(Stats().huge_trackers, 0u);
  EXPECT_EQ(Stats().broken_trackers, 0u);
  EXPECT_EQ(Stats().released_pages, 3u);
  EXPECT_EQ(Stats().families[TCX_FILLER_PARTIAL][0].trackers, 1u);
}

TEST_F(FillerTest, AFailedReleaseChangesNothing) {
  Add(1);
  tcx_filler_release work;
  ASSERT_TRUE(tcx_filler_begin_release(filler_.get(), TCX_FILLER_RELEASE_ALL,
                                       now_, &work));
  EXPECT_TRUE(work.is_huge);
  EXPECT_EQ(tcx_filler_end_release(filler_.get(), &work, false, now_), nullptr);
  tcx_filler_check(filler_.get());
  EXPECT_EQ(Stats().huge_trackers, 1u);
  EXPECT_EQ(Stats().free_pages, kPages - 1u);
  EXPECT_EQ(Stats().pages_released, 0u);
}

TEST_F(FillerTest, MendsWhatIsInUseAgain) {
  uint64_t run = Add(1);
  now_ += 40000;
  EXPECT_NE(Release(TCX_FILLER_RELEASE_UNNEEDED), 0u);
  EXPECT_EQ(tcx_filler_begin_mend(filler_.get(), now_), nullptr);
  const unsigned most = kPages - kPages / 16 - 1;
  EXPECT_EQ(Allocate(most - 1), run + 1);
  EXPECT_EQ(tcx_filler_begin_mend(filler_.get(), now_), nullptr);
  EXPECT_EQ(Allocate(1), run + most);
  tcx_tracker *tracker = tcx_filler_begin_mend(filler_.get(), now_);
  ASSERT_NE(tracker, nullptr);
  EXPECT_EQ(Allocate(1), 0u);
  EXPECT_EQ(tcx_filler_end_mend(filler_.get(), tracker, true, now_), nullptr);
  tcx_filler_check(filler_.get());
  EXPECT_EQ(Stats().huge_mended, 1u);
  EXPECT_EQ(Stats().broken_trackers, 0u);
  EXPECT_EQ(Stats().huge_trackers, 1u);
  EXPECT_EQ(Stats().released_pages, 0u);
  EXPECT_EQ(Allocate(1), kPages > 8 ? run + most + 1 : 0);
}

TEST_F(FillerTest, StatisticsByRange) {
  Add(kPages);
  Add(kPages - 1);
  Add(kPages - 3);
  Add(kPages - 2);
  tcx_filler_stats stats = Stats();
  EXPECT_EQ(stats.histogram[0][0], 1u);
  EXPECT_EQ(stats.histogram[0][1], 1u);
  EXPECT_EQ(stats.histogram[0][2], 2u);
  EXPECT_EQ(stats.families[TCX_FILLER_REGULAR][0].trackers, 4u);
  EXPECT_EQ(stats.families[TCX_FILLER_REGULAR][0].free_pages, 6u);
}

// -- Against the model --------------------------------------------------------

struct RandomSource {
  std::mt19937 random;
  size_t Below(size_t bound) {
    return random() % bound;
  }
};

void Walk(unsigned seed, unsigned huge_max, int steps, int check_every) {
  RandomSource source{std::mt19937(seed)};
  FillerModel model(huge_max);
  for (int step = 0; step < steps; step++) {
    FillerStep(&model, &source);
    if (step % check_every == 0)
      model.Check();
  }
}

TEST(FillerModelTest, FewHugePages) {
  for (unsigned seed = 0; seed < 20; seed++)
    Walk(seed, 4, 500, 1);
}

TEST(FillerModelTest, ManyHugePages) {
  for (unsigned seed = 0; seed < 3; seed++)
    Walk(seed, 60, 4000, 16);
}

}  // namespace

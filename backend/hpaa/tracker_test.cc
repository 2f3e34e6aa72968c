// tracker_test.cc -- the pages of one huge page against plain arrays.
//
// Method: the ends of the bitmap's words and of the huge page one by one, then
// random steps, each answer compared with what a walk of all pages finds.
#include "backend/hpaa/tracker.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace {

constexpr unsigned kPages = static_cast<unsigned>(TCX_HUGE_PAGES);

class TrackerTest : public ::testing::Test {
 protected:
  void Init(unsigned flags) {
    tcx_tracker_init(&tracker_, 77, flags);
    tcx_tracker_check(&tracker_);
  }
  void Mark(unsigned first, unsigned pages) {
    tcx_tracker_mark(&tracker_, first, pages);
    tcx_tracker_check(&tracker_);
  }
  void Unmark(unsigned first, unsigned pages) {
    tcx_tracker_unmark(&tracker_, first, pages);
    tcx_tracker_check(&tracker_);
  }
  // Where a run would go; kPages: nowhere.
  unsigned Find(unsigned pages, unsigned align_pages = 1) {
    unsigned first = kPages;
    return tcx_tracker_find(&tracker_, pages, align_pages, &first) ? first
                                                                   : kPages;
  }

  tcx_tracker tracker_;
};

TEST_F(TrackerTest, StartsAllFree) {
  Init(TCX_TRACKER_HUGE);
  EXPECT_EQ(tracker_.huge, 77u);
  EXPECT_EQ(tracker_.longest_pages, kPages);
  EXPECT_EQ(tcx_tracker_free_pages(&tracker_), kPages);
  EXPECT_EQ(tcx_tracker_idle_pages(&tracker_), kPages);
  EXPECT_EQ(Find(kPages), 0u);
  EXPECT_EQ(Find(kPages + 1), kPages);
}

TEST_F(TrackerTest, MarksAllAndFreesAll) {
  Init(0);
  Mark(0, kPages);
  EXPECT_EQ(tracker_.longest_pages, 0u);
  EXPECT_EQ(Find(1), kPages);
  for (unsigned i = 0; i < kPages; i += 2)
    Unmark(i, 1);
  EXPECT_EQ(tracker_.longest_pages, 1u);
  EXPECT_EQ(Find(2), kPages);
  for (unsigned i = 1; i < kPages; i += 2)
    Unmark(i, 1);
  EXPECT_EQ(tracker_.longest_pages, kPages);
}

TEST_F(TrackerTest, BestFitIsTheShortestThenTheLowest) {
  Init(0);
  Mark(0, kPages);
  Unmark(1, 3);
  Unmark(5, 1);
  Unmark(7, 1);
  EXPECT_EQ(Find(1), 5u);
  EXPECT_EQ(Find(2), 1u);
  EXPECT_EQ(Find(3), 1u);
  EXPECT_EQ(Find(4), kPages);
  EXPECT_EQ(Find(2, 2), 2u);
  EXPECT_EQ(Find(1, 4), kPages);
}

TEST_F(TrackerTest, KnowsWhatIsReleasedAndZero) {
  Init(TCX_TRACKER_UNBACKED);
  EXPECT_EQ(tracker_.released_pages, kPages);
  tcx_tracker_taken taken = tcx_tracker_mark(&tracker_, 2, 3);
  EXPECT_EQ(taken.released_pages, 3u);
  EXPECT_TRUE(taken.is_zero);
  Unmark(3, 1);
  taken = tcx_tracker_mark(&tracker_, 3, 1);
  EXPECT_EQ(taken.released_pages, 0u);
  EXPECT_FALSE(taken.is_zero);
  Unmark(4, 1);
  taken = tcx_tracker_mark(&tracker_, 4, 2);
  EXPECT_EQ(taken.released_pages, 1u);
  EXPECT_FALSE(taken.is_zero);

  Init(TCX_TRACKER_HUGE | TCX_TRACKER_ZERO);
  taken = tcx_tracker_mark(&tracker_, 0, kPages - 1);
  EXPECT_EQ(taken.released_pages, 0u);
  EXPECT_TRUE(taken.is_zero);
}

TEST_F(TrackerTest, ReleasesIdlePagesAndIsBackedAgain) {
  Init(0);
  Mark(0, 2);
  Mark(4, 2);
  tcx_tracker_bits idle;
  EXPECT_EQ(tcx_tracker_backed_free(&tracker_, &idle), kPages - 4);
  unsigned first = 0;
  unsigned pages = 0;
  ASSERT_TRUE(tcx_tracker_next_range(&idle, &first, &pages));
  EXPECT_EQ(first, 2u);
  EXPECT_EQ(pages, 2u);
  tcx_tracker_bits done = {};
  tcx_tracker_set_range(&done, first, pages);
  tcx_tracker_set_released(&tracker_, &done);
  tcx_tracker_check(&tracker_);
  EXPECT_EQ(tracker_.released_pages, 2u);
  EXPECT_EQ(tcx_tracker_idle_pages(&tracker_), kPages - 6);
  EXPECT_EQ(tcx_tracker_backed_free(&tracker_, &idle), kPages - 6);
  first = 0;
  ASSERT_TRUE(tcx_tracker_next_range(&idle, &first, &pages));
  EXPECT_EQ(first, 6u);
  EXPECT_EQ(pages, kPages - 6);
  first += pages;
  EXPECT_FALSE(tcx_tracker_next_range(&idle, &first, &pages));
  tcx_tracker_set_backed(&tracker_);
  tcx_tracker_check(&tracker_);
  EXPECT_EQ(tracker_.released_pages, 0u);
  // What was released is zero all the same.
  EXPECT_TRUE(tcx_tracker_mark(&tracker_, 2, 2).is_zero);
}

TEST_F(TrackerTest, DenseTakesTheLowestPage) {
  Init(0);
  tracker_.flags |= TCX_TRACKER_DENSE;
  for (unsigned i = 0; i < kPages; i++) {
    EXPECT_EQ(tracker_.longest_pages, kPages - i);
    EXPECT_EQ(Find(1), i);
    Mark(i, 1);
  }
  Unmark(6, 1);
  Unmark(3, 1);
  EXPECT_EQ(Find(1), 3u);
  EXPECT_EQ(tracker_.longest_pages, 2u);
}

TEST_F(TrackerTest, FreeingTwiceEndsTheProcess) {
  Init(0);
  Mark(0, 4);
  Unmark(1, 1);
  EXPECT_DEATH(tcx_tracker_unmark(&tracker_, 1, 1), "check failed");
  EXPECT_DEATH(tcx_tracker_unmark(&tracker_, 0, 2), "check failed");
  EXPECT_DEATH(tcx_tracker_unmark(&tracker_, kPages - 1, 2), "check failed");
}

TEST_F(TrackerTest, AgreesWithAnArray) {
  std::mt19937 random(3);
  Init(TCX_TRACKER_UNBACKED);
  std::array<bool, kPages> is_used = {};
  for (int step = 0; step < 20000; step++) {
    unsigned first = random() % kPages;
    unsigned pages = 1 + random() % (random() % 4 == 0 ? kPages : 4);
    if (first + pages > kPages)
      pages = kPages - first;
    bool all_free = true;
    bool all_used = true;
    for (unsigned i = first; i < first + pages; i++) {
      all_free = all_free && !is_used[i];
      all_used = all_used && is_used[i];
    }
    ASSERT_EQ(tcx_tracker_is_free(&tracker_, first, pages), all_free);
    if (all_free || all_used) {
      for (unsigned i = first; i < first + pages; i++)
        is_used[i] = all_free;
      if (all_free)
        Mark(first, pages);
      else
        Unmark(first, pages);
    }
    // Shortest free range in which an aligned run fits.
    unsigned want = 1 + random() % 6;
    unsigned align_pages = 1u << random() % 4;
    unsigned best = kPages + 1;
    unsigned best_first = kPages;
    for (unsigned start = 0; start < kPages; start++) {
      unsigned end = start;
      while (end < kPages && !is_used[end])
        end++;
      unsigned aligned = (start + align_pages - 1) / align_pages * align_pages;
      if (end > start && aligned + want <= end && end - start < best) {
        best = end - start;
        best_first = aligned;
      }
      start = end;
    }
    ASSERT_EQ(Find(want, align_pages), best_first);
  }
}

}  // namespace

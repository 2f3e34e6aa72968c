// hpaa_advice_test.cc -- what the kernel was asked for, and that it is known.
//
// Method: as hpaa_maintain_test.cc. The kernel keeps what it was told last of
// each huge page; the test compares that with the notes, first after single
// histories, then after each step of random ones. A move of memory takes along
// what was asked for of the source, as mremap does.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <vector>

#include "backend/hpaa/hpaa_internal.h"
#include "backend/hpaa/hpaa_maintain_testing.h"
#include "base/knobs.h"
#include "pagemap/pagemap.h"

namespace {

using tcx::testing::kernel;
using tcx::testing::kP;

constexpr int kNothing = 0;  // was said

class HpaaAdviceTest : public tcx::testing::HpaaMaintainTest {
 protected:
  HpaaAdviceTest() {
    Start(TCX_HUGE_THP_MADVISE);
  }

  // A heap that is worth huge pages, of which 20 have memory and are free.
  void Start(tcx_huge_thp thp, uint64_t choice = TCX_HUGEPAGES_DEFAULT) {
    while (!live_.empty())
      Free(live_.size() - 1);
    world_->Start(thp, choice);
    kernel.advice.clear();
    Allocate(16 * kP);
    Free(Allocate(20 * kP));
  }
  static int Told(uint64_t huge) {
    auto found = kernel.advice.find(huge);
    return found == kernel.advice.end() ? kNothing : found->second;
  }
  static int Told(const tcx_span *span) {
    return Told(span->first_page / kP);
  }
  // What the notes say that it was told.
  int Noted(uint64_t huge) {
    const tcx_region *region = tcx_hpaa_region_of(huge);
    const tcx_tracker *tracker =
        tcx_filler_tracker_of(&world_->heap.filler, tcx_page_of_huge(huge));
    void *note = tcx_pagemap_huge_note(huge);
    bool is_broken = note == TCX_HPAA_NOTE_BROKEN;
    bool is_advised = note == TCX_HPAA_NOTE_ADVISED;
    if (region != nullptr) {
      is_broken = (region->broken >> (huge - region->first_huge) & 1) != 0;
      is_advised = (region->advised >> (huge - region->first_huge) & 1) != 0;
    } else if (tracker != nullptr) {
      is_broken = (tracker->flags & TCX_TRACKER_BROKEN) != 0;
      EXPECT_TRUE(is_advised || (tracker->flags & TCX_TRACKER_HUGE) == 0);
    }
    return is_broken ? MADV_NOHUGEPAGE : is_advised ? MADV_HUGEPAGE : kNothing;
  }
  void CheckNotes() {
    for (const auto &huge : kernel.advice) {
      bool is_of_the_heap = tcx_pagemap_huge_note(huge.first) != nullptr;
      ASSERT_EQ(is_of_the_heap ? huge.second : kNothing, Noted(huge.first));
    }
    for (const tcx_span *span : live_)
      ASSERT_EQ(Told(span), Noted(span->first_page / kP));
  }

  // As realloc does with large blocks. False: no place.
  bool Move(size_t index, size_t pages) {
    const tcx_span *from = live_[index];
    tcx_page_request request = {pages, kP, 1, from->pages, 0};
    tcx_span *to = tcx_page_source_request(world_->source, &request);
    if (to == nullptr)
      return false;
    for (size_t i = 0; i < (from->pages + kP - 1) / kP; i++) {
      kernel.advice.erase(to->first_page / kP + i);
      if (Told(from->first_page / kP + i) != kNothing)
        kernel.advice[to->first_page / kP + i] =
            Told(from->first_page / kP + i);
    }
    tcx_page_source_moved(world_->source, to, from->pages);
    live_[index]->flags = TCX_SPAN_MOVED;
    Free(index);
    live_.push_back(to);
    return true;
  }
};

TEST_F(HpaaAdviceTest, WhatMemoryWasMovedToIsAskedForAgain) {
  const tcx_span *from = Allocate(30 * kP);  // Too long for what is free.
  Allocate(kP);
  ASSERT_EQ(Told(from), kNothing);
  Free(Allocate(40 * kP));
  Free(Allocate(40 * kP));
  ASSERT_TRUE(Move(1, 40 * kP));
  EXPECT_EQ(Told(live_.back()), MADV_HUGEPAGE);
  CheckNotes();
}

TEST_F(HpaaAdviceTest, WhatIsMovedToARegionIsAskedForAgain) {
  const tcx_span *from = Allocate(3 * kP);
  while (Parts().regions == 0)
    Allocate(kP + 1);
  // Of the place some was used before, and asked for.
  Free(Allocate(4 * kP - 1));
  size_t index = static_cast<size_t>(
      std::find(live_.begin(), live_.end(), from) - live_.begin());
  ASSERT_TRUE(Move(index, 5 * kP + 1));
  uint64_t to = live_.back()->first_page / kP;
  ASSERT_NE(tcx_hpaa_region_of(to), nullptr);
  for (uint64_t i = 0; i < 3; i++)
    EXPECT_EQ(Told(to + i), MADV_HUGEPAGE);
  CheckNotes();
}

TEST_F(HpaaAdviceTest, WhatWasNeverAskedForGoesBackInParts) {
  tcx_span *keeps = Allocate(kP / 4);
  tcx_span *goes = Allocate(kP / 4);
  ASSERT_EQ(Told(keeps), kNothing);
  Free(goes);
  Pass(10000);
  EXPECT_EQ(Parts().policy.breaks, 0u);
  EXPECT_GE(Parts().filler.released_pages, kP / 4);
  CheckNotes();
}

TEST_F(HpaaAdviceTest, WhereTheyAreGivenUnaskedAllIsAskedForAtOnce) {
  Start(TCX_HUGE_THP_ALWAYS);
  const tcx_span *run = Allocate(50 * kP + kP / 8);
  EXPECT_EQ(Told(run), MADV_HUGEPAGE);
  // The end of it, in the filler, is resident with the first touch.
  EXPECT_EQ(Parts().filler.released_pages, 0u);
  EXPECT_EQ(Parts().filler.huge_trackers, 1u);
  CheckNotes();
}

// A break waits for what asks for the huge page, on its way to the kernel.
TEST_F(HpaaAdviceTest, NoBreakIsOvertakenByAnOlderRequest) {
  Release();
  kernel.meanwhile_at = MADV_HUGEPAGE;
  kernel.meanwhile = [this] { Release(); };
  const tcx_span *span = Allocate(1);
  ASSERT_EQ(kernel.meanwhile_at, 0);
  CheckNotes();
  if (kP > 1)
    Release();
  EXPECT_EQ(Told(span), MADV_NOHUGEPAGE);
  CheckNotes();
}

TEST_F(HpaaAdviceTest, AMendedHugePageOfARegionCountsAsAskedFor) {
  Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  std::vector<tcx_span *> spans;
  for (int i = 0; i < 640; i++)
    spans.push_back(Allocate(kP / 8));
  for (size_t i = 0; i < spans.size(); i++) {
    if (i % 8 != 0)
      Free(spans[i]);
  }
  Release();
  for (size_t i = 0; i < spans.size(); i += 8)
    Free(spans[i]);
  Release();
  while (Parts().regions == 0)
    Allocate(5 * kP + 1);
  CheckNotes();
  Free(Allocate(10 * kP - 8));
  Pass(5000);
  ASSERT_EQ(Parts().regions, 1u);
  CheckNotes();
}

TEST_F(HpaaAdviceTest, ARegionThatIsAllMovedAwayGoes) {
  while (Parts().regions == 0)
    Allocate(kP + 1);
  for (size_t i = live_.size(); i-- > 0;) {
    live_[i]->flags = TCX_SPAN_MOVED;
    Free(i);
  }
  EXPECT_EQ(Parts().regions, 0u);
}

TEST_F(HpaaAdviceTest, RandomHistories) {
  for (unsigned seed = 1; seed <= 12; seed++) {
    std::mt19937 random(seed);
    for (int step = 0; step < 400; step++) {
      size_t index = live_.empty() ? 0 : random() % live_.size();
      unsigned choice = random() % 16;
      if (choice < 7 && live_.size() < 120) {
        const size_t pages[] = {kP / 8 + 1, kP / 2, kP + kP / 2, 7 * kP};
        Allocate(1 + random() % pages[random() % 4]);
      } else if (choice < 11 && !live_.empty()) {
        Free(index);
      } else if (choice == 11 && !live_.empty()) {
        if (live_[index]->pages >= 2 * kP && live_[index]->first_page % kP == 0)
          (void)Move(index, live_[index]->pages + 1 + random() % (3 * kP));
      } else if (choice == 12) {
        Pass(random() % 4000);
      } else if (choice == 13) {
        Pass(random() % 40000);
      } else if (choice == 14) {
        (void)tcx_page_source_release(world_->source, random() % 20000000);
      } else if (random() % 4 == 0) {
        kernel.meanwhile_at = MADV_HUGEPAGE;
        kernel.meanwhile = [this] { Release(); };
        Allocate(1 + random() % (2 * kP));
        kernel.meanwhile_at = 0;
      }
      ASSERT_NO_FATAL_FAILURE(CheckNotes()) << seed << ", " << step;
    }
    while (!live_.empty())
      Free(live_.size() - 1);
  }
}

}  // namespace

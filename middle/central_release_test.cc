// Tests of middle/central_release.c.
//
// Method: a real central free list over the fake page source, which really
// gives memory back. Objects in use carry a tag in each piece of 512 bytes, so
// that one that lost memory shows; the kernel itself is asked (mincore) whether
// what counts as released is gone. The calls of the page source are hooked: to
// see the ranges, and to free objects, read figures or fork while one is on its
// way.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <random>
#include <vector>

#include "backend/fake_page_source.h"
#include "base/config.h"
#include "base/os.h"
#include "middle/central_freelist.h"
#include "middle/central_release_testing.h"
#include "pagemap/pagemap.h"
#include "pagemap/span_parts.h"
#include "size_classes/size_classes.h"

namespace {

using tcx::testing::CentralReleaseTest;
using tcx::testing::HasSeveralObjects;
using tcx::testing::HookedPages;

INSTANTIATE_TEST_SUITE_P(Sizes, CentralReleaseTest,
                         ::testing::Values(2048, 4096, 5120, 14336, 38000,
                                           65536, 81920),
                         ::testing::PrintToStringParamName());

TEST_P(CentralReleaseTest, AtOnceAllThatIsFreeGoes) {
  Fill(5);
  EXPECT_EQ(Release(1000000, true), 0u);
  FreeMost();
  size_t expected = HasSeveralObjects(row()) ? FreeBytes() : 0;
  EXPECT_EQ(Release(1000000, true), expected);
  EXPECT_EQ(Stats().released_bytes, expected);
  Check();
  EXPECT_EQ(Release(1000000, true), 0u);
}

TEST_P(CentralReleaseTest, UnneededGoesAfterThirtySeconds) {
  Fill(3);
  FreeMost();
  size_t expected = HasSeveralObjects(row()) ? FreeBytes() : 0;
  uint64_t now_ms = 1000000;
  size_t released = 0;
  for (int seconds = 0; seconds <= 29; seconds++, now_ms += 1000)
    released += Release(now_ms, false);
  EXPECT_EQ(released, 0u);
  for (int seconds = 30; seconds <= 36; seconds++, now_ms += 1000)
    released += Release(now_ms, false);
  EXPECT_EQ(released, expected);
  Check();
}

TEST_P(CentralReleaseTest, ALongPauseIsNoReasonForWhatWasJustTaken) {
  Fill(1);
  FreeMost();
  EXPECT_EQ(Release(1000000, false), 0u);
  Remove(1);  // Young again, if it has others left.
  EXPECT_EQ(Release(1100000, false), 0u);
  size_t expected = HasSeveralObjects(row()) ? FreeBytes() : 0;
  EXPECT_EQ(Release(1130000, false), expected);
}

TEST_P(CentralReleaseTest, TakenMemoryCountsNoMore) {
  Fill(2);
  FreeMost();
  (void)Release(1000000, true);
  while (Stats().free_objects > 0) {
    Remove(1);
    Check();
  }
  EXPECT_EQ(Stats().released_bytes, Stats().released_tail_bytes);
}

TEST_P(CentralReleaseTest, RefusedIsOfferedAgain) {
  Fill(2);
  FreeMost();
  size_t expected = HasSeveralObjects(row()) ? FreeBytes() : 0;
  pages_.pages_.RefuseReleases(true);
  EXPECT_EQ(Release(1000000, true), 0u);
  Check();
  pages_.pages_.RefuseReleases(false);
  EXPECT_EQ(Release(1000000, true), expected);
}

TEST_P(CentralReleaseTest, GoesOnWhereItStopped) {
  Fill(6);
  FreeMost();
  size_t expected = HasSeveralObjects(row()) ? FreeBytes() : 0;
  size_t released = 0;
  bool is_done = false;
  unsigned calls = 0;
  for (; !is_done; calls++) {
    released += ReleaseOnce(1000000, 1, true, &is_done);
    ASSERT_LE(calls, 6u);
  }
  EXPECT_EQ(released, expected);
  if (expected > 0) {
    EXPECT_GE(calls, 6u);
  }
  Check();
}

TEST_P(CentralReleaseTest, LooksAtNoMoreSpansThanItMay) {
  Fill(6);
  FreeMost();
  bool is_done = false;
  unsigned calls = 0;
  for (; !is_done; calls++) {
    size_t looks_max = 2;
    EXPECT_EQ(tcx_central_freelist_release(&list_, 1000000, SIZE_MAX,
                                           &looks_max, false, &is_done),
              0u);
    ASSERT_LE(calls, 3u);
  }
  EXPECT_GE(calls, HasSeveralObjects(row()) ? 3u : 1u);
}

TEST_P(CentralReleaseTest, DueAsLongAsThereAreYoungSpans) {
  EXPECT_EQ(tcx_central_freelist_release_due_ms(&list_, 5), UINT64_MAX);
  Fill(1);
  FreeMost();
  uint64_t now_ms = 1000000;
  for (int looks = 0; looks < 20; looks++, now_ms += 5000) {
    uint64_t due_ms = tcx_central_freelist_release_due_ms(&list_, now_ms);
    if (due_ms == UINT64_MAX)
      break;
    EXPECT_EQ(due_ms, now_ms);
    (void)Release(now_ms, false);
  }
  EXPECT_EQ(tcx_central_freelist_release_due_ms(&list_, now_ms), UINT64_MAX);
  EXPECT_LE(now_ms, 1040000u);
  if (HasSeveralObjects(row())) {
    EXPECT_EQ(Stats().released_bytes, FreeBytes());
    Remove(1);
    EXPECT_EQ(tcx_central_freelist_release_due_ms(&list_, now_ms), now_ms);
  }
}

// -- Meanwhile ----------------------------------------------------------------

TEST_P(CentralReleaseTest, SpanThatEmptiesMeanwhileIsDestroyedAfterwards) {
  Fill(1);
  FreeMost();
  if (!HasSeveralObjects(row()) || FreeBytes() == 0)
    GTEST_SKIP() << "nothing to give back";
  pages_.hook = [this](const tcx_span *span) {
    // Nothing of it is to be had now, and it stays.
    EXPECT_EQ(list_.nonempty_mask, 0u);
    InsertAll();
    EXPECT_EQ(span->allocated, 0u);
    EXPECT_EQ(pages_.pages_.live_spans(), 1u);
    tcx_central_freelist_check(&list_);
  };
  EXPECT_GT(Release(1000000, true), 0u);
  EXPECT_EQ(pages_.pages_.live_spans(), 0u);
  EXPECT_EQ(Stats().spans, 0u);
  EXPECT_EQ(Stats().free_objects, 0u);
}

TEST_P(CentralReleaseTest, TakingMeanwhileUsesAnotherSpan) {
  Fill(1);
  FreeMost();
  if (!HasSeveralObjects(row()) || FreeBytes() == 0)
    GTEST_SKIP() << "nothing to give back";
  pages_.hook = [this](const tcx_span *span) {
    Remove(1);
    for (void *object : out_) {
      bool is_first = object == tcx_span_start(span);
      EXPECT_EQ(tcx_pagemap_span_of(object) == span, is_first);
    }
    pages_.hook = nullptr;
  };
  EXPECT_GT(Release(1000000, true), 0u);
  Check();
}

TEST_P(CentralReleaseTest, ChildOfForkFindsTheBusySpan) {
  Fill(1);
  FreeMost();
  if (!HasSeveralObjects(row()) || FreeBytes() == 0)
    GTEST_SKIP() << "nothing to give back";
  pages_.hook = [this](const tcx_span *) {
    pages_.hook = nullptr;
    pid_t pid = fork();
    if (pid == 0) {
      tcx_central_freelist_release_in_child(&list_);
      tcx_central_freelist_check(&list_);
      Fill(1);
      bool is_one = pages_.pages_.live_spans() == 1;
      (void)Release(1000000, true);
      _exit(is_one && !HasFailure() ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  };
  EXPECT_GT(Release(1000000, true), 0u);
  Check();
}

TEST_P(CentralReleaseTest, RandomOperationsKeepWhatIsInUse) {
  std::mt19937 random(static_cast<unsigned>(GetParam()));
  uint64_t now_ms = 1000000;
  const unsigned most = std::min(64u, 3u * row().objects);
  for (int step = 0; step < 1200; step++) {
    unsigned choice = random() % 16;
    bool grows = step / 200 % 2 == 0;
    if (choice < (grows ? 7u : 3u)) {
      if (out_.size() * row().size < 24 * TCX_MIB)
        Remove(1 + random() % most);
    } else if (choice < 11) {
      for (unsigned i = random() % most; i > 0 && !out_.empty(); i--) {
        size_t nth = random() % out_.size();
        Insert(*std::next(out_.begin(), static_cast<long>(nth)));
      }
    } else if (choice < 15) {
      now_ms += random() % 12000;
      pages_.pages_.RefuseReleases(random() % 4 == 0);
      size_t looks_max = 1 + random() % 9;
      bool is_done = false;
      (void)tcx_central_freelist_release(&list_, now_ms, random() % 400000,
                                         &looks_max, random() % 3 == 0,
                                         &is_done);
      pages_.pages_.RefuseReleases(false);
    } else {
      ASSERT_NO_FATAL_FAILURE(Check());
    }
    tcx_central_freelist_check(&list_);
  }
}

TEST(CentralReleaseSmallTest, SmallObjectsStay) {
  tcx_size_classes_init();
  HookedPages pages;
  auto list = std::make_unique<tcx_central_freelist>();
  tcx_central_freelist_init(list.get(), pages.pages_.get(),
                            tcx_size_class_of(1024));
  void *batch[2];
  ASSERT_EQ(tcx_central_freelist_remove_range(list.get(), batch, 2), 2u);
  tcx_central_freelist_insert_range(list.get(), batch, 1);
  size_t looks_max = 1;
  bool is_done = false;
  EXPECT_EQ(tcx_central_freelist_release(list.get(), 1000000, SIZE_MAX,
                                         &looks_max, true, &is_done),
            0u);
  EXPECT_TRUE(is_done);
  EXPECT_EQ(pages.calls, 0u);
  tcx_central_freelist_insert_range(list.get(), batch + 1, 1);
}

// -- Pages of the system larger than ours -------------------------------------

class LargePagesTest : public CentralReleaseTest {
 protected:
  LargePagesTest() {
    static tcx_os_calls calls;
    calls = tcx_os_linux;
    calls.page_size = [] { return size_t{65536}; };
    tcx_os_install(&calls);
  }
  ~LargePagesTest() override {
    InsertAll();
    tcx_os_install(&tcx_os_linux);
  }
};

INSTANTIATE_TEST_SUITE_P(Sizes, LargePagesTest,
                         ::testing::Values(2048, 14336, 65536, 81920),
                         ::testing::PrintToStringParamName());

TEST_P(LargePagesTest, OnlyWholePagesOfTheSystemGo) {
  Fill(12);
  FreeMost();
  size_t expected = HasSeveralObjects(row()) ? FreeBytes() : 0;
  EXPECT_EQ(expected % 65536, 0u);
  EXPECT_EQ(Release(1000000, true), expected);
  Check();
  Fill(12);
  Check();
}

// -- Parts --------------------------------------------------------------------

TEST(SpanPartsTest, LieInTheSpanAndCoverIt) {
  for (uint64_t first_page : {uint64_t{1} << 20, (uint64_t{1} << 20) + 3}) {
    for (uint32_t pages : {1u, 2u, 5u, 64u}) {
      tcx_span span = {};
      span.first_page = first_page;
      span.pages = pages;
      tcx_span_parts parts = tcx_span_parts_of(&span);
      size_t bytes = tcx_span_bytes(&span);
      ASSERT_GT(parts.count, 0u);
      ASSERT_LE(parts.count, 64u);
      EXPECT_LE(tcx_span_part_offset(parts, parts.count), bytes);
      EXPECT_GE(size_t{1} << parts.shift, tcx_os_page_size());
      EXPECT_EQ(tcx_span_parts_touched(parts, 0, bytes),
                tcx_span_parts_all(parts));
      for (unsigned i = 0; i < parts.count; i++) {
        size_t start = tcx_span_part_offset(parts, i);
        size_t end = start + (size_t{1} << parts.shift);
        uint64_t bit = uint64_t{1} << i;
        EXPECT_EQ(tcx_span_parts_touched(parts, start, end), bit);
        EXPECT_EQ(tcx_span_parts_touched(parts, end - 1, end), bit);
        EXPECT_EQ(tcx_span_parts_touched(parts, start, start + 1), bit);
      }
    }
  }
}

}  // namespace

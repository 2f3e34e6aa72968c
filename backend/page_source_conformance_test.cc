// page_source_conformance_test.cc -- what every page source must do.
//
// Method: the contract of page_source.h, rule by rule, over each
// implementation. What goes back to the system by demand and in parts:
// page_source_release_test.cc.
#include <errno.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "backend/page_source.h"
#include "backend/page_source_testing.h"
#include "base/config.h"
#include "pagemap/pagemap.h"

namespace {

using tcx::testing::kKeepMs;
using tcx::testing::now_ms;

class PageSourceConformanceTest : public tcx::testing::PageSourceTest {};
INSTANTIATE_TEST_SUITE_P(All, PageSourceConformanceTest,
                         ::testing::Values(tcx::testing::PageHeap,
                                           tcx::testing::Hpaa,
                                           tcx::testing::Fake,
                                           tcx::testing::Reclaimer),
                         tcx::testing::PageSourceName);

TEST_P(PageSourceConformanceTest, GivesExactlyWhatWasAskedFor) {
  for (size_t pages : {1, 2, 3, 7, 64, 127, 128, 129, 200}) {
    tcx_span *span = Allocate(pages);
    ASSERT_NE(span, nullptr) << pages;
    EXPECT_EQ(Stats().in_use_bytes, in_use_ + pages * TCX_PAGE_SIZE);
    Stamp(span, pages);
    Deallocate(span);
    CheckStats();
  }
}

TEST_P(PageSourceConformanceTest, SpansDoNotOverlap) {
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < 100; i++) {
    spans.push_back(Allocate(1 + i % 5));
    ASSERT_NE(spans.back(), nullptr);
    Stamp(spans.back(), i);
  }
  for (size_t i = 0; i < spans.size(); i++) {
    EXPECT_TRUE(HasStamp(spans[i], i, spans[i]->pages)) << i;
  }
  for (tcx_span *span : spans) {
    Deallocate(span);
  }
}

TEST_P(PageSourceConformanceTest, MoreThanOneMayCome) {
  tcx_page_source_stats before = Stats();
  tcx_page_request request = {3, 1, 1, 0, 9};
  std::vector<tcx_span *> spans;
  for (int i = 0; i < 20; i++) {
    tcx_span *some = tcx_page_source_request(source_, &request);
    ASSERT_NE(some, nullptr);
    for (size_t count = 1; some != nullptr; count++) {
      EXPECT_LE(count, 10u);
      ExpectNew(some, 3, 1);
      Stamp(some, spans.size());
      spans.push_back(some);
      some = some->next;
    }
  }
  EXPECT_EQ(Stats().spans_allocated, before.spans_allocated + spans.size());
  EXPECT_EQ(Stats().in_use_bytes, in_use_ + spans.size() * 3 * TCX_PAGE_SIZE);
  CheckStats();
  for (size_t i = 0; i < spans.size(); i++) {
    EXPECT_TRUE(HasStamp(spans[i], i, 3)) << i;
    spans[i]->next = i + 1 < spans.size() ? spans[i + 1] : nullptr;
  }
  tcx_page_source_deallocate_all(source_, spans[0]);
  EXPECT_EQ(Stats().spans_deallocated, before.spans_deallocated + spans.size());
  EXPECT_EQ(Stats().in_use_bytes, in_use_);
  CheckStats();
}

TEST_P(PageSourceConformanceTest, Aligns) {
  for (size_t align = 1; align <= 64; align *= 2) {
    tcx_span *odd = Allocate(1);
    tcx_span *span = Allocate(3, align);
    ASSERT_NE(span, nullptr) << align;
    Stamp(span, align);
    Deallocate(odd);
    CheckStats();
    Deallocate(span);
    CheckStats();
  }
}

TEST_P(PageSourceConformanceTest, ZeroFlagTellsTheTruth) {
  std::mt19937 random(2);
  for (int i = 0; i < 100; i++) {
    bool is_zero;
    tcx_span *span = Allocate(1 + random() % 4, 1, &is_zero);
    ASSERT_NE(span, nullptr);
    if (is_zero) {
      EXPECT_TRUE(IsZero(span));
    }
    Stamp(span, ~uint64_t{0});
    Deallocate(span);
    if (i % 8 == 0) {
      tcx_page_source_release(source_, TCX_PAGE_SIZE);
    }
  }
}

TEST_P(PageSourceConformanceTest, ReleasedMemoryIsKnownZeroAndReadsSo) {
  tcx_span *span = Allocate(16);
  ASSERT_NE(span, nullptr);
  Stamp(span, ~uint64_t{0});
  Deallocate(span);
  EXPECT_GE(Stats().free_bytes, 16 * TCX_PAGE_SIZE);
  size_t bytes = Stats().free_bytes;
  EXPECT_EQ(tcx_page_source_release(source_, SIZE_MAX), bytes);
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_EQ(tcx_page_source_release(source_, SIZE_MAX), 0u);
  bool is_zero;
  span = Allocate(16, 1, &is_zero);
  ASSERT_NE(span, nullptr);
  EXPECT_TRUE(is_zero);
  EXPECT_TRUE(IsZero(span));
  Deallocate(span);
}

TEST_P(PageSourceConformanceTest, MovedSpanComesBackWithoutMemory) {
  // Whole huge pages: with a part of one, the rest may come to have memory.
  const size_t pages = 2 * TCX_HUGE_PAGE_SIZE / TCX_PAGE_SIZE;
  tcx_page_source_release(source_, SIZE_MAX);
  tcx_span *span = Allocate(pages);
  ASSERT_NE(span, nullptr);
  span->flags = TCX_SPAN_MOVED;
  Deallocate(span);
  EXPECT_EQ(Stats().free_bytes, 0u);
  bool is_zero;
  span = Allocate(pages, 1, &is_zero);
  ASSERT_NE(span, nullptr);
  EXPECT_TRUE(is_zero);
  Deallocate(span);
}

TEST_P(PageSourceConformanceTest, ReleaseGivesAtLeastWhatWasAskedFor) {
  tcx_span *span = Allocate(40);
  ASSERT_NE(span, nullptr);
  Stamp(span, 1);
  Deallocate(span);
  uint64_t before = Stats().free_bytes;
  size_t bytes = tcx_page_source_release(source_, 3 * TCX_PAGE_SIZE);
  EXPECT_GE(bytes, 3 * TCX_PAGE_SIZE);
  EXPECT_EQ(Stats().free_bytes, before - bytes);
}

TEST_P(PageSourceConformanceTest, WhatIsKeptGoesWithoutTheRest) {
  tcx_page_source_release(source_, SIZE_MAX);
  tcx_span *span = Allocate(4 * TCX_HUGE_PAGE_SIZE / TCX_PAGE_SIZE);
  tcx_span *rest = Allocate(3);
  ASSERT_NE(span, nullptr);
  ASSERT_NE(rest, nullptr);
  Stamp(span, 1);
  Deallocate(span);
  tcx_page_source_stats before = Stats();
  EXPECT_GE(before.kept_bytes, 4 * TCX_HUGE_PAGE_SIZE);
  size_t bytes =
      source_->ops->release(source_, SIZE_MAX, TCX_PAGE_RELEASE_KEPT);
  EXPECT_EQ(bytes, before.kept_bytes);
  EXPECT_EQ(Stats().free_bytes, before.free_bytes - bytes);
  EXPECT_EQ(Stats().breaks, before.breaks);
  EXPECT_EQ(source_->ops->release(source_, SIZE_MAX, TCX_PAGE_RELEASE_KEPT),
            0u);
  Deallocate(rest);
}

TEST_P(PageSourceConformanceTest, AbsurdRequestsGiveNull) {
  for (size_t pages :
       {SIZE_MAX, SIZE_MAX >> TCX_PAGE_SHIFT, SIZE_MAX / 2 + 1,
        (size_t{1} << 47) >> TCX_PAGE_SHIFT, size_t{UINT32_MAX} + 2}) {
    EXPECT_EQ(tcx_page_source_allocate(source_, pages, 1, 1), nullptr);
    CheckStats();
  }
  EXPECT_EQ(tcx_page_source_allocate(source_, 1, size_t{1} << 50, 1), nullptr);
}

TEST_P(PageSourceConformanceTest, FreedPagesLeaveThePagemap) {
  tcx_span *span = Allocate(9);
  ASSERT_NE(span, nullptr);
  uint64_t first = span->first_page;
  Deallocate(span);
  for (uint64_t page = first; page < first + 9; page++) {
    const tcx_span *found = tcx_pagemap_span_of_page(page);
    EXPECT_TRUE(found == nullptr || found->state == TCX_SPAN_FREE ||
                found->state == TCX_SPAN_RELEASED);
  }
}

TEST_P(PageSourceConformanceTest, ResizeTrimsAndGrowsInPlace) {
  tcx_span *span = Allocate(20);
  ASSERT_NE(span, nullptr);
  Stamp(span, 20);
  char *start = tcx_span_start(span);
  ASSERT_TRUE(tcx_page_source_resize(source_, span, 5));
  EXPECT_EQ(span->pages, 5u);
  EXPECT_EQ(Stats().in_use_bytes, in_use_ + 5 * TCX_PAGE_SIZE);
  EXPECT_EQ(tcx_pagemap_span_of_page(span->first_page + 4), span);
  CheckStats();
  // What was given back just now is free, so it can be had again.
  ASSERT_TRUE(tcx_page_source_resize(source_, span, 15));
  EXPECT_EQ(span->pages, 15u);
  EXPECT_EQ(tcx_span_start(span), start);
  EXPECT_EQ(tcx_pagemap_span_of_page(span->first_page + 14), span);
  EXPECT_TRUE(HasStamp(span, 20, 5));
  Stamp(span, 15);
  CheckStats();
  EXPECT_TRUE(tcx_page_source_resize(source_, span, 15));
  Deallocate(span);
}

TEST_P(PageSourceConformanceTest, ResizeNeverTakesWhatIsInUse) {
  std::vector<tcx_span *> spans;
  for (uint64_t i = 0; i < 50; i++) {
    spans.push_back(Allocate(2));
    ASSERT_NE(spans.back(), nullptr);
    Stamp(spans.back(), i);
  }
  for (uint64_t i = 0; i < spans.size(); i++) {
    size_t pages = 3 + i % 4;
    if (tcx_page_source_resize(source_, spans[i], pages)) {
      EXPECT_EQ(spans[i]->pages, pages);
      Stamp(spans[i], i);
    } else {
      EXPECT_EQ(spans[i]->pages, 2u);
    }
  }
  for (uint64_t i = 0; i < spans.size(); i++) {
    EXPECT_TRUE(HasStamp(spans[i], i, spans[i]->pages));
    Deallocate(spans[i]);
  }
  tcx_span *span = Allocate(1);
  EXPECT_FALSE(tcx_page_source_resize(source_, span, SIZE_MAX));
  EXPECT_EQ(span->pages, 1u);
  Deallocate(span);
}

TEST_P(PageSourceConformanceTest, CountsCalls) {
  tcx_page_source_stats before = Stats();
  tcx_span *span = Allocate(1);
  EXPECT_EQ(Stats().spans_allocated, before.spans_allocated + 1);
  Deallocate(span);
  EXPECT_EQ(Stats().spans_deallocated, before.spans_deallocated + 1);
}

// -- Threads, fork ------------------------------------------------------------

TEST_P(PageSourceConformanceTest, ThreadsShareIt) {
  std::vector<std::thread> threads;
  for (uint64_t id = 1; id <= 4; id++) {
    threads.emplace_back([this, id] {
      std::mt19937 random(static_cast<unsigned>(id));
      std::vector<tcx_span *> spans;
      for (int i = 0; i < 300; i++) {
        if (i % 50 == 49) {
          tcx_page_source_release(source_, 4 * TCX_PAGE_SIZE);
          now_ms += kKeepMs / 8;
          source_->ops->maintain(source_, now_ms, 4 * TCX_PAGE_SIZE, true);
          source_->ops->due_ms(source_, now_ms);
        }
        if (spans.size() > 8 || (!spans.empty() && random() % 2 == 0)) {
          size_t index = random() % spans.size();
          EXPECT_TRUE(HasStamp(spans[index], id, spans[index]->pages));
          tcx_page_source_deallocate(source_, spans[index]);
          spans.erase(spans.begin() + static_cast<long>(index));
        } else {
          tcx_span *span =
              tcx_page_source_allocate(source_, 1 + random() % 6, 1, 1);
          ASSERT_NE(span, nullptr);
          Stamp(span, id);
          spans.push_back(span);
        }
      }
      for (tcx_span *span : spans) {
        tcx_page_source_deallocate(source_, span);
      }
    });
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
  errno = 4711;  // Making threads may change it.
}

TEST_P(PageSourceConformanceTest, ForkedChildGoesOn) {
  tcx_span *span = Allocate(2);
  source_->ops->fork_prepare(source_);
  pid_t child = fork();
  if (child == 0) {
    source_->ops->fork_child(source_);
    source_->ops->check(source_);
    tcx_page_source_deallocate(source_, span);
    _exit(tcx_page_source_allocate(source_, 3, 1, 1) != nullptr ? 0 : 1);
  }
  source_->ops->fork_parent(source_);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  Deallocate(span);
}

// The fake has a small arena and places at random.
class PageSourcePlacesTest : public tcx::testing::PageSourceTest {};
INSTANTIATE_TEST_SUITE_P(All, PageSourcePlacesTest,
                         ::testing::Values(tcx::testing::PageHeap,
                                           tcx::testing::Hpaa,
                                           tcx::testing::Reclaimer),
                         tcx::testing::PageSourceName);

// Runs of all lengths from an eighth of a megabyte to eight, for long: free
// memory stays of use for the next ones.
TEST_P(PageSourcePlacesTest, RunsThatComeAndGoFindPlacesAgain) {
  const size_t huge = TCX_HUGE_PAGE_SIZE / TCX_PAGE_SIZE;
  tcx_page_source_release(source_, SIZE_MAX);
  std::mt19937 random(5);
  std::vector<tcx_span *> spans(64);
  uint64_t in_use_max = 0;
  for (int step = 0; step < 4000; step++) {
    tcx_span *&span = spans[random() % spans.size()];
    if (span != nullptr)
      Deallocate(span);
    size_t pages = (huge / 16 + 1) << random() % 6;
    pages += random() % pages;
    span = Allocate(pages, pages > 2 * huge ? huge : 1);
    ASSERT_NE(span, nullptr);
    in_use_max = std::max(in_use_max, Stats().in_use_bytes);
  }
  EXPECT_LE(Stats().in_use_bytes + Stats().free_bytes, 2 * in_use_max);
  CheckStats();
  for (tcx_span *span : spans) {
    if (span != nullptr)
      Deallocate(span);
  }
}

}  // namespace

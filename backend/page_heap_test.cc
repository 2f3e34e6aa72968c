// page_heap_test.cc -- the page heap against a model, and on failing systems.
//
// Method: random operations against a std::map of what is live, the invariants
// walked as we go; then single decisions (which run, what merges, what is
// released), each on pages that nothing else in the process has.
#include "backend/page_heap.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <random>
#include <vector>

#include "backend/page_source.h"
#include "backend/system_allocator.h"
#include "base/config.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

namespace {

// One for the process: a page heap is never given up.
tcx_page_source *Heap() {
  static tcx_page_heap heap;
  static tcx_page_source *source = [] {
    tcx_system_start();
    return tcx_page_heap_init(&heap);
  }();
  return source;
}

tcx_span *Allocate(size_t pages, size_t align_pages = 1,
                   bool *is_zero = nullptr) {
  tcx_span *span = tcx_page_source_allocate(Heap(), pages, align_pages, 1);
  if (is_zero != nullptr) {
    *is_zero = span != nullptr && (span->flags & TCX_SPAN_ZERO) != 0;
  }
  return span;
}

void Deallocate(tcx_span *span) {
  tcx_page_source_deallocate(Heap(), span);
}

tcx_page_source_stats Stats() {
  tcx_page_source_stats stats;
  Heap()->ops->stats(Heap(), &stats);
  return stats;
}

void Check() {
  Heap()->ops->check(Heap());
}

// -- Random operations against a model ----------------------------------------

class Model {
 public:
  explicit Model(unsigned seed) : random_(seed) {
    in_use_ = Stats().in_use_bytes;
  }

  ~Model() {
    while (!live_.empty()) {
      Remove(live_.begin());
    }
    EXPECT_EQ(Stats().in_use_bytes, in_use_);
    Check();
  }

  void Step() {
    unsigned choice = random_() % 100;
    if (choice < 50) {
      if (live_.size() < 200) {
        Add(choice < 42 ? 1 : size_t{1} << random_() % 8);
      }
    } else if (choice < 85) {
      if (!live_.empty()) {
        Remove(Any());
      }
    } else if (choice < 97) {
      if (!live_.empty()) {
        Resize(Any());
      }
    } else {
      size_t bytes = (1 + random_() % 64) * TCX_PAGE_SIZE;
      uint64_t before = Stats().free_bytes;
      size_t released = tcx_page_source_release(Heap(), bytes);
      EXPECT_GE(released, std::min<uint64_t>(bytes, before));
      EXPECT_EQ(Stats().free_bytes, before - released);
    }
    EXPECT_EQ(Stats().in_use_bytes, in_use_ + pages_ * TCX_PAGE_SIZE);
  }

 private:
  struct Live {
    tcx_span *span;
    uint64_t number;
  };
  using Iterator = std::map<uint64_t, Live>::iterator;

  size_t SomePages() {
    switch (random_() % 8) {
      case 0:
        return 1 + random_() % 400;
      case 1:
        return 126 + random_() % 5;
      default:
        return 1 + random_() % 12;
    }
  }

  Iterator Any() {
    return std::next(live_.begin(),
                     static_cast<long>(random_() % live_.size()));
  }

  static uint64_t *First(const tcx_span *span) {
    return reinterpret_cast<uint64_t *>(tcx_span_start(span));
  }
  static uint64_t *Last(const tcx_span *span) {
    char *end = tcx_span_start(span) + tcx_span_bytes(span);
    return reinterpret_cast<uint64_t *>(end - sizeof(uint64_t));
  }

  // No overlap with what is live on both sides.
  void CheckPlace(Iterator it) {
    const tcx_span *span = it->second.span;
    ASSERT_EQ(it->first, span->first_page);
    if (it != live_.begin()) {
      const tcx_span *before = std::prev(it)->second.span;
      ASSERT_LE(before->first_page + before->pages, it->first);
    }
    auto after = std::next(it);
    ASSERT_TRUE(after == live_.end() ||
                it->first + span->pages <= after->first);
  }

  void Add(size_t align_pages) {
    size_t pages = SomePages();
    bool is_zero;
    tcx_span *span = Allocate(pages, align_pages, &is_zero);
    ASSERT_NE(span, nullptr);
    pages_ += pages;
    auto added = live_.insert({span->first_page, {span, ++numbers_}});
    ASSERT_TRUE(added.second);
    CheckPlace(added.first);
    if (is_zero) {
      for (size_t i = 0; i < tcx_span_bytes(span); i += 2048) {
        ASSERT_EQ(First(span)[i / sizeof(uint64_t)], 0u);
      }
      ASSERT_EQ(*Last(span), 0u);
    }
    *First(span) = *Last(span) = numbers_;
  }

  void Remove(Iterator it) {
    tcx_span *span = it->second.span;
    EXPECT_EQ(*First(span), it->second.number);
    EXPECT_EQ(*Last(span), it->second.number);
    pages_ -= span->pages;
    live_.erase(it);
    Deallocate(span);
  }

  void Resize(Iterator it) {
    tcx_span *span = it->second.span;
    size_t before = span->pages;
    size_t pages = random_() % 2 == 0 ? SomePages() : before + random_() % 4;
    bool ok = tcx_page_source_resize(Heap(), span, pages);
    EXPECT_TRUE(ok || pages > before);
    EXPECT_EQ(span->pages, ok ? pages : before);
    CheckPlace(it);
    EXPECT_EQ(*First(span), it->second.number);
    pages_ += span->pages;
    pages_ -= before;
    *First(span) = *Last(span) = it->second.number;
  }

  std::mt19937 random_;
  std::map<uint64_t, Live> live_;
  uint64_t numbers_ = 0;
  uint64_t pages_ = 0;
  uint64_t in_use_;
};

TEST(PageHeapTest, ShortRandomRunsCheckedAtEachStep) {
  for (unsigned seed = 1; seed <= 20; seed++) {
    Model model(seed);
    for (int i = 0; i < 100 && !::testing::Test::HasFatalFailure(); i++) {
      model.Step();
      Check();
    }
  }
}

TEST(PageHeapTest, LongRandomRun) {
  Model model(99);
  for (int i = 0; i < 20000 && !::testing::Test::HasFatalFailure(); i++) {
    model.Step();
    if (i % 100 == 0) {
      Check();
    }
  }
}

// -- Single decisions ---------------------------------------------------------

// Neighbouring spans of the given lengths, cut from one fresh run so long that
// nothing else can be beside them; the last is a fence.
std::vector<tcx_span *> Neighbours(const std::vector<size_t> &lengths) {
  size_t sum = 1;
  for (size_t pages : lengths) {
    sum += pages;
  }
  tcx_page_source_release(Heap(), SIZE_MAX);
  std::vector<tcx_span *> spans;
  tcx_span *whole = Allocate(sum + 1);
  EXPECT_NE(whole, nullptr);
  uint64_t at = whole->first_page;
  Deallocate(whole);
  // All other free runs are released, so these come from that one, in order.
  spans.push_back(Allocate(1));
  EXPECT_EQ(spans[0]->first_page, at);
  for (size_t pages : lengths) {
    spans.push_back(Allocate(pages));
  }
  spans.push_back(Allocate(1));
  EXPECT_EQ(spans.back()->first_page, at + sum);
  return spans;
}

TEST(PageHeapTest, MergesOnBothSides) {
  auto s = Neighbours({3, 4, 5});
  uint64_t first = s[1]->first_page;
  Deallocate(s[1]);
  Deallocate(s[3]);
  Check();
  EXPECT_EQ(tcx_pagemap_span_of_page(first)->pages, 3u);
  Deallocate(s[2]);
  Check();
  const tcx_span *merged = tcx_pagemap_span_of_page(first);
  EXPECT_EQ(merged->pages, 12u);
  EXPECT_EQ(merged->state, TCX_SPAN_FREE);
  EXPECT_EQ(tcx_pagemap_span_of_page(first + 11), merged);
  for (uint64_t page = first + 1; page < first + 11; page++) {
    EXPECT_EQ(tcx_pagemap_span_of_page(page), nullptr);
  }
  Deallocate(s[0]);
  Deallocate(s[4]);
}

TEST(PageHeapTest, BestFitAmongBackedRuns) {
  auto s = Neighbours({9, 1, 6, 1, 7, 1});
  uint64_t six = s[3]->first_page;
  Deallocate(s[1]);
  Deallocate(s[3]);
  Deallocate(s[5]);
  tcx_span *span = Allocate(6);
  EXPECT_EQ(span->first_page, six);
  Deallocate(span);
  span = Allocate(5);
  EXPECT_EQ(span->first_page, six);
  Deallocate(span);
  for (size_t i : {0, 2, 4, 6, 7}) {
    Deallocate(s[i]);
  }
  Check();
}

TEST(PageHeapTest, BackedBeforeReleased) {
  auto s = Neighbours({4, 1, 200, 1});
  uint64_t four = s[1]->first_page;
  uint64_t large = s[3]->first_page;
  Deallocate(s[1]);
  ASSERT_EQ(tcx_page_source_release(Heap(), SIZE_MAX), 4 * TCX_PAGE_SIZE);
  EXPECT_EQ(tcx_pagemap_span_of_page(four)->state, TCX_SPAN_RELEASED);
  Deallocate(s[3]);
  bool is_zero;
  tcx_span *span = Allocate(4, 1, &is_zero);
  EXPECT_EQ(span->first_page, large);
  EXPECT_FALSE(is_zero);
  Deallocate(span);
  for (size_t i : {0, 2, 4, 5}) {
    Deallocate(s[i]);
  }
  Check();
}

TEST(PageHeapTest, BackedAndReleasedStayApart) {
  auto s = Neighbours({4, 4});
  uint64_t first = s[1]->first_page;
  Deallocate(s[1]);
  tcx_page_source_release(Heap(), SIZE_MAX);
  Deallocate(s[2]);
  Check();
  EXPECT_EQ(tcx_pagemap_span_of_page(first)->pages, 4u);
  EXPECT_EQ(tcx_pagemap_span_of_page(first + 4)->pages, 4u);
  tcx_page_source_release(Heap(), SIZE_MAX);
  EXPECT_EQ(tcx_pagemap_span_of_page(first)->pages, 8u);
  Check();
  Deallocate(s[0]);
  Deallocate(s[3]);
}

TEST(PageHeapTest, ResizeTakesBackedAndReleasedPagesBehind) {
  auto s = Neighbours({2, 4, 4});
  Deallocate(s[2]);
  tcx_page_source_release(Heap(), SIZE_MAX);
  Deallocate(s[3]);
  EXPECT_FALSE(tcx_page_source_resize(Heap(), s[1], 11));
  EXPECT_EQ(s[1]->pages, 2u);
  ASSERT_TRUE(tcx_page_source_resize(Heap(), s[1], 8));
  Check();
  EXPECT_EQ(s[1]->pages, 8u);
  EXPECT_EQ(tcx_pagemap_span_of_page(s[1]->first_page + 7), s[1]);
  EXPECT_EQ(tcx_pagemap_span_of_page(s[1]->first_page + 8)->pages, 2u);
  ASSERT_TRUE(tcx_page_source_resize(Heap(), s[1], 10));
  Check();
  for (size_t i : {0, 1, 4}) {
    Deallocate(s[i]);
  }
}

TEST(PageHeapTest, FreshMemoryIsReleasedAndZero) {
  tcx_page_source_release(Heap(), SIZE_MAX);
  uint64_t mapped = Stats().mapped_bytes;
  // Longer than any free run.
  size_t pages = (Stats().released_bytes >> TCX_PAGE_SHIFT) + 1;
  bool is_zero;
  tcx_span *span = Allocate(pages, 1, &is_zero);
  ASSERT_NE(span, nullptr);
  EXPECT_TRUE(is_zero);
  EXPECT_GT(Stats().mapped_bytes, mapped);
  EXPECT_EQ(Stats().free_bytes, 0u);
  span->released_words = 5;  // Its last owner's: the check finds them.
  Deallocate(span);
  // Nobody touched it, but that is not known.
  EXPECT_EQ(Stats().free_bytes, pages * TCX_PAGE_SIZE);
  Check();
}

TEST(PageHeapTest, AlignedRequestWastesNoPages) {
  uint64_t in_use = Stats().in_use_bytes;
  for (size_t align = 2; align <= 4096; align *= 8) {
    tcx_span *span = Allocate(1, align);
    ASSERT_NE(span, nullptr);
    EXPECT_EQ(Stats().in_use_bytes, in_use + TCX_PAGE_SIZE);
    Check();
    Deallocate(span);
  }
}

TEST(PageHeapTest, ReleaseTakesTheEndOfTheLongestRun) {
  size_t huge = TCX_HUGE_PAGE_SIZE >> TCX_PAGE_SHIFT;
  auto s = Neighbours({4 * huge, 1, 2});
  uint64_t first = s[1]->first_page;
  uint64_t end = first + 4 * huge;
  Deallocate(s[1]);
  Deallocate(s[3]);
  size_t released = tcx_page_source_release(Heap(), 1);
  EXPECT_GE(released, TCX_PAGE_SIZE);
  EXPECT_LE(released, TCX_HUGE_PAGE_SIZE);
  EXPECT_EQ(tcx_pagemap_span_of_page(first)->state, TCX_SPAN_FREE);
  EXPECT_EQ(tcx_pagemap_span_of_page(end - 1)->state, TCX_SPAN_RELEASED);
  Check();
  for (size_t i : {0, 2, 4}) {
    Deallocate(s[i]);
  }
}

// -- Systems that refuse ------------------------------------------------------

tcx_os_calls failing = tcx_os_linux;

class FailingSystem {
 public:
  FailingSystem() {
    failing = tcx_os_linux;
  }
  ~FailingSystem() {
    tcx_os_install(&tcx_os_linux);
  }
  void Install() {
    tcx_os_install(&failing);
  }
};

TEST(PageHeapTest, RefusedReleaseKeepsTheRunBacked) {
  tcx_page_source_release(Heap(), SIZE_MAX);
  tcx_span *span = Allocate(8);
  Deallocate(span);
  uint64_t free_bytes = Stats().free_bytes;
  {
    FailingSystem system;
    failing.madvise = [](void *, size_t, int) -> intptr_t { return -EINVAL; };
    system.Install();
    EXPECT_EQ(tcx_page_source_release(Heap(), SIZE_MAX), 0u);
  }
  EXPECT_EQ(Stats().free_bytes, free_bytes);
  Check();
  EXPECT_EQ(tcx_page_source_release(Heap(), SIZE_MAX), free_bytes);
}

TEST(PageHeapTest, NoMemoryIsNullAndNothingIsLost) {
  tcx_page_source_stats before = Stats();
  std::vector<tcx_span *> spans;
  {
    FailingSystem system;
    failing.mmap = [](void *, size_t, int, int) -> intptr_t { return -ENOMEM; };
    failing.mprotect = [](void *, size_t, int) -> intptr_t { return -ENOMEM; };
    system.Install();
    errno = 4711;
    while (tcx_span *span = Allocate(16)) {
      spans.push_back(span);
    }
    EXPECT_EQ(Allocate(size_t{1} << 20), nullptr);
    EXPECT_EQ(errno, 4711);
    EXPECT_EQ(Stats().mapped_bytes, before.mapped_bytes);
    Check();
  }
  tcx_span *span = Allocate(16);
  EXPECT_NE(span, nullptr);
  Deallocate(span);
  for (tcx_span *s : spans) {
    Deallocate(s);
  }
  EXPECT_EQ(Stats().in_use_bytes, before.in_use_bytes);
  Check();
}

// Commits succeed, but there is no memory for a leaf of the pagemap.
TEST(PageHeapTest, PieceWithoutPagemapIsKept) {
  // More than any free run, so that the piece reaches into a new leaf.
  size_t pages =
      (Stats().mapped_bytes >> TCX_PAGE_SHIFT) + TCX_PAGEMAP_LEAF_PAGES;
  tcx_system_stats before;
  tcx_system_read_stats(&before);
  {
    FailingSystem system;
    failing.mmap = [](void *, size_t, int, int) -> intptr_t { return -ENOMEM; };
    system.Install();
    EXPECT_EQ(Allocate(pages), nullptr);
    EXPECT_EQ(Allocate(pages), nullptr);
    Check();
  }
  tcx_system_stats after;
  tcx_system_read_stats(&after);
  EXPECT_LE(after.committed_bytes - before.committed_bytes,
            pages * TCX_PAGE_SIZE + 32 * TCX_MIB);
  tcx_span *span = Allocate(pages);
  ASSERT_NE(span, nullptr);
  tcx_system_read_stats(&before);
  EXPECT_EQ(before.committed_bytes, after.committed_bytes);
  Deallocate(span);
  Check();
}

TEST(PageHeapTest, OnlyWholePagesOfTheSystemAreReleased) {
  const size_t unit = TCX_PAGE_SIZE < 65536 ? 65536 / TCX_PAGE_SIZE : 1;
  if (unit == 1) {
    GTEST_SKIP() << "pages of ours are at least as large";
  }
  auto s = Neighbours({4 * unit});
  uint64_t first = s[1]->first_page;
  uint64_t end = first + 4 * unit;
  uint64_t from = (first + unit - 1) / unit * unit;
  uint64_t to = end / unit * unit;
  Deallocate(s[1]);
  {
    FailingSystem system;
    failing.page_size = [] { return size_t{65536}; };
    system.Install();
    EXPECT_EQ(tcx_page_source_release(Heap(), SIZE_MAX),
              (to - from) * TCX_PAGE_SIZE);
  }
  Check();
  EXPECT_EQ(tcx_pagemap_span_of_page(from)->state, TCX_SPAN_RELEASED);
  EXPECT_EQ(tcx_pagemap_span_of_page(from)->pages, to - from);
  if (first < from) {
    EXPECT_EQ(tcx_pagemap_span_of_page(first)->state, TCX_SPAN_FREE);
  }
  if (to < end) {
    EXPECT_EQ(tcx_pagemap_span_of_page(end - 1)->state, TCX_SPAN_FREE);
  }
  Deallocate(s[0]);
  Deallocate(s[2]);
}

}  // namespace

// page_source_testing.cc -- see page_source_testing.h.
#include "backend/page_source_testing.h"

#include <errno.h>

#include <cstring>

#include "backend/fake_page_source.h"
#include "backend/hpaa/hpaa.h"
#include "backend/page_heap.h"
#include "backend/reclaimer.h"
#include "backend/system_allocator.h"
#include "base/clock.h"
#include "base/config.h"
#include "pagemap/pagemap.h"

namespace tcx {
namespace testing {

std::atomic<uint64_t> now_ms{uint64_t{1} << 40};

namespace {

constexpr int kCallsMax = 10000;

void StartSystem() {
  static bool is_started = [] {
    tcx_clock_install([] { return now_ms.load(); });
    tcx_system_start();
    return true;
  }();
  (void)is_started;
}

}  // namespace

tcx_page_source *PageHeap() {
  static tcx_page_heap heap;
  static tcx_page_source *source = [] {
    StartSystem();
    return tcx_page_heap_init(&heap);
  }();
  return source;
}

tcx_page_source *Hpaa() {
  static tcx_hpaa heap;
  static tcx_page_source *source = [] {
    StartSystem();
    return tcx_hpaa_init(&heap);
  }();
  return source;
}

// Around the page heap; nothing lies above it.
tcx_page_source *Reclaimer() {
  static tcx_reclaimer reclaimer;
  static const tcx_reclaimer_hooks hooks = {
      [](bool) {},
      [](uint64_t, size_t, bool) { return size_t{0}; },
      [] { return uint64_t{0}; },
      [](uint64_t) { return UINT64_MAX; },
      [](bool) {},
      [] {}};
  static tcx_page_source *source =
      tcx_reclaimer_init(&reclaimer, PageHeap(), &hooks);
  return source;
}

tcx_page_source *Fake() {
  StartSystem();
  static FakePageSource fake;
  return fake.get();
}

std::string PageSourceName(
    const ::testing::TestParamInfo<PageSourceFactory> &factory) {
  static const char *const names[] = {"PageHeap", "Hpaa", "Fake", "Reclaimer"};
  return names[factory.index];
}

void PageSourceTest::SetUp() {
  source_ = GetParam()();
  in_use_ = Stats().in_use_bytes;
  errno = 4711;
}

void PageSourceTest::TearDown() {
  EXPECT_EQ(errno, 4711);
  CheckStats();
  EXPECT_EQ(Stats().in_use_bytes, in_use_) << "the test leaks";
}

tcx_page_source_stats PageSourceTest::Stats() {
  tcx_page_source_stats stats;
  source_->ops->stats(source_, &stats);
  return stats;
}

void PageSourceTest::CheckStats() {
  source_->ops->check(source_);
  tcx_page_source_stats stats = Stats();
  EXPECT_EQ(stats.mapped_bytes,
            stats.in_use_bytes + stats.free_bytes + stats.released_bytes);
}

void PageSourceTest::ExpectNew(const tcx_span *span, size_t pages,
                               size_t align) {
  EXPECT_EQ(span->pages, pages);
  EXPECT_EQ(span->first_page % align, 0u);
  EXPECT_EQ(span->state, TCX_SPAN_LARGE);
  EXPECT_EQ(span->size_class, 0);
  EXPECT_EQ(span->flags & ~TCX_SPAN_ZERO, 0);
  EXPECT_EQ(tcx_pagemap_span_of_page(span->first_page), span);
  EXPECT_EQ(tcx_pagemap_span_of_page(span->first_page + pages - 1), span);
  EXPECT_EQ(tcx_pagemap_class_byte(tcx_span_start(span)), 0u);
}

tcx_span *PageSourceTest::Allocate(size_t pages, size_t align, bool *is_zero) {
  tcx_span *span = tcx_page_source_allocate(source_, pages, align, 1);
  if (span == nullptr) {
    return nullptr;
  }
  ExpectNew(span, pages, align);
  if (is_zero != nullptr) {
    *is_zero = (span->flags & TCX_SPAN_ZERO) != 0;
  }
  return span;
}

void PageSourceTest::Deallocate(tcx_span *span) {
  tcx_page_source_deallocate(source_, span);
}

// -- Release ------------------------------------------------------------------

uint64_t PageSourceTest::DueMs() {
  uint64_t due_ms = source_->ops->due_ms(source_, now_ms);
  EXPECT_GE(due_ms, now_ms);
  return due_ms;
}

// What is mended by the way may come to have memory again.
size_t PageSourceTest::Maintain(size_t bytes_max) {
  tcx_page_source_stats before = Stats();
  size_t bytes = source_->ops->maintain(source_, now_ms, bytes_max, true);
  tcx_page_source_stats after = Stats();
  EXPECT_GE(after.free_bytes, before.free_bytes - bytes);
  EXPECT_LE(after.released_bytes, before.released_bytes + bytes);
  EXPECT_EQ(after.in_use_bytes, before.in_use_bytes);
  CheckStats();
  return bytes;
}

size_t PageSourceTest::MaintainFor(uint64_t ms) {
  size_t bytes = 0;
  uint64_t end_ms = now_ms + ms;
  uint64_t due_ms = DueMs();
  int calls = 0;
  while (due_ms <= end_ms && calls < kCallsMax) {
    now_ms = due_ms;
    bytes += Maintain();
    due_ms = DueMs();
    calls++;
  }
  EXPECT_LT(calls, kCallsMax) << "due for ever";
  now_ms = end_ms;
  return bytes;
}

bool PageSourceTest::ReleasePart(tcx_span *span, size_t offset, size_t bytes) {
  span->state = TCX_SPAN_SMALL;
  bool is_released = source_->ops->release_part(
      source_, span, tcx_span_start(span) + offset, bytes, now_ms);
  span->state = TCX_SPAN_LARGE;
  return is_released;
}

// -- What is in a span --------------------------------------------------------

void PageSourceTest::Stamp(const tcx_span *span, uint64_t number) {
  for (uint32_t i = 0; i < span->pages; i++) {
    char *page = tcx_span_start(span) + i * TCX_PAGE_SIZE;
    memcpy(page, &number, sizeof(number));
    memcpy(page + TCX_PAGE_SIZE - sizeof(number), &number, sizeof(number));
  }
}

bool PageSourceTest::HasStamp(const tcx_span *span, uint64_t number,
                              size_t pages) {
  for (size_t i = 0; i < pages; i++) {
    const char *page = tcx_span_start(span) + i * TCX_PAGE_SIZE;
    if (memcmp(page, &number, sizeof(number)) != 0 ||
        memcmp(page + TCX_PAGE_SIZE - sizeof(number), &number,
               sizeof(number)) != 0) {
      return false;
    }
  }
  return true;
}

bool PageSourceTest::IsZero(const tcx_span *span) {
  const char *start = tcx_span_start(span);
  for (size_t i = 0; i < tcx_span_bytes(span); i += 8) {
    uint64_t word;
    memcpy(&word, start + i, sizeof(word));
    if (word != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace testing
}  // namespace tcx

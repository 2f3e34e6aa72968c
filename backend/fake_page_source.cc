// fake_page_source.cc -- see fake_page_source.h.
#include "backend/fake_page_source.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <thread>
#include <vector>

#include "backend/metadata.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

namespace tcx {
namespace testing {
namespace {

constexpr size_t kArenaPages = (size_t{256} << 20) >> TCX_PAGE_SHIFT;
constexpr size_t kArenaBytes = kArenaPages << TCX_PAGE_SHIFT;
constexpr int kPlacementTries = 32;
constexpr size_t kOverwriteBytes = 256;  // of each freed page
constexpr uint64_t kKeepMs = 2000;

char *PageAddress(uint64_t page) {
  return reinterpret_cast<char *>(page << TCX_PAGE_SHIFT);
}

bool IsZeroPage(uint64_t page) {
  static const char zero[TCX_PAGE_SIZE] = {};
  return memcmp(PageAddress(page), zero, sizeof(zero)) == 0;
}

}  // namespace

struct FakePageSource::Ops {
  static FakePageSource *Self(tcx_page_source *source) {
    return reinterpret_cast<Base *>(source)->self;
  }
  static tcx_span *Allocate(tcx_page_source *source,
                            const tcx_page_request *request) {
    return Self(source)->AllocateSome(*request);
  }
  static void Deallocate(tcx_page_source *source, tcx_span *spans) {
    while (spans != nullptr) {
      tcx_span *span = spans;
      spans = span->next;
      Self(source)->Deallocate(span);
    }
  }
  static bool Resize(tcx_page_source *source, tcx_span *span, size_t pages) {
    return Self(source)->Resize(span, pages);
  }
  static size_t Release(tcx_page_source *source, size_t bytes,
                        tcx_page_release kind) {
    return Self(source)->Release(bytes, kind);
  }
  static size_t Maintain(tcx_page_source *source, uint64_t now_ms,
                         size_t bytes_max, bool may_grow) {
    Self(source)->may_grow_ = may_grow;
    return Self(source)->Maintain(now_ms, bytes_max);
  }
  static uint64_t DueMs(tcx_page_source *source, uint64_t now_ms) {
    return Self(source)->DueMs(now_ms);
  }
  static bool ReleasePart(tcx_page_source *source, const tcx_span *span,
                          void *start, size_t bytes, uint64_t) {
    return Self(source)->ReleasePart(span, start, bytes);
  }
  static void Stats(tcx_page_source *source, tcx_page_source_stats *out) {
    Self(source)->Stats(out);
    // Who acts on them may find that others have, first.
    std::this_thread::yield();
  }
  static void Lock(tcx_page_source *source) {
    Self(source)->mutex_.lock();
  }
  static void Unlock(tcx_page_source *source) {
    Self(source)->mutex_.unlock();
  }
  static void Check(tcx_page_source *source) {
    Self(source)->Check();
  }

  static constexpr tcx_page_source_ops kTable = {
      "fake",  Allocate, Deallocate, Resize,      nullptr,
      Release, Maintain, DueMs,      ReleasePart, nullptr,
      Stats,   Lock,     Unlock,     Unlock,      Check};
};

constexpr tcx_page_source_ops FakePageSource::Ops::kTable;

FakePageSource::FakePageSource() {
  base_.source.ops = &Ops::kTable;
  base_.self = this;
  arena_ = static_cast<char *>(
      tcx_os_reserve_aligned(kArenaBytes, TCX_HUGE_PAGE_SIZE));
  TCX_CHECK(arena_ != nullptr);
  TCX_CHECK(tcx_os_commit(arena_, kArenaBytes) == 0);
  TCX_CHECK(
      tcx_pagemap_ensure(reinterpret_cast<uintptr_t>(arena_), kArenaBytes));
  free_[reinterpret_cast<uintptr_t>(arena_) >> TCX_PAGE_SHIFT] = kArenaPages;
}

FakePageSource::~FakePageSource() {
  for (tcx_span *span : live_) {
    for (uint64_t i = 0; i < span->pages; i++) {
      tcx_pagemap_set_span(span->first_page + i, nullptr);
    }
    tcx_metadata_span_free(span);
  }
  tcx_os_unmap(arena_, kArenaBytes);
}

void FakePageSource::FailAfter(size_t count) {
  std::lock_guard<std::mutex> guard(mutex_);
  left_ = count;
}

size_t FakePageSource::allocations() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return allocations_;
}

size_t FakePageSource::live_spans() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return live_.size();
}

// A free run chosen at random, and a place in it; after some tries the first
// place that fits.
bool FakePageSource::Find(const tcx_page_request &request, uint64_t *first) {
  std::vector<std::pair<uint64_t, size_t>> runs(free_.begin(), free_.end());
  for (size_t i = 0; i < kPlacementTries + runs.size(); i++) {
    bool is_random = i < kPlacementTries && !runs.empty();
    auto run =
        is_random ? runs[random_() % runs.size()] : runs[i - kPlacementTries];
    if (run.second < request.pages) {
      continue;
    }
    uint64_t slack =
        is_random ? random_() % (run.second - request.pages + 1) : 0;
    uint64_t at = tcx_align_up(run.first + slack, request.align_pages);
    if (at + request.pages <= run.first + run.second) {
      *first = at;
      return true;
    }
  }
  return false;
}

void FakePageSource::AddFree(uint64_t first, size_t pages, bool is_zero) {
  for (uint64_t page = first; page < first + pages; page++) {
    if (is_zero) {
      TCX_CHECK(IsZeroPage(page));
      continue;
    }
    memset(PageAddress(page), 0xdf, kOverwriteBytes);
    written_[page] = tcx_clock_ms();
  }
  auto after = free_.lower_bound(first);
  if (after != free_.end() && after->first == first + pages) {
    pages += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == first) {
      before->second += pages;
      return;
    }
  }
  free_[first] = pages;
}

// [first, first + pages) lies in one free run.
void FakePageSource::TakeFree(uint64_t first, size_t pages) {
  auto run = std::prev(free_.upper_bound(first));
  uint64_t start = run->first;
  uint64_t end = start + run->second;
  TCX_CHECK(start <= first && first + pages <= end);
  free_.erase(run);
  if (start < first) {
    free_[start] = first - start;
  }
  if (first + pages < end) {
    free_[first + pages] = end - (first + pages);
  }
}

// As many of those that are welcome as chance will have it.
tcx_span *FakePageSource::AllocateSome(const tcx_page_request &request) {
  std::lock_guard<std::mutex> guard(mutex_);
  tcx_span *spans = Allocate(request);
  tcx_span *last = spans;
  for (size_t left = random_() % (request.more + 1); left > 0; left--) {
    if (last == nullptr)
      break;
    last->next = Allocate(request);
    last = last->next;
  }
  return spans;
}

tcx_span *FakePageSource::Allocate(const tcx_page_request &request) {
  uint64_t first;
  if (left_ == 0 || request.pages > kArenaPages || !Find(request, &first)) {
    return nullptr;
  }
  tcx_span *span = tcx_metadata_span_allocate();
  if (span == nullptr) {
    return nullptr;
  }
  if (left_ != SIZE_MAX) {
    left_--;
  }
  TakeFree(first, request.pages);
  auto written = written_.lower_bound(first);
  bool is_zero =
      written == written_.end() || written->first >= first + request.pages;
  written_.erase(written, written_.lower_bound(first + request.pages));
  span->first_page = first;
  span->pages = static_cast<uint32_t>(request.pages);
  span->state = TCX_SPAN_LARGE;
  span->flags = is_zero ? TCX_SPAN_ZERO : 0;
  tcx_pagemap_set_ends(span);
  live_.insert(span);
  allocations_++;
  return span;
}

void FakePageSource::Deallocate(tcx_span *span) {
  std::lock_guard<std::mutex> guard(mutex_);
  TCX_CHECK(live_.erase(span) == 1);
  TCX_CHECK(span->size_class == 0);
  deallocations_++;
  tcx_pagemap_clear_ends(span);
  for (uint64_t i = 0; i < span->pages; i++) {
    TCX_CHECK(tcx_pagemap_span_of_page(span->first_page + i) == nullptr);
    TCX_CHECK(tcx_pagemap_class_byte(PageAddress(span->first_page + i)) == 0);
  }
  AddFree(span->first_page, span->pages, (span->flags & TCX_SPAN_MOVED) != 0);
  tcx_metadata_span_free(span);
}

bool FakePageSource::Resize(tcx_span *span, size_t pages) {
  std::lock_guard<std::mutex> guard(mutex_);
  TCX_CHECK(live_.count(span) == 1);
  uint64_t end = span->first_page + span->pages;
  if (pages > span->pages) {
    size_t more = pages - span->pages;
    auto behind = free_.find(end);
    if (behind == free_.end() || behind->second < more) {
      return false;
    }
    TakeFree(end, more);
    written_.erase(written_.lower_bound(end), written_.lower_bound(end + more));
  }
  tcx_pagemap_clear_ends(span);
  if (pages < span->pages) {
    AddFree(span->first_page + pages, span->pages - pages, false);
  }
  span->pages = static_cast<uint32_t>(pages);
  span->flags = 0;
  tcx_pagemap_set_ends(span);
  return true;
}

void FakePageSource::RefuseReleases(bool refuses) {
  std::lock_guard<std::mutex> guard(mutex_);
  refuses_releases_ = refuses;
}

// Of the pages freed up to then, lowest address first.
size_t FakePageSource::ReleaseFreedBy(uint64_t ms, size_t bytes) {
  size_t released = 0;
  auto it = written_.begin();
  while (!refuses_releases_ && released < bytes && it != written_.end()) {
    if (it->second > ms) {
      it++;
      continue;
    }
    memset(PageAddress(it->first), 0, TCX_PAGE_SIZE);
    it = written_.erase(it);
    released += TCX_PAGE_SIZE;
  }
  return released;
}

void FakePageSource::SetFragmented(size_t pages) {
  std::lock_guard<std::mutex> guard(mutex_);
  fragmented_ = pages;
}

size_t FakePageSource::KeptPages() const {
  return written_.size() - std::min(written_.size(), fragmented_);
}

size_t FakePageSource::Release(size_t bytes, tcx_page_release kind) {
  std::lock_guard<std::mutex> guard(mutex_);
  last_release_ = kind;
  if (kind == TCX_PAGE_RELEASE_KEPT)
    bytes = std::min(bytes, KeptPages() << TCX_PAGE_SHIFT);
  return ReleaseFreedBy(UINT64_MAX, bytes);
}

size_t FakePageSource::Maintain(uint64_t now_ms, size_t bytes_max) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (now_ms < kKeepMs) {
    return 0;
  }
  // What is refused waits once more.
  for (auto &page : written_) {
    if (refuses_releases_ && page.second <= now_ms - kKeepMs) {
      page.second = now_ms;
    }
  }
  return ReleaseFreedBy(now_ms - kKeepMs, bytes_max);
}

uint64_t FakePageSource::DueMs(uint64_t now_ms) const {
  std::lock_guard<std::mutex> guard(mutex_);
  uint64_t due_ms = UINT64_MAX;
  for (const auto &page : written_) {
    due_ms = std::min(due_ms, std::max(page.second + kKeepMs, now_ms));
  }
  return due_ms;
}

bool FakePageSource::ReleasePart(const tcx_span *span, void *start,
                                 size_t bytes) {
  std::lock_guard<std::mutex> guard(mutex_);
  char *from = static_cast<char *>(start);
  TCX_CHECK(live_.count(const_cast<tcx_span *>(span)) == 1);
  TCX_CHECK(span->state == TCX_SPAN_SMALL);
  TCX_CHECK(from >= tcx_span_start(span));
  TCX_CHECK(from + bytes <= tcx_span_start(span) + tcx_span_bytes(span));
  TCX_CHECK(reinterpret_cast<uintptr_t>(from) % tcx_os_page_size() == 0);
  TCX_CHECK(bytes > 0 && bytes % tcx_os_page_size() == 0);
  return !refuses_releases_ && tcx_os_release(start, bytes) == 0;
}

uint64_t FakePageSource::FreePages() const {
  uint64_t pages = 0;
  for (const auto &run : free_) {
    pages += run.second;
  }
  return pages;
}

void FakePageSource::Stats(tcx_page_source_stats *out) const {
  std::lock_guard<std::mutex> guard(mutex_);
  uint64_t live = 0;
  for (const tcx_span *span : live_) {
    live += span->pages;
  }
  *out = tcx_page_source_stats();
  out->mapped_bytes = kArenaBytes;
  out->in_use_bytes = live << TCX_PAGE_SHIFT;
  out->free_bytes = static_cast<uint64_t>(written_.size()) << TCX_PAGE_SHIFT;
  out->kept_bytes = static_cast<uint64_t>(KeptPages()) << TCX_PAGE_SHIFT;
  out->fragmented_bytes = out->free_bytes - out->kept_bytes;
  out->released_bytes = (FreePages() - written_.size()) << TCX_PAGE_SHIFT;
  out->spans_allocated = allocations_;
  out->spans_deallocated = deallocations_;
}

void FakePageSource::Check() const {
  std::lock_guard<std::mutex> guard(mutex_);
  uint64_t pages = FreePages();
  for (const tcx_span *span : live_) {
    uint64_t last = span->first_page + span->pages - 1;
    TCX_CHECK(tcx_pagemap_span_of_page(span->first_page) == span);
    TCX_CHECK(tcx_pagemap_span_of_page(last) == span);
    pages += span->pages;
  }
  TCX_CHECK(pages == kArenaPages);
  TCX_CHECK(allocations_ - deallocations_ == live_.size());
  for (const auto &page : written_) {
    auto run = free_.upper_bound(page.first);
    TCX_CHECK(run != free_.begin());
    run--;
    TCX_CHECK(page.first < run->first + run->second);
  }
}

}  // namespace testing
}  // namespace tcx

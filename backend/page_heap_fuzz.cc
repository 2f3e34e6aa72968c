// Fuzz target of the page heap, over the real system allocator, on a system
// whose calls fail when the input says so.
//
// Model: a map of the live spans, each with a tag in its pages, so that two
// that overlap, or a page wrongly known to be zero, are seen. A request may
// fail only while system calls do, and then nothing has changed. The walk of
// the invariants follows each step.
//
// Time is simulated, and goes on by order of the input. What may be given back
// by demand is bounded by what was free at each step of the last two seconds.
//
// A process has one page heap. So that an input does the same whatever ran
// before it, all that is free at its end is taken and kept: the next input
// starts with a heap that must grow.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>

#include "backend/page_heap.h"
#include "backend/page_source.h"
#include "backend/system_allocator.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/config.h"
#include "pagemap/pagemap.h"
#include "testing/fuzz_input.h"
#include "testing/fuzz_system.h"

namespace {

using tcx::testing::FailingSystem;
using tcx::testing::FuzzInput;

constexpr size_t kLivePagesMax = (32 * TCX_MIB) >> TCX_PAGE_SHIFT;
// Steps of the system allocator have their full length from here on.
constexpr size_t kFirstPages = (512 * TCX_MIB) >> TCX_PAGE_SHIFT;
// A heap so large keeps what is free.
constexpr uint64_t kMappedMax = uint64_t{1} << 40;

// -- The heap -----------------------------------------------------------------

FailingSystem *the_system;
uint64_t now_ms = uint64_t{1} << 40;
tcx_page_source *heap;
size_t kept_pages;  // by TakeWhatIsFree

tcx_page_source_stats Stats() {
  tcx_page_source_stats stats;
  heap->ops->stats(heap, &stats);
  return stats;
}

// Without growing the heap: no call of the system succeeds meanwhile.
void TakeWhatIsFree() {
  TCX_CHECK(tcx_page_source_release(heap, SIZE_MAX) == 0 ||
            Stats().free_bytes == 0);
  tcx_page_source_stats stats = Stats();
  size_t missing = stats.released_bytes >> TCX_PAGE_SHIFT;
  if (stats.mapped_bytes > kMappedMax)
    return;
  the_system->FailAll(UINT32_MAX);
  for (size_t pages = missing; pages > 0;) {
    if (tcx_page_source_allocate(heap, pages, 1, 1) != nullptr) {
      kept_pages += pages;
      missing -= pages;
    } else {
      pages = (pages + 1) / 2;
    }
    if (pages > missing)
      pages = missing;
  }
  the_system->FailAll(0);
}

void StartHeap() {
  static tcx_page_heap static_heap;
  the_system = new FailingSystem;
  tcx_clock_install([] { return now_ms; });
  tcx_system_start();
  heap = tcx_page_heap_init(&static_heap);
  TCX_CHECK(tcx_page_source_allocate(heap, kFirstPages, 1, 1) != nullptr);
  kept_pages = kFirstPages;
  TakeWhatIsFree();
}

// -- The model ----------------------------------------------------------------

class Model {
 public:
  void Add(size_t pages, size_t align_pages) {
    if (pages_ + pages > kLivePagesMax)
      return;
    bool may_fail = the_system->may_fail();
    tcx_span *span = tcx_page_source_allocate(heap, pages, align_pages, 1);
    TCX_CHECK(span != nullptr || may_fail);
    if (span == nullptr)
      return;
    pages_ += pages;
    auto it = live_.insert({span->first_page, {span, ++last_tag_}});
    TCX_CHECK(it.second);
    CheckPlace(it.first);
    if ((span->flags & TCX_SPAN_ZERO) != 0)
      CheckPages(span, pages, 0);
    WritePages(it.first->second, 0);
  }

  void Remove(size_t index) {
    auto it = Nth(index);
    const Live &live = it->second;
    CheckPages(live.span, live.span->pages, live.tag);
    pages_ -= live.span->pages;
    tcx_page_source_deallocate(heap, live.span);
    live_.erase(it);
  }

  void Resize(size_t index, size_t pages) {
    auto it = Nth(index);
    const Live &live = it->second;
    size_t old_pages = live.span->pages;
    if (pages_ - old_pages + pages > kLivePagesMax)
      return;
    bool may_fail = the_system->may_fail();
    bool is_done = tcx_page_source_resize(heap, live.span, pages);
    // Growing needs free pages behind the span, shrinking needs nothing.
    TCX_CHECK(is_done || pages > old_pages || may_fail);
    TCX_CHECK(live.span->pages == (is_done ? pages : old_pages));
    pages_ = pages_ - old_pages + live.span->pages;
    CheckPlace(it);
    size_t same = old_pages < live.span->pages ? old_pages : live.span->pages;
    CheckPages(live.span, same, live.tag);
    WritePages(live, same);
  }

  void Release(size_t bytes) {
    uint64_t free_bytes = Stats().free_bytes;
    bool may_fail = the_system->may_fail();
    size_t released = tcx_page_source_release(heap, bytes);
    uint64_t expected = bytes < free_bytes ? bytes : free_bytes;
    TCX_CHECK(released >= expected || may_fail);
    TCX_CHECK(Stats().free_bytes == free_bytes - released);
  }

  void Sleep(uint64_t ms) {
    now_ms += ms;
  }

  void Maintain(size_t bytes_max) {
    uint64_t free_bytes = Stats().free_bytes;
    bool may_fail = the_system->may_fail();
    uint64_t due_ms = heap->ops->due_ms(heap, now_ms);
    TCX_CHECK((due_ms == UINT64_MAX) == (free_bytes == 0));
    size_t released = heap->ops->maintain(heap, now_ms, bytes_max, true);
    TCX_CHECK(released <= LeastFree());
    TCX_CHECK(released <= bytes_max);
    TCX_CHECK((released > 0) == (due_ms <= now_ms && bytes_max > 0) ||
              may_fail);
    TCX_CHECK(Stats().free_bytes == free_bytes - released);
    // It does not ask to be called at once for nothing.
    TCX_CHECK(released >= bytes_max ||
              heap->ops->due_ms(heap, now_ms) > now_ms);
    for (auto &free_then : free_)
      free_then.second -= std::min<uint64_t>(free_then.second, released);
  }

  // After each step.
  void NoteFree() {
    free_[now_ms] = free_.count(now_ms) > 0
                        ? std::min(free_[now_ms], Stats().free_bytes)
                        : Stats().free_bytes;
    free_.erase(free_.begin(),
                free_.lower_bound(now_ms - 2 * TCX_LOW_WATER_KEEP_MS));
  }

  void Check() const {
    heap->ops->check(heap);
    tcx_system_check();
    tcx_page_source_stats stats = Stats();
    TCX_CHECK(stats.in_use_bytes == (kept_pages + pages_) << TCX_PAGE_SHIFT);
    TCX_CHECK(stats.mapped_bytes ==
              stats.in_use_bytes + stats.free_bytes + stats.released_bytes);
  }

  size_t spans() const {
    return live_.size();
  }

 private:
  struct Live {
    tcx_span *span;
    uint64_t tag;
  };
  using Iterator = std::map<uint64_t, Live>::iterator;

  Iterator Nth(size_t index) {
    return std::next(live_.begin(), static_cast<long>(index));
  }

  void CheckPlace(Iterator it) const {
    const tcx_span *span = it->second.span;
    uint64_t end = span->first_page + span->pages;
    TCX_CHECK(tcx_pagemap_span_of_page(span->first_page) == span);
    TCX_CHECK(tcx_pagemap_span_of_page(end - 1) == span);
    auto after = std::next(it);
    TCX_CHECK(after == live_.end() || end <= after->first);
    if (it != live_.begin()) {
      const tcx_span *before = std::prev(it)->second.span;
      TCX_CHECK(before->first_page + before->pages <= it->first);
    }
  }

  static uint64_t *Page(const tcx_span *span, size_t index) {
    char *start = tcx_span_start(span) + (index << TCX_PAGE_SHIFT);
    return reinterpret_cast<uint64_t *>(start);
  }
  // Not every page of a long span: it would only cost time.
  static bool IsTagged(const tcx_span *span, size_t index) {
    return index < 8 || (span->first_page + index) % 8 == 0;
  }
  static void CheckPages(const tcx_span *span, size_t end, uint64_t tag) {
    for (size_t i = 0; i < end; i++)
      TCX_CHECK(!IsTagged(span, i) || *Page(span, i) == tag);
  }
  static void WritePages(const Live &live, size_t first) {
    for (size_t i = first; i < live.span->pages; i++) {
      if (IsTagged(live.span, i))
        *Page(live.span, i) = live.tag;
    }
  }

  // The least that was free after a step within the time to keep.
  uint64_t LeastFree() const {
    uint64_t least = UINT64_MAX;
    auto it = free_.lower_bound(now_ms - TCX_LOW_WATER_KEEP_MS);
    for (; it != free_.end(); it++)
      least = std::min(least, it->second);
    return least;
  }

  std::map<uint64_t, Live> live_;      // by first page
  std::map<uint64_t, uint64_t> free_;  // bytes at a time
  uint64_t last_tag_ = 0;
  size_t pages_ = 0;
};

void Step(Model *model, FuzzInput *input) {
  unsigned choice = input->Byte() % 32;
  size_t pages = 1 + input->Size(choice % 2 == 0 ? 4 : 9);
  if (choice < 12) {
    size_t align_pages = choice < 9 ? 1 : size_t{1} << input->Below(10);
    model->Add(pages, align_pages);
  } else if (choice < 22 && model->spans() > 0) {
    model->Remove(input->Below(model->spans()));
  } else if (choice < 26 && model->spans() > 0) {
    model->Resize(input->Below(model->spans()), pages);
  } else if (choice < 28) {
    model->Sleep(input->Size(12));
  } else if (choice == 28) {
    model->Release(pages * TCX_PAGE_SIZE);
  } else if (choice == 29) {
    model->Maintain(input->Byte() % 2 == 0 ? SIZE_MAX : pages * TCX_PAGE_SIZE);
  } else if (choice == 30) {
    the_system->FailSome(input);
  } else {
    the_system->FailAll(0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  if (heap == nullptr)
    StartHeap();
  FuzzInput input(data, bytes);
  Model model;
  while (!input.empty()) {
    Step(&model, &input);
    model.NoteFree();
    model.Check();
  }
  the_system->FailAll(0);
  while (model.spans() > 0)
    model.Remove(0);
  TakeWhatIsFree();
  model.Check();
  return 0;
}

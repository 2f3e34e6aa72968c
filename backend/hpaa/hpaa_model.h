// hpaa_model.h -- for tests: the whole back end beside a map of what is live.
//
// Every input starts with a new heap in the same place, on a machine, with a
// clock and system calls that do what the input says. A page of a live span
// holds the span's tag, so that two that overlap, memory that goes back while
// in use, or a page wrongly known to be zero, are seen. Ends the process where
// something is wrong, so that it serves a fuzz target too.
#ifndef TCX_BACKEND_HPAA_HPAA_MODEL_H_
#define TCX_BACKEND_HPAA_HPAA_MODEL_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>

#include "backend/hpaa/hpaa.h"
#include "backend/page_source.h"
#include "backend/system_allocator.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/os.h"
#include "pagemap/pagemap.h"
#include "testing/fuzz_input.h"
#include "testing/fuzz_system.h"

namespace tcx {
namespace testing {

// The heap, and what it takes memory from.
class HpaaWorld {
 public:
  static HpaaWorld *Get() {
    static HpaaWorld *world = new HpaaWorld;
    return world;
  }

  // A new heap; the old one must be empty.
  void Start(tcx_huge_thp thp, uint64_t choice) {
    system.FailAll(0);
    (void)tcx_os_linux.madvise(arena_, used_, MADV_DONTNEED);
    for (size_t at = 0; at < used_; at += TCX_HUGE_PAGE_SIZE)
      tcx_pagemap_set_huge_note(
          (reinterpret_cast<uintptr_t>(arena_) + at) >> TCX_HUGE_PAGE_SHIFT,
          nullptr);
    used_ = 0;
    memset(&heap, 0, sizeof(heap));
    source = tcx_hpaa_init(&heap);
    heap.fresh.allocate = [](size_t bytes) { return Get()->Piece(bytes); };
    tcx_huge_machine machine = {thp, 65530};
    tcx_huge_policy_init(&heap.policy, &machine, choice);
  }

  bool may_fail() const {
    return system.may_fail() || is_arena_full_;
  }

  FailingSystem system;
  uint64_t now_ms = 1000000;
  tcx_hpaa heap;
  tcx_page_source *source = nullptr;

 private:
  static constexpr size_t kArenaBytes = 2 * TCX_GIB;

  HpaaWorld() {
    void *place = tcx_os_reserve_aligned(kArenaBytes, TCX_GIB);
    TCX_CHECK(place != nullptr);
    arena_ = static_cast<char *>(place);
    TCX_CHECK(tcx_os_commit(arena_, kArenaBytes) == 0);
    TCX_CHECK(
        tcx_pagemap_ensure(reinterpret_cast<uintptr_t>(arena_), kArenaBytes));
    tcx_clock_install([] { return Get()->now_ms; });
  }

  // As the system allocator: neighbours, in steps that are no huge pages.
  tcx_system_piece Piece(size_t bytes_min) {
    size_t step = tcx_max_size(bytes_min, TCX_MIB);
    size_t bytes = tcx_align_up(step, tcx_max_size(65536, TCX_PAGE_SIZE));
    is_arena_full_ = bytes > kArenaBytes - used_;
    bool is_refused =
        is_arena_full_ || tcx_os_commit(arena_ + used_, bytes) != 0;
    if (is_refused)
      return {nullptr, 0};
    used_ += bytes;
    return {arena_ + used_ - bytes, bytes};
  }

  char *arena_;
  size_t used_ = 0;
  bool is_arena_full_ = false;
};

class HpaaModel {
 public:
  explicit HpaaModel(FuzzInput *input) : world_(HpaaWorld::Get()) {
    unsigned kind = input->Byte();
    world_->Start(static_cast<tcx_huge_thp>(kind % 3), kind / 3 % 3);
    // Ends that nobody uses, so that regions are made.
    size_t runs = kind >= 128 ? TCX_HPAA_SLACK_BYTES / TCX_HUGE_BYTES + 2 : 0;
    for (size_t i = 0; i < runs; i++)
      Add(kP + 1, 1, 1, 0);
  }

  ~HpaaModel() {
    world_->system.FailAll(0);
    while (!live_.empty())
      Remove(0, 0, false);
    world_->now_ms += 100000;
    Release(SIZE_MAX);
    TCX_CHECK(Stats().free_bytes == 0);
    Check();
  }

  void Step(FuzzInput *input) {
    unsigned choice = input->Byte() % 32;
    if (choice < 13) {
      size_t align = choice < 10 ? 1 : size_t{1} << input->Below(11);
      unsigned more = choice < 4 ? input->Byte() % 16 : 0;
      Add(SomePages(input), align, choice % 2 == 0 ? 1 : 100, more);
    } else if (choice < 21 && !live_.empty()) {
      size_t more = choice < 16 ? input->Byte() % 8 : 0;
      Remove(input->Below(live_.size()), more, choice == 20);
    } else if (choice < 25 && !live_.empty()) {
      Resize(input->Below(live_.size()), SomePages(input));
    } else if (choice == 25) {
      Release((1 + input->Below(400)) << 16);
    } else if (choice == 26) {
      Release(SIZE_MAX);
    } else if (choice < 29) {
      world_->now_ms += input->Below(40) * 250;
      (void)tcx_hpaa_maintain(&world_->heap, world_->now_ms,
                              TCX_HPAA_RELEASE_STEP_BYTES, choice == 27);
      TCX_CHECK(tcx_hpaa_due_ms(&world_->heap, world_->now_ms) >=
                world_->now_ms);
    } else if (choice < 31) {
      world_->system.FailSome(input);
    } else {
      world_->system.FailAll(0);
    }
  }

  void Check() const {
    world_->source->ops->check(world_->source);
    tcx_page_source_stats stats = Stats();
    TCX_CHECK(stats.in_use_bytes == pages_ << TCX_PAGE_SHIFT);
    TCX_CHECK(stats.mapped_bytes ==
              stats.in_use_bytes + stats.free_bytes + stats.released_bytes);
    TCX_CHECK(stats.free_bytes == stats.kept_bytes + stats.fragmented_bytes);
    TCX_CHECK(stats.huge_in_use_bytes <= stats.in_use_bytes);
  }

 private:
  static constexpr size_t kP = TCX_HUGE_PAGES;
  static constexpr size_t kLivePagesMax = (96 * TCX_MIB) >> TCX_PAGE_SHIFT;

  struct Live {
    tcx_span *span;
    uint64_t tag;
  };
  using Iterator = std::map<uint64_t, Live>::iterator;

  static size_t SomePages(FuzzInput *input) {
    switch (input->Byte() % 4) {
      case 0:
        return 1 + input->Below(kP / 2);
      case 1:
        return 1 + input->Below(2 * kP);
      case 2:
        return 1 + input->Below(18 * kP);
      default:
        return kP * (1 + input->Below(4));
    }
  }

  tcx_page_source_stats Stats() const {
    tcx_page_source_stats stats;
    world_->source->ops->stats(world_->source, &stats);
    return stats;
  }

  void Add(size_t pages, size_t align_pages, unsigned objects, unsigned more) {
    if (pages_ + pages * (1 + more) > kLivePagesMax)
      return;
    bool may_fail = world_->may_fail();
    tcx_page_request request = {pages, align_pages, objects, 0, more};
    tcx_span *spans = tcx_page_source_request(world_->source, &request);
    TCX_CHECK(spans != nullptr || may_fail || world_->may_fail());
    for (tcx_span *span = spans; span != nullptr; span = span->next) {
      pages_ += pages;
      auto it = live_.insert({span->first_page, {span, ++last_tag_}});
      TCX_CHECK(it.second);
      CheckPlace(it.first);
      if ((span->flags & TCX_SPAN_ZERO) != 0)
        CheckPages(span, pages, 0);
      WritePages(it.first->second, 0);
    }
  }

  // One, and as many of those behind it as there are. `is_moved`: their memory
  // was moved elsewhere.
  void Remove(size_t index, size_t more, bool is_moved) {
    tcx_span *spans = nullptr;
    auto it = Nth(index);
    for (size_t i = 0; i <= more && it != live_.end(); i++) {
      tcx_span *span = it->second.span;
      CheckPages(span, span->pages, it->second.tag);
      pages_ -= span->pages;
      span->flags = 0;
      if (is_moved) {
        TCX_CHECK(tcx_os_linux.madvise(tcx_span_start(span),
                                       tcx_span_bytes(span),
                                       MADV_DONTNEED) == 0);
        span->flags = TCX_SPAN_MOVED;
      }
      span->next = spans;
      spans = span;
      it = live_.erase(it);
    }
    tcx_page_source_deallocate_all(world_->source, spans);
  }

  void Resize(size_t index, size_t pages) {
    auto it = Nth(index);
    const Live &live = it->second;
    size_t old_pages = live.span->pages;
    if (pages_ - old_pages + pages > kLivePagesMax)
      return;
    bool may_fail = world_->may_fail();
    bool is_done = tcx_page_source_resize(world_->source, live.span, pages);
    // Growing needs free pages behind the span.
    TCX_CHECK(is_done || pages > old_pages || may_fail);
    TCX_CHECK(live.span->pages == (is_done ? pages : old_pages));
    pages_ = pages_ - old_pages + live.span->pages;
    CheckPlace(it);
    size_t same = old_pages < live.span->pages ? old_pages : live.span->pages;
    CheckPages(live.span, same, live.tag);
    WritePages(live, 0);
  }

  void Release(size_t bytes) {
    uint64_t before = Stats().free_bytes;
    // After a refusal no huge page is broken for a while.
    bool may_fail = world_->may_fail() ||
                    world_->heap.policy.break_again_ms > world_->now_ms;
    size_t released = tcx_page_source_release(world_->source, bytes);
    if (may_fail)
      return;
    TCX_CHECK(released >= (bytes < before ? bytes : before));
    TCX_CHECK(Stats().free_bytes == before - released);
  }

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
    return index < 2 || (span->first_page + index) % (kP / 8) == 0;
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

  HpaaWorld *world_;
  std::map<uint64_t, Live> live_;  // by first page
  uint64_t last_tag_ = 0;
  size_t pages_ = 0;
};

inline void RunHpaaModel(const uint8_t *data, size_t bytes) {
  FuzzInput input(data, bytes);
  HpaaModel model(&input);
  while (!input.empty()) {
    model.Step(&input);
    model.Check();
  }
}

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_HPAA_MODEL_H_

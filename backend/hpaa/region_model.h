// region_model.h -- for tests: regions beside a state for each page.
//
// Ends the process where they differ, so that it serves a fuzz target too.
#ifndef TCX_BACKEND_HPAA_REGION_MODEL_H_
#define TCX_BACKEND_HPAA_REGION_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/hpaa/region_set.h"
#include "base/check.h"

namespace tcx {
namespace testing {

class RegionModel {
 public:
  // A set of so many regions.
  explicit RegionModel(size_t regions) {
    tcx_region_set_init(&set_);
    for (size_t i = 0; i < regions; i++) {
      regions_.emplace_back(new Region);
      tcx_region *region = &regions_.back()->region;
      tcx_region_init(region, 1 + 1000 * i);
      tcx_region_set_add(&set_, region);
    }
  }

  // `below(n)` is the next choice, 0 to n - 1.
  template <typename Below>
  void Step(Below below) {
    size_t choice = below(16);
    if (choice < 6) {
      Allocate(1 + below(choice == 0  ? 20 * kP
                         : choice < 3 ? 3 * kP
                                      : kP),
               below(3) == 0 ? PowerOfTwo(below) : 1);
    } else if (choice < 11 && !live_.empty()) {
      Free(below(live_.size()), below(8) == 0, below(2) == 0);
    } else if (choice < 13 && !live_.empty()) {
      Take(below(live_.size()), 1 + below(2 * kP));
    } else if (choice < 15) {
      now_ms_ += below(8) * 1500;
      Begin(static_cast<tcx_region_release>(below(3)), size_t{1} << below(3));
    } else if (!work_.empty()) {
      End(below(work_.size()), below(4) != 0);
    } else {
      Retry();
    }
  }

  void Check() const {
    tcx_region_set_check(&set_);
    size_t used = 0;
    size_t released = 0;
    for (const auto &region : regions_) {
      for (char state : region->pages) {
        used += state == kUsed;
        released += state == kReleased;
      }
    }
    TCX_CHECK(set_.used_pages == used);
    TCX_CHECK(set_.released_pages == released);
  }

 private:
  static constexpr size_t kP = TCX_HUGE_PAGES;
  enum State : char { kReleased, kBacked, kUsed, kBusy };

  struct Region {
    tcx_region region;  // first
    std::vector<char> pages = std::vector<char>(TCX_REGION_PAGES, kReleased);
    bool is_aside = false;
  };
  struct Run {
    Region *region;
    size_t first;
    size_t pages;
  };
  struct Work {
    Region *region;
    tcx_region_range range;
  };

  static Region *Of(tcx_region *region) {
    return reinterpret_cast<Region *>(region);
  }
  static size_t IndexOf(const Region *region, uint64_t page) {
    return static_cast<size_t>(page - tcx_region_first_page(&region->region));
  }
  static bool IsFree(char state) {
    return state == kReleased || state == kBacked;
  }

  template <typename Below>
  static size_t PowerOfTwo(Below below) {
    size_t result = 1;
    while (result < kP && below(8) != 0)
      result *= 2;
    return result;
  }

  // First page of the lowest free range of `pages` that starts at a multiple of
  // `align`; SIZE_MAX: none.
  static size_t FindAt(const Region *region, size_t pages, size_t align) {
    size_t length = 0;
    for (size_t i = 0; i < TCX_REGION_PAGES; i++) {
      bool may_start = length > 0 || i % align == 0;
      length = IsFree(region->pages[i]) && may_start ? length + 1 : 0;
      if (length == pages)
        return i + 1 - pages;
    }
    return SIZE_MAX;
  }
  static size_t Find(const Region *region, size_t pages, size_t align) {
    size_t found = SIZE_MAX;
    if (align < kP)
      found = FindAt(region, pages + align - 1, 1);
    if (found != SIZE_MAX)
      return (found + align - 1) / align * align;
    return align > 1 ? FindAt(region, pages, kP) : SIZE_MAX;
  }

  static size_t Count(const Run &run, State state) {
    size_t count = 0;
    for (size_t i = run.first; i < run.first + run.pages; i++)
      count += run.region->pages[i] == state;
    return count;
  }
  static void Set(const Run &run, State state) {
    for (size_t i = run.first; i < run.first + run.pages; i++)
      run.region->pages[i] = state;
  }

  void Allocate(size_t pages, size_t align) {
    bool is_zero;
    tcx_region *found;
    uint64_t page =
        tcx_region_set_allocate(&set_, pages, align, now_ms_, &found, &is_zero);
    if (page == 0) {
      for (const auto &region : regions_)
        TCX_CHECK(Find(region.get(), pages, align) == SIZE_MAX);
      return;
    }
    Region *region = Of(found);
    Run run = {region, IndexOf(region, page), pages};
    TCX_CHECK(run.first == Find(region, pages, align));
    TCX_CHECK(is_zero == (Count(run, kReleased) == pages));
    Set(run, kUsed);
    live_.push_back(run);
  }

  // Of a run all, or its end.
  void Free(size_t index, bool is_released, bool is_part) {
    Run run = live_[index];
    if (is_part && run.pages > 1) {
      size_t kept = run.pages / 2;
      live_[index].pages = kept;
      run.first += kept;
      run.pages -= kept;
    } else {
      live_.erase(live_.begin() + static_cast<long>(index));
    }
    tcx_region *region = &run.region->region;
    tcx_region_set_free(&set_, region,
                        tcx_region_first_page(region) + run.first, run.pages,
                        is_released, now_ms_);
    Set(run, is_released ? kReleased : kBacked);
  }

  void Take(size_t index, size_t pages) {
    Run *run = &live_[index];
    Run more = {run->region, run->first + run->pages, pages};
    bool is_free = more.first + pages <= TCX_REGION_PAGES;
    if (is_free)
      is_free = Count(more, kReleased) + Count(more, kBacked) == pages;
    tcx_region *region = &run->region->region;
    TCX_CHECK(tcx_region_set_take(&set_, region,
                                  tcx_region_first_page(region) + more.first,
                                  pages, now_ms_) == is_free);
    if (!is_free)
      return;
    Set(more, kUsed);
    run->pages += pages;
  }

  void Begin(tcx_region_release kind, size_t unit) {
    Work work;
    bool is_due = tcx_region_set_due_ms(&set_, now_ms_) == now_ms_;
    tcx_region *found =
        tcx_region_set_release_begin(&set_, kind, unit, now_ms_, &work.range);
    if (kind == TCX_REGION_RELEASE_UNNEEDED) {
      TCX_CHECK(found == nullptr || is_due);
      TCX_CHECK(found != nullptr || !is_due || unit > 1);
    }
    NoteAside(unit);
    if (found == nullptr) {
      if (kind != TCX_REGION_RELEASE_UNNEEDED)
        CheckNothingLeft(kind);
      else
        CheckNothingDue();
      return;
    }
    work.region = Of(found);
    Run run = {work.region, IndexOf(work.region, work.range.first_page),
               work.range.pages};
    TCX_CHECK(run.first % unit == 0 && run.pages % unit == 0);
    TCX_CHECK(Count(run, kReleased) + Count(run, kBacked) == run.pages);
    TCX_CHECK(Count(run, kBacked) == work.range.backed_pages);
    TCX_CHECK(work.range.breaks || run.pages == kP);
    TCX_CHECK(!work.range.breaks || work.range.backed_pages == run.pages);
    Set(run, kBusy);
    work_.push_back(work);
  }

  // Where no whole page of the system is free.
  void NoteAside(size_t unit) {
    for (const auto &region : regions_) {
      TCX_CHECK(region->region.is_aside || !region->is_aside);
      TCX_CHECK(!region->region.is_aside || region->is_aside || unit > 1);
      region->is_aside = region->region.is_aside;
    }
  }

  void CheckNothingLeft(tcx_region_release kind) const {
    for (const auto &region : regions_) {
      if (region->is_aside)
        continue;
      for (size_t huge = 0; huge < TCX_REGION_HUGE_PAGES; huge++) {
        Run run = {region.get(), huge * kP, kP};
        size_t backed = Count(run, kBacked);
        bool is_idle = backed + Count(run, kReleased) == kP;
        TCX_CHECK(backed == 0 || (kind == TCX_REGION_RELEASE_IDLE && !is_idle));
      }
    }
  }

  // After a minute without any change there is, unless it is too little.
  void CheckNothingDue() const {
    uint64_t due_ms = tcx_region_set_due_ms(&set_, now_ms_);
    TCX_CHECK(due_ms > now_ms_);
    TCX_CHECK(due_ms == UINT64_MAX || due_ms <= now_ms_ + 32000);
    if (due_ms != UINT64_MAX)
      return;
    for (const auto &region : regions_) {
      for (size_t huge = 0; huge < TCX_REGION_HUGE_PAGES; huge++) {
        Run run = {region.get(), huge * kP, kP};
        size_t backed = Count(run, kBacked);
        TCX_CHECK(region->is_aside || backed < kP / 8);
      }
    }
  }

  void Retry() {
    tcx_region_set_retry(&set_, now_ms_);
    for (const auto &region : regions_)
      region->is_aside = false;
  }

  void End(size_t index, bool is_released) {
    Work work = work_[index];
    work_.erase(work_.begin() + static_cast<long>(index));
    tcx_region_set_release_end(&set_, &work.region->region, &work.range,
                               is_released, now_ms_);
    Run run = {work.region, IndexOf(work.region, work.range.first_page),
               work.range.pages};
    TCX_CHECK(Count(run, kBusy) == run.pages);
    Set(run, is_released ? kReleased : kBacked);
    work.region->is_aside = work.region->is_aside || !is_released;
  }

  tcx_region_set set_;
  uint64_t now_ms_ = 100000;
  std::vector<std::unique_ptr<Region>> regions_;
  std::vector<Run> live_;
  std::vector<Work> work_;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_REGION_MODEL_H_

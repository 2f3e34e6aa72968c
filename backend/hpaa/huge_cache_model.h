// huge_cache_model.h -- for tests: a huge cache, simulated time, and a model.
//
// The model keeps what the cache held at any time, to the millisecond. From
// that it knows what at least must be due and what at most may be: the cache
// counts time in slots. Each step stops the process where the cache is wrong.
#ifndef TCX_BACKEND_HPAA_HUGE_CACHE_MODEL_H_
#define TCX_BACKEND_HPAA_HUGE_CACHE_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "backend/hpaa/huge_cache.h"
#include "backend/hpaa/huge_map_model.h"
#include "base/check.h"

namespace tcx {
namespace testing {

class HugeCacheAndModel {
 public:
  static constexpr uint64_t kFirst = (1 << 20) + 5;

  HugeCacheAndModel(uint64_t count, uint64_t now_ms) {
    now_ms_ = now_ms;
    tcx_huge_cache_init(&cache_, NodesForTests(count), now_ms);
    levels_.push_back({0, 0});
    used_.Insert({kFirst, count});
  }
  ~HugeCacheAndModel() {
    Retry();
    while (Evict(UINT32_MAX).count > 0)
      continue;
  }
  HugeCacheAndModel(const HugeCacheAndModel &) = delete;
  HugeCacheAndModel &operator=(const HugeCacheAndModel &) = delete;

  void Sleep(uint64_t ms) {
    now_ms_ += ms;
  }

  // Frees up to `count_max` of what is used from the `index`-th huge page on.
  void Put(uint64_t index, uint64_t count_max) {
    tcx_huge_run next = used_.Next(kFirst + index);
    if (next.count == 0)
      return;
    tcx_huge_run run = {std::max(next.first, kFirst + index), 0};
    run.count = std::min(FreeHugePages::End(next) - run.first, count_max);
    tcx_huge_cache_put(&cache_, run, now_ms_);
    used_.Remove(run);
    free_.Insert(run);
    SetLevel();
  }

  tcx_huge_run Take(uint64_t count, uint64_t align) {
    tcx_huge_run run = tcx_huge_cache_take(&cache_, count, align, now_ms_);
    free_.CheckTaken(run, count, align);
    NoteTaken(run);
    return run;
  }

  bool TakeAt(uint64_t index, uint64_t count) {
    tcx_huge_run run = {kFirst + index, count};
    bool is_taken = tcx_huge_cache_take_at(&cache_, run, now_ms_);
    TCX_CHECK(is_taken == free_.Contains(run));
    if (is_taken)
      NoteTaken(run);
    return is_taken;
  }

  tcx_huge_run Due(uint64_t count_max) {
    uint64_t least = LeastSince(TCX_LOW_WATER_KEEP_MS);
    uint64_t at_least =
        LeastSince(TCX_LOW_WATER_KEEP_MS + TCX_LOW_WATER_SLOT_MS);
    tcx_huge_run run = tcx_huge_cache_due(&cache_, count_max, now_ms_);
    TCX_CHECK(run.count <= std::min(count_max, least));
    TCX_CHECK(run.count > 0 || at_least == 0 || count_max == 0 || !HasAny());
    TCX_CHECK(run.first < below_);
    NoteUnbacking(run);
    return run;
  }

  tcx_huge_run Evict(uint64_t count_max) {
    tcx_huge_run run = tcx_huge_cache_evict(&cache_, count_max, now_ms_);
    TCX_CHECK(run.count <= count_max);
    TCX_CHECK(run.count > 0 || !HasAny() || count_max == 0);
    TCX_CHECK(run.first < below_);
    NoteUnbacking(run);
    return run;
  }

  // What became of the oldest run that is being given back. What went is used
  // again at once, by who takes it from the map of runs without memory.
  void Unbacked(bool is_done) {
    if (unbacking_.empty())
      return;
    tcx_huge_run run = unbacking_.front();
    unbacking_.pop_front();
    (is_done ? used_ : free_).Insert(run);
    if (is_done)
      return tcx_huge_cache_unback_done(&cache_, run);
    tcx_huge_cache_unback_failed(&cache_, run, now_ms_);
    below_ = std::min(below_, run.first);
    SetLevel();
  }

  void Retry() {
    tcx_huge_cache_retry(&cache_);
    below_ = UINT64_MAX;
  }

  // Of a copy: a look ahead changes its idea of time.
  uint64_t DueIn(uint64_t ms) const {
    tcx_huge_cache copy = cache_;
    tcx_huge_cache_stats stats;
    tcx_huge_cache_read_stats(&copy, now_ms_ + ms, &stats);
    return stats.due;
  }

  uint64_t Wait() const {
    tcx_huge_cache copy = cache_;
    return tcx_huge_cache_wait_ms(&copy, now_ms_);
  }

  void Check() const {
    tcx_huge_cache_check(&cache_);
    free_.CheckEquals(&cache_.map);
    uint64_t wait_ms = Wait();
    TCX_CHECK((wait_ms == UINT64_MAX) == !HasAny());
    if (wait_ms == UINT64_MAX)
      return;
    TCX_CHECK(wait_ms <= TCX_LOW_WATER_KEEP_MS + TCX_LOW_WATER_SLOT_MS);
    TCX_CHECK(DueIn(wait_ms) > 0);
    TCX_CHECK(wait_ms == 0 || DueIn(wait_ms - 1) == 0);
  }

  tcx_huge_cache_stats Stats() const {
    tcx_huge_cache copy = cache_;
    tcx_huge_cache_stats stats;
    tcx_huge_cache_read_stats(&copy, now_ms_, &stats);
    return stats;
  }

  uint64_t held() const {
    return cache_.map.huge;
  }

 private:
  // To give back, sooner or later.
  bool HasAny() const {
    return free_.LastBelow(below_).count > 0;
  }

  struct Level {
    uint64_t from_ms;
    uint64_t held;
  };

  void SetLevel() {
    levels_.push_back({now_ms_, free_.Sum()});
    while (levels_.size() > 1 &&
           levels_[1].from_ms + 2 * TCX_LOW_WATER_KEEP_MS < now_ms_)
      levels_.pop_front();
  }

  uint64_t LeastSince(uint64_t ms) const {
    uint64_t least = levels_.back().held;
    for (size_t i = 0; i + 1 < levels_.size(); i++)
      if (levels_[i + 1].from_ms + ms > now_ms_)
        least = std::min(least, levels_[i].held);
    return least;
  }

  void NoteTaken(tcx_huge_run run) {
    if (run.count == 0)
      return;
    free_.Remove(run);
    used_.Insert(run);
    SetLevel();
  }

  void NoteUnbacking(tcx_huge_run run) {
    if (run.count == 0)
      return;
    free_.Remove(run);
    unbacking_.push_back(run);
    for (Level &level : levels_)
      level.held -= std::min(level.held, run.count);
    SetLevel();
  }

  tcx_huge_cache cache_;
  FreeHugePages free_;  // in the cache
  FreeHugePages used_;  // elsewhere
  std::deque<tcx_huge_run> unbacking_;
  std::deque<Level> levels_;
  uint64_t now_ms_;
  uint64_t below_ = UINT64_MAX;  // only that may be given back
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_HUGE_CACHE_MODEL_H_

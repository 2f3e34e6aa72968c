// huge_map_model.h -- for tests: a huge map, and a std::map that it must equal.
//
// Its steps are those of a map's owner; each stops the process where the answer
// is not one that the header allows. Unit test and fuzz target differ only in
// where the steps come from.
#ifndef TCX_BACKEND_HPAA_HUGE_MAP_MODEL_H_
#define TCX_BACKEND_HPAA_HUGE_MAP_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>

#include "backend/hpaa/huge.h"
#include "backend/hpaa/huge_map.h"
#include "base/check.h"

namespace tcx {
namespace testing {

// Runs of huge pages that are free, merged.
class FreeHugePages {
 public:
  void Insert(tcx_huge_run run) {
    auto it = runs_.emplace(run.first, run.count).first;
    Merge(it, std::next(it));
    if (it != runs_.begin())
      Merge(std::prev(it), it);
  }

  void Remove(tcx_huge_run run) {
    tcx_huge_run from = Next(run.first);
    TCX_CHECK(Contains(run));
    runs_.erase(from.first);
    if (from.first < run.first)
      runs_[from.first] = run.first - from.first;
    if (End(from) > End(run))
      runs_[End(run)] = End(from) - End(run);
  }

  bool Contains(tcx_huge_run run) const {
    tcx_huge_run around = Next(run.first);
    return around.count > 0 && around.first <= run.first &&
           End(run) <= End(around);
  }

  // The lowest run that ends behind `huge`.
  tcx_huge_run Next(uint64_t huge) const {
    auto it = runs_.upper_bound(huge);
    if (it != runs_.begin() && End(Run(std::prev(it))) > huge)
      --it;
    return Run(it);
  }

  // What of the last run that starts below `huge` lies below it.
  tcx_huge_run LastBelow(uint64_t huge) const {
    auto it = runs_.lower_bound(huge);
    if (it == runs_.begin())
      return {0, 0};
    tcx_huge_run run = Run(std::prev(it));
    return {run.first, std::min(run.count, huge - run.first)};
  }

  uint64_t Longest() const {
    uint64_t longest = 0;
    for (const auto &run : runs_)
      longest = std::max(longest, run.second);
    return longest;
  }

  bool HasAligned(uint64_t count, uint64_t align) const {
    for (const auto &run : runs_)
      if (AlignUp(run.first, align) + count <= run.first + run.second)
        return true;
    return false;
  }

  uint64_t Sum() const {
    uint64_t sum = 0;
    for (const auto &run : runs_)
      sum += run.second;
    return sum;
  }

  size_t size() const {
    return runs_.size();
  }

  static uint64_t AlignUp(uint64_t huge, uint64_t align) {
    return (huge + align - 1) / align * align;
  }
  static uint64_t End(tcx_huge_run run) {
    return run.first + run.count;
  }

  // Whether a take of `count` at multiples of `align` may answer so.
  void CheckTaken(tcx_huge_run run, uint64_t count, uint64_t align) const {
    // So few are all looked at.
    bool may_be_none = Longest() < count + align - 1 &&
                       (runs_.size() > 16 || !HasAligned(count, align));
    TCX_CHECK(run.count == count || (run.count == 0 && may_be_none));
    if (run.count == 0)
      return;
    TCX_CHECK(Contains(run));
    TCX_CHECK(run.first == AlignUp(Next(run.first).first, align));
  }

  void CheckEquals(const tcx_huge_map *map) const {
    tcx_huge_map_check(map);
    tcx_huge_nodes_check(map->nodes);
    TCX_CHECK(map->huge == Sum());
    TCX_CHECK(map->runs == runs_.size());
    TCX_CHECK(tcx_huge_map_longest(map) == Longest());
    tcx_huge_run run = tcx_huge_map_next(map, 0);
    for (const auto &expected : runs_)
      CheckRun(expected, map, &run);
    TCX_CHECK(run.count == 0);
  }

 private:
  using Runs = std::map<uint64_t, uint64_t>;  // first -> count

  // Joins two that touch.
  void Merge(Runs::iterator before, Runs::iterator after) {
    if (after == runs_.end() || End(Run(before)) != after->first)
      return;
    before->second += after->second;
    runs_.erase(after);
  }

  tcx_huge_run Run(Runs::const_iterator it) const {
    return it == runs_.end() ? tcx_huge_run{0, 0}
                             : tcx_huge_run{it->first, it->second};
  }

  static void CheckRun(const Runs::value_type &expected,
                       const tcx_huge_map *map, tcx_huge_run *run) {
    TCX_CHECK(run->first == expected.first);
    TCX_CHECK(run->count == expected.second);
    *run = tcx_huge_map_next(map, End(*run));
  }

  Runs runs_;
};

// One stock for all tests of a process: nodes are never given back to the
// metadata.
inline tcx_huge_nodes *NodesForTests(uint64_t count) {
  static tcx_huge_nodes nodes;
  uint64_t spare = nodes.promised - nodes.in_use;
  TCX_CHECK(spare >= count || tcx_huge_nodes_reserve(&nodes, count - spare));
  return &nodes;
}

// Some huge pages, which are in the map or with its owner.
class HugeMapAndModel {
 public:
  // Not from 0, and not at a multiple of much.
  static constexpr uint64_t kFirst = (1 << 20) + 5;

  explicit HugeMapAndModel(uint64_t count) : end_(kFirst + count) {
    tcx_huge_map_init(&map_, NodesForTests(count));
  }
  ~HugeMapAndModel() {
    while (TakeLast(UINT32_MAX).count > 0)
      continue;
  }
  HugeMapAndModel(const HugeMapAndModel &) = delete;
  HugeMapAndModel &operator=(const HugeMapAndModel &) = delete;

  // The `index`-th huge page and up to `count_max` together with it, as far as
  // the owner has them.
  void Insert(uint64_t index, uint64_t count_max) {
    uint64_t first = kFirst + index;
    tcx_huge_run next = model_.Next(first);
    uint64_t limit = next.count > 0 ? next.first : end_;
    if (limit <= first)
      return;
    tcx_huge_run run = {first, std::min(limit - first, count_max)};
    tcx_huge_map_insert(&map_, run);
    model_.Insert(run);
  }

  tcx_huge_run Take(uint64_t count, uint64_t align) {
    tcx_huge_run run = tcx_huge_map_take(&map_, count, align);
    model_.CheckTaken(run, count, align);
    if (run.count > 0)
      model_.Remove(run);
    return run;
  }

  bool TakeAt(uint64_t index, uint64_t count) {
    tcx_huge_run run = {kFirst + index, count};
    bool is_taken = tcx_huge_map_take_at(&map_, run);
    TCX_CHECK(is_taken == model_.Contains(run));
    if (is_taken)
      model_.Remove(run);
    return is_taken;
  }

  tcx_huge_run TakeLast(uint64_t count_max, uint64_t below = TCX_HUGE_LIMIT) {
    tcx_huge_run run = tcx_huge_map_take_last(&map_, below, count_max);
    tcx_huge_run last = model_.LastBelow(below);
    TCX_CHECK(run.count == std::min(last.count, count_max));
    if (run.count == 0)
      return run;
    TCX_CHECK(FreeHugePages::End(run) == FreeHugePages::End(last));
    model_.Remove(run);
    return run;
  }

  tcx_huge_run Next(uint64_t index) const {
    tcx_huge_run run = tcx_huge_map_next(&map_, kFirst + index);
    tcx_huge_run expected = model_.Next(kFirst + index);
    TCX_CHECK(run.first == expected.first && run.count == expected.count);
    return run;
  }

  void Check() const {
    model_.CheckEquals(&map_);
  }

  uint64_t huge() const {
    return map_.huge;
  }
  uint64_t runs() const {
    return map_.runs;
  }

 private:
  tcx_huge_map map_;
  FreeHugePages model_;
  const uint64_t end_;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_HUGE_MAP_MODEL_H_

// filler_pages_testing.h -- pages, huge pages and demand, as the model of the
// filler (filler_testing.h) knows them: plainly, by counting.
#ifndef TCX_BACKEND_HPAA_FILLER_PAGES_TESTING_H_
#define TCX_BACKEND_HPAA_FILLER_PAGES_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "backend/hpaa/filler.h"

namespace tcx {
namespace testing {

constexpr unsigned kPages = static_cast<unsigned>(TCX_HUGE_PAGES);

struct Page {
  uint64_t tag;      // of the run; 0: free
  uint64_t content;  // 0: zero
  bool is_backed;
  bool is_known_zero;
};

struct Huge {
  tcx_tracker *tracker;
  std::vector<Page> pages;
  unsigned allocations, head_pages;
  bool was_donated, is_huge, is_broken, is_dense, is_pinned, is_aside;

  template <typename Predicate>
  unsigned Count(Predicate is_counted) const {
    return static_cast<unsigned>(
        std::count_if(pages.begin(), pages.end(), is_counted));
  }
  unsigned used() const {
    return Count([](const Page &p) { return p.tag != 0; });
  }
  unsigned idle() const {
    return Count([](const Page &p) { return p.tag == 0 && p.is_backed; });
  }
  unsigned released() const {
    return Count([](const Page &p) { return p.tag == 0 && !p.is_backed; });
  }
  // Length of the free range that begins at `first`.
  unsigned RangeAt(unsigned first) const {
    unsigned end = first;
    while (end < kPages && pages[end].tag == 0)
      end++;
    return end - first;
  }
  // The longest; or the shortest of at least `pages_min`, with its place.
  std::pair<unsigned, unsigned> Best(unsigned pages_min, bool longest) const {
    std::pair<unsigned, unsigned> best{longest ? 0 : kPages + 1, 0};
    for (unsigned i = 0; i < kPages; i += RangeAt(i) + 1) {
      unsigned length = RangeAt(i);
      if (longest ? length > best.first
                  : length >= pages_min && length < best.first)
        best = {length, i};
    }
    return best;
  }
};

// Family, longest free range (dense: free pages), chunk by allocations.
using Key = std::tuple<unsigned, unsigned, unsigned>;

inline Key KeyOf(const Huge &huge) {
  unsigned free_pages = kPages - huge.used();
  unsigned family = TCX_FILLER_REGULAR;
  if (huge.released() != 0)
    family = huge.released() == free_pages ? TCX_FILLER_RELEASED
                                           : TCX_FILLER_PARTIAL;
  else if (huge.is_broken)
    family = TCX_FILLER_PARTIAL;
  else if (huge.head_pages != 0 && huge.allocations == 1)
    family = TCX_FILLER_DONATED;
  if (huge.is_dense)
    return Key{family, free_pages, 0};
  unsigned chunk = 7;
  for (unsigned n = 1; n < huge.allocations && chunk > 0; n *= 2)
    chunk--;
  return Key{family, huge.Best(0, true).first, chunk};
}

inline unsigned Bucket(const Huge &huge) {
  return huge.used() * TCX_FILLER_BUCKETS / kPages;
}

// The lowest level of each second, kept for 100 of them.
class DemandModel {
 public:
  void Set(uint64_t level, uint64_t now_ms) {
    uint64_t second = std::max(newest_, now_ms / 1000);
    if (newest_ + 100 < second)
      newest_ = second - 100;
    for (; newest_ < second; newest_++)
      lows_[newest_ + 1] = level_;
    level_ = level;
    lows_[second] = std::min(lows_[second], level);
    while (lows_.begin()->first + 100 < second)
      lows_.erase(lows_.begin());
  }

  void Take(uint64_t amount, uint64_t now_ms) {
    Set(level_, now_ms);
    level_ -= amount;
    for (auto &low : lows_)
      low.second -= std::min(low.second, amount);
  }

  uint64_t Unneeded(unsigned seconds, uint64_t now_ms) const {
    uint64_t second = std::max(newest_, now_ms / 1000);
    uint64_t low = level_;
    auto it = lows_.lower_bound(second < seconds ? 0 : second - seconds);
    for (; it != lows_.end(); ++it)
      low = std::min(low, it->second);
    return low;
  }

 private:
  std::map<uint64_t, uint64_t> lows_{{0, 0}};
  uint64_t newest_ = 0;
  uint64_t level_ = 0;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_FILLER_PAGES_TESTING_H_

// Fuzz target of transfer_cache.h, over a real central free list.
//
// Model: a vector of what waits, with the rules of room, growth and decay of
// the header restated. After each step the contents, their order, the capacity
// and all counts must agree, and the walks of both tiers pass. Pages fail when
// the input says so.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/fake_page_source.h"
#include "backend/metadata.h"
#include "base/check.h"
#include "base/config.h"
#include "middle/transfer_cache.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;

// Far below what the fake page source has: however the spans lie, there is
// room for one more.
constexpr size_t kOutBytesMax = 16 * TCX_MIB;

// What should wait in the cache, and how much room there should be.
class Model {
 public:
  explicit Model(unsigned id)
      : max_(tcx_transfer_cache_max_objects(id)),
        first_(std::min<size_t>(4u * tcx_size_classes[id].batch, max_)) {}

  void Insert(void *const *batch, size_t count) {
    if (count > capacity_ - waiting_.size())
      Grow();
    size_t moved = std::min(count, capacity_ - waiting_.size());
    waiting_.insert(waiting_.end(), batch, batch + moved);
    high_ = std::max(high_, waiting_.size());
  }

  // The objects that come from here, in the order of the batch.
  std::vector<void *> Remove(size_t count) {
    size_t moved = std::min(count, waiting_.size());
    std::vector<void *> batch(waiting_.end() - static_cast<long>(moved),
                              waiting_.end());
    waiting_.resize(waiting_.size() - moved);
    low_ = std::min(low_, waiting_.size());
    wanted_ = wanted_ || moved < count;
    return batch;
  }

  void Trim(bool all) {
    if (capacity_ == 0)
      return;
    size_t idle = all ? waiting_.size() : low_;
    waiting_.erase(waiting_.begin(),
                   waiting_.begin() + static_cast<long>(idle));
    if (all || high_ == 0) {
      capacity_ = 0;
    } else if (capacity_ / 2 >= first_ && high_ <= capacity_ / 2) {
      capacity_ /= 2;
    }
    low_ = high_ = waiting_.size();
  }

  void CheckAgainst(const tcx_transfer_cache &cache) const {
    TCX_CHECK(cache.capacity == capacity_);
    TCX_CHECK(cache.low_water == low_ && cache.high_water == high_);
    TCX_CHECK(cache.used == waiting_.size());
    TCX_CHECK(std::equal(waiting_.begin(), waiting_.end(), cache.slots));
  }

  size_t waiting() const {
    return waiting_.size();
  }

 private:
  void Grow() {
    if (capacity_ == 0) {
      capacity_ = first_;
    } else if (wanted_) {
      capacity_ = std::min(2 * capacity_, max_);
    }
    wanted_ = false;
  }

  const size_t max_;
  const size_t first_;
  std::vector<void *> waiting_;
  size_t capacity_ = 0;
  size_t low_ = 0;
  size_t high_ = 0;
  bool wanted_ = false;
};

class CacheAndModel {
 public:
  explicit CacheAndModel(unsigned id)
      : object_bytes_(tcx_size_classes[id].size), model_(id) {
    tcx_central_freelist_init(&list_, pages_.get(), id);
    tcx_transfer_cache_init(&cache_, &list_);
  }

  void Remove(unsigned count) {
    if ((out_.size() + count) * object_bytes_ > kOutBytesMax)
      return;
    std::vector<void *> expected = model_.Remove(count);
    void *batch[TCX_BATCH_MAX];
    unsigned moved = tcx_transfer_cache_remove_range(&cache_, batch, count);
    TCX_CHECK(moved == count || (may_fail_ && moved >= expected.size()));
    TCX_CHECK(std::equal(expected.begin(), expected.end(), batch));
    for (unsigned i = 0; i < moved; i++) {
      // The tag of an object that is out is its address.
      TCX_CHECK(*static_cast<void **>(batch[i]) != batch[i]);
      *static_cast<void **>(batch[i]) = batch[i];
      out_.push_back(batch[i]);
    }
  }

  void Insert(FuzzInput *input, unsigned count) {
    void *batch[TCX_BATCH_MAX];
    unsigned taken = 0;
    while (taken < count && !out_.empty()) {
      size_t index = input->Below(out_.size());
      void *object = out_[index];
      out_[index] = out_.back();
      out_.pop_back();
      TCX_CHECK(*static_cast<void **>(object) == object);
      *static_cast<void **>(object) = nullptr;
      batch[taken++] = object;
    }
    if (taken > 0) {
      model_.Insert(batch, taken);
      tcx_transfer_cache_insert_range(&cache_, batch, taken);
    }
  }

  void Trim(bool all) {
    model_.Trim(all);
    tcx_transfer_cache_trim(&cache_, all);
  }

  void FailAfter(size_t spans) {
    may_fail_ = spans != SIZE_MAX;
    pages_.FailAfter(spans);
  }

  void Check() {
    tcx_transfer_cache_check(&cache_);
    tcx_central_freelist_check(&list_);
    model_.CheckAgainst(cache_);
    tcx_transfer_cache_stats stats;
    tcx_transfer_cache_read_stats(&cache_, &stats);
    tcx_central_freelist_stats central;
    tcx_central_freelist_read_stats(&list_, &central);
    TCX_CHECK(stats.objects == model_.waiting());
    TCX_CHECK(stats.out_objects == out_.size());
    TCX_CHECK(central.out_objects == out_.size() + model_.waiting());
  }

  void Finish(FuzzInput *input) {
    while (!out_.empty())
      Insert(input, TCX_BATCH_MAX);
    Trim(true);
    Check();
    TCX_CHECK(pages_.live_spans() == 0);
  }

 private:
  const size_t object_bytes_;
  tcx::testing::FakePageSource pages_;
  tcx_central_freelist list_ = {};
  tcx_transfer_cache cache_ = {};
  Model model_;
  bool may_fail_ = false;
  std::vector<void *> out_;
};

void RunInput(FuzzInput *input) {
  CacheAndModel cache(
      1 + static_cast<unsigned>(input->Below(TCX_RUN_CLASS_FIRST - 1)));
  while (!input->empty()) {
    unsigned choice = input->Byte() % 16;
    unsigned count = 1 + static_cast<unsigned>(input->Below(TCX_BATCH_MAX));
    if (choice == 0) {
      cache.FailAfter(count % 8 == 0 ? SIZE_MAX : count % 4);
    } else if (choice <= 2) {
      cache.Trim(count % 8 == 0);
    } else if (choice % 2 == 0) {
      cache.Remove(count);
    } else {
      cache.Insert(input, count);
    }
    cache.Check();
  }
  cache.Finish(input);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  tcx_metadata_stats before;
  tcx_metadata_read_stats(&before);
  FuzzInput input(data, bytes);
  RunInput(&input);
  tcx_metadata_stats after;
  tcx_metadata_read_stats(&after);
  TCX_CHECK(after.in_use_bytes == before.in_use_bytes);
  return 0;
}

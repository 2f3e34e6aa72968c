// Tests of middle/transfer_cache.c.
//
// Method: a transfer cache over a real central free list, over a page source
// that counts and fails on demand. The random test runs beside a model, a
// vector with the same rules for room, water marks and decay: contents, order
// and counts must agree after each step. The invariants of both tiers are
// walked after each step and each test.

#include "middle/transfer_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "backend/fake_page_source.h"
#include "backend/metadata.h"
#include "base/config.h"
#include "middle/exhausted_metadata.h"

namespace {

using tcx::testing::ExhaustedMetadata;

class TransferCacheTest : public ::testing::TestWithParam<size_t> {
 protected:
  TransferCacheTest() : id_(tcx_size_class_of(SizeOf())) {
    tcx_central_freelist_init(&list_, pages_.get(), id_);
    tcx_transfer_cache_init(&cache_, &list_);
  }
  ~TransferCacheTest() override {
    CheckTiers();
    if (!out_.empty()) {
      Insert({out_.begin(), out_.end()});
    }
    tcx_transfer_cache_trim(&cache_, true);
    CheckTiers();
    EXPECT_EQ(cache_.capacity, 0u);
    EXPECT_EQ(pages_.live_spans(), 0u);
    EXPECT_EQ(MetadataInUse(), metadata_);
  }

  unsigned batch_objects() const {
    return tcx_size_classes[id_].batch;
  }
  tcx_transfer_cache_stats Stats() const {
    tcx_transfer_cache_stats stats;
    tcx_transfer_cache_read_stats(&cache_, &stats);
    return stats;
  }
  std::vector<void *> Remove(unsigned count) {
    std::vector<void *> batch(count);
    batch.resize(tcx_transfer_cache_remove_range(&cache_, batch.data(), count));
    for (void *object : batch) {
      EXPECT_TRUE(out_.insert(object).second) << "handed out twice";
    }
    return batch;
  }
  void Insert(const std::vector<void *> &batch) {
    for (size_t i = 0; i < batch.size(); i += TCX_BATCH_MAX) {
      size_t count = std::min<size_t>(TCX_BATCH_MAX, batch.size() - i);
      tcx_transfer_cache_insert_range(&cache_, batch.data() + i,
                                      static_cast<unsigned>(count));
    }
    for (void *object : batch) {
      out_.erase(object);
    }
  }
  std::vector<void *> RemoveMany(size_t count) {
    std::vector<void *> all;
    while (all.size() < count) {
      std::vector<void *> batch = Remove(static_cast<unsigned>(
          std::min<size_t>(count - all.size(), TCX_BATCH_MAX)));
      all.insert(all.end(), batch.begin(), batch.end());
    }
    return all;
  }
  // I1 to I4.
  void CheckTiers() {
    tcx_transfer_cache_check(&cache_);
    tcx_central_freelist_check(&list_);
    tcx_central_freelist_stats central;
    tcx_central_freelist_read_stats(&list_, &central);
    EXPECT_EQ(Stats().out_objects, out_.size());
    EXPECT_EQ(central.out_objects, out_.size() + Stats().objects);
  }

  tcx::testing::FakePageSource pages_;
  tcx_central_freelist list_ = {};
  tcx_transfer_cache cache_ = {};
  unsigned id_;
  std::set<void *> out_;
  const uint64_t metadata_ = MetadataInUse();

  static uint64_t MetadataInUse() {
    tcx_metadata_stats stats;
    tcx_metadata_read_stats(&stats);
    return stats.in_use_bytes;
  }

 private:
  static size_t SizeOf() {
    tcx_size_classes_init();
    return GetParam();
  }
};

INSTANTIATE_TEST_SUITE_P(Sizes, TransferCacheTest,
                         ::testing::Values(16, 256, 4096, 32768, 262144),
                         ::testing::PrintToStringParamName());

TEST_P(TransferCacheTest, MaxObjectsIsBounded) {
  const tcx_size_class &row = tcx_size_classes[id_];
  unsigned max = tcx_transfer_cache_max_objects(id_);
  EXPECT_GE(max, row.batch);
  EXPECT_LE(max, 64u * row.batch);
  EXPECT_TRUE(max == row.batch || size_t{max} * row.size <= TCX_MIB);
}

TEST_P(TransferCacheTest, NoMemoryBeforeFirstInsert) {
  Remove(1);
  EXPECT_EQ(cache_.slots, nullptr);
  EXPECT_EQ(Stats().misses, 1u);
}

TEST_P(TransferCacheTest, BatchComesBackWithoutCentralFreelist) {
  std::vector<void *> batch = Remove(batch_objects());
  Insert(batch);
  EXPECT_EQ(Stats().objects, batch.size());
  size_t spans = pages_.allocations();
  EXPECT_EQ(Remove(batch_objects()), batch);
  EXPECT_EQ(Stats().hits, 2u);
  EXPECT_EQ(Stats().misses, 1u);
  EXPECT_EQ(pages_.allocations(), spans);
}

TEST_P(TransferCacheTest, PartialRemoveTakesTheRestFromCentralFreelist) {
  std::vector<void *> batch = Remove(2);
  Insert({batch[0]});
  EXPECT_EQ(Remove(2).size(), 2u);
  EXPECT_EQ(Stats().objects, 0u);
}

TEST_P(TransferCacheTest, PartialInsertGivesTheRestToCentralFreelist) {
  std::vector<void *> all =
      RemoveMany(2 * tcx_transfer_cache_max_objects(id_) + 3);
  Insert(all);
  EXPECT_EQ(Stats().objects, cache_.capacity);
  EXPECT_GT(Stats().misses, 0u);
}

TEST_P(TransferCacheTest, OnlyFreeingDoesNotGrow) {
  std::vector<void *> all = RemoveMany(3 * tcx_transfer_cache_max_objects(id_));
  Insert({all.begin(), all.begin() + 1});
  EXPECT_EQ(cache_.capacity, cache_.first_capacity);
  Insert({all.begin() + 1, all.end()});
  EXPECT_EQ(cache_.capacity, cache_.first_capacity);
}

TEST_P(TransferCacheTest, CyclesGrowToMaximum) {
  const unsigned max = tcx_transfer_cache_max_objects(id_);
  for (int i = 0; i < 10; i++) {
    Insert(RemoveMany(max + 1));
  }
  EXPECT_EQ(cache_.capacity, max);
  uint64_t misses = Stats().misses;
  Insert(RemoveMany(max));
  EXPECT_EQ(Stats().misses, misses);
}

TEST_P(TransferCacheTest, IdleObjectsDecay) {
  Insert(RemoveMany(cache_.first_capacity));
  ASSERT_GT(Stats().objects, 0u);
  tcx_transfer_cache_trim(&cache_, false);
  EXPECT_GT(Stats().objects, 0u) << "they were touched";
  tcx_transfer_cache_trim(&cache_, false);
  EXPECT_EQ(Stats().objects, 0u);
  EXPECT_EQ(pages_.live_spans(), 0u);
  tcx_transfer_cache_trim(&cache_, false);
  EXPECT_EQ(cache_.capacity, 0u);
}

TEST_P(TransferCacheTest, UsedObjectsStayAtDecay) {
  Insert(RemoveMany(cache_.first_capacity));
  tcx_transfer_cache_trim(&cache_, false);
  uint64_t before = Stats().objects;
  unsigned used = std::min<unsigned>(batch_objects(), 3);
  Insert(Remove(used));
  tcx_transfer_cache_trim(&cache_, false);
  EXPECT_EQ(Stats().objects, std::min<uint64_t>(used, before));
}

TEST_P(TransferCacheTest, UnusedRoomDecays) {
  const unsigned max = tcx_transfer_cache_max_objects(id_);
  for (int i = 0; i < 10; i++) {
    Insert(RemoveMany(max + 1));
  }
  for (int i = 0; i < 10; i++) {
    Insert(Remove(1));
    tcx_transfer_cache_trim(&cache_, false);
  }
  EXPECT_LT(cache_.capacity, 2 * cache_.first_capacity);
  EXPECT_EQ(Stats().objects, 1u);
}

TEST_P(TransferCacheTest, WithoutPagesServesWhatItHas) {
  std::vector<void *> batch = Remove(batch_objects());
  Insert(batch);
  pages_.FailAfter(0);
  EXPECT_GE(Remove(batch_objects()).size(), batch.size());
  pages_.NeverFail();
}

TEST_P(TransferCacheTest, WithoutMetadataAllGoesToCentralFreelist) {
  std::vector<void *> batch = Remove(batch_objects());
  {
    ExhaustedMetadata exhausted(cache_.first_capacity * sizeof(void *));
    Insert({batch[0]});
    EXPECT_EQ(cache_.slots, nullptr);
    EXPECT_EQ(Stats().objects, 0u);
    EXPECT_EQ(Remove(1).size(), 1u);
  }
  Insert(std::vector<void *>(out_.begin(), out_.end()));
  EXPECT_GT(Stats().objects, 0u);
}

// The same rules as the cache, on a vector.
struct Model {
  std::vector<void *> slots;
  size_t capacity = 0;
  size_t low = 0;
  size_t high = 0;
  bool wanted = false;
  size_t first;
  size_t max;

  // Returns what a remove of `count` must begin with.
  std::vector<void *> Remove(size_t count) {
    size_t n = std::min(count, slots.size());
    std::vector<void *> out(slots.end() - n, slots.end());
    slots.resize(slots.size() - n);
    low = std::min(low, slots.size());
    wanted |= n < count;
    return out;
  }
  void Insert(const std::vector<void *> &batch) {
    if (slots.size() + batch.size() > capacity) {
      if (capacity == 0) {
        capacity = first;
      } else if (wanted) {
        capacity = std::min(2 * capacity, max);
      }
      wanted = false;
    }
    size_t n = std::min(batch.size(), capacity - slots.size());
    slots.insert(slots.end(), batch.begin(), batch.begin() + n);
    high = std::max(high, slots.size());
  }
  void Trim(bool all) {
    slots.erase(slots.begin(), slots.begin() + (all ? slots.size() : low));
    if (all || high == 0) {
      capacity = 0;
    } else if (capacity / 2 >= first && high <= capacity / 2) {
      capacity /= 2;
    }
    low = high = slots.size();
  }
};

TEST_P(TransferCacheTest, RandomOperationsMatchModel) {
  std::mt19937 random(static_cast<unsigned>(GetParam()) + 1);
  Model model;
  model.first = cache_.first_capacity;
  model.max = cache_.max_objects;
  const unsigned most =
      std::min<unsigned>(TCX_BATCH_MAX, 2 * batch_objects() + 2);
  for (int step = 0; step < 2000; step++) {
    unsigned choice = random() % 100;
    unsigned count = 1 + random() % most;
    if (choice < 48 && out_.size() < 6 * model.max) {
      std::vector<void *> expected = model.Remove(count);
      std::vector<void *> batch = Remove(count);
      ASSERT_EQ(batch.size(), count);
      batch.resize(expected.size());
      ASSERT_EQ(batch, expected);
    } else if (choice < 96) {
      std::vector<void *> batch(out_.begin(), out_.end());
      std::shuffle(batch.begin(), batch.end(), random);
      batch.resize(std::min<size_t>(batch.size(), count));
      if (!batch.empty()) {
        model.Insert(batch);
        Insert(batch);
      }
    } else {
      bool all = choice == 99;
      model.Trim(all);
      tcx_transfer_cache_trim(&cache_, all);
    }
    ASSERT_EQ(cache_.capacity, model.capacity) << "step " << step;
    ASSERT_EQ(cache_.used, model.slots.size());
    ASSERT_TRUE(
        std::equal(model.slots.begin(), model.slots.end(), cache_.slots));
    ASSERT_NO_FATAL_FAILURE(CheckTiers());
  }
}

}  // namespace

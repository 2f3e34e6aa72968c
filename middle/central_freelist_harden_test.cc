// Tests of a hardened central free list (middle/central_freelist.c).
//
// Method: as central_freelist_test.cc, with the setting `harden` on. The page
// source overwrites what is given back to it, so dirty pages are real.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "backend/fake_page_source.h"
#include "base/knobs.h"
#include "middle/central_freelist.h"
#include "pagemap/pagemap.h"

namespace {

class CentralFreelistHardenTest : public ::testing::TestWithParam<size_t> {
 protected:
  CentralFreelistHardenTest() {
    tcx_size_classes_init();
    id_ = tcx_size_class_of(GetParam());
    tcx_knobs.harden = 1;
    Init(&list_);
  }
  ~CentralFreelistHardenTest() override {
    tcx_central_freelist_check(&list_);
    tcx_central_freelist_trim(&list_);
    tcx_central_freelist_check(&list_);
    EXPECT_EQ(pages_.live_spans(), 0u);
    tcx_knobs.harden = 0;
  }

  void Init(tcx_central_freelist *list) {
    tcx_central_freelist_init(list, pages_.get(), id_);
  }
  unsigned objects() const {
    return tcx_size_classes[id_].objects;
  }
  size_t size() const {
    return tcx_size_classes[id_].size;
  }
  std::vector<char *> Remove(tcx_central_freelist *list, unsigned count) {
    std::vector<char *> all;
    void *object;
    while (all.size() < count &&
           tcx_central_freelist_remove_range(list, &object, 1) == 1) {
      all.push_back(static_cast<char *>(object));
    }
    EXPECT_EQ(std::set<char *>(all.begin(), all.end()).size(), count);
    return all;
  }
  static void Insert(tcx_central_freelist *list, std::vector<char *> objects) {
    for (void *object : objects)
      tcx_central_freelist_insert_range(list, &object, 1);
  }
  // Numbers of the objects within their span, in the order of the batch.
  std::vector<size_t> Indices(const std::vector<char *> &batch) const {
    std::vector<size_t> indices;
    for (char *object : batch) {
      char *start = tcx_span_start(tcx_pagemap_span_of(object));
      indices.push_back((object - start) / size());
    }
    return indices;
  }
  uint64_t Spans() const {
    tcx_central_freelist_stats stats;
    tcx_central_freelist_read_stats(&list_, &stats);
    return stats.spans;
  }

  tcx::testing::FakePageSource pages_;
  tcx_central_freelist list_ = {};
  unsigned id_;
};

INSTANTIATE_TEST_SUITE_P(Sizes, CentralFreelistHardenTest,
                         ::testing::Values(16, 64, 448, 1024, 65536, 262144),
                         ::testing::PrintToStringParamName());

TEST_P(CentralFreelistHardenTest, OrderWithinASpanIsAPermutationByChance) {
  tcx_central_freelist other = {};
  Init(&other);
  std::vector<char *> batch = Remove(&list_, objects());
  std::vector<char *> others = Remove(&other, objects());
  std::vector<size_t> indices = Indices(batch);
  // By chance equal with a probability of less than one in a million.
  if (objects() >= 10) {
    EXPECT_FALSE(std::is_sorted(indices.begin(), indices.end()));
    EXPECT_NE(indices, Indices(others));
  }
  std::sort(indices.begin(), indices.end());
  for (size_t i = 0; i < indices.size(); i++)
    ASSERT_EQ(indices[i], i);
  Insert(&list_, batch);
  Insert(&other, others);
  tcx_central_freelist_trim(&other);
}

TEST_P(CentralFreelistHardenTest, NewSpansReadAsZero) {
  for (int round = 0; round < 20; round++) {
    std::vector<char *> batch = Remove(&list_, objects() + 1);
    for (char *object : batch) {
      ASSERT_EQ(*object, 0);
      ASSERT_EQ(std::memcmp(object, object + 1, size() - 1), 0);
    }
    Insert(&list_, batch);
    tcx_central_freelist_trim(&list_);
  }
}

TEST_P(CentralFreelistHardenTest, SomeEmptySpansStayUntilATrim) {
  std::vector<char *> batch = Remove(&list_, 40 * objects());
  Insert(&list_, batch);
  tcx_central_freelist_check(&list_);
  uint64_t kept = Spans();
  if (objects() == 1) {
    EXPECT_EQ(kept, 0u);
  } else {
    EXPECT_GE(kept, 1u);
    size_t bytes = kept * tcx_size_classes[id_].pages * TCX_PAGE_SIZE;
    EXPECT_TRUE(kept == 1 || bytes <= 128 * TCX_KIB);
  }
  EXPECT_EQ(pages_.live_spans(), kept);
  // What stays is used before a new span is made.
  size_t made = pages_.allocations();
  batch = Remove(&list_, static_cast<unsigned>(kept) * objects());
  EXPECT_EQ(pages_.allocations(), made);
  tcx_central_freelist_check(&list_);
  Insert(&list_, batch);
  tcx_central_freelist_trim(&list_);
  EXPECT_EQ(pages_.live_spans(), 0u);
}

TEST_P(CentralFreelistHardenTest, RandomUseKeepsTheInvariants) {
  std::mt19937 random(5);
  std::vector<char *> out;
  for (int step = 0; step < 2000; step++) {
    if (out.empty() || (out.size() < 50 && random() % 2 == 0)) {
      std::vector<char *> more = Remove(&list_, 1 + random() % 5);
      out.insert(out.end(), more.begin(), more.end());
    } else {
      std::swap(out[random() % out.size()], out.back());
      Insert(&list_, {out.back()});
      out.pop_back();
    }
    if (random() % 64 == 0)
      tcx_central_freelist_trim(&list_);
    if (random() % 16 == 0)
      tcx_central_freelist_check(&list_);
  }
  Insert(&list_, out);
}

}  // namespace

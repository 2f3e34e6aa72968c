// page_runs_test.cc -- free runs by length against a std::set.
//
// Method: random inserts and removes, each answer compared with that of an
// ordered set of (pages, first page); the invariants are walked often.
#include "backend/page_runs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace {

class PageRunsTest : public ::testing::Test {
 protected:
  PageRunsTest() : runs_(new tcx_page_runs()) {
    tcx_page_runs_init(runs_.get());
  }

  tcx_span *Insert(uint64_t first_page, uint32_t pages) {
    spans_.emplace_back(new tcx_span());
    tcx_span *span = spans_.back().get();
    span->first_page = first_page;
    span->pages = pages;
    tcx_page_runs_insert(runs_.get(), span);
    return span;
  }

  void Check() {
    tcx_page_runs_check(runs_.get(), nullptr);
  }

  std::unique_ptr<tcx_page_runs> runs_;
  std::vector<std::unique_ptr<tcx_span>> spans_;
};

TEST_F(PageRunsTest, EmptyHasNothing) {
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), 1), nullptr);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), SIZE_MAX), nullptr);
  EXPECT_EQ(tcx_page_runs_longest(runs_.get()), nullptr);
  EXPECT_EQ(tcx_page_runs_aligned_fit(runs_.get(), 1, 8), nullptr);
  Check();
}

TEST_F(PageRunsTest, BestFitOnBothSidesOfTheLimit) {
  const uint32_t limit = TCX_PAGE_RUNS_LISTS;
  tcx_span *listed = Insert(1000, limit);
  tcx_span *treed = Insert(2000, limit + 1);
  tcx_span *one = Insert(10, 1);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), 1), one);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), 2), listed);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), 64), listed);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), 65), listed);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), limit), listed);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), limit + 1), treed);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), limit + 2), nullptr);
  EXPECT_EQ(tcx_page_runs_longest(runs_.get()), treed);
  tcx_page_runs_remove(runs_.get(), treed);
  EXPECT_EQ(tcx_page_runs_longest(runs_.get()), listed);
  tcx_page_runs_remove(runs_.get(), listed);
  EXPECT_EQ(tcx_page_runs_longest(runs_.get()), one);
  EXPECT_EQ(runs_->pages, 1u);
  Check();
}

TEST_F(PageRunsTest, LowestAddressOfEqualLongRuns) {
  Insert(9000, 500);
  tcx_span *low = Insert(1000, 500);
  Insert(5000, 500);
  EXPECT_EQ(tcx_page_runs_best_fit(runs_.get(), 400), low);
}

TEST_F(PageRunsTest, AlignedFitPrefersAShortRunThatLiesWell) {
  Insert(17, 8);
  tcx_span *good = Insert(32, 8);
  Insert(1001, 100);
  EXPECT_EQ(tcx_page_runs_aligned_fit(runs_.get(), 8, 16), good);
}

TEST_F(PageRunsTest, AlignedFitTakesALongerRunAfterBoundedTries) {
  for (uint64_t i = 0; i < 100; i++) {
    Insert(1000 + 64 * i + 1, 8);
  }
  EXPECT_EQ(tcx_page_runs_aligned_fit(runs_.get(), 8, 64), nullptr);
  tcx_span *sure = Insert(100001, 71);
  EXPECT_EQ(tcx_page_runs_aligned_fit(runs_.get(), 8, 64), sure);
  tcx_span *large = Insert(200001, 1000);
  EXPECT_EQ(tcx_page_runs_aligned_fit(runs_.get(), 300, 64), large);
  EXPECT_EQ(tcx_page_runs_aligned_fit(runs_.get(), 1000, 64), nullptr);
}

TEST_F(PageRunsTest, AgreesWithAnOrderedSet) {
  std::mt19937 random(7);
  std::set<std::pair<uint64_t, uint64_t>> model;
  std::vector<tcx_span *> live;
  for (uint64_t step = 0; step < 20000; step++) {
    if (live.size() < 50 || (live.size() < 600 && random() % 2 == 0)) {
      uint32_t limit = random() % 2 == 0 ? 160 : 3000;
      tcx_span *span = Insert(1 + step * 4096, 1 + random() % limit);
      live.push_back(span);
      model.emplace(span->pages, uint64_t{span->first_page});
    } else {
      size_t index = random() % live.size();
      tcx_span *span = live[index];
      tcx_page_runs_remove(runs_.get(), span);
      model.erase({span->pages, uint64_t{span->first_page}});
      live[index] = live.back();
      live.pop_back();
    }
    size_t pages = 1 + random() % 3100;
    auto expected = model.lower_bound({pages, 0});
    const tcx_span *found = tcx_page_runs_best_fit(runs_.get(), pages);
    ASSERT_EQ(found == nullptr, expected == model.end());
    if (found != nullptr) {
      ASSERT_EQ(found->pages, expected->first);
    }
    if (found != nullptr && found->pages > TCX_PAGE_RUNS_LISTS) {
      ASSERT_EQ(found->first_page, expected->second);
    }
    ASSERT_EQ(tcx_page_runs_longest(runs_.get())->pages, model.rbegin()->first);
    if (step % 100 == 0) {
      Check();
    }
  }
}

// In order of address, which makes a plain search tree a list.
TEST_F(PageRunsTest, TreeStaysShallow) {
  for (uint32_t i = 0; i < 20000; i++) {
    Insert(1 + uint64_t{i} * 100000, 200 + i);
  }
  size_t deepest = 0;
  std::vector<std::pair<const tcx_span *, size_t>> stack{{runs_->tree, 1}};
  while (!stack.empty()) {
    auto [span, depth] = stack.back();
    stack.pop_back();
    if (span == nullptr) {
      continue;
    }
    deepest = std::max(deepest, depth);
    stack.emplace_back(span->left, depth + 1);
    stack.emplace_back(span->right, depth + 1);
  }
  EXPECT_LE(deepest, 60u);  // 2 ln(n) is 20.
}

}  // namespace

// head_stock_test.cc -- spare heads: how many are kept, what goes back.
//
// Method: heads in and out against the count of what the pool has in use.
#include "backend/head_stock.h"

#include <gtest/gtest.h>

#include <set>

#include "backend/metadata.h"
#include "base/check.h"
#include "base/os.h"
#include "pagemap/span.h"

namespace {

uint64_t InUse() {
  tcx_metadata_stats stats;
  tcx_metadata_read_stats(&stats);
  return stats.in_use_bytes / sizeof(tcx_span);
}

class HeadStockTest : public testing::Test {
 protected:
  void Restock() {
    tcx_span *heads = tcx_head_stock_make();
    ASSERT_NE(heads, nullptr);
    tcx_head_stock_add(&stock_, heads);
    tcx_head_stock_check(&stock_);
  }

  tcx_head_stock stock_ = {};
};

TEST_F(HeadStockTest, ComesByTheBatch) {
  uint64_t before = InUse();
  Restock();
  EXPECT_EQ(stock_.count, TCX_HEAD_STOCK_BATCH);
  EXPECT_EQ(InUse(), before + TCX_HEAD_STOCK_BATCH);
  std::set<tcx_span *> heads;
  while (stock_.count > 0)
    EXPECT_TRUE(heads.insert(tcx_head_stock_get(&stock_)).second);
  EXPECT_EQ(heads.size(), TCX_HEAD_STOCK_BATCH);
  for (tcx_span *head : heads)
    tcx_head_stock_put(&stock_, head);
  tcx_head_stock_check(&stock_);
}

TEST_F(HeadStockTest, GoesBackByTheBatch) {
  Restock();
  Restock();
  tcx_span *head = tcx_head_stock_get(&stock_);
  tcx_head_stock_put(&stock_, head);
  EXPECT_EQ(stock_.count, 2 * TCX_HEAD_STOCK_BATCH);
  uint64_t before = InUse();
  tcx_span *one = tcx_metadata_span_allocate();
  ASSERT_NE(one, nullptr);
  tcx_head_stock_put(&stock_, one);
  EXPECT_EQ(stock_.count, TCX_HEAD_STOCK_BATCH + 1);
  EXPECT_EQ(InUse(), before + 1 - TCX_HEAD_STOCK_BATCH);
  tcx_head_stock_check(&stock_);
  tcx_metadata_check();
}

TEST_F(HeadStockTest, NoneWithoutMemory) {
  static tcx_os_calls calls = tcx_os_linux;
  calls.mmap = [](void *, size_t, int, int) -> intptr_t { return -12; };
  tcx_os_install(&calls);
  tcx_span *all = nullptr;
  while (tcx_span *heads = tcx_head_stock_make()) {
    tcx_span *last = heads;
    while (last->next != nullptr)
      last = last->next;
    last->next = all;
    all = heads;
  }
  tcx_os_install(&tcx_os_linux);
  tcx_metadata_spans_free(all);
  tcx_head_stock_add(&stock_, nullptr);
  EXPECT_EQ(stock_.count, 0u);
  tcx_head_stock_check(&stock_);
}

#if TCX_ASSERTIONS
TEST_F(HeadStockTest, AHeadInUseIsFound) {
  Restock();
  stock_.heads->state = TCX_SPAN_LARGE;
  EXPECT_DEATH(tcx_head_stock_check(&stock_), "check failed");
}
#endif

}  // namespace

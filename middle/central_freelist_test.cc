// Tests of middle/central_freelist.c.
//
// Method: a real central free list over a page source that counts its calls and
// fails on demand. The model-based test compares with the set of objects that
// are out: a span lives exactly while one of its objects is out, because a new
// span always serves and an empty one goes back at once. The invariants of
// central_freelist.h are walked after each step and each test.

#include "middle/central_freelist.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "backend/fake_page_source.h"
#include "backend/metadata.h"
#include "base/check.h"
#include "middle/exhausted_metadata.h"
#include "pagemap/pagemap.h"

namespace {

using tcx::testing::ExhaustedMetadata;

class CentralFreelistTest : public ::testing::TestWithParam<size_t> {
 protected:
  CentralFreelistTest() : id_(tcx_size_class_of(SizeOf())) {
    tcx_central_freelist_init(&list_, pages_.get(), id_);
  }
  ~CentralFreelistTest() override {
    tcx_central_freelist_check(&list_);
    if (!out_.empty()) {
      Insert({out_.begin(), out_.end()});
    }
    tcx_central_freelist_check(&list_);
    EXPECT_EQ(pages_.live_spans(), 0u);
    EXPECT_EQ(Stats().free_objects, 0u);
    EXPECT_EQ(MetadataInUse(), metadata_);
  }

  const tcx_size_class &row() const {
    return tcx_size_classes[id_];
  }
  std::vector<void *> Remove(unsigned count) {
    std::vector<void *> batch(count);
    batch.resize(
        tcx_central_freelist_remove_range(&list_, batch.data(), count));
    for (void *object : batch) {
      EXPECT_TRUE(out_.insert(object).second) << "handed out twice";
      CheckObject(object);
    }
    return batch;
  }
  void Insert(const std::vector<void *> &batch) {
    for (size_t i = 0; i < batch.size(); i += TCX_BATCH_MAX) {
      size_t count = std::min<size_t>(TCX_BATCH_MAX, batch.size() - i);
      tcx_central_freelist_insert_range(&list_, batch.data() + i,
                                        static_cast<unsigned>(count));
    }
    for (void *object : batch) {
      out_.erase(object);
    }
  }
  void CheckObject(void *object) {
    tcx_span *span = tcx_pagemap_span_of(object);
    ASSERT_NE(span, nullptr);
    EXPECT_EQ(span->size_class, id_);
    size_t offset = static_cast<char *>(object) - tcx_span_start(span);
    EXPECT_EQ(offset % row().size, 0u);
    EXPECT_LT(offset / row().size, row().objects);
    EXPECT_EQ(tcx_pagemap_class_byte(object), 2 * id_);
  }
  // Objects that are out, by span.
  std::map<tcx_span *, std::vector<void *>> OutBySpan() const {
    std::map<tcx_span *, std::vector<void *>> by_span;
    for (void *object : out_) {
      by_span[tcx_pagemap_span_of(object)].push_back(object);
    }
    return by_span;
  }
  tcx_central_freelist_stats Stats() const {
    tcx_central_freelist_stats stats;
    tcx_central_freelist_read_stats(&list_, &stats);
    return stats;
  }
  void CheckAgainstModel() {
    tcx_central_freelist_check(&list_);
    size_t spans = OutBySpan().size();
    EXPECT_EQ(pages_.live_spans(), spans);
    tcx_central_freelist_stats stats = Stats();
    EXPECT_EQ(stats.spans, spans);
    EXPECT_EQ(stats.out_objects, out_.size());
    EXPECT_EQ(stats.free_objects, spans * row().objects - out_.size());
    EXPECT_EQ(stats.spans_total, pages_.allocations());
  }

  tcx::testing::FakePageSource pages_;
  tcx_central_freelist list_ = {};
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

INSTANTIATE_TEST_SUITE_P(Sizes, CentralFreelistTest,
                         ::testing::Values(16, 64, 448, 1024, 4096, 14336,
                                           65536, 262144),
                         ::testing::PrintToStringParamName());

TEST_P(CentralFreelistTest, RemoveRangeFromNothingTakesNoMoreSpansThanNeeded) {
  unsigned count = row().batch;
  EXPECT_EQ(Remove(count).size(), count);
  EXPECT_EQ(pages_.allocations(), (count + row().objects - 1) / row().objects);
  CheckAgainstModel();
}

TEST_P(CentralFreelistTest, RemoveRangeWithoutMemoryReturnsZero) {
  pages_.FailAfter(0);
  EXPECT_TRUE(Remove(4).empty());
  CheckAgainstModel();
}

TEST_P(CentralFreelistTest, RemoveRangeStoresWhatThereIsMemoryFor) {
  pages_.FailAfter(1);
  unsigned count = std::min(row().objects + 1u, unsigned{TCX_BATCH_MAX});
  EXPECT_EQ(Remove(count).size(), std::min<size_t>(count, row().objects));
  CheckAgainstModel();
}

TEST_P(CentralFreelistTest, WithoutMetadataNoSpanIsLost) {
  const unsigned objects = row().objects;
  const bool has_words = objects > 64 * TCX_SPAN_INLINE_WORDS;
  ExhaustedMetadata exhausted(sizeof(uint64_t) *
                              tcx_span_bitmap_words(objects));
  EXPECT_EQ(Remove(1).empty(), has_words);
  EXPECT_EQ(pages_.live_spans(), has_words ? 0u : 1u);
}

TEST_P(CentralFreelistTest, InsertRangeOfLastObjectReturnsSpan) {
  std::vector<void *> batch = Remove(1);
  EXPECT_EQ(pages_.live_spans(), 1u);
  Insert(batch);
  EXPECT_EQ(pages_.live_spans(), 0u);
  EXPECT_EQ(tcx_pagemap_class_byte(batch[0]), 0u);
}

TEST_P(CentralFreelistTest, EachObjectOfSpanIsHandedOutOnce) {
  size_t objects = row().objects;
  while (out_.size() < objects) {
    size_t count = std::min<size_t>(objects - out_.size(), TCX_BATCH_MAX);
    ASSERT_EQ(Remove(static_cast<unsigned>(count)).size(), count);
  }
  EXPECT_EQ(pages_.allocations(), 1u);
  EXPECT_EQ(Stats().free_objects, 0u);
  CheckAgainstModel();
}

// Of a few objects per span on every page size.
using CentralFreelistOrderTest = CentralFreelistTest;

INSTANTIATE_TEST_SUITE_P(Sizes, CentralFreelistOrderTest,
                         ::testing::Values(448, 1024),
                         ::testing::PrintToStringParamName());

TEST_P(CentralFreelistOrderTest, FullestSpanServesFirst) {
  const unsigned objects = row().objects;
  ASSERT_GE(objects, 4u);
  while (out_.size() < 2 * objects) {
    Remove(1);
  }
  auto by_span = OutBySpan();
  ASSERT_EQ(by_span.size(), 2u);
  auto &fuller = *by_span.begin();
  auto &emptier = *std::next(by_span.begin());
  emptier.second.resize(objects - 1);
  fuller.second.resize(1);
  Insert(emptier.second);
  Insert(fuller.second);
  EXPECT_EQ(tcx_pagemap_span_of(Remove(1)[0]), fuller.first);
  EXPECT_EQ(tcx_pagemap_span_of(Remove(1)[0]), emptier.first);
  CheckAgainstModel();
}

TEST_P(CentralFreelistTest, RandomOperationsMatchModel) {
  std::mt19937 random(static_cast<unsigned>(GetParam()));
  const unsigned most =
      std::min<unsigned>(TCX_BATCH_MAX, std::max(8u, 4u * row().batch));
  for (int step = 0; step < 600; step++) {
    // Phases of growing and of shrinking.
    bool grow = random() % 100 < (step / 100 % 2 == 0 ? 65u : 35u);
    if (grow) {
      bool fail = random() % 8 == 0;
      unsigned count = 1 + random() % most;
      if (fail) {
        pages_.FailAfter(random() % 2);
      }
      size_t got = Remove(count).size();
      EXPECT_TRUE(fail || got == count);
      pages_.NeverFail();
    } else {
      std::vector<void *> batch(out_.begin(), out_.end());
      if (random() % 2 == 0) {
        std::shuffle(batch.begin(), batch.end(), random);
      }
      batch.resize(std::min<size_t>(batch.size(), 1 + random() % most));
      Insert(batch);
    }
    ASSERT_NO_FATAL_FAILURE(CheckAgainstModel());
  }
}

// -- wrong use ----------------------------------------------------------------

using CentralFreelistDeathTest = CentralFreelistTest;

INSTANTIATE_TEST_SUITE_P(Sizes, CentralFreelistDeathTest,
                         ::testing::Values(16, 448),
                         ::testing::PrintToStringParamName());

std::string Hex(const void *pointer) {
  char text[32];
  snprintf(text, sizeof(text), "%p", pointer);
  return text;
}

TEST_P(CentralFreelistDeathTest, DoubleFreeNamesTheObject) {
  std::vector<void *> batch = Remove(3);
  std::string message = "tcx: free\\(\\): double free of " + Hex(batch[1]) +
                        " \\(object of " + std::to_string(row().size) +
                        " bytes\\)";
  EXPECT_DEATH(Insert({batch[1], batch[0], batch[1]}), message);
  EXPECT_DEATH(
      {
        Insert({batch[1]});
        Insert({batch[1]});
      },
      message);
}

TEST_P(CentralFreelistDeathTest, DoubleFreeInBatchThatEmptiesSpan) {
  std::vector<void *> batch = Remove(1);
  EXPECT_DEATH(Insert({batch[0], batch[0]}), "double free");
}

TEST_P(CentralFreelistDeathTest, DoubleFreeAfterSpanWentBack) {
  std::vector<void *> batch = Remove(1);
  EXPECT_DEATH(
      {
        Insert({batch[0]});
        Insert({batch[0]});
      },
      "tcx: free\\(\\): invalid pointer " + Hex(batch[0]) +
          " \\(not in a span of objects of");
}

TEST_P(CentralFreelistDeathTest, PointerIntoObjectOrTail) {
  std::vector<void *> batch = Remove(1);
  char *object = static_cast<char *>(batch[0]);
  EXPECT_DEATH(Insert({object + 8}), "not the start of an object of");
  tcx_span *span = tcx_pagemap_span_of(object);
  char *tail = tcx_span_start(span) + row().objects * row().size;
  if (tail < tcx_span_start(span) + tcx_span_bytes(span)) {
    EXPECT_DEATH(Insert({tail}), "not the start of an object of");
  }
}

TEST_P(CentralFreelistDeathTest, ForeignPointer) {
  int on_stack;
  EXPECT_DEATH(Insert({&on_stack}), "not in a span of objects of");
  EXPECT_DEATH(Insert({nullptr}), "not in a span of objects of");
}

TEST_P(CentralFreelistDeathTest, TooLargeBatchAsserts) {
  if (!TCX_ASSERTIONS) {
    GTEST_SKIP() << "needs assertions";
  }
  std::vector<void *> batch(TCX_BATCH_MAX + 1);
  EXPECT_DEATH(EXPECT_EQ(tcx_central_freelist_remove_range(&list_, batch.data(),
                                                           TCX_BATCH_MAX + 1),
                         0u),
               "count <= TCX_BATCH_MAX");
}

}  // namespace

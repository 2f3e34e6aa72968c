// Tests of pagemap/span.c.
//
// Method: a span of each small class at a made-up address (its memory is never
// touched, which is a promise of span.h) against a std::set of the free
// objects, with tcx_span_check after each step.

#include "pagemap/span.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace {

constexpr uint64_t kFirstPage = (UINT64_C(1) << 40) >> TCX_PAGE_SHIFT;

class SpanTest : public ::testing::Test {
 protected:
  void Cut(unsigned size_class) {
    span_ = tcx_span();
    span_.first_page = kFirstPage;
    span_.pages = tcx_size_classes[size_class].pages;
    span_.state = TCX_SPAN_SMALL;
    words_.assign(tcx_span_bitmap_words(Objects(size_class)), 0);
    bool fits = words_.size() <= TCX_SPAN_INLINE_WORDS;
    tcx_span_init_objects(&span_, size_class, fits ? nullptr : words_.data());
  }
  static unsigned Objects(unsigned size_class) {
    return tcx_size_classes[size_class].objects;
  }
  unsigned IndexOf(const void *object) const {
    auto offset = static_cast<const char *>(object) - tcx_span_start(&span_);
    return tcx_object_index(&tcx_size_classes[span_.size_class],
                            static_cast<uint32_t>(offset));
  }

  tcx_span span_;
  std::vector<uint64_t> words_;
};

TEST_F(SpanTest, HeadIsOneCacheLine) {
  EXPECT_EQ(sizeof(tcx_span), 64u);
}

TEST_F(SpanTest, TakesEveryObjectOnceByChance) {
  std::mt19937_64 random(3);
  for (unsigned c = 1; c < TCX_RUN_CLASS_FIRST; c++) {
    Cut(c);
    std::set<void *> taken;
    for (unsigned i = 0; i < Objects(c); i++) {
      void *object = tcx_span_take_random(&span_, random());
      ASSERT_TRUE(taken.insert(object).second);
      ASSERT_LT(IndexOf(object), Objects(c));
      ASSERT_FALSE(tcx_span_is_free(&span_, IndexOf(object)));
      tcx_span_check(&span_);
    }
    EXPECT_EQ(tcx_span_take_random(&span_, random()), nullptr);
    ASSERT_TRUE(tcx_span_put(&span_, Objects(c) / 2));
    EXPECT_TRUE(tcx_span_is_free(&span_, Objects(c) / 2));
    void *last = tcx_span_take_random(&span_, random());
    EXPECT_EQ(IndexOf(last), Objects(c) / 2);
  }
}

TEST_F(SpanTest, EveryObjectIsLikelyToBeTheFirst) {
  unsigned c = 1;
  while (Objects(c) > 200 || Objects(c) < 10)
    c++;
  std::mt19937_64 random(4);
  std::set<unsigned> first;
  for (unsigned i = 0; i < 20 * Objects(c); i++) {
    Cut(c);
    first.insert(IndexOf(tcx_span_take_random(&span_, random())));
  }
  EXPECT_EQ(first.size(), Objects(c));
}

TEST_F(SpanTest, TakesEveryObjectOnceInAddressOrder) {
  for (unsigned c = 1; c < TCX_RUN_CLASS_FIRST; c++) {
    Cut(c);
    tcx_span_check(&span_);
    std::vector<void *> batch(Objects(c) + 1);
    unsigned taken = tcx_span_take(&span_, batch.data(), Objects(c) + 1);
    ASSERT_EQ(taken, Objects(c));
    for (unsigned i = 0; i < taken; i++) {
      ASSERT_EQ(batch[i],
                tcx_span_start(&span_) + i * tcx_size_classes[c].size);
    }
    EXPECT_EQ(span_.allocated, taken);
    EXPECT_EQ(tcx_span_take(&span_, batch.data(), 1), 0u);
    tcx_span_check(&span_);
  }
}

TEST_F(SpanTest, PutOfFreeObjectIsRefused) {
  Cut(1);
  void *object;
  ASSERT_EQ(tcx_span_take(&span_, &object, 1), 1u);
  EXPECT_TRUE(tcx_span_put(&span_, IndexOf(object)));
  EXPECT_FALSE(tcx_span_put(&span_, IndexOf(object)));
  EXPECT_EQ(span_.allocated, 0);
  tcx_span_check(&span_);
}

TEST_F(SpanTest, RandomTakesAndPutsMatchTheModel) {
  std::mt19937 random(1);
  for (unsigned c = 1; c < TCX_RUN_CLASS_FIRST; c += 3) {
    Cut(c);
    std::set<void *> live;
    for (int step = 0; step < 500; step++) {
      if (random() % 2 == 0) {
        void *batch[TCX_BATCH_MAX];
        unsigned want = 1 + random() % 40;
        unsigned got = tcx_span_take(&span_, batch, want);
        size_t free_objects = Objects(c) - live.size();
        ASSERT_EQ(got, free_objects < want ? free_objects : want);
        for (unsigned i = 0; i < got; i++) {
          ASSERT_TRUE(live.insert(batch[i]).second);
        }
      } else if (!live.empty()) {
        auto it = live.begin();
        std::advance(it, random() % live.size());
        ASSERT_TRUE(tcx_span_put(&span_, IndexOf(*it)));
        live.erase(it);
      }
      ASSERT_EQ(span_.allocated, live.size());
      tcx_span_check(&span_);
    }
  }
}

TEST_F(SpanTest, ListKeepsOrderOfPushes) {
  tcx_span head = tcx_span();
  tcx_span a = tcx_span();
  tcx_span b = tcx_span();
  tcx_span_list_init(&head);
  EXPECT_TRUE(tcx_span_list_is_empty(&head));
  tcx_span_list_push(&head, &a);
  tcx_span_list_push(&head, &b);
  EXPECT_EQ(head.next, &b);
  EXPECT_EQ(head.prev, &a);
  tcx_span_list_remove(&b);
  EXPECT_EQ(head.next, &a);
  tcx_span_list_remove(&a);
  EXPECT_TRUE(tcx_span_list_is_empty(&head));
}

using SpanDeathTest = SpanTest;

TEST_F(SpanDeathTest, CheckSeesAWrongCount) {
  Cut(1);
  span_.allocated = 1;
  EXPECT_DEATH(tcx_span_check(&span_), "allocated");
}

}  // namespace

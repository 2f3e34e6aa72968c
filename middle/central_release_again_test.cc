// Tests of middle/central_release.c: when there is something to look for again.
//
// Method: as central_release_test.cc. The page source refuses what the hook of
// the test says, and counts the notices that it gets.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "middle/central_release_testing.h"
#include "middle/central_source.h"
#include "middle/object_source.h"
#include "size_classes/size_classes.h"

namespace {

using tcx::testing::HasSeveralObjects;
using tcx::testing::HookedPages;

class CentralReleaseAgainTest : public tcx::testing::CentralReleaseTest {};

INSTANTIATE_TEST_SUITE_P(Sizes, CentralReleaseAgainTest,
                         ::testing::Values(2048, 4096, 5120, 14336, 38000,
                                           65536, 81920),
                         ::testing::PrintToStringParamName());

TEST_P(CentralReleaseAgainTest, RefusedBeforeOthersWentGoesOneWalkLater) {
  for (bool is_now : {false, true}) {
    Fill(6);
    FreeMost();
    if (!HasSeveralObjects(row()) || FreeBytes() == 0)
      GTEST_SKIP() << "nothing to give back";
    pages_.calls = 0;
    pages_.hook = [this](const tcx_span *) {
      pages_.pages_.RefuseReleases(pages_.calls <= 2);
    };
    uint64_t now_ms = 1000000;
    if (is_now) {
      EXPECT_LT(Release(now_ms, true), FreeBytes());
      EXPECT_NE(DueMs(now_ms), UINT64_MAX);
    }
    (void)Quiet(now_ms);
    EXPECT_EQ(Stats().released_bytes, FreeBytes());
    pages_.hook = nullptr;
    InsertAll();
  }
}

TEST_P(CentralReleaseAgainTest, WhatIsAlwaysRefusedIsLeftAlone) {
  Fill(6);
  FreeMost();
  pages_.pages_.RefuseReleases(true);
  EXPECT_LE(Quiet(1000000), 1040000u);
  pages_.pages_.RefuseReleases(false);
}

TEST_P(CentralReleaseAgainTest, AsManyOutAsInIsSeen) {
  Fill(3);
  FreeMost();
  uint64_t now_ms = Quiet(1000000);
  if (!HasSeveralObjects(row()) || row().objects < 3)
    return;
  // Another object of the same span than came out of it.
  void *old = *out_.rbegin();
  Remove(1);
  Insert(old);
  EXPECT_NE(DueMs(now_ms), UINT64_MAX);
  (void)Quiet(now_ms);
  EXPECT_EQ(Stats().released_bytes, FreeBytes());
}

TEST_P(CentralReleaseAgainTest, TheFirstObjectBackIsNoticed) {
  bool has_parts = HasSeveralObjects(row());
  Fill(2);
  EXPECT_EQ(pages_.notices, 0u);
  Insert(*out_.rbegin());
  EXPECT_EQ(pages_.notices, has_parts ? 1u : 0u);
  Insert(*out_.rbegin());
  EXPECT_EQ(pages_.notices, has_parts ? 1u : 0u);
  Fill(2);
  uint64_t now_ms = Quiet(1000000);
  EXPECT_EQ(pages_.notices, has_parts ? 1u : 0u);
  Insert(*out_.rbegin());
  EXPECT_EQ(pages_.notices, has_parts ? 2u : 0u);
  EXPECT_EQ(DueMs(now_ms) == UINT64_MAX, !has_parts);
  Insert(*out_.rbegin());
  EXPECT_EQ(pages_.notices, has_parts ? 2u : 0u);
}

TEST_P(CentralReleaseAgainTest, SomebodyElseAtItIsNotDone) {
  Fill(2);
  FreeMost();
  if (!HasSeveralObjects(row()) || FreeBytes() == 0)
    GTEST_SKIP() << "nothing to give back";
  unsigned times = 0;
  pages_.hook = [&](const tcx_span *) {
    times++;
    bool is_done = true;
    EXPECT_EQ(ReleaseOnce(1000000, SIZE_MAX, true, &is_done), 0u);
    EXPECT_FALSE(is_done);
    (void)ReleaseOnce(1000000, SIZE_MAX, false, &is_done);
    EXPECT_TRUE(is_done);
  };
  EXPECT_GT(Release(1000000, true), 0u);
  EXPECT_GT(times, 0u);
}

TEST(CentralReleaseClassesTest, WhatOneClassBrokeForIsOfferedByAnother) {
  tcx_size_classes_init();
  HookedPages pages;
  auto central = std::make_unique<tcx_central_source>();
  tcx_object_source *source =
      tcx_central_source_init(central.get(), pages.pages_.get());
  const unsigned first = tcx_size_class_of(4096);
  const unsigned second = tcx_size_class_of(8192);
  void *batch[2][TCX_BATCH_MAX];
  const unsigned count = 8;
  for (unsigned i = 0; i < 2; i++) {
    unsigned id = i == 0 ? first : second;
    ASSERT_EQ(source->ops->remove_range(source, id, batch[i], count), count);
    source->ops->insert_range(source, id, batch[i] + 1, 4);
  }
  bool is_broken = false;
  pages.hook = [&](const tcx_span *span) {
    is_broken = is_broken || span->size_class == second;
    pages.pages_.RefuseReleases(!is_broken);
  };
  uint64_t now_ms = 1000000;
  for (int looks = 0; looks < 20; looks++) {
    now_ms = source->ops->release_due_ms(source, now_ms);
    if (now_ms == UINT64_MAX)
      break;
    (void)source->ops->release(source, now_ms, SIZE_MAX, false);
  }
  EXPECT_EQ(now_ms, UINT64_MAX);
  EXPECT_TRUE(is_broken);
  for (unsigned i = 0; i < 2; i++) {
    unsigned id = i == 0 ? first : second;
    tcx_object_source_stats stats;
    source->ops->stats(source, id, &stats);
    EXPECT_GT(stats.released_bytes, 0u);
    source->ops->insert_range(source, id, batch[i], 1);
    source->ops->insert_range(source, id, batch[i] + 5, count - 5);
  }
  source->ops->check(source);
}

// It may be inside of a malloc.
TEST(CentralReleaseClassesTest, OneCallLooksAtAPartOfManySpans) {
  tcx_size_classes_init();
  HookedPages pages;
  auto central = std::make_unique<tcx_central_source>();
  tcx_object_source *source =
      tcx_central_source_init(central.get(), pages.pages_.get());
  const unsigned id = tcx_size_class_of(TCX_PAGE_SIZE / 2);
  const tcx_size_class &row = tcx_size_classes[id];
  const size_t spans = 5000;
  std::vector<void *> out(spans * row.objects);
  if (spans * row.pages * TCX_PAGE_SIZE > 200 * TCX_MIB)
    GTEST_SKIP() << "the page source has not so many";
  for (void *&object : out)
    ASSERT_EQ(source->ops->remove_range(source, id, &object, 1), 1u);
  // One after the other is taken from, till it is full.
  for (size_t i = 0; i < out.size(); i += row.objects)
    source->ops->insert_range(source, id, &out[i], 1);
  unsigned calls = 0;
  do {
    (void)source->ops->release(source, 1000000, SIZE_MAX, false);
    calls++;
    ASSERT_LE(calls, 10u);
  } while (source->ops->release_due_ms(source, 1000000) == 1000000);
  EXPECT_GE(calls, 2u);
  EXPECT_EQ(pages.calls, 0u) << "all is young";
  for (size_t i = 0; i < out.size(); i++) {
    if (i % row.objects != 0)
      source->ops->insert_range(source, id, &out[i], 1);
  }
}

}  // namespace

// size_classes_test.cc -- every size, every class, every byte of every span.
//
// Method: the inputs are few enough to try them all, against a linear scan of
// the rows. The bounds on waste are those that generate.py states, written here
// a second time.

#include "size_classes/size_classes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace {

// Before anything calls init: a table of zeros is what sends the first malloc
// to the slow path.
const unsigned g_class_before_init = tcx_size_class_of(64);

class SizeClassesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tcx_size_classes_init();
  }
};

unsigned ScanForClass(size_t size, size_t align) {
  for (unsigned id = 1; id < TCX_SIZE_CLASS_COUNT; ++id) {
    const size_t class_size = tcx_size_classes[id].size;
    if (class_size >= size && class_size % align == 0)
      return id;
  }
  return 0;
}

TEST_F(SizeClassesTest, TableIsZeroBeforeInit) {
  EXPECT_EQ(g_class_before_init, 0u);
}

TEST_F(SizeClassesTest, CheckFindsNothingAndInitIsIdempotent) {
  EXPECT_EQ(tcx_size_classes_check(), 0u);
  static uint16_t before[TCX_SIZE_CLASS_TABLE_LENGTH];
  memcpy(before, tcx_size_class_table, sizeof(before));
  tcx_size_classes_init();
  EXPECT_EQ(memcmp(before, tcx_size_class_table, sizeof(before)), 0);
  EXPECT_EQ(tcx_size_classes_check(), 0u);
}

TEST_F(SizeClassesTest, CheckFindsDamageToTheTable) {
  const unsigned id = tcx_size_class_of(4096);
  tcx_size_class_table[4096 / 16] += 16;
  EXPECT_EQ(tcx_size_classes_check(), id);
  tcx_size_class_table[4096 / 16] -= 16;
  EXPECT_EQ(tcx_size_classes_check(), 0u);
}

TEST_F(SizeClassesTest, EverySizeMapsToTheSmallestFittingClass) {
  unsigned expected = 1;
  for (size_t size = 0; size <= TCX_MAX_RUN_SIZE; ++size) {
    while (tcx_size_classes[expected].size < size)
      ++expected;
    ASSERT_LT(expected, unsigned{TCX_SIZE_CLASS_COUNT});
    ASSERT_EQ(tcx_size_class_of(size), expected) << size;
  }
  EXPECT_EQ(expected, unsigned{TCX_SIZE_CLASS_COUNT - 1});
}

TEST_F(SizeClassesTest, RunClassesAreFourPerDoubling) {
  unsigned id = TCX_RUN_CLASS_FIRST;
  for (size_t low = TCX_MAX_SMALL_SIZE; low < TCX_MAX_RUN_SIZE; low *= 2) {
    for (size_t i = 1; i <= 4; ++i, ++id) {
      ASSERT_LT(id, unsigned{TCX_SIZE_CLASS_COUNT});
      EXPECT_EQ(tcx_size_classes[id].size, low + low / 4 * i);
      EXPECT_EQ(tcx_size_classes[id].objects, 1);
      EXPECT_EQ(tcx_size_classes[id].batch, 1);
    }
  }
  EXPECT_EQ(id, unsigned{TCX_SIZE_CLASS_COUNT});
}

TEST_F(SizeClassesTest, SizesBeyondTheLastClassHaveNone) {
  size_t size = size_t{TCX_MAX_RUN_SIZE} + 1;
  for (int bit = 23; bit < 64; ++bit) {
    EXPECT_EQ(tcx_size_class_of(size), 0u) << size;
    EXPECT_EQ(tcx_size_class_of_aligned(size, 16), 0u) << size;
    size = size_t{1} << bit;
  }
  for (size_t below = 0; below < 4096; ++below) {
    EXPECT_EQ(tcx_size_class_of(SIZE_MAX - below), 0u);
    EXPECT_EQ(tcx_size_class_of_aligned(SIZE_MAX - below, TCX_PAGE_SIZE), 0u);
  }
}

TEST_F(SizeClassesTest, AlignmentWalkFindsTheSmallestMultiple) {
  for (size_t align = 1; align <= TCX_PAGE_SIZE; align *= 2) {
    for (size_t size = 0; size <= TCX_MAX_RUN_SIZE; size += 61) {
      ASSERT_EQ(tcx_size_class_of_aligned(size, align),
                ScanForClass(std::max(size, align), align))
          << size << " aligned to " << align;
    }
    for (unsigned id = 1; id < TCX_SIZE_CLASS_COUNT; ++id) {
      for (size_t size = tcx_size_classes[id].size - 1;
           size <= tcx_size_classes[id].size + 1u; ++size) {
        ASSERT_EQ(tcx_size_class_of_aligned(size, align),
                  ScanForClass(std::max(size, align), align))
            << size << " aligned to " << align;
      }
    }
  }
}

TEST_F(SizeClassesTest, PowersOfTwoAreClasses) {
  for (size_t size = 16; size <= TCX_MAX_RUN_SIZE; size *= 2) {
    EXPECT_EQ(tcx_size_classes[tcx_size_class_of(size)].size, size);
  }
}

TEST_F(SizeClassesTest, RowsKeepOrderAndSpansHoldTheirObjects) {
  for (unsigned id = 1; id < TCX_SIZE_CLASS_COUNT; ++id) {
    const tcx_size_class &c = tcx_size_classes[id];
    SCOPED_TRACE(c.size);
    EXPECT_EQ(c.size % 16, 0u);
    EXPECT_GT(c.size, tcx_size_classes[id - 1].size);
    const size_t span_bytes = size_t{c.pages} * TCX_PAGE_SIZE;
    EXPECT_GE(c.objects, 1);
    EXPECT_LE(c.objects, 16384);
    EXPECT_LE(size_t{c.objects} * c.size, span_bytes);
    if (id < TCX_RUN_CLASS_FIRST) {
      EXPECT_LE(c.pages, 64);  // a byte holds the index of a page in its span
      EXPECT_EQ(c.objects, span_bytes / c.size);
      EXPECT_EQ(c.batch, std::clamp(65536u / c.size, 2u, 32u));
      EXPECT_GE(c.objects * 4, c.batch);
    } else {
      EXPECT_EQ(c.pages, (c.size + TCX_PAGE_SIZE - 1) / TCX_PAGE_SIZE);
    }
    EXPECT_LE(c.batch, unsigned{TCX_BATCH_MAX});
  }
}

TEST_F(SizeClassesTest, WasteKeepsItsBounds) {
  const size_t span_part = TCX_PAGE_SHIFT == 18 ? 8 : 16;
  for (unsigned id = 1; id < TCX_SIZE_CLASS_COUNT; ++id) {
    const tcx_size_class &c = tcx_size_classes[id];
    SCOPED_TRACE(c.size);
    const size_t step = c.size - tcx_size_classes[id - 1].size;
    const size_t step_part = c.size <= 8192                 ? 8
                             : c.size <= TCX_MAX_SMALL_SIZE ? 7
                                                            : 5;
    EXPECT_TRUE(step <= 16 || step * step_part <= c.size) << step;
    if (id >= TCX_RUN_CLASS_FIRST)
      continue;
    const size_t span_bytes = size_t{c.pages} * TCX_PAGE_SIZE;
    const size_t tail_bytes = span_bytes - size_t{c.objects} * c.size;
    EXPECT_LE((tail_bytes + 64) * span_part, span_bytes) << tail_bytes;
  }
}

TEST_F(SizeClassesTest, ReciprocalIsExactForEveryByteOfEverySpan) {
  for (unsigned id = 1; id < TCX_SIZE_CLASS_COUNT; ++id) {
    const tcx_size_class &c = tcx_size_classes[id];
    const uint32_t span_bytes = uint32_t{c.pages} << TCX_PAGE_SHIFT;
    uint32_t index = 0, start = 0;  // the division, by counting
    for (uint32_t offset = 0; offset < span_bytes; ++offset) {
      if (offset == start + c.size) {
        ++index;
        start = offset;
      }
      const uint32_t expected = c.objects == 1 ? 0 : index;
      ASSERT_EQ(tcx_object_index(&c, offset), expected)
          << c.size << " at " << offset;
      const bool is_object = offset == start && index < c.objects;
      ASSERT_EQ(tcx_object_offset_is_exact(&c, offset) != 0, is_object)
          << c.size << " at " << offset;
      if (index < c.objects) {
        ASSERT_EQ(tcx_object_offset_is_multiple(&c, offset) != 0, is_object)
            << c.size << " at " << offset;
      }
    }
  }
}

}  // namespace

// Method: the process runs on tcx. Random work with few survivors; after each
// phase the table's rows must add up to what is resident, to the byte, as
// nothing else runs then. The kernel is the witness for what is on huge pages.
#include "telemetry/held.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <string.h>

#include <cstdlib>
#include <string>

#include "size_classes/size_classes.h"
#include "telemetry/coverage.h"

namespace {

struct Table {
  Table() {
    tcx_stats_read(&stats);
    count = tcx_held_read(&stats, rows);
  }

  uint64_t Sum() const {
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
      sum += rows[i].bytes;
    return sum;
  }
  uint64_t Of(const std::string &name) const {
    for (unsigned i = 0; i < count; i++) {
      if (name == rows[i].name)
        return rows[i].bytes;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  const tcx_held_row *OfClass(unsigned size_class) const {
    for (unsigned i = 0; i < count; i++) {
      if (rows[i].size_class == size_class)
        return &rows[i];
    }
    return nullptr;
  }

  tcx_stats stats;
  tcx_held_row rows[TCX_HELD_ROWS_MAX];
  unsigned count;
};

void ExpectWhole() {
  static Table table;  // Nothing is allocated between the two readings.
  table = Table();
  EXPECT_LE(table.count, unsigned{TCX_HELD_ROWS_MAX});
  EXPECT_EQ(table.Sum(), table.stats.resident_bytes);
  EXPECT_EQ(table.Of("in_use"), table.stats.allocated_bytes);
  EXPECT_EQ(table.Of("kept_huge_pages") + table.Of("parts_of_huge_pages") +
                table.Of("other_free_pages"),
            table.stats.page_free_bytes);
}

// Many of one size, of which one in `keep` stays.
class Crowd {
 public:
  Crowd(size_t count, size_t size, size_t keep) : count_(count) {
    objects_ = static_cast<char **>(malloc(count * sizeof *objects_));
    for (size_t i = 0; i < count; i++) {
      objects_[i] = static_cast<char *>(malloc(size));
      memset(objects_[i], 1, size);
    }
    for (size_t i = 0; i < count; i++) {
      if (i % keep != 0) {
        free(objects_[i]);
        objects_[i] = nullptr;
      }
    }
  }
  ~Crowd() {
    for (size_t i = 0; i < count_; i++)
      free(objects_[i]);
    free(objects_);
  }
  Crowd(const Crowd &) = delete;

 private:
  size_t count_;
  char **objects_;
};

TEST(HeldTest, RowsAddUpToWhatIsResident) {
  ExpectWhole();
  for (size_t size : {16, 100, 1000, 3000, 20000, 100000, 400000, 5000000}) {
    Crowd crowd(4000000 / size + 20, size, 7);
    ExpectWhole();
    malloc_trim(0);
    ExpectWhole();
  }
  ExpectWhole();
  malloc_trim(0);
  ExpectWhole();
}

TEST(HeldTest, ClassesWithMostFreeObjectsHaveRows) {
  constexpr size_t kSize = 1000;
  constexpr size_t kObjects = 40000;
  constexpr size_t kKeep = 8;  // About one for each span.
  unsigned size_class = tcx_size_class_of(kSize);
  Crowd crowd(kObjects, kSize, kKeep);
  malloc_trim(0);  // What lies in caches goes to the spans.
  Table table;
  const tcx_held_row *row = table.OfClass(size_class);
  ASSERT_NE(row, nullptr);
  EXPECT_STREQ(row->name, "class");
  EXPECT_GE(row->objects, kObjects / kKeep);
  EXPECT_LT(row->objects, 2 * kObjects / kKeep);
  EXPECT_GT(row->spans, 0u);
  // All but the survivors, less spans that went back whole.
  EXPECT_GT(row->bytes, kSize * kObjects / 4);
  uint64_t last = UINT64_MAX;
  unsigned classes = 0;
  for (unsigned i = 0; i < table.count; i++) {
    if (table.rows[i].size_class == 0)
      continue;
    classes++;
    EXPECT_LE(table.rows[i].bytes, last);
    last = table.rows[i].bytes;
  }
  EXPECT_LE(classes, unsigned{TCX_HELD_CLASSES});
}

TEST(HeldTest, TheKernelSeesTheHeap) {
  constexpr size_t kBytes = 64 << 20;
  tcx_coverage before;
  ASSERT_EQ(tcx_coverage_read(&before), 0);
  char *block = static_cast<char *>(malloc(kBytes));
  memset(block, 1, kBytes);
  tcx_coverage after;
  ASSERT_EQ(tcx_coverage_read(&after), 0);
  EXPECT_GE(after.resident_bytes, before.resident_bytes + kBytes);
  EXPECT_LE(after.resident_bytes, before.resident_bytes + kBytes + (4 << 20));
  EXPECT_LE(after.huge_bytes, after.resident_bytes);
  EXPECT_GT(after.mappings, 0u);
  tcx_stats stats;
  tcx_stats_read(&stats);
  EXPECT_LE(stats.kept_bytes + stats.fragmented_bytes, stats.page_free_bytes);
  EXPECT_LE(stats.huge_in_use_bytes, stats.resident_bytes);
  // Only what was asked for can be broken.
  EXPECT_TRUE(stats.huge_broken == 0 || stats.huge_advised_bytes > 0);
  EXPECT_EQ(stats.huge_broken, stats.huge_breaks - stats.huge_mended);
  free(block);
}

}  // namespace

// page_heap_demand_test.cc -- what the page heap keeps for demand, how long.
//
// Method: simulated time; loads that rise and fall, to the byte; systems that
// refuse, that have larger pages, and that are used while they are at work.
#include <errno.h>
#include <gtest/gtest.h>

#include <vector>

#include "backend/page_heap.h"
#include "backend/page_source.h"
#include "backend/system_allocator.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/os.h"
#include "pagemap/span.h"

namespace {

constexpr uint64_t kKeep = TCX_LOW_WATER_KEEP_MS;
constexpr uint64_t kSlot = TCX_LOW_WATER_SLOT_MS;

uint64_t now_ms = uint64_t{1} << 40;

tcx_page_source *Heap() {
  static tcx_page_heap heap;
  static tcx_page_source *source = [] {
    tcx_clock_install([] { return now_ms; });
    tcx_system_start();
    return tcx_page_heap_init(&heap);
  }();
  return source;
}

tcx_page_source_stats Stats() {
  tcx_page_source_stats stats;
  Heap()->ops->stats(Heap(), &stats);
  return stats;
}

size_t Maintain(size_t bytes_max = SIZE_MAX) {
  size_t bytes = Heap()->ops->maintain(Heap(), now_ms, bytes_max, true);
  Heap()->ops->check(Heap());
  return bytes;
}

uint64_t DueMs() {
  return Heap()->ops->due_ms(Heap(), now_ms);
}

// Spans of which some are in use at times.
class Load {
 public:
  Load() {
    tcx_page_source_release(Heap(), SIZE_MAX);
    EXPECT_EQ(Stats().free_bytes, 0u);
  }
  ~Load() {
    Shrink(spans_.size());
  }

  void Grow(size_t count, size_t pages = 1) {
    for (size_t i = 0; i < count; i++) {
      spans_.push_back(tcx_page_source_allocate(Heap(), pages, 1, 1));
      ASSERT_NE(spans_.back(), nullptr);
      *tcx_span_start(spans_.back()) = 1;
    }
  }
  void Shrink(size_t count) {
    for (size_t i = 0; i < count; i++) {
      tcx_page_source_deallocate(Heap(), spans_.back());
      spans_.pop_back();
    }
  }

 private:
  std::vector<tcx_span *> spans_;
};

TEST(PageHeapDemandTest, FastSawtoothNeverGivesBack) {
  Load load;
  for (int i = 0; i < 50; i++) {
    load.Grow(100, 3);
    now_ms += 150;
    EXPECT_EQ(Maintain(), 0u);
    load.Shrink(100);
    now_ms += 150;
    EXPECT_EQ(Maintain(), 0u);
  }
}

TEST(PageHeapDemandTest, SlowSawtoothGivesBackAll) {
  Load load;
  for (int i = 0; i < 5; i++) {
    load.Grow(100, 3);
    now_ms += 2500;
    EXPECT_EQ(Maintain(), 0u);
    load.Shrink(100);
    now_ms += 2500;
    EXPECT_EQ(Maintain(), 300 * TCX_PAGE_SIZE);
    EXPECT_EQ(DueMs(), UINT64_MAX);
  }
}

TEST(PageHeapDemandTest, GivesBackWhatThePeakDidNotNeedNotMore) {
  Load load;
  load.Grow(100);
  load.Shrink(80);
  now_ms += kKeep - 10;
  load.Grow(30);
  load.Shrink(30);
  now_ms += 10 + kSlot;
  EXPECT_EQ(Maintain(), 50 * TCX_PAGE_SIZE);
  EXPECT_EQ(Stats().free_bytes, 30 * TCX_PAGE_SIZE);
  EXPECT_GT(DueMs(), now_ms);
  now_ms += kKeep;
  EXPECT_EQ(DueMs(), now_ms);
  EXPECT_EQ(Maintain(), 30 * TCX_PAGE_SIZE);
}

// The time before it was free does not count.
TEST(PageHeapDemandTest, WhatIsFreedAfterQuietIsKept) {
  Load load;
  load.Grow(50);
  now_ms += 10 * kKeep;
  load.Shrink(50);
  now_ms += kSlot;
  EXPECT_EQ(Maintain(), 0u);
  now_ms += kKeep;
  EXPECT_EQ(Maintain(), 50 * TCX_PAGE_SIZE);
}

// Growing in place is demand as well.
TEST(PageHeapDemandTest, ResizeCountsAsDemand) {
  Load load;
  tcx_span *span = tcx_page_source_allocate(Heap(), 50, 1, 1);
  ASSERT_NE(span, nullptr);
  ASSERT_TRUE(tcx_page_source_resize(Heap(), span, 10));
  now_ms += kKeep;
  ASSERT_TRUE(tcx_page_source_resize(Heap(), span, 35));
  ASSERT_TRUE(tcx_page_source_resize(Heap(), span, 10));
  now_ms += kSlot;
  EXPECT_EQ(Maintain(), 15 * TCX_PAGE_SIZE);
  tcx_page_source_deallocate(Heap(), span);
}

// What was released by a call is not given back once more in its place.
TEST(PageHeapDemandTest, ReleaseByCallTakesOfWhatIsSpare) {
  const size_t pages = 4 * TCX_HUGE_PAGE_SIZE / TCX_PAGE_SIZE;
  Load load;
  load.Grow(1, pages);
  load.Shrink(1);
  now_ms += kKeep + kSlot;
  load.Grow(1, pages);  // At the peak all of it is needed.
  load.Shrink(1);
  now_ms += kSlot;
  EXPECT_GT(tcx_page_source_release(Heap(), 1), 0u);
  EXPECT_EQ(Maintain(), 0u);
}

TEST(PageHeapDemandTest, FallingLoadGivesBackMeanwhile) {
  Load load;
  load.Grow(500);
  size_t released = 0;
  for (int i = 0; i < 50; i++) {
    load.Shrink(10);
    now_ms += 100;
    released += Maintain();
  }
  EXPECT_GE(released, 10 * (5000 - kKeep - kSlot) / 100 * TCX_PAGE_SIZE);
  EXPECT_LE(released, (10 * (5000 - kKeep) / 100 + 10) * TCX_PAGE_SIZE);
}

// -- Other systems ------------------------------------------------------------

tcx_os_calls calls;
int madvises;

class OtherSystem {
 public:
  OtherSystem() {
    calls = tcx_os_linux;
    madvises = 0;
  }
  ~OtherSystem() {
    tcx_os_install(&tcx_os_linux);
  }
  void Install() {
    tcx_os_install(&calls);
  }
};

// Runs apart, so that each is given back on its own.
std::vector<tcx_span *> MakeHoles(size_t count) {
  Load holes;
  std::vector<tcx_span *> fences;
  for (size_t i = 0; i < count; i++) {
    holes.Grow(1);
    fences.push_back(tcx_page_source_allocate(Heap(), 1, 1, 1));
  }
  return fences;
}

TEST(PageHeapDemandTest, RefusedReleaseWaitsAgain) {
  std::vector<tcx_span *> fences = MakeHoles(20);
  now_ms += 2 * kKeep;
  EXPECT_EQ(DueMs(), now_ms);
  {
    OtherSystem system;
    calls.madvise = [](void *, size_t, int) -> intptr_t {
      madvises++;
      return -EINVAL;
    };
    system.Install();
    EXPECT_EQ(Maintain(), 0u);
    // One run; once more in case it is locked.
    EXPECT_EQ(madvises, 2);
    EXPECT_GE(DueMs(), now_ms + kKeep);
    EXPECT_EQ(Maintain(), 0u);
    EXPECT_EQ(madvises, 2);
  }
  EXPECT_EQ(Stats().free_bytes, 20 * TCX_PAGE_SIZE);
  now_ms = DueMs();
  EXPECT_EQ(Maintain(), 20 * TCX_PAGE_SIZE);
  for (tcx_span *span : fences) {
    tcx_page_source_deallocate(Heap(), span);
  }
}

// Parts of the system's pages cannot go. They are looked for now and then.
TEST(PageHeapDemandTest, PartsOfSystemPagesWaitAgain) {
  if (TCX_PAGE_SIZE >= 65536) {
    GTEST_SKIP() << "pages of ours are at least as large";
  }
  std::vector<tcx_span *> fences = MakeHoles(20);
  now_ms += 2 * kKeep;
  {
    OtherSystem system;
    calls.page_size = [] { return size_t{65536}; };
    system.Install();
    EXPECT_EQ(Maintain(), 0u);
    EXPECT_GE(DueMs(), now_ms + kKeep);
  }
  now_ms = DueMs();
  EXPECT_EQ(Maintain(), 20 * TCX_PAGE_SIZE);
  for (tcx_span *span : fences) {
    tcx_page_source_deallocate(Heap(), span);
  }
}

// The lock is free while the system is at work, and what it works on is not to
// be had.
TEST(PageHeapDemandTest, AllocationsGoOnMeanwhile) {
  Load load;
  load.Grow(1, 100);
  load.Shrink(1);
  now_ms += 2 * kKeep;
  OtherSystem system;
  calls.madvise = [](void *start, size_t bytes, int advice) -> intptr_t {
    madvises++;
    tcx_span *span = tcx_page_source_allocate(Heap(), 100, 1, 1);
    EXPECT_NE(span, nullptr);
    EXPECT_NE(tcx_span_start(span), start);
    tcx_page_source_deallocate(Heap(), span);
    return tcx_os_linux.madvise(start, bytes, advice);
  };
  system.Install();
  EXPECT_EQ(Maintain(), 100 * TCX_PAGE_SIZE);
  EXPECT_EQ(madvises, 1);
  EXPECT_EQ(Stats().free_bytes, 100 * TCX_PAGE_SIZE);
}

}  // namespace

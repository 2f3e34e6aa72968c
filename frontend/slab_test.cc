// Tests of frontend/slab.c.
//
// Method: a slab over an object source that makes objects up (multiples of 16
// that are never touched) and knows which are out, so that one handed out
// twice, lost or given back twice is seen. Invariants are walked after each
// step. Time is simulated.

#include "frontend/slab.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

#include "backend/page_heap.h"
#include "backend/system_allocator.h"
#include "base/clock.h"
#include "frontend/runs.h"
#include "frontend/slab_internal.h"
#include "pagemap/pagemap.h"

namespace {

uint64_t now_ms = 1000;
uint64_t FakeClock() {
  return now_ms;
}

// Objects of class c: c << 32 | n << 4, reused lowest first.
struct Source {
  tcx_object_source base;  // first
  std::map<unsigned, std::set<uintptr_t>> free_objects;
  std::map<unsigned, uintptr_t> made;
  uint64_t out = 0;
  unsigned most = TCX_BATCH_MAX;  // served at once

  static unsigned Remove(tcx_object_source *self, unsigned c, void **batch,
                         unsigned count) {
    auto *s = reinterpret_cast<Source *>(self);
    unsigned n = 0;
    for (; n < count && n < s->most; n++) {
      auto &pool = s->free_objects[c];
      if (pool.empty())
        pool.insert((uintptr_t{c} << 32) + 16 * ++s->made[c]);
      batch[n] = reinterpret_cast<void *>(*pool.begin());
      pool.erase(pool.begin());
    }
    s->out += n;
    return n;
  }
  static void Insert(tcx_object_source *self, unsigned c, void *const *batch,
                     unsigned count) {
    auto *s = reinterpret_cast<Source *>(self);
    for (unsigned i = 0; i < count; i++) {
      auto object = reinterpret_cast<uintptr_t>(batch[i]);
      EXPECT_EQ(object >> 32, c);
      EXPECT_TRUE(s->free_objects[c].insert(object).second) << "given twice";
    }
    s->out -= count;
  }
};

tcx_object_source_ops SourceOps() {
  tcx_object_source_ops ops = {};
  ops.name = "made up";
  ops.remove_range = Source::Remove;
  ops.insert_range = Source::Insert;
  return ops;
}

bool BudgetAllows(tcx_slab *slab, uint64_t bytes) {
  return slab->capacity_bytes + bytes <= slab->budget_bytes;
}

class SlabTest : public ::testing::Test {
 protected:
  SlabTest() {
    static tcx_page_source *pages = [] {
      static tcx_page_heap heap;
      tcx_system_start();
      return tcx_page_heap_init(&heap);
    }();
    tcx_clock_install(FakeClock);
    ops_ = SourceOps();
    source_.base.ops = &ops_;
    sources_ = {&source_.base, pages, BudgetAllows, 0};
    tcx_slab_init(&slab_, &sources_, 1 << 20);
  }
  ~SlabTest() override {
    tcx_slab_check(&slab_);
    tcx_slab_flush(&slab_);
    tcx_slab_check(&slab_);
    EXPECT_EQ(source_.out, live_.size()) << "objects lost";
    EXPECT_EQ(sources_.run_bytes, 0u);
    tcx_clock_install(nullptr);
  }

  void *Allocate(unsigned c) {
    tcx_slab_header *header = &slab_.headers[c];
    void *object = *header->top;
    if ((reinterpret_cast<uintptr_t>(object) & 1) == 0) {
      header->top--;
    } else {
      bool zeroed;
      object = tcx_slab_refill(&slab_, c, &zeroed);
    }
    if (object != nullptr && c < TCX_RUN_CLASS_FIRST) {
      EXPECT_TRUE(live_.insert(object).second) << "handed out twice";
    }
    return object;
  }
  void Free(unsigned c, void *object) {
    live_.erase(object);
    tcx_slab_header *header = &slab_.headers[c];
    if (header->top < header->end) {
      *++header->top = object;
    } else {
      tcx_slab_overflow(&slab_, c, object);
    }
  }
  // Slow calls of one run of `count` objects allocated, then all freed.
  uint64_t Round(unsigned c, size_t count) {
    uint64_t before = slab_.counts.refills + slab_.counts.overflows;
    std::vector<void *> objects;
    for (size_t i = 0; i < count; i++)
      objects.push_back(Allocate(c));
    for (void *object : objects)
      Free(c, object);
    tcx_slab_check(&slab_);
    return slab_.counts.refills + slab_.counts.overflows - before;
  }

  tcx_object_source_ops ops_;
  Source source_;
  tcx_slab_sources sources_;
  tcx_slab slab_;
  std::set<void *> live_;
};

TEST_F(SlabTest, DummyIsEmptyAndFullInEveryClass) {
  for (const tcx_slab_header &header : tcx_slab_dummy.headers) {
    EXPECT_EQ(header.top, header.end);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(*header.top) & 1, 1u);
  }
}

TEST_F(SlabTest, FirstRefillIsSmallAndLaterOnesGrowToABatch) {
  Allocate(4);
  EXPECT_LE(source_.out, tcx_size_classes[4].batch / 4u);
  for (int i = 0; i < 200; i++)
    Allocate(4);
  EXPECT_EQ(slab_.rows[4].refill, tcx_size_classes[4].batch);
}

TEST_F(SlabTest, TenThousandObjectsFitOnceWarm) {
  Round(4, 10000);
  Round(4, 10000);
  Round(4, 10000);
  EXPECT_EQ(Round(4, 10000), 0u);
}

TEST_F(SlabTest, AThreadThatOnlyFreesDoesNotGrow) {
  for (int i = 0; i < 5000; i++) {
    void *object = nullptr;
    ASSERT_EQ(Source::Remove(&source_.base, 4, &object, 1), 1u);
    Free(4, object);
  }
  EXPECT_LE(tcx_slab_capacity(&slab_, 4), tcx_size_classes[4].batch);
}

TEST_F(SlabTest, CapacityStaysWithinTheBudget) {
  for (unsigned c = 1; c < TCX_RUN_CLASS_FIRST; c++)
    Round(c, 300);
  for (unsigned c = 1; c < TCX_RUN_CLASS_FIRST; c++)
    Round(c, 300);
  EXPECT_LE(slab_.capacity_bytes, slab_.budget_bytes);
}

TEST_F(SlabTest, SmallerBudgetIsMadeGoodByOverflows) {
  Round(4, 10000);
  Round(4, 10000);
  slab_.budget_bytes = 64 << 10;
  for (int i = 0; i < 30; i++)
    Round(4, 20000);
  EXPECT_LE(slab_.capacity_bytes, slab_.budget_bytes);
}

TEST_F(SlabTest, IdleObjectsGoBackByHalves) {
  Round(4, 500);
  Round(4, 500);
  size_t held = tcx_slab_count(&slab_, 4);
  ASSERT_GT(held, 100u);
  for (int i = 0; i < 20; i++)
    tcx_slab_scavenge(&slab_);
  EXPECT_EQ(tcx_slab_count(&slab_, 4), 0u);
}

TEST_F(SlabTest, BusyObjectsStay) {
  for (int i = 0; i < 4; i++)
    Round(4, 500);
  size_t held = tcx_slab_count(&slab_, 4);
  for (int i = 0; i < 20; i++) {
    tcx_slab_scavenge(&slab_);
    Round(4, 500);
  }
  EXPECT_EQ(tcx_slab_count(&slab_, 4), held);
}

TEST_F(SlabTest, ScavengeComesByItselfWithTime) {
  Round(4, 500);
  Round(4, 500);
  ASSERT_GT(tcx_slab_count(&slab_, 4), 0u);
  for (int i = 0; i < 60000; i++) {
    now_ms += 10;
    Allocate(20);
  }
  EXPECT_EQ(tcx_slab_count(&slab_, 4), 0u);
}

TEST_F(SlabTest, RefillWithoutMemoryGivesNullAndLosesNothing) {
  source_.most = 0;
  EXPECT_EQ(Allocate(4), nullptr);
  source_.most = 3;
  EXPECT_NE(Allocate(4), nullptr);
}

TEST_F(SlabTest, RunClassesAreCachedUpToFour) {
  unsigned c = TCX_RUN_CLASS_FIRST;  // 320 KiB
  std::vector<void *> blocks;
  for (int i = 0; i < 8; i++)
    blocks.push_back(Allocate(c));
  EXPECT_EQ(tcx_pagemap_class_byte(blocks[0]), 0u);
  EXPECT_EQ(tcx_pagemap_span_of(blocks[0])->size_class, c);
  for (void *block : blocks)
    Free(c, block);
  EXPECT_EQ(tcx_slab_count(&slab_, c), size_t{TCX_SLAB_RUNS_MAX});
  EXPECT_EQ(Allocate(c), blocks[3]);
  Free(c, blocks[3]);
}

TEST_F(SlabTest, RunBudgetMakesRoomForTheClassInUse) {
  unsigned small = TCX_RUN_CLASS_FIRST;
  unsigned big = TCX_SIZE_CLASS_COUNT - 1;  // 4 MiB
  std::vector<void *> blocks;
  for (int i = 0; i < 4; i++)
    blocks.push_back(Allocate(small));
  for (void *block : blocks)
    Free(small, block);
  void *block = Allocate(big);
  Free(big, block);
  EXPECT_EQ(tcx_slab_count(&slab_, big), 1u);
  EXPECT_EQ(Allocate(big), block);
  Free(big, block);
}

// Of slabs that nobody else can empty.
TEST_F(SlabTest, RunBudgetIsOfEachSlabAndOfAllTogether) {
  unsigned big = TCX_SIZE_CLASS_COUNT - 1;  // 4 MiB, as the least budget
  std::vector<tcx_slab> slabs(TCX_RUN_SHARES + 2);
  size_t held = 0;
  for (tcx_slab &slab : slabs) {
    tcx_slab_init(&slab, &sources_, 1 << 20);
    bool zeroed;
    void *one = tcx_slab_refill(&slab, big, &zeroed);
    void *other = tcx_slab_refill(&slab, big, &zeroed);
    tcx_slab_overflow(&slab, big, one);
    tcx_slab_overflow(&slab, big, other);
    EXPECT_LE(tcx_slab_count(&slab, big), 1u);
    held += tcx_slab_count(&slab, big);
  }
  EXPECT_EQ(held, size_t{TCX_RUN_SHARES});
  for (tcx_slab &slab : slabs) {
    tcx_slab_check(&slab);
    tcx_slab_flush(&slab);
  }
}

uint64_t RunBlocks(unsigned size_class) {
  tcx_run_stats stats;
  tcx_run_read_stats(size_class, &stats);
  return stats.blocks;
}

TEST_F(SlabTest, ABlockChangesItsClassWhereItIs) {
  unsigned small = TCX_RUN_CLASS_FIRST;
  unsigned big = TCX_SIZE_CLASS_COUNT - 1;
  size_t small_pages = tcx_size_classes[small].pages;
  size_t big_pages = tcx_size_classes[big].pages;
  void *block = Allocate(big);
  tcx_span *span = tcx_pagemap_span_of(block);
  tcx_page_source *pages = sources_.pages;
  uint64_t smalls = RunBlocks(small), bigs = RunBlocks(big);
  // What it gives up behind it is free again, so it can grow back.
  ASSERT_TRUE(tcx_run_resize(pages, span, small, small_pages));
  EXPECT_EQ(tcx_pagemap_run(block), small);
  EXPECT_EQ(span->size_class, small);
  EXPECT_EQ(tcx_span_bytes(span), small_pages << TCX_PAGE_SHIFT);
  EXPECT_EQ(RunBlocks(small), smalls + 1);
  EXPECT_EQ(RunBlocks(big), bigs - 1);
  ASSERT_TRUE(tcx_run_resize(pages, span, big, big_pages));
  EXPECT_EQ(tcx_pagemap_run(block), big);
  EXPECT_EQ(RunBlocks(small), smalls);
  EXPECT_EQ(RunBlocks(big), bigs);
  // A large object, which no class counts, and back.
  ASSERT_TRUE(tcx_run_resize(pages, span, 0, big_pages));
  EXPECT_EQ(tcx_pagemap_run(block), 0u);
  EXPECT_EQ(RunBlocks(big), bigs - 1);
  ASSERT_TRUE(tcx_run_resize(pages, span, big, big_pages));
  // No such run is free: all stays as it was.
  EXPECT_FALSE(tcx_run_resize(pages, span, 0, size_t{1} << 31));
  EXPECT_EQ(tcx_pagemap_run(block), big);
  EXPECT_EQ(span->pages, big_pages);
  Free(big, block);
}

TEST_F(SlabTest, RandomUseMatchesTheModel) {
  std::mt19937 random(7);
  std::vector<std::pair<unsigned, void *>> held;
  for (int step = 0; step < 60000; step++) {
    unsigned c = 1 + random() % 8 * 8;
    if (random() % 2 == 0) {
      held.emplace_back(c, Allocate(c));
    } else if (!held.empty()) {
      size_t i = random() % held.size();
      Free(held[i].first, held[i].second);
      held[i] = held.back();
      held.pop_back();
    }
    if (random() % 500 == 0)
      tcx_slab_scavenge(&slab_);
    if (random() % 5000 == 0)
      tcx_slab_flush(&slab_);
    if (step % 50 == 0)
      tcx_slab_check(&slab_);
  }
}

using SlabDeathTest = SlabTest;

TEST_F(SlabDeathTest, SlowPathWithinASlowPathEndsWithOneLine) {
  slab_.busy = 1;
  bool zeroed;
  EXPECT_DEATH(EXPECT_EQ(tcx_slab_refill(&slab_, 4, &zeroed), nullptr),
               "^tcx: malloc or free in a signal handler");
  slab_.busy = 0;
}

}  // namespace

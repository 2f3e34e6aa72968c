// Tests of frontend/perthread.c.
//
// Method: the real tiers below (page heap, transfer cache), driven by the fast
// and slow halves as malloc and free do it. Threads write a tag of their own
// into each object they hold, so that an object handed out twice is seen.

#include <gtest/gtest.h>
#include <pthread.h>

#include <cstring>
#include <thread>
#include <vector>

#include "backend/page_heap.h"
#include "backend/system_allocator.h"
#include "frontend/selected.h"
#include "middle/transfer_source.h"
#include "pagemap/pagemap.h"

namespace {

tcx_object_source *objects;
tcx_page_source *pages;

void *Allocate(size_t size) {
  unsigned c = tcx_size_class_of(size);
  void *object = tcx_frontend_pop(16 * c);
  bool zeroed;
  return object != nullptr ? object : tcx_frontend->refill(c, &zeroed);
}
void Free(void *object) {
  unsigned c = tcx_pagemap_span_of(object)->size_class;
  ASSERT_NE(c, 0u);
  if (!tcx_frontend_push(16 * c, object)) {
    tcx_frontend->overflow(c, object);
  }
}

class PerthreadTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    static tcx_page_heap heap;
    static tcx_transfer_source transfer;
    tcx_system_start();
    pages = tcx_page_heap_init(&heap);
    objects = tcx_transfer_source_init(&transfer, pages);
    tcx_size_classes_init();
    tcx_frontend->start(objects, pages);
  }
  ~PerthreadTest() override {
    tcx_frontend->check();
    objects->ops->check(objects);
    pages->ops->check(pages);
  }

  static uint64_t OutObjects() {
    uint64_t out = 0;
    for (unsigned c = 1; c < TCX_RUN_CLASS_FIRST; c++) {
      tcx_object_source_stats stats;
      objects->ops->stats(objects, c, &stats);
      out += stats.out_objects;
    }
    return out;
  }
};

TEST_F(PerthreadTest, ObjectComesBackToTheNextRequest) {
  void *object = Allocate(64);
  Free(object);
  EXPECT_EQ(Allocate(64), object);
  Free(object);
}

TEST_F(PerthreadTest, PushOfTheTopObjectIsRefused) {
  void *object = Allocate(64);
  Free(object);
  unsigned byte = tcx_pagemap_class_byte(object);
  EXPECT_FALSE(tcx_frontend_push(8 * byte, object));
  EXPECT_TRUE(tcx_frontend_top_is(8 * byte, object));
  EXPECT_EQ(Allocate(64), object);
  Free(object);
}

TEST_F(PerthreadTest, ThreadsThatComeAndGoLoseNothing) {
  tcx_frontend->flush();
  uint64_t before = OutObjects();
  tcx_frontend_stats stats;
  tcx_frontend->stats(&stats);
  uint64_t caches = stats.caches;
  for (int round = 0; round < 250; round++) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++) {
      threads.emplace_back([] {
        std::vector<void *> held;
        for (size_t size = 16; size < 40000; size += size / 2) {
          held.push_back(Allocate(size));
        }
        for (void *object : held)
          Free(object);
      });
    }
    for (std::thread &thread : threads)
      thread.join();
  }
  EXPECT_EQ(OutObjects(), before);
  tcx_frontend->stats(&stats);
  EXPECT_EQ(stats.caches, caches);
}

// Its first refill may be the one that is refused.
TEST_F(PerthreadTest, AThreadAtTheHardLimitGetsItsCache) {
  for (unsigned flag : {0u + TCX_THREAD_REFUSED, 0u + TCX_THREAD_CALLING,
                        0u + TCX_THREAD_VFORK}) {
    std::thread([flag] {
      tcx_thread.flags |= flag;
      Free(Allocate(64));
      EXPECT_EQ(tcx_thread.slab == &tcx_slab_dummy, flag == TCX_THREAD_VFORK);
      tcx_thread.flags &= ~flag;
      Free(Allocate(64));
    }).join();
  }
}

TEST_F(PerthreadTest, CallsAfterTheThreadsEndBypassTheCache) {
  tcx_frontend->flush();
  uint64_t before = OutObjects();
  std::thread([] {
    Free(Allocate(100));
    tcx_frontend->thread_exit();
    void *object = Allocate(100);
    std::memset(object, 1, 100);
    Free(object);
    void *block = Allocate(1 << 20);
    Free(block);
    tcx_frontend->thread_exit();
  }).join();
  EXPECT_EQ(OutObjects(), before);
}

pthread_key_t late_key;

// Runs in each round of destructors, after the slab's own destructor too.
void LateDestructor(void *rounds) {
  void *object = Allocate(48);
  std::memset(object, 2, 48);
  Free(object);
  auto left = reinterpret_cast<intptr_t>(rounds) - 1;
  if (left > 0)
    pthread_setspecific(late_key, reinterpret_cast<void *>(left));
}

TEST_F(PerthreadTest, LateDestructorsMayAllocateAndFree) {
  tcx_frontend->flush();
  uint64_t before = OutObjects();
  pthread_key_create(&late_key, LateDestructor);
  for (int i = 0; i < 50; i++) {
    std::thread([] {
      pthread_setspecific(late_key, reinterpret_cast<void *>(4));
      Free(Allocate(48));
    }).join();
  }
  pthread_key_delete(late_key);
  EXPECT_EQ(OutObjects(), before);
}

TEST_F(PerthreadTest, ObjectsFreedByOtherThreadsAreNeverHeldTwice) {
  constexpr int kThreads = 4;
  constexpr int kSlots = 64;
  static void *slots[kSlots];
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([t] {
      unsigned random = 77u + static_cast<unsigned>(t);
      for (int i = 0; i < 30000; i++) {
        random = random * 1664525 + 1013904223;
        size_t size = 16 + (random >> 16) % 2000;
        auto *object = static_cast<uintptr_t *>(Allocate(size));
        object[0] = reinterpret_cast<uintptr_t>(object);
        object[1] = size;
        void *old = __atomic_exchange_n(&slots[random % kSlots], object,
                                        __ATOMIC_ACQ_REL);
        if (old == nullptr)
          continue;
        auto *mine = static_cast<uintptr_t *>(old);
        ASSERT_EQ(mine[0], reinterpret_cast<uintptr_t>(mine));
        mine[0] = 0;
        Free(mine);
      }
    });
  }
  for (std::thread &thread : threads)
    thread.join();
  for (void *&slot : slots) {
    if (slot != nullptr)
      Free(slot);
    slot = nullptr;
  }
}

TEST_F(PerthreadTest, BudgetIsTakenFromOtherThreads) {
  // One thread fills its cache until nothing is unclaimed; another then grows.
  auto fill = [](size_t size, int count) {
    std::vector<void *> held;
    for (int round = 0; round < 3; round++) {
      for (int i = 0; i < count; i++)
        held.push_back(Allocate(size));
      for (void *object : held)
        Free(object);
      held.clear();
    }
  };
  fill(32768, 1500);
  std::thread([&] { fill(4096, 4000); }).join();
  tcx_frontend_stats stats;
  tcx_frontend->stats(&stats);
  EXPECT_GT(stats.steals, 0u);
  EXPECT_LE(stats.cached_bytes, 33u << 20);
  tcx_frontend->flush();
}

}  // namespace

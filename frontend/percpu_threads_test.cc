// Tests of the ids of threads that have no registered area.
//
// Method: slabs of the test's own take and give back ids; each must find
// itself,
//   and nobody else, under its id. On such a slab the sections of the per-CPU
//   front end must do what the fast half of the per-thread one does.

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "frontend/percpu_internal.h"
#include "frontend/selected.h"

namespace {

constexpr unsigned kClass = 4;
constexpr uintptr_t kHeader = kClass << TCX_SIZE_CLASS_SHIFT;

std::unique_ptr<tcx_slab> MakeSlab() {
  std::unique_ptr<tcx_slab> slab(new tcx_slab);
  tcx_slab_init(slab.get(), nullptr, 0);
  return slab;
}

bool FindsItself(const tcx_slab *slab) {
  return slab->area.cpu_id == slab->area.mm_cid &&
         tcx_percpu.base[slab->area.cpu_id + 2] == slab->headers;
}

TEST(PercpuThreadsTest, EachHasAnIdOfItsOwnWhileThereAreAny) {
  std::vector<std::unique_ptr<tcx_slab>> slabs;
  std::set<int> ids;
  for (int i = 0; i < TCX_PERCPU_THREADS; i++) {
    slabs.push_back(MakeSlab());
    tcx_percpu_thread_enter(slabs.back().get());
    ids.insert(slabs.back()->area.cpu_id);
  }
  EXPECT_EQ(ids.size(), size_t{TCX_PERCPU_THREADS});
  EXPECT_EQ(*ids.begin(), TCX_PERCPU_MAX);
  EXPECT_EQ(*ids.rbegin(), TCX_PERCPU_MAX + TCX_PERCPU_THREADS - 1);
  for (const auto &slab : slabs)
    EXPECT_TRUE(FindsItself(slab.get()));

  std::unique_ptr<tcx_slab> late = MakeSlab();
  tcx_percpu_thread_enter(late.get());
  EXPECT_EQ(late->area.cpu_id, -1);
  EXPECT_FALSE(tcx_percpu_thread_leave(late.get()));

  int freed = slabs[100]->area.cpu_id;
  EXPECT_TRUE(tcx_percpu_thread_leave(slabs[100].get()));
  EXPECT_EQ(slabs[100]->area.cpu_id, -1);
  tcx_percpu_thread_enter(late.get());
  EXPECT_EQ(late->area.cpu_id, freed);
  EXPECT_TRUE(FindsItself(late.get()));

  EXPECT_FALSE(tcx_percpu_thread_leave(slabs[100].get()));
  EXPECT_TRUE(tcx_percpu_thread_leave(late.get()));
  for (const auto &slab : slabs)
    tcx_percpu_thread_leave(slab.get());
}

TEST(PercpuThreadsTest, ARegisteredAreaHasNoneToGiveBack) {
  std::unique_ptr<tcx_slab> slab = MakeSlab();
  slab->area.cpu_id = TCX_PERCPU_MAX - 1;
  EXPECT_FALSE(tcx_percpu_thread_leave(slab.get()));
  EXPECT_EQ(slab->area.cpu_id, TCX_PERCPU_MAX - 1);
}

TEST(PercpuThreadsTest, SectionsWorkOnTheThreadsSlab) {
  std::unique_ptr<tcx_slab> slab = MakeSlab();
  alignas(16) char objects[3][16];
  void *slots[4] = {reinterpret_cast<void *>(1)};  // Odd: the guard.
  slab->headers[kClass] = {slots, slots + 2};
  tcx_percpu_thread_enter(slab.get());
  tcx_rseq_area *before = tcx_thread.area;
  tcx_thread.area = &slab->area;

  EXPECT_EQ(tcx_percpu_pop(kHeader), nullptr);
  EXPECT_FALSE(tcx_percpu_push(0, objects[0]));
  EXPECT_TRUE(tcx_percpu_push(kHeader, objects[0]));
  EXPECT_FALSE(tcx_percpu_push(kHeader, objects[0])) << "twice in a row";
  EXPECT_TRUE(tcx_percpu_push(kHeader, objects[1]));
  EXPECT_FALSE(tcx_percpu_push(kHeader, objects[2])) << "no room";
  EXPECT_EQ(slab->headers[kClass].top, slots + 2);
  EXPECT_EQ(tcx_percpu_pop(kHeader), objects[1]);
  EXPECT_EQ(tcx_percpu_pop(kHeader), objects[0]);
  EXPECT_EQ(tcx_percpu_pop(kHeader), nullptr);

  tcx_thread.area = before;
  EXPECT_TRUE(tcx_percpu_thread_leave(slab.get()));
}

TEST(PercpuThreadsTest, ThreadsComeAndGo) {
  constexpr int kThreads = 4, kRounds = 20000, kSlabs = 70;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; i++) {
    threads.emplace_back([] {
      std::vector<std::unique_ptr<tcx_slab>> slabs;
      for (int j = 0; j < kSlabs; j++)
        slabs.push_back(MakeSlab());
      for (int round = 0; round < kRounds; round++) {
        tcx_slab *slab = slabs[static_cast<size_t>(round % kSlabs)].get();
        if (slab->area.cpu_id >= 0) {
          ASSERT_TRUE(FindsItself(slab));
          ASSERT_TRUE(tcx_percpu_thread_leave(slab));
        } else {
          tcx_percpu_thread_enter(slab);
          ASSERT_TRUE(FindsItself(slab));
        }
      }
      for (const auto &slab : slabs)
        tcx_percpu_thread_leave(slab.get());
    });
  }
  for (std::thread &thread : threads)
    thread.join();
  // All came back: the lowest is free.
  std::unique_ptr<tcx_slab> slab = MakeSlab();
  tcx_percpu_thread_enter(slab.get());
  EXPECT_EQ(slab->area.cpu_id, TCX_PERCPU_MAX);
  EXPECT_TRUE(tcx_percpu_thread_leave(slab.get()));
}

}  // namespace

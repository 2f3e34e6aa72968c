// The per-CPU front end on a simulated machine of 256 CPUs.
//
// Method: one thread runs on whichever CPU the test says, by an area of the
//   test's own whose ids the sections read. So the fence has nothing to do; it
//   counts, fails, or looks around while ids are stopped, as a test wants. Time
//   is the test's, too. Ids have gaps, and go up to the last of the table.
//   What the caches hold is counted twice: by the front end, and as what the
//   tiers below gave out less what the test holds.
#include <errno.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>
#include <vector>

#include "base/clock.h"
#include "base/os.h"
#include "frontend/percpu_testing.h"

namespace {

using percpu_testing::Allocate;
using percpu_testing::CachedObjects;
using percpu_testing::ExpectRoomIsPaidFor;
using percpu_testing::Free;
using percpu_testing::OutObjects;

constexpr int kCpus = 256;
constexpr unsigned kClass = 4;
constexpr unsigned kOther = 9;
constexpr uintptr_t kHeader = kClass << TCX_SIZE_CLASS_SHIFT;

// 0 to 127, then every seventh up to the last.
constexpr int Id(int cpu) {
  return cpu < kCpus / 2 ? cpu : TCX_PERCPU_MAX - 1 - (kCpus - 1 - cpu) * 7;
}

uint64_t now_ms = 1000000;
uint64_t fences;
std::function<int()> fence;

class PercpuManyCpusTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    percpu_testing::StartTiers();
    tcx_clock_install([] { return now_ms; });
    tcx_rseq_fence_install([] {
      fences++;
      return fence ? fence() : 0;
    });
  }
  PercpuManyCpusTest() : knobs_(tcx_knobs) {
    tcx_thread.area = &area_;
    RunOnId(Id(0));
    fences = 0;
  }
  ~PercpuManyCpusTest() override {
    fence = nullptr;
    RunOnId(Id(0));
    for (Held one : held_)
      Free(one.c, one.object);
    tcx_knobs = knobs_;
    ExpectAccounts(0);
    tcx_frontend->flush();
    ExpectAccounts(0);
    for (unsigned c = 1; c < TCX_SIZE_CLASS_COUNT; c++)
      EXPECT_EQ(OutObjects(c), 0u) << "class " << c;
    percpu_testing::objects->ops->check(percpu_testing::objects);
    tcx_thread.area = &tcx_rseq_nowhere;
  }

  void RunOnId(int id) {
    area_.cpu_id = id;
    area_.mm_cid = id;
  }
  void RunOn(int cpu) {
    RunOnId(Id(cpu));
  }
  static tcx_cpu &Cpu(int cpu) {
    return tcx_cpus[Id(cpu)];
  }

  // Allocates so many, then frees them: they stay here as far as they may.
  static void Fill(unsigned c, size_t count) {
    std::vector<void *> all;
    for (size_t i = 0; i < count; i++)
      all.push_back(Allocate(c));
    for (void *object : all)
      Free(c, object);
  }
  // Slow paths of this CPU, until one finds that upkeep is due and looks for
  // what is idle. Leaves four blocks of the first run class.
  static void Scavenge() {
    now_ms += tcx_knobs.scavenge_time;
    uint64_t before = Stats().scavenges;
    while (Stats().scavenges == before)
      Fill(TCX_RUN_CLASS_FIRST, TCX_SLAB_RUNS_MAX + 1);
  }
  static tcx_frontend_stats Stats() {
    tcx_frontend_stats stats;
    tcx_frontend->stats(&stats);
    return stats;
  }
  void ExpectAccounts(size_t held);

  struct Held {
    unsigned c;
    void *object;
  };
  std::vector<Held> held_;

 private:
  const struct tcx_knobs knobs_;
  tcx_rseq_area area_ = {};
};

// Two ways to count, and I1 to I3. `held`: of how many objects in held_ the
// accounts must know.
void PercpuManyCpusTest::ExpectAccounts(size_t held) {
  std::vector<uint64_t> mine(TCX_SIZE_CLASS_COUNT);
  for (size_t i = 0; i < held; i++)
    mine[held_[i].c]++;
  uint64_t bytes = 0, run_bytes = 0, by_cpu = 0, out = 0;
  for (unsigned c = 1; c < TCX_SIZE_CLASS_COUNT; c++) {
    uint64_t cached = OutObjects(c) - mine[c];
    EXPECT_EQ(CachedObjects(c), cached) << "class " << c;
    bool is_run = c >= TCX_RUN_CLASS_FIRST;
    (is_run ? run_bytes : bytes) += cached * tcx_size_classes[c].size;
    out += is_run ? 0 : OutObjects(c);
  }
  tcx_frontend_cpu_stats one;
  for (unsigned id = 0; id < TCX_PERCPU_MAX; id++)
    by_cpu += tcx_frontend->cpu_stats(id, &one) ? one.cached_bytes : 0;
  tcx_frontend_stats stats = Stats();
  EXPECT_EQ(stats.cached_bytes + stats.cpu_cached_bytes, bytes);
  EXPECT_EQ(stats.run_cache_bytes, run_bytes);
  if (stats.cached_bytes == 0) {
    EXPECT_EQ(by_cpu, stats.cpu_cached_bytes + stats.run_cache_bytes);
  }
  EXPECT_EQ(stats.removed_objects - stats.inserted_objects, out);
  ExpectRoomIsPaidFor();
  tcx_frontend->check();
}

// -- ids ----------------------------------------------------------------------

TEST_F(PercpuManyCpusTest, EachIdHasASlabOfItsOwn) {
  std::set<void *> slabs, cached;
  std::set<int> ids;
  for (int cpu = 0; cpu < kCpus; cpu++) {
    RunOn(cpu);
    Fill(kClass, 3);
    ids.insert(Id(cpu));
    slabs.insert(Cpu(cpu).slab);
  }
  EXPECT_EQ(slabs.size(), size_t{kCpus});
  EXPECT_EQ(slabs.count(nullptr), 0u);
  EXPECT_GE(Stats().cpu_caches, uint64_t{kCpus});
  for (int id = 0; id < TCX_PERCPU_MAX; id++) {
    tcx_frontend_cpu_stats stats;
    EXPECT_EQ(tcx_frontend->cpu_stats(id, &stats),
              tcx_cpus[id].slab != nullptr);
    if (ids.count(id) == 0) {
      EXPECT_EQ(tcx_percpu.base[id + 2], tcx_slab_dummy.headers);
    }
  }
  for (int cpu = 0; cpu < kCpus; cpu++) {
    RunOn(cpu);
    size_t count = tcx_cpu_count(&Cpu(cpu), kClass);
    EXPECT_GT(count, 0u);
    while (void *object = tcx_frontend_pop(kHeader)) {
      EXPECT_TRUE(cached.insert(object).second);
      held_.push_back({kClass, object});
      count--;
    }
    EXPECT_EQ(count, 0u) << "CPU " << cpu;
  }
  ExpectAccounts(held_.size());
}

TEST_F(PercpuManyCpusTest, WithoutMemoryForASlabTheThreadsOwnServes) {
  constexpr int kNew = 130;
  static_assert(Id(127) < kNew && kNew < Id(128), "an id that nobody has used");
  static tcx_os_calls calls = tcx_os_linux;
  calls.mmap = [](void *address, size_t bytes, int protection,
                  int flags) -> intptr_t {
    if (bytes == tcx_cpu_slab_bytes())
      return -ENOMEM;
    return tcx_os_linux.mmap(address, bytes, protection, flags);
  };
  tcx_os_install(&calls);
  RunOnId(kNew);
  Fill(kClass, 1000);
  Fill(TCX_RUN_CLASS_FIRST, 2);
  EXPECT_EQ(tcx_cpus[kNew].slab, nullptr);
  EXPECT_EQ(Stats().caches, 1u);
  EXPECT_GT(Stats().cached_bytes, 0u);
  ExpectAccounts(0);
  tcx_os_install(&tcx_os_linux);
  Fill(kClass, 1000);
  EXPECT_NE(tcx_cpus[kNew].slab, nullptr);
  EXPECT_GT(tcx_cpu_count(&tcx_cpus[kNew], kClass), 0u);
  tcx_frontend->flush();
}

// -- limits -------------------------------------------------------------------

TEST_F(PercpuManyCpusTest, EachCpuKeepsWithinItsBytes) {
  for (uint64_t limit : {uint64_t{64} << 10, uint64_t{300} << 10}) {
    tcx_frontend->flush();
    tcx_knobs.cpu_cache = limit;
    for (int cpu = 0; cpu < kCpus; cpu += 5) {
      RunOn(cpu);
      for (unsigned c : {1u, kClass, kOther, 30u, TCX_RUN_CLASS_FIRST - 1u})
        Fill(c, 200);
      EXPECT_LE(Cpu(cpu).capacity_bytes, limit);
      EXPECT_GE(Cpu(cpu).capacity_bytes, limit / 4);
    }
    ExpectAccounts(0);
  }
}

TEST_F(PercpuManyCpusTest, ALowerLimitIsReached) {
  for (int i = 0; i < 4; i++)
    Fill(kClass, 8000);
  uint64_t before = Cpu(0).capacity_bytes;
  tcx_knobs.cpu_cache = before / 4;
  // Where nothing overflows, upkeep sees to it.
  for (int i = 0; i < 3; i++)
    Scavenge();
  EXPECT_LE(Cpu(0).capacity_bytes, before / 4);
  tcx_knobs.cpu_cache = before / 8;
  for (int i = 0; i < 10; i++)
    Fill(kClass, 8000);
  EXPECT_LE(Cpu(0).capacity_bytes, before / 8);
}

TEST_F(PercpuManyCpusTest, ClassesTakeRoomFromEachOther) {
  tcx_knobs.cpu_cache = 64 << 10;
  for (int i = 0; i < 8; i++)
    Fill(kClass, 1000);
  size_t room = tcx_cpu_capacity(&Cpu(0), kClass);
  EXPECT_GT(room * tcx_size_classes[kClass].size, 48u << 10);
  while (void *object = tcx_frontend_pop(kHeader))
    held_.push_back({kClass, object});
  uint64_t steals = Stats().steals;
  for (int i = 0; i < 8; i++)
    Fill(kOther, 200);
  EXPECT_GT(Stats().steals, steals);
  EXPECT_LT(tcx_cpu_capacity(&Cpu(0), kClass), room / 2);
  EXPECT_GE(tcx_cpu_capacity(&Cpu(0), kOther), 64u);
  EXPECT_LE(Cpu(0).capacity_bytes, tcx_knobs.cpu_cache);
  ExpectAccounts(held_.size());
}

TEST_F(PercpuManyCpusTest, RoomThatARunClassDoesNotUseGoesToAnother) {
  constexpr unsigned kLast = TCX_SIZE_CLASS_COUNT - 1;
  Fill(kLast, 1);
  ASSERT_EQ(CachedObjects(kLast), 1u);
  held_.push_back({kLast, Allocate(kLast)});
  Fill(TCX_RUN_CLASS_FIRST, 1);
  EXPECT_EQ(CachedObjects(TCX_RUN_CLASS_FIRST), 1u);
  ExpectAccounts(held_.size());
}

TEST_F(PercpuManyCpusTest, HalfOfWhatIsIdleGoesBack) {
  for (int i = 0; i < 4; i++)
    Fill(kClass, 8000);
  size_t count = tcx_cpu_count(&Cpu(0), kClass);
  size_t room = tcx_cpu_capacity(&Cpu(0), kClass);
  EXPECT_GT(count, 4000u);
  Scavenge();  // looks
  Scavenge();
  EXPECT_EQ(tcx_cpu_count(&Cpu(0), kClass), count / 2);
  EXPECT_EQ(tcx_cpu_capacity(&Cpu(0), kClass), room - count / 2);
  ExpectAccounts(0);
}

TEST_F(PercpuManyCpusTest, AllOfAnIdleRunClassGoesBack) {
  constexpr unsigned kRun = TCX_RUN_CLASS_FIRST + 3;
  Fill(kRun, 4);
  EXPECT_EQ(CachedObjects(kRun), 4u);
  Scavenge();  // looks
  EXPECT_EQ(CachedObjects(kRun), 4u);
  Scavenge();
  EXPECT_EQ(CachedObjects(kRun), 0u);
  EXPECT_EQ(tcx_cpu_capacity(&Cpu(0), kRun), 0u);
  ExpectAccounts(0);
}

TEST_F(PercpuManyCpusTest, EachCpuHasARunBudget) {
  constexpr unsigned kLast = TCX_SIZE_CLASS_COUNT - 1;
  for (int cpu = 0; cpu < 3; cpu++) {
    RunOn(cpu);
    Fill(kLast, 2);
    EXPECT_EQ(tcx_cpu_count(&Cpu(cpu), kLast), 1u);
  }
  EXPECT_EQ(CachedObjects(kLast), 3u);
  ExpectAccounts(0);
}

TEST_F(PercpuManyCpusTest, FourBlocksOfARunClassStayAtMost) {
  Fill(TCX_RUN_CLASS_FIRST, 3 * TCX_SLAB_RUNS_MAX);
  EXPECT_EQ(CachedObjects(TCX_RUN_CLASS_FIRST), uint64_t{TCX_SLAB_RUNS_MAX});
  ExpectAccounts(0);
}

// -- draining -----------------------------------------------------------------

TEST_F(PercpuManyCpusTest, ABusyCpuLosesTheRunClassesThatAreIdle) {
  constexpr unsigned kMoves = TCX_RUN_CLASS_FIRST;
  constexpr unsigned kIdle = TCX_RUN_CLASS_FIRST + 3;
  Fill(kMoves, 3);
  Fill(kIdle, 3);
  Fill(kClass, 100);
  tcx_cpus_drain(false);  // looks
  EXPECT_EQ(CachedObjects(kIdle), 3u);
  held_.push_back({kClass, Allocate(kClass)});
  held_.push_back({kMoves, Allocate(kMoves)});
  RunOn(1);
  size_t count = tcx_cpu_count(&Cpu(0), kClass);
  fences = 0;
  tcx_cpus_drain(false);
  EXPECT_EQ(fences, 1u);
  EXPECT_EQ(CachedObjects(kIdle), 0u);
  EXPECT_EQ(CachedObjects(kMoves), 2u);
  EXPECT_EQ(tcx_cpu_count(&Cpu(0), kClass), count);
  ExpectAccounts(held_.size());
}

TEST_F(PercpuManyCpusTest, OneCpuDrainsThoseThatAreIdle) {
  for (int cpu = 0; cpu < kCpus; cpu++) {
    RunOn(cpu);
    Fill(kClass, 100);
    Fill(kOther, 10);
  }
  uint64_t drains = Stats().cpu_drains;
  fences = 0;
  for (int second = 1; second <= 3; second++) {
    now_ms += tcx_knobs.trim_time;
    RunOn(1);
    Free(kClass, Allocate(kClass));
    held_.push_back({kClass, Allocate(kClass)});
    RunOn(0);
    Fill(30, 2000);
    held_.push_back({30, Allocate(30)});
  }
  EXPECT_LE(fences, 3u);
  EXPECT_GT(tcx_cpu_count(&Cpu(0), 30), 0u);
  EXPECT_GT(tcx_cpu_count(&Cpu(1), kClass), 0u);
  for (int cpu = 2; cpu < kCpus; cpu++)
    EXPECT_EQ(tcx_cpu_capacity(&Cpu(cpu), kClass), 0u) << "CPU " << cpu;
  EXPECT_EQ(Stats().cpu_drains - drains, uint64_t{kCpus - 2});
  ExpectAccounts(held_.size());
  // Nothing is cached there any more: no fence is spent on them.
  fences = 0;
  tcx_cpus_drain(false);
  tcx_cpus_drain(false);
  RunOn(5);
  EXPECT_LE(fences, 2u);
}

// What a CPU saw of itself when it scavenged says nothing to those that ask
// whether it is idle.
TEST_F(PercpuManyCpusTest, ACpuThatJustScavengedIsNotIdle) {
  RunOn(7);
  Fill(kClass, 1000);
  tcx_cpus_drain(false);
  for (int i = 0; i < 100; i++)
    Fill(kClass, 1000);
  now_ms += tcx_knobs.scavenge_time;
  Fill(kOther, 3000);
  uint64_t drains = Cpu(7).drains;
  tcx_cpus_drain(false);
  EXPECT_EQ(Cpu(7).drains, drains);
}

// What a CPU does in slow paths alone moves no `top`.
TEST_F(PercpuManyCpusTest, ACpuWithSlowPathsAloneIsNotIdle) {
  constexpr unsigned kTooLarge = TCX_RUN_CLASS_FIRST - 1;
  ASSERT_GT(tcx_size_classes[kTooLarge].size, 64u << 10);
  tcx_knobs.cpu_cache = 64 << 10;
  for (int i = 0; i < 8; i++)
    Fill(kClass, 2000);
  uint64_t drains = Cpu(0).drains;
  for (int second = 0; second < 3; second++) {
    tcx_cpus_drain(false);
    Fill(kTooLarge, 20);
    EXPECT_EQ(tcx_cpu_capacity(&Cpu(0), kTooLarge), 0u);
  }
  EXPECT_EQ(Cpu(0).drains, drains);
  EXPECT_GT(tcx_cpu_count(&Cpu(0), kClass), 500u);
}

TEST_F(PercpuManyCpusTest, AStoppedIdIsEmptyAndFull) {
  for (int cpu = 0; cpu < kCpus; cpu += 9) {
    RunOn(cpu);
    Fill(kClass, 100);
  }
  RunOn(9);
  void *mine = Allocate(kClass);
  size_t before = tcx_cpu_count(&Cpu(9), kClass);
  fence = [&] {
    void *batch[1] = {mine};
    EXPECT_EQ(tcx_frontend_pop(kHeader), nullptr);
    EXPECT_FALSE(tcx_frontend_push(kHeader, mine));
    EXPECT_EQ(tcx_percpu_pop_batch(tcx_thread.area, kHeader, batch, 1), 0u);
    EXPECT_EQ(tcx_percpu_push_batch(tcx_thread.area, kHeader, batch, 1), 0u);
    EXPECT_EQ(
        tcx_percpu_grow(tcx_thread.area, kHeader, 1, 1 << 20, Cpu(9).slab), 0u);
    EXPECT_EQ(tcx_percpu_shrink(tcx_thread.area, kHeader, 1, Cpu(9).slab), 0u);
    // Slow paths serve from below, and cache nothing.
    void *object = Allocate(kClass);
    EXPECT_NE(object, nullptr);
    Free(kClass, object);
    EXPECT_EQ(tcx_cpu_count(&Cpu(9), kClass), before);
    return 0;
  };
  tcx_cpus_drain(true);
  EXPECT_EQ(fences, 1u);
  EXPECT_EQ(CachedObjects(kClass), 0u);
  Free(kClass, mine);
}

TEST_F(PercpuManyCpusTest, AFenceThatFailsChangesNothing) {
  std::vector<uint64_t> before;
  for (int cpu = 0; cpu < kCpus; cpu++) {
    RunOn(cpu);
    Fill(kClass, 50 + cpu);
    before.push_back(tcx_cpu_count(&Cpu(cpu), kClass));
  }
  uint64_t drains = Stats().cpu_drains;
  for (int error : {EPERM, ENOSYS, ENOMEM}) {
    fence = [error] { return error; };
    tcx_cpus_drain(true);
    tcx_cpus_drain(false);
    tcx_frontend->flush();
    now_ms += tcx_knobs.trim_time;
    tcx_frontend->check();
  }
  EXPECT_GT(fences, 6u);
  EXPECT_EQ(Stats().cpu_drains, drains);
  ExpectAccounts(0);
  for (int cpu = 0; cpu < kCpus; cpu++) {
    RunOn(cpu);
    EXPECT_EQ(tcx_cpu_count(&Cpu(cpu), kClass), before[cpu]);
    void *object = tcx_frontend_pop(kHeader);
    EXPECT_NE(object, nullptr);
    EXPECT_TRUE(tcx_frontend_push(kHeader, object));
  }
  fence = nullptr;
  tcx_frontend->flush();
  EXPECT_EQ(CachedObjects(kClass), 0u);
}

// -- everything in any order --------------------------------------------------

TEST_F(PercpuManyCpusTest, AnyOrderOfStepsKeepsTheAccounts) {
  uint64_t seed = std::random_device()();
  printf("seed %lu\n", seed);
  std::mt19937_64 random(seed);
  for (int step = 0; step < 300000; step++) {
    uint64_t dice = random() % 10000;
    if (dice < 100)
      RunOn(random() % 8 != 0 ? random() % 16 : random() % kCpus);
    if (dice < 3) {
      tcx_cpus_drain(dice == 0);
    } else if (dice < 8) {
      tcx_knobs.cpu_cache = (64 << 10) << random() % 6;
    } else if (dice < 20) {
      now_ms += random() % (2 * tcx_knobs.scavenge_time);
      tcx_frontend->tick();
    } else if (dice < 23) {
      fence = [&] { return random() % 4 == 0 ? EPERM : 0; };
    } else if (dice < 26) {
      ExpectAccounts(held_.size());
      ASSERT_FALSE(HasFailure()) << "step " << step;
    }
    size_t target = step / 1000 % 2 != 0 ? 100 : 3000;
    if (held_.size() < target ? dice % 4 != 0 : dice % 4 == 0) {
      unsigned c = random() % 20 != 0
                       ? 1 + random() % 12
                       : 1 + random() % (TCX_SIZE_CLASS_COUNT - 1);
      if (void *object = Allocate(c))
        held_.push_back({c, object});
    } else if (!held_.empty()) {
      std::swap(held_[random() % held_.size()], held_.back());
      Free(held_.back().c, held_.back().object);
      held_.pop_back();
    }
  }
}

}  // namespace

// Tests of the per-CPU front end: sections, and slow paths on the CPUs there
// are. See also percpu_many_cpus_test.cc, percpu_stress_test.cc.
//
// Method: sections run on a fake area whose ids the test sets, so that no
//   kernel is needed and nothing restarts them. The rest runs on the area that
//   a thread has here.

#include <gtest/gtest.h>

#include <vector>

#include "base/clock.h"
#include "frontend/percpu_testing.h"

namespace {

constexpr unsigned kClass = 4;  // 64 bytes
constexpr uintptr_t kHeader = kClass << TCX_SIZE_CLASS_SHIFT;

using percpu_testing::Allocate;
using percpu_testing::Free;

class PercpuTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    percpu_testing::StartTiers();
  }
  ~PercpuTest() override {
    tcx_frontend->check();
    percpu_testing::ExpectRoomIsPaidFor();
    percpu_testing::objects->ops->check(percpu_testing::objects);
    percpu_testing::pages->ops->check(percpu_testing::pages);
  }
};

// A slab of the test's own at an id that no CPU has, and an area that names it.
class PercpuSectionTest : public PercpuTest {
 protected:
  static constexpr int kId = TCX_PERCPU_MAX - 1;
  PercpuSectionTest() {
    before_ = tcx_thread.area;
    tcx_thread.area = &area_;
    SetId(kId);
    slots_[0] = reinterpret_cast<void *>(1);
    headers_[kClass] = {slots_, slots_ + 4};
    headers_[0] = tcx_slab_dummy.headers[0];
    tcx_percpu.base[kId + 2] = headers_;
  }
  ~PercpuSectionTest() override {
    tcx_percpu.base[kId + 2] = tcx_slab_dummy.headers;
    tcx_thread.area = before_;
  }
  void SetId(int id) {
    area_.cpu_id = id;
    area_.mm_cid = id;
  }

  tcx_rseq_area *before_;
  tcx_rseq_area area_ = {};
  tcx_slab_header headers_[TCX_SIZE_CLASS_COUNT] = {};
  void *slots_[16] = {};
  alignas(16) char objects_[8][16];
};

TEST_F(PercpuSectionTest, PopsWhatWasPushedLast) {
  EXPECT_EQ(tcx_frontend_pop(kHeader), nullptr);
  EXPECT_TRUE(tcx_frontend_push(kHeader, objects_[0]));
  EXPECT_TRUE(tcx_frontend_push(kHeader, objects_[1]));
  EXPECT_EQ(tcx_frontend_pop(kHeader), objects_[1]);
  EXPECT_EQ(tcx_frontend_pop(kHeader), objects_[0]);
  EXPECT_EQ(tcx_frontend_pop(kHeader), nullptr);
  // The descriptor stays armed; nothing else of the area was written.
  EXPECT_NE(area_.rseq_cs, 0u);
  EXPECT_EQ(area_.cpu_id, kId);
  EXPECT_EQ(area_.mm_cid, kId);
  EXPECT_EQ(area_.cpu_id_start, 0u);
  EXPECT_EQ(area_.flags, 0u);
  EXPECT_EQ(area_.node_id, 0u);
}

TEST_F(PercpuSectionTest, RefusesTheTopObjectAndWhatHasNoRoom) {
  for (int i = 0; i < 4; i++)
    EXPECT_TRUE(tcx_frontend_push(kHeader, objects_[i]));
  EXPECT_FALSE(tcx_frontend_push(kHeader, objects_[4]));
  tcx_frontend_pop(kHeader);
  EXPECT_FALSE(tcx_frontend_push(kHeader, objects_[2]));
  EXPECT_TRUE(tcx_frontend_top_is(kHeader, objects_[2]));
  EXPECT_FALSE(tcx_frontend_top_is(kHeader, objects_[1]));
}

TEST_F(PercpuSectionTest, ClassZeroIsEmptyAndFull) {
  EXPECT_EQ(tcx_frontend_pop(0), nullptr);
  EXPECT_FALSE(tcx_frontend_push(0, objects_[0]));
}

TEST_F(PercpuSectionTest, WithoutAnIdEveryClassIsEmptyAndFull) {
  for (int id : {-1, -2}) {
    SetId(id);
    void *batch[1] = {objects_[0]};
    EXPECT_EQ(tcx_frontend_pop(kHeader), nullptr);
    EXPECT_FALSE(tcx_frontend_push(kHeader, objects_[0]));
    EXPECT_EQ(tcx_percpu_push_batch(&area_, kHeader, batch, 1), 0u);
    EXPECT_EQ(tcx_percpu_pop_batch(&area_, kHeader, batch, 1), 0u);
    EXPECT_EQ(tcx_percpu_grow(&area_, kHeader, 1, 4096, headers_), 0u);
    EXPECT_EQ(tcx_percpu_shrink(&area_, kHeader, 1, headers_), 0u);
  }
}

TEST_F(PercpuSectionTest, BatchesMoveWhatFits) {
  void *in[6], *out[6];
  for (int i = 0; i < 6; i++)
    in[i] = objects_[i];
  EXPECT_EQ(tcx_percpu_push_batch(&area_, kHeader, in, 6), 4u);
  EXPECT_EQ(tcx_percpu_push_batch(&area_, kHeader, in, 6), 0u);
  EXPECT_EQ(tcx_percpu_pop_batch(&area_, kHeader, out, 3), 3u);
  EXPECT_EQ(out[0], in[3]);
  EXPECT_EQ(out[2], in[1]);
  EXPECT_EQ(tcx_percpu_pop_batch(&area_, kHeader, out, 3), 1u);
  EXPECT_EQ(out[0], in[0]);
  EXPECT_EQ(tcx_percpu_pop_batch(&area_, kHeader, out, 3), 0u);
  EXPECT_EQ(tcx_percpu_push_batch(&area_, kHeader, in, 0), 0u);
}

TEST_F(PercpuSectionTest, RoomGrowsToItsLimitAndShrinksToTheTop) {
  uintptr_t limit = reinterpret_cast<uintptr_t>(slots_ + 6) -
                    reinterpret_cast<uintptr_t>(headers_);
  EXPECT_EQ(tcx_percpu_grow(&area_, kHeader, 1, limit, headers_), 1u);
  EXPECT_EQ(tcx_percpu_grow(&area_, kHeader, 9, limit, headers_), 1u);
  EXPECT_EQ(tcx_percpu_grow(&area_, kHeader, 9, limit, headers_), 0u);
  for (int i = 0; i < 3; i++)
    EXPECT_TRUE(tcx_frontend_push(kHeader, objects_[i]));
  EXPECT_EQ(tcx_percpu_shrink(&area_, kHeader, 1, headers_), 1u);
  EXPECT_EQ(tcx_percpu_shrink(&area_, kHeader, 9, headers_), 2u);
  EXPECT_EQ(headers_[kClass].end, headers_[kClass].top);
  // A slab of another CPU, or one that is stopped: not ours to pay for.
  EXPECT_EQ(tcx_percpu_grow(&area_, kHeader, 1, limit, headers_ + 1), 0u);
}

TEST_F(PercpuTest, ThisProcessRunsOnAreas) {
  bool has_sections = percpu_testing::HasSections();
  if (tcx_rseq_of_libc() == nullptr || !has_sections)
    GTEST_SKIP() << "libc has registered no area here, or there is no fence";
  EXPECT_EQ(tcx_thread.area, tcx_rseq_of_libc());
}

TEST_F(PercpuTest, TenThousandObjectsStayOnceWarm) {
  std::vector<void *> held(10000);
  auto round = [&] {
    for (void *&object : held)
      object = Allocate(kClass);
    for (void *object : held)
      Free(kClass, object);
  };
  for (int i = 0; i < 4; i++)
    round();
  tcx_frontend_stats before, after;
  tcx_frontend->stats(&before);
  round();
  tcx_frontend->stats(&after);
  // The thread may be moved to another CPU meanwhile, but not often.
  EXPECT_LE(after.refills - before.refills, 1000u);
}

TEST_F(PercpuTest, EveryClassGoesOutAndComesBack) {
  for (unsigned c = 1; c < TCX_SIZE_CLASS_COUNT; c++) {
    std::vector<void *> held;
    for (int i = 0; i < 40; i++)
      held.push_back(Allocate(c));
    for (void *object : held) {
      ASSERT_NE(object, nullptr);
      Free(c, object);
    }
  }
  if (percpu_testing::HasSections() && tcx_rseq_fence() != 0)
    GTEST_SKIP() << "no fence here, so the caches of CPUs stay full";
  tcx_frontend->flush();
  tcx_frontend_stats stats;
  tcx_frontend->stats(&stats);
  EXPECT_EQ(stats.cached_bytes, 0u);
  EXPECT_EQ(stats.cpu_cached_bytes, 0u);
  EXPECT_EQ(stats.run_cache_bytes, 0u);
}

TEST_F(PercpuTest, CpusKeepWithinTheirBytes) {
  for (int round = 0; round < 3; round++) {
    for (unsigned c = 1; c < TCX_RUN_CLASS_FIRST; c++) {
      std::vector<void *> held;
      for (int i = 0; i < 300; i++)
        held.push_back(Allocate(c));
      for (void *object : held)
        Free(c, object);
    }
  }
  for (const tcx_cpu &cpu : tcx_cpus)
    EXPECT_LE(cpu.capacity_bytes, tcx_cpu_budget(&cpu));
}

// A 16th of the heap among the CPUs there are, 3 to 32 MiB each, or what the
// setting says.
TEST_F(PercpuTest, BytesOfACpuFollowTheHeap) {
  static uint64_t mapped_bytes;
  tcx_page_source_ops ops = {};
  ops.stats = [](tcx_page_source *, tcx_page_source_stats *out) {
    *out = {};
    out->mapped_bytes = mapped_bytes;
    out->released_bytes = TCX_GIB;
  };
  tcx_page_source heap = {&ops};
  tcx_page_source *pages = tcx_percpu_sources.pages;
  int end = tcx_cpus_end;
  tcx_percpu_sources.pages = &heap;
  tcx_cpus_end = 4;
  tcx_cpu *cpu = &tcx_cpus[TCX_PERCPU_MAX - 2];
  auto budget_at = [&](uint64_t resident_bytes) {
    mapped_bytes = TCX_GIB + resident_bytes;
    tcx_cpu_budget_adapt(cpu);
    return tcx_cpu_budget(cpu);
  };
  EXPECT_EQ(tcx_cpu_budget(cpu), 3 * TCX_MIB);  // never adapted so far
  EXPECT_EQ(budget_at(0), 3 * TCX_MIB);
  EXPECT_EQ(budget_at(192 * TCX_MIB), 3 * TCX_MIB);
  EXPECT_EQ(budget_at(640 * TCX_MIB), 10 * TCX_MIB);
  EXPECT_EQ(budget_at(100 * TCX_GIB), 32 * TCX_MIB);
  EXPECT_EQ(budget_at(TCX_MIB), 3 * TCX_MIB);
  tcx_knobs.cpu_cache = 64 << 10;
  EXPECT_EQ(budget_at(640 * TCX_MIB), 64u << 10);
  tcx_knobs.cpu_cache = 0;
  tcx_percpu_sources.pages = pages;
  tcx_cpus_end = end;
}

void Fill(unsigned c, size_t count) {
  std::vector<void *> held(count);
  for (void *&object : held)
    object = Allocate(c);
  for (void *object : held)
    Free(c, object);
}

// Twice as often, what is in use would count as idle.
TEST_F(PercpuTest, SlowPathsAndTicksTrimTheMiddleByOneClock) {
  static unsigned trims;
  static uint64_t now_ms;
  static const tcx_object_source_ops *real = percpu_testing::objects->ops;
  static tcx_object_source_ops counting = *real;
  counting.trim = [](tcx_object_source *source, bool all) {
    trims++;
    real->trim(source, all);
  };
  now_ms = tcx_clock_ms();
  tcx_clock_install([] { return now_ms; });
  percpu_testing::objects->ops = &counting;
  for (unsigned period = 1; period <= 3; period++) {
    now_ms += tcx_knobs.trim_time;
    Fill(30, 2000);
    tcx_frontend->tick();
    Fill(30, 2000);
    EXPECT_EQ(trims, period);
  }
  percpu_testing::objects->ops = real;
  tcx_clock_install(nullptr);
}

}  // namespace

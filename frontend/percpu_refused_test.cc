// The per-CPU front end where the kernel refuses what it needs at start.
//
// Method: what stands for the kernel refuses one thing, in a child that starts
//   the front end after that. Then threads allocate and free, each from its own
//   slab, and no CPU has a slab; all comes back, and the reason is told.
#include <errno.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "frontend/percpu_testing.h"

namespace {

using percpu_testing::Allocate;
using percpu_testing::Free;
using percpu_testing::OutObjects;

void AllocateAndFree() {
  for (unsigned c : {1u, 4u, 20u, TCX_RUN_CLASS_FIRST - 1u,
                     static_cast<unsigned>(TCX_RUN_CLASS_FIRST)}) {
    std::vector<void *> held;
    for (int round = 0; round < 20; round++) {
      for (int i = 0; i < 30; i++)
        held.push_back(Allocate(c));
      for (void *object : held) {
        ASSERT_NE(object, nullptr);
        Free(c, object);
      }
      held.clear();
    }
  }
  tcx_frontend->check();
}

void ExpectThreadSlabsServe(const char *reason) {
  percpu_testing::StartTiers();
  tcx_frontend_use use;
  tcx_frontend->use(&use);
  EXPECT_STREQ(use.serves, "perthread");
  EXPECT_STREQ(use.reason, reason);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back(AllocateAndFree);
  AllocateAndFree();
  for (std::thread &thread : threads)
    thread.join();
  tcx_frontend_stats stats;
  tcx_frontend->stats(&stats);
  EXPECT_EQ(stats.cpu_caches, 0u);
  EXPECT_EQ(stats.caches, 1u);
  EXPECT_EQ(stats.caches_total, 5u);
  EXPECT_GT(stats.cached_bytes, 0u);
  // Draining finds nothing to stop, and needs no fence.
  tcx_cpus_drain(true);
  tcx_frontend->tick();
  tcx_frontend->flush();
  for (unsigned c = 1; c < TCX_SIZE_CLASS_COUNT; c++)
    EXPECT_EQ(OutObjects(c), 0u) << "class " << c;
  percpu_testing::ExpectRoomIsPaidFor();
}

// A process starts the front end once.
void InAChild(void (*test)()) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    alarm(60);
    test();
    fflush(stdout);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

struct tcx_rseq_calls calls = tcx_rseq_linux;

TEST(PercpuRefusedTest, MembarrierRefusedWhileRseqWorks) {
  InAChild([] {
    calls.membarrier = [](int) -> intptr_t { return -EPERM; };
    tcx_rseq_install(&calls);
    ExpectThreadSlabsServe("no membarrier for rseq");
    EXPECT_NE(tcx_rseq_fence(), 0);
  });
}

TEST(PercpuRefusedTest, MoreCpusThanTheTableHasIds) {
  InAChild([] {
    calls.cpu_mask = [](void *, size_t bytes) -> intptr_t {
      EXPECT_EQ(bytes, TCX_PERCPU_MAX / 8u);
      return -EINVAL;
    };
    tcx_rseq_install(&calls);
    ExpectThreadSlabsServe("too many CPUs");
  });
}

TEST(PercpuRefusedTest, ThePerThreadFrontEndIsChosen) {
  InAChild([] {
    tcx_knobs.frontend = TCX_FRONTEND_PERTHREAD_CHOICE;
    calls.membarrier = [](int) -> intptr_t {
      ADD_FAILURE() << "nothing is to be tried";
      return 0;
    };
    tcx_rseq_install(&calls);
    ExpectThreadSlabsServe("not wanted");
  });
}

}  // namespace

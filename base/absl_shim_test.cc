// absl_shim_test.cc -- both implementations of the shim keep its contract.
//
// Method: known call chains, an exported function with a name, and threads
// that wait for a word. Built once with each implementation.
#include "base/absl_shim.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>

// Exported, and with C linkage, so that dladdr knows its plain name.
extern "C" __attribute__((visibility("default"), noinline)) int
tcx_absl_shim_test_chain(int depth, void **frames, int frames_max, int skip) {
  int stored = depth == 0 ? tcx_absl_stack_trace(frames, frames_max, skip)
                          : tcx_absl_shim_test_chain(depth - 1, frames,
                                                     frames_max, skip);
  __asm__ volatile("" ::: "memory");  // No tail call.
  return stored;
}

namespace {

bool IsInChain(const void *pc) {
  const char *start = reinterpret_cast<const char *>(tcx_absl_shim_test_chain);
  const char *at = static_cast<const char *>(pc);
  return at > start && at < start + 4096;
}

TEST(AbslShimTest, NamesItself) {
  std::string name = tcx_absl_name();
  EXPECT_TRUE(name == "abseil" || name == "fallback");
}

TEST(AbslShimTest, StackBeginsAtTheCaller) {
  void *frames[64];
  int stored = tcx_absl_shim_test_chain(3, frames, 64, 0);
  ASSERT_GE(stored, 4);
  for (int i = 0; i < 4; i++)
    EXPECT_TRUE(IsInChain(frames[i])) << i;
}

TEST(AbslShimTest, SkipAndLimit) {
  void *all[64];
  void *some[64];
  int stored = tcx_absl_shim_test_chain(5, all, 64, 0);
  ASSERT_GE(stored, 6);
  ASSERT_EQ(tcx_absl_shim_test_chain(5, some, 3, 2), 3);
  EXPECT_EQ(some[0], all[2]);
  EXPECT_EQ(some[1], all[3]);
}

TEST(AbslShimTest, SymbolizesAnExportedFunction) {
  char name[128];
  const void *pc = reinterpret_cast<const char *>(tcx_absl_shim_test_chain) + 4;
  ASSERT_TRUE(tcx_absl_symbolize(pc, name, sizeof(name)));
  EXPECT_NE(std::string(name).find("tcx_absl_shim_test_chain"),
            std::string::npos);
  EXPECT_FALSE(
      tcx_absl_symbolize(reinterpret_cast<void *>(16), name, sizeof(name)));
}

TEST(AbslShimTest, RawLogWritesTheLine) {
  testing::internal::CaptureStderr();
  tcx_absl_raw_log("a message");
  std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("a message\n"), std::string::npos);
}

TEST(AbslShimTest, WaitersSeeTheChange) {
  uint32_t word = 1;
  auto wait = [&word] {
    for (int loop = 0; __atomic_load_n(&word, __ATOMIC_ACQUIRE) == 1; loop++) {
      tcx_absl_spin_delay(&word, 1, loop);
    }
  };
  std::thread a(wait);
  std::thread b(wait);
  usleep(20000);
  __atomic_store_n(&word, 2u, __ATOMIC_RELEASE);
  tcx_absl_spin_wake(&word, true);
  a.join();
  b.join();
}

}  // namespace

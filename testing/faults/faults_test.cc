// faults_test.cc -- system calls that fail, limits, and other machines.
//
// Method: each case is a process of its own (fault_child), whose whole life,
// start-up included, runs under one plan. A child checks a shadow model, the
// walks of all invariants and the statistics, and says in its exit status
// whether all held. The driver asks how many calls of a kind a life without
// faults makes, and lets each one of them fail in turn. The background thread
// is there where a case says so: elsewhere the clock stands still, so that a
// life that is held up makes the same calls as all others (what goes back in
// time decides what moves), and the program's threads give memory back.
#include <errno.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "testing/faults/machine.h"

namespace tcx {
namespace testing {
namespace {

std::string child_path;

struct Totals {
  unsigned long runs = 0;
  unsigned long injected = 0;
  unsigned long refused = 0;
} totals;

struct Result {
  size_t filled = 0;
  unsigned long injected = 0;
  unsigned long refused = 0;
  unsigned long calls[kCalls] = {};
};

using Arguments = std::vector<std::string>;

std::string Text(const Arguments &arguments) {
  std::string text;
  for (const std::string &argument : arguments)
    text += argument + " ";
  return text;
}

// These go into the environment.
bool IsSetting(const std::string &argument) {
  return argument.compare(0, 4, "TCX_") == 0;
}

// Runs a child; it must exit with 0. `*out` is what it says of itself.
void RunChild(const Arguments &arguments, Result *out) {
  std::string command = "exec env TCX_BACKGROUND=off";
  for (const std::string &argument : arguments) {
    if (IsSetting(argument))
      command += " " + argument;
  }
  command += " " + child_path;
  for (const std::string &argument : arguments) {
    if (!IsSetting(argument))
      command += " " + argument;
  }
  FILE *pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  Result result;
  int fields = fscanf(pipe,
                      "filled %zu injected %lu refused %lu calls %lu %lu %lu "
                      "%lu %lu",
                      &result.filled, &result.injected, &result.refused,
                      &result.calls[0], &result.calls[1], &result.calls[2],
                      &result.calls[3], &result.calls[4]);
  int status = pclose(pipe);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << Text(arguments) << "status " << status;
  ASSERT_EQ(fields, 8) << Text(arguments);
  totals.runs++;
  totals.injected += result.injected;
  totals.refused += result.refused;
  *out = result;
}

std::string Number(const char *name, unsigned long value) {
  return std::string(name) + "=" + std::to_string(value);
}

// -- every call of a kind fails -----------------------------------------------

class FaultsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    RunChild({"do=work"}, &without_);
  }

  // Lets the n-th call of the kinds fail, once: for each n, or where there are
  // many, for `firsts_max` of them. Then five in a row, and all from there on,
  // at a third of these places.
  static void FailEach(const std::vector<Call> &kinds, int error,
                       const Arguments &more = {},
                       unsigned long firsts_max = 80) {
    unsigned long mask = 0;
    unsigned long calls = 0;
    for (Call kind : kinds) {
      mask |= 1ul << kind;
      calls += without_.calls[kind];
    }
    ASSERT_GT(calls, 0u) << "the workload has no such call";
    unsigned long step = calls / firsts_max + 1;
    for (unsigned long count : {1ul, 5ul, 1000000ul}) {
      if (count == 5 && calls > kFewCalls)
        step *= 3;
      for (unsigned long first = 1; first <= calls; first += step) {
        Arguments arguments = {"do=work", Number("kinds", mask),
                               Number("first", first), Number("count", count),
                               Number("error", (unsigned long)error)};
        arguments.insert(arguments.end(), more.begin(), more.end());
        Result result;
        RunChild(arguments, &result);
        if (HasFatalFailure())
          return;
        unsigned long made = 0;
        for (Call kind : kinds)
          made += result.calls[kind];
        EXPECT_TRUE(result.injected > 0 || made < first) << Text(arguments);
        // Faults save calls, and threads do not all make the same.
        EXPECT_TRUE(result.injected > 0 || first > calls / 3)
            << Text(arguments);
      }
    }
  }

  static constexpr unsigned long kFewCalls = 12;
  static Result without_;
};

Result FaultsTest::without_;

TEST_F(FaultsTest, NoFaultNoRefusal) {
  Result result;
  RunChild({"do=work"}, &result);
  EXPECT_EQ(result.injected, 0u);
  EXPECT_EQ(result.refused, 0u);
  for (unsigned long calls : result.calls)
    EXPECT_GT(calls, 0u);
}

TEST_F(FaultsTest, Mmap) {
  FailEach({kMmap}, ENOMEM);
}

TEST_F(FaultsTest, Munmap) {
  FailEach({kMunmap}, ENOMEM);
}

TEST_F(FaultsTest, Mprotect) {
  FailEach({kMprotect}, ENOMEM);
}

TEST_F(FaultsTest, Madvise) {
  FailEach({kMadvise}, ENOMEM, {}, 20);
  FailEach({kMadvise}, EINVAL, {}, 10);
}

TEST_F(FaultsTest, Mremap) {
  FailEach({kMremap}, EINVAL);
  FailEach({kMremap}, ENOMEM, {"unmaps=1"});
  FailEach({kMremap}, ENOMEM, {"unmaps=2"});
}

// A hole that cannot be filled at once.
TEST_F(FaultsTest, MremapLeavesHoleThenMmap) {
  FailEach({kMmap, kMremap}, ENOMEM, {"unmaps=1"});
  FailEach({kMmap, kMremap}, ENOMEM, {"unmaps=2"});
}

// Moved in part, and neither released nor filled.
TEST_F(FaultsTest, MremapMovesAPartThenMadvise) {
  FailEach({kMadvise, kMremap}, ENOMEM, {"unmaps=2"}, 20);
}

TEST_F(FaultsTest, AnyCall) {
  FailEach({kMmap, kMunmap, kMprotect, kMadvise, kMremap}, ENOMEM, {"unmaps=1"},
           40);
}

// pthread_setspecific allocates where a program has many keys.
TEST_F(FaultsTest, ThreadWithManyKeys) {
  FailEach({kMmap, kMprotect}, ENOMEM, {"keys=40"}, 20);
}

// No caches of threads, and memory that is written to more often.
TEST_F(FaultsTest, Hardened) {
  FailEach({kMmap, kMprotect}, ENOMEM, {"TCX_HARDEN=1"}, 6);
  FailEach({kMadvise, kMremap}, ENOMEM, {"TCX_HARDEN=1", "unmaps=2"}, 4);
}

// Without memory from the start it would not be there, and come late.
TEST_F(FaultsTest, BackgroundThread) {
  FailEach({kMadvise}, ENOMEM, {"TCX_BACKGROUND=on"}, 10);
  FailEach({kMremap}, ENOMEM, {"TCX_BACKGROUND=on", "unmaps=1"}, 10);
}

// -- limits -------------------------------------------------------------------

constexpr unsigned long kMib = 1ul << 20;

// The program reaches the limit but for what tcx and the C library need.
void FillTo(const Arguments &arguments, size_t bytes_min) {
  Result result;
  RunChild(arguments, &result);
  EXPECT_GE(result.filled, bytes_min) << Text(arguments);
}

TEST(LimitsTest, AddressSpace) {
  FillTo({"do=fill", Number("as", 128 * kMib)}, 64 * kMib);
  FillTo({"do=fill", Number("as", 384 * kMib)}, 300 * kMib);
}

TEST(LimitsTest, AddressSpaceAfterStart) {
  for (unsigned long mib : {1, 64, 256}) {
    Result result;
    RunChild({"do=limit", Number("as", mib * kMib)}, &result);
  }
}

TEST(LimitsTest, Data) {
  FillTo({"do=fill", Number("data", 128 * kMib)}, 64 * kMib);
  Result result;
  RunChild({"do=limit", Number("data", 40 * kMib)}, &result);
  EXPECT_GT(result.refused, 0u);
}

TEST(LimitsTest, NoOvercommit) {
  for (unsigned long mib : {64, 200}) {
    FillTo({"do=fill", Number("commit", mib * kMib)}, mib * kMib / 3 * 2);
  }
}

TEST(LimitsTest, Mappings) {
  for (unsigned long leave : {0, 1, 2, 3, 5, 8, 20, 100}) {
    Result result;
    RunChild({"do=maps", Number("leave", leave)}, &result);
  }
}

// -- machines -----------------------------------------------------------------

TEST(MachineTest, AddressBitsAndPageSizes) {
  for (unsigned long bits : {39, 42, 47, 48, 57}) {
    for (unsigned long page : {4096, 16384, 65536}) {
      Arguments arguments = {"do=work", Number("bits", bits),
                             Number("page", page)};
      Result result;
      RunChild(arguments, &result);
      EXPECT_EQ(result.refused, 0u) << Text(arguments);
      EXPECT_GT(result.calls[kMremap], 0u) << Text(arguments);
    }
  }
}

TEST(MachineTest, LimitsOnLargePages) {
  FillTo({"do=fill", "page=65536", Number("as", 256 * kMib)}, 128 * kMib);
  FillTo({"do=fill", "page=65536", Number("commit", 128 * kMib)}, 96 * kMib);
}

}  // namespace
}  // namespace testing
}  // namespace tcx

int main(int argc, char **argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    fprintf(stderr, "usage: faults_test FAULT_CHILD\n");
    return 2;
  }
  tcx::testing::child_path = argv[1];
  int status = RUN_ALL_TESTS();
  printf(
      "faults: %lu processes, %lu faults injected and survived, "
      "%lu requests refused with ENOMEM\n",
      tcx::testing::totals.runs, tcx::testing::totals.injected,
      tcx::testing::totals.refused);
  return status;
}

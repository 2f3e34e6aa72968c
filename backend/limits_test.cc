// limits_test.cc -- what is too much, and what happens then.
//
// Method: a faked cgroup of version 2 whose numbers change; a clock that is a
// number. The policies that end the process do so in a child.
#include "backend/limits.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "backend/fake_files.h"

namespace {

using tcx::testing::FakeFiles;

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kNone = UINT64_MAX;
const std::string kFolder = "/sys/fs/cgroup/app";

class LimitsTest : public testing::Test {
 protected:
  LimitsTest() {
    tcx_limits_init(&limits_);
    files_["/proc/self/cgroup"] = "0::/app\n";
    files_["/proc/self/mountinfo"] =
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
  }
  ~LimitsTest() override {
    tcx_limits_check(&limits_);
  }
  void Set(uint64_t limit, uint64_t hard = 0,
           uint64_t policy = TCX_HARD_LIMIT_FAIL) {
    tcx_limits_set(&limits_, limit, hard, policy);
  }
  void SetAuto() {
    Set(TCX_KNOB_LIMIT_AUTO);
  }
  void Group(uint64_t limit_mib, uint64_t charge_mib) {
    files_[kFolder + "/memory.max"] = std::to_string(limit_mib * kMib) + "\n";
    files_[kFolder + "/memory.current"] =
        std::to_string(charge_mib * kMib) + "\n";
  }
  uint64_t Soft(uint64_t resident_mib, uint64_t now_ms) {
    tcx_limits_refresh(&limits_, resident_mib * kMib, now_ms);
    return tcx_limits_soft(&limits_);
  }
  bool Exceeds(uint64_t resident) {
    return tcx_limits_exceeds_soft(&limits_, resident);
  }
  tcx_limits_stats Stats() {
    tcx_limits_stats stats;
    tcx_limits_read_stats(&limits_, &stats);
    return stats;
  }

  FakeFiles files_;
  tcx_limits limits_;
};

// -- Numbers ------------------------------------------------------------------

TEST_F(LimitsTest, NoneUnlessSet) {
  EXPECT_FALSE(Exceeds(uint64_t{1} << 50));
  Set(0, 0);
  EXPECT_EQ(Soft(100, 5), kNone);
  EXPECT_EQ(files_.reads, 0u) << "nobody asked for the cgroup";
  EXPECT_FALSE(Exceeds(uint64_t{1} << 50));
}

TEST_F(LimitsTest, ExceededIsWhatIsAbove) {
  Set(1000, 2000);
  EXPECT_FALSE(Exceeds(1000));
  EXPECT_TRUE(Exceeds(1001));
  EXPECT_TRUE(Exceeds(2001));
  tcx_limits_note_hard_hit(&limits_);
  EXPECT_EQ(Stats().soft_hits, 2u);
  EXPECT_EQ(Stats().hard_hits, 1u);
  EXPECT_EQ(Stats().soft_bytes, 1000u);
  EXPECT_EQ(Stats().hard_bytes, 2000u);
}

TEST_F(LimitsTest, ASoftLimitNotBelowTheHardOneCountsAsIt) {
  for (uint64_t limit : {0u, 2000u, 3000u}) {
    Set(limit, 2000);
    EXPECT_EQ(tcx_limits_soft(&limits_), 2000u);
    EXPECT_FALSE(Exceeds(2001));
  }
  EXPECT_EQ(Stats().soft_hits, 0u);
  Set(3000, 0);
  EXPECT_TRUE(Exceeds(3001));
}

TEST_F(LimitsTest, WhatWasReleasedIsCounted) {
  tcx_limits_note_released(&limits_, false, 10);
  tcx_limits_note_released(&limits_, true, 3);
  tcx_limits_note_released(&limits_, false, 1);
  EXPECT_EQ(Stats().soft_released_bytes, 11u);
  EXPECT_EQ(Stats().hard_released_bytes, 3u);
}

// -- The cgroup ---------------------------------------------------------------

TEST_F(LimitsTest, AutoIsWhatTheGroupLeaves) {
  SetAuto();
  Group(1000, 300);
  EXPECT_EQ(Soft(200, 0), 800 * kMib) << "100 MiB are others'";
  Group(1000, 600);
  EXPECT_EQ(Soft(600, 5000), 900 * kMib);
  EXPECT_EQ(Soft(650, 10000), 900 * kMib) << "the charge may lag behind";
}

TEST_F(LimitsTest, OthersMayTakeAll) {
  SetAuto();
  Group(100, 99);
  EXPECT_EQ(Soft(1, 0), kMib);
  EXPECT_TRUE(Exceeds(kMib + 1));
}

TEST_F(LimitsTest, TheTightestLevelCounts) {
  SetAuto();
  files_["/proc/self/cgroup"] = "0::/app/worker\n";
  Group(1000, 500);
  files_[kFolder + "/worker/memory.max"] = "max\n";
  files_[kFolder + "/worker/memory.current"] = "1000\n";
  EXPECT_EQ(Soft(100, 0), 500 * kMib);
  files_[kFolder + "/worker/memory.high"] = std::to_string(400 * kMib) + "\n";
  EXPECT_EQ(Soft(100, 5000), 360 * kMib);
}

TEST_F(LimitsTest, PageCacheIsNotOthers) {
  SetAuto();
  Group(1000, 900);
  files_[kFolder + "/memory.stat"] =
      "anon 1\ninactive_file " + std::to_string(600 * kMib) + "\n";
  EXPECT_EQ(Soft(100, 0), 700 * kMib);
}

TEST_F(LimitsTest, GroupWithoutLimit) {
  SetAuto();
  files_[kFolder + "/memory.max"] = "max\n";
  files_[kFolder + "/memory.current"] = "5\n";
  EXPECT_EQ(Soft(100, 0), kNone);
  EXPECT_EQ(Stats().readings, 1u);
  EXPECT_EQ(Stats().reading_failures, 0u);
}

TEST_F(LimitsTest, IsReadOnceASecond) {
  SetAuto();
  Group(1000, 300);
  Soft(200, 0);
  unsigned reads = files_.reads;
  Group(2000, 300);
  EXPECT_EQ(Soft(200, 999), 800 * kMib);
  EXPECT_EQ(files_.reads, reads);
  EXPECT_EQ(Soft(200, 1000), 1700 * kMib);
}

TEST_F(LimitsTest, IsReadMoreOftenNearTheLimit) {
  SetAuto();
  Group(1000, 790);
  EXPECT_EQ(Soft(790, 0), 900 * kMib);
  Group(1000, 850);
  EXPECT_EQ(Soft(790, 100), 840 * kMib);
}

TEST_F(LimitsTest, AutoBelowHard) {
  Set(TCX_KNOB_LIMIT_AUTO, 100 * kMib);
  Group(1000, 300);
  EXPECT_EQ(Soft(50, 0), 100 * kMib);
}

TEST_F(LimitsTest, GroupThatIsGoneIsSoughtAgain) {
  SetAuto();
  EXPECT_EQ(Soft(10, 0), kNone);
  EXPECT_EQ(Stats().reading_failures, 1u);
  Group(1000, 10);
  EXPECT_EQ(Soft(10, 59999), kNone) << "not yet";
  EXPECT_EQ(Soft(10, 60000), 900 * kMib);
  files_["/proc/self/cgroup"] = "0::/other\n";
  files_["/sys/fs/cgroup/other/memory.max"] = std::to_string(500 * kMib);
  files_["/sys/fs/cgroup/other/memory.current"] = "0\n";
  files_.texts.erase(kFolder + "/memory.current");
  EXPECT_EQ(Soft(10, 70000), kNone);
  EXPECT_EQ(Soft(10, 130000), 450 * kMib);
}

// A process without a descriptor, in its own group and in a container's.
TEST_F(LimitsTest, WhatCannotBeReadIsAsItWas) {
  for (const char *group : {"0::/app\n", "0::/\n"}) {
    files_["/proc/self/cgroup"] = group;
    std::string folder =
        group == std::string("0::/\n") ? "/sys/fs/cgroup" : kFolder;
    files_[folder + "/memory.max"] = std::to_string(1000 * kMib);
    files_[folder + "/memory.current"] = "0";
    tcx_limits_init(&limits_);
    SetAuto();
    EXPECT_EQ(Soft(10, 5), 900 * kMib);
    uint64_t now_ms = 5;
    // One after the other, the seeking after a minute too.
    for (const char *failing : {"memory.current", "memory.max", "memory.high",
                                "memory.stat", "self/cgroup", "mountinfo"}) {
      files_.error_of = [failing](const std::string &path) {
        return path.find(failing) != std::string::npos ? EMFILE : 0;
      };
      now_ms += 61000;
      EXPECT_EQ(Soft(10, now_ms), 900 * kMib) << failing;
      files_.error_of = nullptr;
      files_[folder + "/memory.max"] = std::to_string(500 * kMib);
      EXPECT_EQ(Soft(10, now_ms + 1000), 450 * kMib) << "soon";
      files_[folder + "/memory.max"] = std::to_string(1000 * kMib);
      EXPECT_EQ(Soft(10, now_ms + 2000), 900 * kMib);
    }
    EXPECT_EQ(Stats().reading_failures, 6u);
  }
}

TEST_F(LimitsTest, WhatCouldNotBeReadAtStartIsReadSoon) {
  SetAuto();
  Group(1000, 10);
  files_.error_of = [](const std::string &) { return EMFILE; };
  EXPECT_EQ(Soft(10, 0), kNone);
  files_.error_of = nullptr;
  EXPECT_EQ(Soft(10, 1000), 900 * kMib);
}

TEST_F(LimitsTest, ProcessThatWasMovedIsFoundAgain) {
  SetAuto();
  Group(1000, 10);
  EXPECT_EQ(Soft(10, 5), 900 * kMib);
  files_["/proc/self/cgroup"] = "0::/other\n";
  files_["/sys/fs/cgroup/other/memory.max"] = std::to_string(500 * kMib);
  files_["/sys/fs/cgroup/other/memory.current"] = "0\n";
  EXPECT_EQ(Soft(10, 60004), 900 * kMib) << "not yet";
  EXPECT_EQ(Soft(10, 61005), 450 * kMib);
}

TEST_F(LimitsTest, RootOfTheTreeIsNoFailure) {
  SetAuto();
  files_["/proc/self/cgroup"] = "0::/\n";
  EXPECT_EQ(Soft(10, 0), kNone);
  EXPECT_EQ(Soft(10, 1000), kNone);
  EXPECT_EQ(Stats().readings, 2u);
  EXPECT_EQ(Stats().reading_failures, 0u);
}

TEST_F(LimitsTest, SettingAgainReadsAtOnce) {
  SetAuto();
  Group(1000, 10);
  EXPECT_EQ(Soft(10, 0), 900 * kMib);
  Set(123 * kMib);
  EXPECT_EQ(Soft(10, 1), 123 * kMib);
  SetAuto();
  EXPECT_EQ(Soft(10, 2), 900 * kMib);
}

// Every file that is read, with the settings changed while it is.
TEST_F(LimitsTest, SettingWhileItIsRead) {
  Group(1000, 300);
  unsigned files = 0;
  for (unsigned file = 1; file == 1 || file <= files; file++) {
    SetAuto();
    limits_.read_again_ms = 0;
    unsigned before = files_.reads;
    files_.on_read = [&] {
      if (files_.reads - before == file)
        Set(0, 2000);
    };
    tcx_limits_refresh(&limits_, 0, 0);
    files = files_.reads - before;
    tcx_limits_check(&limits_);
    EXPECT_EQ(tcx_limits_soft(&limits_), 2000u) << "file " << file;
    EXPECT_EQ(Stats().hard_bytes, 2000u);
    SetAuto();
    before = files_.reads;
    files_.on_read = [&] {
      if (files_.reads - before == file)
        Set(1000, 0);
    };
    tcx_limits_refresh(&limits_, 0, 0);
    EXPECT_EQ(tcx_limits_soft(&limits_), 1000u) << "file " << file;
  }
  EXPECT_GT(files, 2u);
}

// While a fixed limit takes the place of an automatic one and back, there is
// always one of the two.
TEST_F(LimitsTest, NeverUnlimitedBetweenTwoLimits) {
  SetAuto();
  Group(1000, 0);
  ASSERT_EQ(Soft(1, 0), 900 * kMib);
  std::atomic<bool> is_done{false};
  unsigned unlimited = 0;
  std::thread asker([&] {
    for (int i = 0; i < 300000; i++)
      unlimited += !Exceeds(1 << 30);
    is_done = true;
  });
  while (!is_done) {
    Set(100 * kMib);
    SetAuto();
  }
  asker.join();
  EXPECT_EQ(unlimited, 0u);
}

// -- Policies -----------------------------------------------------------------

TEST_F(LimitsTest, FailRefuses) {
  Set(0, 1000, TCX_HARD_LIMIT_FAIL);
  EXPECT_FALSE(tcx_limits_refuse(&limits_, 1000, 10, true));
  EXPECT_EQ(Stats().refused, 1u);
}

struct Program {
  int calls;
  size_t wanted;
  int result;
};

int OnLimit(void *arg, size_t wanted) {
  Program *program = static_cast<Program *>(arg);
  program->calls++;
  program->wanted = wanted;
  return program->result;
}

TEST_F(LimitsTest, CallbackMayMakeRoom) {
  Set(0, 1000, TCX_HARD_LIMIT_CALLBACK);
  EXPECT_FALSE(tcx_limits_refuse(&limits_, 1000, 10, true)) << "there is none";
  Program program = {0, 0, 1};
  tcx_limits_callback callback = {OnLimit, &program};
  tcx_limits_set_callback(&limits_, &callback);
  EXPECT_TRUE(tcx_limits_refuse(&limits_, 1000, 10, true));
  EXPECT_EQ(program.calls, 1);
  EXPECT_EQ(program.wanted, 10u);
  EXPECT_FALSE(tcx_limits_refuse(&limits_, 1000, 10, false));
  EXPECT_EQ(program.calls, 1) << "not inside itself";
  program.result = 0;
  EXPECT_FALSE(tcx_limits_refuse(&limits_, 1000, 20, true));
  EXPECT_EQ(program.calls, 2);
  EXPECT_EQ(Stats().callbacks, 2u);
  EXPECT_EQ(Stats().refused, 3u);
  tcx_limits_set_callback(&limits_, nullptr);
  EXPECT_FALSE(tcx_limits_refuse(&limits_, 1000, 20, true));
  EXPECT_EQ(program.calls, 2);
}

TEST_F(LimitsTest, AbortSaysWhy) {
  Set(0, 1000, TCX_HARD_LIMIT_ABORT);
  EXPECT_EXIT(EXPECT_FALSE(tcx_limits_refuse(&limits_, 990, 20, true)),
              testing::KilledBySignal(SIGABRT),
              "^tcx: hard limit of 1000 bytes: 990 are resident, 20 more are "
              "wanted\n$");
}

}  // namespace

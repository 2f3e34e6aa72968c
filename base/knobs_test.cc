// knobs_test.cc -- values, ranges and precedence of the settings.
//
// Method: each test runs in a child process, since settings are loaded once;
// what a bad one prints is compared word for word.
#include "base/knobs.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <map>
#include <string>

// What a program would define.
const char *tcx_conf;

namespace {

// Runs `body` in a child; it must print exactly `lines` on standard error.
void Expect(const std::function<void()> &body, const std::string &lines) {
  EXPECT_EXIT(
      {
        body();
        _exit(0);
      },
      ::testing::ExitedWithCode(0), "^" + lines + "$");
}

std::string Get(const char *name) {
  char value[TCX_KNOB_TEXT_BYTES];
  return tcx_knob_get(name, value, sizeof value) == 0 ? value : "?";
}

int Set(const std::string &name, const std::string &value,
        tcx_knob_source source = TCX_KNOB_CONF) {
  return tcx_knob_set(name.data(), name.size(), value.data(), value.size(),
                      source);
}

void Pairs(const std::string &text) {
  tcx_knobs_parse_pairs(text.data(), text.size(), "here", TCX_KNOB_CONF);
}

void Require(const char *name, const char *value) {
  if (Get(name) != value) {
    fprintf(stderr, "%s is %s, not %s\n", name, Get(name).c_str(), value);
    _exit(1);
  }
}

std::string WriteFile(const std::string &text, mode_t mode) {
  std::string path = ::testing::TempDir() + "/tcx_conf_" +
                     std::to_string(getpid()) + "_" + std::to_string(mode);
  std::ofstream(path) << text;
  chmod(path.c_str(), mode);
  return path;
}

TEST(KnobsTest, DefaultsAreThoseOfTheList) {
#define TCX_KNOB(kind, name, initial, least, most, live, text) \
  EXPECT_EQ(tcx_knobs.name, uint64_t{initial});
#define TCX_KNOB_TEXT(name, text) EXPECT_STREQ(tcx_knobs.name, "");
#include "base/knobs.def"
#undef TCX_KNOB
#undef TCX_KNOB_TEXT
}

TEST(KnobsTest, LimitIsBytesOrAuto) {
  EXPECT_EQ(Set("limit", "auto"), 0);
  EXPECT_EQ(tcx_knobs.limit, TCX_KNOB_LIMIT_AUTO);
  EXPECT_EQ(Get("limit"), "auto");
  EXPECT_EQ(Set("limit", "2G"), 0);
  EXPECT_EQ(Get("limit"), "2147483648");
  EXPECT_EQ(Set("limit", "Auto"), EINVAL);
  EXPECT_EQ(Set("limit", ""), EINVAL);
  EXPECT_EQ(Set("hard_limit", "auto"), EINVAL);
  EXPECT_EQ(Set("limit", "0"), 0);
  EXPECT_EQ(Get("limit"), "0");
}

TEST(KnobsTest, UnitsMultiply) {
  const std::map<std::string, uint64_t> values = {
      {"1048576", 1 << 20}, {"1024k", 1 << 20}, {"3M", 3 << 20},
      {"3m", 3 << 20},      {"1G", 1 << 30},    {"1T", uint64_t{1} << 40}};
  for (const auto &[text, value] : values) {
    EXPECT_EQ(Set("thread_cache", text), 0) << text;
    EXPECT_EQ(tcx_knobs.thread_cache, value) << text;
  }
  EXPECT_EQ(Set("thread_cache", "32M"), 0);
  const std::map<std::string, uint64_t> times = {
      {"10", 10}, {"10ms", 10}, {"2s", 2000}, {"3m", 180000}};
  for (const auto &[text, value] : times) {
    EXPECT_EQ(Set("trim_time", text), 0) << text;
    EXPECT_EQ(tcx_knobs.trim_time, value) << text;
  }
  EXPECT_EQ(Set("trim_time", "1s"), 0);
}

TEST(KnobsTest, WhatIsNoValueOfItsKindIsRefusedAndTheOldOneStays) {
  for (const char *text : {"", "x", "-1", "1x", "1kk", "1 k", "0x10", "1.5M"})
    EXPECT_EQ(Set("thread_cache", text), EINVAL) << text;
  for (const char *text :
       {"0", "1k", "2T", "99999999999999999999", "17592186044416T"}) {
    EXPECT_EQ(Set("thread_cache", text), ERANGE) << text;
  }
  for (const char *text : {"2", "yes", "TRUE", "01"})
    EXPECT_NE(Set("harden", text), 0) << text;
  for (const char *text : {"", "abor", "abort|libc", "abort:", "0"})
    EXPECT_EQ(Set("foreign", text), EINVAL) << text;
  EXPECT_EQ(Set("stats_file", std::string(TCX_KNOB_TEXT_BYTES, 'x')), ERANGE);
  EXPECT_EQ(Set("hardene", "1"), ENOENT);
  EXPECT_EQ(Set("", "1"), ENOENT);
  EXPECT_EQ(tcx_knobs.thread_cache, uint64_t{32} << 20);
  EXPECT_EQ(tcx_knobs.foreign, uint64_t{TCX_FOREIGN_ABORT});
}

TEST(KnobsTest, ChoicesGoByTheirWords) {
  EXPECT_EQ(Set("foreign", "ignore"), 0);
  EXPECT_EQ(tcx_knobs.foreign, uint64_t{TCX_FOREIGN_IGNORE});
  EXPECT_EQ(Get("foreign"), "ignore");
  EXPECT_EQ(Set("foreign", "libc"), 0);
  EXPECT_EQ(Get("foreign"), "libc");
  EXPECT_EQ(Set("foreign", "abort"), 0);
  EXPECT_EQ(Get("foreign"), "abort");
}

TEST(KnobsTest, OnlyLiveKnobsChangeWhileTheProgramRuns) {
  EXPECT_EQ(Set("harden", "1", TCX_KNOB_API), EPERM);
  EXPECT_EQ(tcx_knobs.harden, 0u);
  EXPECT_EQ(Set("trim_time", "2s", TCX_KNOB_API), 0);
  EXPECT_EQ(Set("trim_time", "1s", TCX_KNOB_API), 0);
}

TEST(KnobsTest, GetSaysWhenThereIsNoRoom) {
  char value[8] = "before";
  EXPECT_EQ(tcx_knob_get("foreign", value, 5), ERANGE);
  EXPECT_STREQ(value, "before");
  EXPECT_EQ(tcx_knob_get("foreign", value, 6), 0);
  EXPECT_STREQ(value, "abort");
  EXPECT_EQ(tcx_knob_get("nothing", value, sizeof value), ENOENT);
}

using KnobsDeathTest = ::testing::Test;

TEST(KnobsDeathTest, BadSettingsAreOneLineEach) {
  Expect([] { Pairs("colour:red"); }, "tcx: here: unknown setting 'colour'\n");
  Expect([] { Pairs("harden:2"); },
         "tcx: here: harden cannot be '2': it is 0 or 1\n");
  Expect([] { Pairs("trim_time:2h"); },
         "tcx: here: trim_time cannot be '2h': a time \\(ms, s, m\\) between 1 "
         "and 3600000\n");
  Expect([] { Pairs("thread_cache:1k"); },
         "tcx: here: thread_cache cannot be '1k': it lies between 1048576 and "
         "1099511627776\n");
  Expect([] { Pairs("foreign:maybe"); },
         "tcx: here: foreign cannot be 'maybe': abort\\|libc\\|ignore: what "
         "free does with a pointer that is not tcx's\n");
  Expect([] { Pairs("harden"); },
         "tcx: here: harden cannot be '': it is 0 or 1\n");
}

TEST(KnobsDeathTest, GoodSettingsAroundABadOneCount) {
  Expect(
      [] {
        Pairs(" harden:1 ,,nope:1, foreign : libc ");
        Require("harden", "1");
        Require("foreign", "libc");
      },
      "tcx: here: unknown setting 'nope'\n");
}

TEST(KnobsDeathTest, AbortOnBadConfigEndsTheProcess) {
  EXPECT_DEATH(
      {
        setenv("TCX_ABORT_ON_BAD_CONFIG", "1", 1);
        setenv("TCX_CONF", "nope:1", 1);
        tcx_knobs_load();
      },
      "^tcx: TCX_CONF: unknown setting 'nope'\n$");
}

TEST(KnobsDeathTest, LaterSourcesWin) {
  Expect(
      [] {
        std::string file = WriteFile(
            "# settings\nthread_cache = 2M  # two\n\nharden=1\n"
            "scavenge_time = 1s\n",
            0644);
        tcx_conf = "thread_cache:1M,scavenge_time:2s,trim_time:7s";
        setenv("TCX_CONF_FILE", file.c_str(), 1);
        setenv("TCX_CONF", "thread_cache:3M,foreign:libc", 1);
        setenv("TCX_THREAD_CACHE", "4M", 1);
        tcx_knobs_load();
        unlink(file.c_str());
        Require("trim_time", "7000");
        Require("scavenge_time", "1000");
        Require("harden", "1");
        Require("foreign", "libc");
        Require("thread_cache", "4194304");
      },
      "");
}

TEST(KnobsDeathTest, VariablesThatNameNoKnobAreReported) {
  Expect(
      [] {
        setenv("TCX_HARDENED", "1", 1);
        tcx_knobs_load();
      },
      "tcx: environment: unknown setting 'hardened'\n");
}

TEST(KnobsDeathTest, FilesThatOthersMayWriteAreNotRead) {
  Expect(
      [] {
        std::string file = WriteFile("harden = 1\n", 0666);
        setenv("TCX_CONF_FILE", file.c_str(), 1);
        tcx_knobs_load();
        unlink(file.c_str());
        Require("harden", "0");
      },
      "tcx: .*: not read: others than root and this user may write it\n");
}

TEST(KnobsDeathTest, FilesThatAreTooLongOrMissingAreReported) {
  Expect(
      [] {
        std::string file = WriteFile(std::string(5000, '#'), 0644);
        setenv("TCX_CONF_FILE", file.c_str(), 1);
        tcx_knobs_load();
        unlink(file.c_str());
      },
      "tcx: .*: not read: longer than 4096 bytes\n");
  Expect(
      [] {
        setenv("TCX_CONF_FILE", "/nonexistent", 1);
        tcx_knobs_load();
      },
      "tcx: /nonexistent: not read \\(error 2\\)\n");
}

TEST(KnobsDeathTest, ShowConfigNamesValueAndSource) {
  EXPECT_EXIT(
      {
        setenv("TCX_SHOW_CONFIG", "1", 1);
        setenv("TCX_CONF", "foreign:ignore", 1);
        tcx_knobs_load();
        _exit(0);
      },
      ::testing::ExitedWithCode(0),
      "tcx: harden = 0 \\(default\\)\n"
      "tcx: foreign = ignore \\(TCX_CONF\\)\n");
}

}  // namespace

// log_test.cc -- messages and the last words, checks included.
//
// Method: standard error into a pipe; death tests that look at the exact line
// and at the signal, with SIGABRT caught, ignored and blocked.
#include "base/log.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>

#include "base/check.h"

namespace {

TEST(LogTest, OneLineAndErrnoUnchanged) {
  testing::internal::CaptureStderr();
  errno = 4711;
  tcx_log("%s of %d", "message", 42);
  int after = errno;
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "tcx: message of 42\n");
  EXPECT_EQ(after, 4711);
}

TEST(LogTest, LongLineIsCutButEnds) {
  std::string text(2000, 'x');
  testing::internal::CaptureStderr();
  tcx_log("%s", text.c_str());
  std::string line = testing::internal::GetCapturedStderr();
  EXPECT_EQ(line.size(), 512u);
  EXPECT_EQ(line.substr(0, 6), "tcx: x");
  EXPECT_EQ(line.back(), '\n');
}

TEST(LogTest, ClosedStandardErrorIsHarmless) {
  EXPECT_EXIT(
      {
        close(STDERR_FILENO);
        tcx_log("nobody reads this");
        _exit(3);
      },
      testing::ExitedWithCode(3), "");
}

TEST(LogDeathTest, FatalAborts) {
  EXPECT_EXIT(tcx_fatal("bad %p", (void *)16), testing::KilledBySignal(SIGABRT),
              "^tcx: bad 0x10\n$");
}

TEST(LogDeathTest, FatalEndsThoughHandlerReturns) {
  EXPECT_EXIT(
      {
        signal(SIGABRT, [](int) {});
        tcx_fatal("the end");
      },
      testing::KilledBySignal(SIGABRT), "^tcx: the end\n$");
}

TEST(LogDeathTest, FatalEndsThoughIgnoredAndBlocked) {
  EXPECT_EXIT(
      {
        signal(SIGABRT, SIG_IGN);
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, nullptr);
        tcx_fatal("the end");
      },
      testing::KilledBySignal(SIGABRT), "^tcx: the end\n$");
}

TEST(CheckDeathTest, PrintsPlaceAndText) {
  EXPECT_EXIT(TCX_CHECK(1 + 1 == 3), testing::KilledBySignal(SIGABRT),
              "^tcx: .*base/log_test\\.cc:[0-9]+: check failed: "
              "1 \\+ 1 == 3\n$");
}

TEST(CheckTest, TrueCostsNothingAndIsEvaluatedOnce) {
  int evaluated = 0;
  TCX_CHECK(++evaluated == 1);
  EXPECT_EQ(evaluated, 1);
  TCX_ASSERT(++evaluated == 2);
  EXPECT_EQ(evaluated, 1 + TCX_ASSERTIONS);
}

}  // namespace

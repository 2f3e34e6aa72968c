// background_test.cc -- the thread is there when it should be, and works.
//
// Method: each test is a child process, as a process has one such thread. The
// job counts its rounds and looks at the thread it runs in. What needs the
// program's own pthread_create or pthread_exit is in pthread_create_test.c.
#include "libc/background.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "base/fork.h"
#include "base/knobs.h"

namespace {

std::atomic<unsigned> rounds;
std::atomic<unsigned> seen;
unsigned present;               // relaxed: the bell orders it
std::atomic<uint64_t> wait_ms;  // what the job answers
std::atomic<unsigned> blocked;  // signals that the thread has blocked
std::atomic<bool> is_named;

// Each test runs in a child, where nobody hears of an expectation that fails.
void Require(bool holds, const char *what) {
  if (holds)
    return;
  fprintf(stderr, "not so: %s\n", what);
  _exit(1);
}
#define REQUIRE(c) Require((c), #c)

uint64_t Work(uint64_t now_ms) {
  REQUIRE(now_ms > 0);
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  unsigned count = 0;
  for (int signal : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGCHLD, SIGPROF})
    count += sigismember(&mask, signal) == 1;
  blocked = count;
  char name[16];
  pthread_getname_np(pthread_self(), name, sizeof name);
  is_named = strcmp(name, "tcx-bg") == 0;
  seen = __atomic_load_n(&present, __ATOMIC_RELAXED);
  rounds++;
  return wait_ms;
}

constexpr tcx_background_job kJob = {Work, nullptr};

// Until it is so, for ten seconds.
bool Soon(const std::function<bool()> &is_so) {
  for (int i = 0; i < 10000; i++) {
    if (is_so())
      return true;
    usleep(1000);
  }
  return false;
}

const pid_t test_process = getpid();

// A child that must get through `body`.
void InChild(const std::function<void()> &body) {
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    wait_ms = TCX_BACKGROUND_IDLE;
    body();
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  // A child's child tells its parent, which tells the test.
  if (getpid() != test_process && status != 0)
    _exit(1);
}

tcx_background_stats Stats() {
  tcx_background_stats stats;
  tcx_background_read_stats(&stats);
  return stats;
}

TEST(BackgroundTest, NobodyBeforeTheProgramHasThreads) {
  InChild([] {
    tcx_background_enter();  // Before the library has started.
    REQUIRE(!tcx_background_is_running());
    tcx_background_start(&kJob, TCX_BACKGROUND_AUTO);
    tcx_background_start_early();
    tcx_background_wake();
    REQUIRE(!tcx_background_is_running());
    REQUIRE(Stats().made == 0);
  });
}

TEST(BackgroundTest, FirstThreadBringsOne) {
  InChild([] {
    tcx_background_start(&kJob, TCX_BACKGROUND_AUTO);
    tcx_background_enter();
    REQUIRE(tcx_background_is_running());
    REQUIRE(Soon([] { return rounds >= 1; }));
    tcx_background_enter();
    REQUIRE(Stats().made == 1);
    REQUIRE(Stats().failures == 0);
    REQUIRE(is_named);
    REQUIRE(blocked == 6);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    REQUIRE(sigismember(&mask, SIGTERM) == 0);
  });
}

TEST(BackgroundTest, WakesForWorkAndSleepsElse) {
  InChild([] {
    tcx_background_start(&kJob, TCX_BACKGROUND_AUTO);
    tcx_background_enter();
    for (unsigned i = 1; i <= 200; i++) {
      __atomic_store_n(&present, i, __ATOMIC_RELAXED);
      tcx_background_wake();
      REQUIRE(Soon([i] { return seen == i; }));
    }
    usleep(20000);
    unsigned before = rounds;
    usleep(50000);
    REQUIRE(rounds == before);
    REQUIRE(Stats().rounds == before);
  });
}

TEST(BackgroundTest, ComesBackAfterTheTimeItAskedFor) {
  InChild([] {
    wait_ms = 2;
    tcx_background_start(&kJob, TCX_BACKGROUND_AUTO);
    tcx_background_enter();
    REQUIRE(Soon([] { return rounds >= 10; }));
    wait_ms = 0;
    REQUIRE(Soon([] { return rounds >= 1000; }));
  });
}

TEST(BackgroundTest, OffIsOff) {
  InChild([] {
    tcx_background_start(&kJob, TCX_BACKGROUND_OFF);
    tcx_background_start_early();
    tcx_background_enter();
    tcx_background_wake();
    REQUIRE(!tcx_background_is_running());
  });
}

TEST(BackgroundTest, OnNeedsNoThreads) {
  InChild([] {
    tcx_background_start(&kJob, TCX_BACKGROUND_ON);
    tcx_fork_start();
    tcx_background_start_early();
    REQUIRE(tcx_background_is_running());
    REQUIRE(Soon([] { return rounds >= 1; }));
    // And the child has its own.
    InChild([] {
      rounds = 0;
      REQUIRE(tcx_background_is_running());
      tcx_background_wake();
      REQUIRE(Soon([] { return rounds >= 1; }));
    });
    REQUIRE(tcx_background_is_running());
  });
}

TEST(BackgroundTest, OnIsNotAskedWhetherItIsWanted) {
  InChild([] {
    static const tcx_background_job job = {Work, [] { return false; }};
    tcx_background_start(&job, TCX_BACKGROUND_ON);
    tcx_fork_start();
    tcx_background_start_early();
    REQUIRE(tcx_background_is_running());
    InChild([] { REQUIRE(tcx_background_is_running()); });
  });
}

TEST(BackgroundTest, ChildHasNoneUntilItMakesThreads) {
  InChild([] {
    tcx_background_start(&kJob, TCX_BACKGROUND_AUTO);
    tcx_fork_start();
    tcx_background_enter();
    REQUIRE(Soon([] { return rounds >= 1; }));
    for (int i = 0; i < 50; i++) {
      InChild([] {
        rounds = 0;
        REQUIRE(!tcx_background_is_running());
        tcx_background_wake();
        tcx_background_enter();
        REQUIRE(tcx_background_is_running());
        REQUIRE(Stats().made == 1);
        REQUIRE(Soon([] { return rounds >= 1; }));
      });
      tcx_background_wake();
    }
    REQUIRE(tcx_background_is_running());
  });
}

TEST(BackgroundTest, OtherThreadsDoNotMakeIt) {
  InChild([] {
    tcx_background_start(&kJob, TCX_BACKGROUND_AUTO);
    std::thread([] { tcx_background_enter(); }).join();
    REQUIRE(!tcx_background_is_running());
    tcx_background_enter();
    REQUIRE(tcx_background_is_running());
  });
}

}  // namespace

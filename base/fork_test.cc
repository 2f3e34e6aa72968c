// fork_test.cc -- hooks run in lock order, and the child can go on.
//
// Method: hooks that write down their names; then real forks while other
// threads hold the locks and register hooks.
#include "base/fork.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"

namespace {

std::string *trace = nullptr;

void Note(const char *step, void *self) {
  if (trace)
    *trace += std::string(step) + static_cast<char *>(self) + " ";
}

#define TRACING_HOOKS(rank, name)                    \
  {                                                  \
    rank, name, [](void *self) { Note("+", self); }, \
        [](void *self) { Note("-", self); },         \
        [](void *self) { Note("~", self); }          \
  }

char names[] = "a\0b\0c\0d\0";

const struct tcx_fork_hooks kArena =
    TRACING_HOOKS(TCX_LOCK_RANK_ARENA, &names[0]);
const struct tcx_fork_hooks kStart =
    TRACING_HOOKS(TCX_LOCK_RANK_START, &names[2]);
const struct tcx_fork_hooks kSystemHigh =
    TRACING_HOOKS(TCX_LOCK_RANK_SYSTEM, &names[6]);
const struct tcx_fork_hooks kSystemLow =
    TRACING_HOOKS(TCX_LOCK_RANK_SYSTEM, &names[4]);
const struct tcx_fork_hooks kEmpty = {TCX_LOCK_RANK_METADATA, nullptr, nullptr,
                                      nullptr, nullptr};

struct tcx_lock low_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_RELEASE);
struct tcx_lock high_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_PAGEMAP);
const struct tcx_fork_hooks kLow = {TCX_LOCK_RANK_RELEASE, &low_lock,
                                    tcx_fork_lock_prepare, tcx_fork_lock_parent,
                                    tcx_fork_lock_child};
const struct tcx_fork_hooks kHigh = {TCX_LOCK_RANK_PAGEMAP, &high_lock,
                                     tcx_fork_lock_prepare,
                                     tcx_fork_lock_parent, tcx_fork_lock_child};

void RegisterAll() {
  for (const struct tcx_fork_hooks *hooks :
       {&kArena, &kStart, &kSystemHigh, &kSystemLow, &kEmpty, &kHigh, &kLow}) {
    tcx_fork_register(hooks);
    tcx_fork_register(hooks);  // Harmless.
  }
  tcx_fork_start();
  tcx_fork_start();  // Once only.
}

TEST(ForkTest, OrderIsRankThenAddress) {
  RegisterAll();
  std::string steps;
  trace = &steps;
  tcx_fork_prepare();
  EXPECT_EQ(steps, "+b +c +d +a ");
  EXPECT_NE(low_lock.word, 0u);
  EXPECT_NE(high_lock.word, 0u);
  steps.clear();
  tcx_fork_parent();
  EXPECT_EQ(steps, "-a -d -c -b ");
  EXPECT_EQ(low_lock.word, 0u);
  EXPECT_EQ(high_lock.word, 0u);
  tcx_fork_prepare();
  steps.clear();
  tcx_fork_child();
  EXPECT_EQ(steps, "~a ~d ~c ~b ");
  EXPECT_EQ(low_lock.word, 0u);
  trace = nullptr;
}

// A handler of the program may run while all locks are held.
TEST(ForkTest, TheThreadThatForksMayLock) {
  RegisterAll();
  tcx_fork_prepare();
  tcx_lock_acquire(&high_lock);
  tcx_lock_acquire(&low_lock);
  tcx_lock_release(&high_lock);
  EXPECT_TRUE(tcx_lock_try_acquire(&high_lock));
  tcx_lock_release(&high_lock);
  tcx_lock_release(&low_lock);
  std::thread([] { EXPECT_FALSE(tcx_lock_try_acquire(&low_lock)); }).join();
  tcx_fork_parent();
  std::thread([] {
    EXPECT_TRUE(tcx_lock_try_acquire(&low_lock));
    tcx_lock_release(&low_lock);
  }).join();
  EXPECT_EQ(low_lock.word, 0u);
  EXPECT_EQ(high_lock.word, 0u);
}

TEST(ForkTest, ChildCanLockWhileThreadsLock) {
  RegisterAll();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++) {
    threads.emplace_back([&] {
      while (!stop) {
        tcx_lock_acquire(&low_lock);
        tcx_lock_acquire(&high_lock);
        std::this_thread::yield();
        tcx_lock_release(&high_lock);
        tcx_lock_release(&low_lock);
        tcx_fork_register(&kLow);
      }
    });
  }
  for (int round = 0; round < 100; round++) {
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(20);
      tcx_lock_acquire(&low_lock);
      tcx_lock_acquire(&high_lock);
      tcx_lock_release(&high_lock);
      tcx_lock_release(&low_lock);
      tcx_fork_register(&kLow);
      _exit(7);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  }
  stop = true;
  for (std::thread &thread : threads)
    thread.join();
}

TEST(ForkTest, TwoThreadsForkAtOnce) {
  RegisterAll();
  auto fork_often = [] {
    for (int round = 0; round < 50; round++) {
      pid_t child = fork();
      if (child == 0)
        _exit(7);
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
  };
  std::thread a(fork_often);
  std::thread b(fork_often);
  a.join();
  b.join();
  EXPECT_EQ(low_lock.word, 0u);
}

TEST(ForkDeathTest, TooManyHooks) {
  EXPECT_DEATH(
      {
        static struct tcx_fork_hooks many[TCX_FORK_HOOKS_MAX + 1];
        for (struct tcx_fork_hooks &hooks : many) {
          hooks.rank = TCX_LOCK_RANK_ARENA;
          tcx_fork_register(&hooks);
        }
      },
      "check failed: count");
}

}  // namespace

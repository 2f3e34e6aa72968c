// lock_test.cc -- mutual exclusion, no lost wake-ups, the lock order.
//
// Method: threads that increment a plain counter; sections long enough that
// the others must sleep; death tests of the order in debug builds.
#include "base/lock.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "base/check.h"

namespace {

void RunThreads(int threads, const std::function<void(int)> &body) {
  std::vector<std::thread> running;
  for (int i = 0; i < threads; i++)
    running.emplace_back(body, i);
  for (std::thread &thread : running)
    thread.join();
}

TEST(LockTest, CountsUnderContention) {
  struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
  const int kThreads = 8;
  const int kRounds = 50000;
  uint64_t counter = 0;
  RunThreads(kThreads, [&](int) {
    for (int i = 0; i < kRounds; i++) {
      tcx_lock_acquire(&lock);
      counter++;
      tcx_lock_release(&lock);
    }
  });
  EXPECT_EQ(counter, uint64_t{kThreads} * kRounds);
  EXPECT_EQ(lock.word, 0u);
}

TEST(LockTest, TryFailsWhileHeld) {
  struct tcx_lock lock;
  tcx_lock_init(&lock, TCX_LOCK_RANK_ARENA);
  ASSERT_TRUE(tcx_lock_try_acquire(&lock));
  EXPECT_TRUE(tcx_lock_is_held(&lock));
  std::thread([&] { EXPECT_FALSE(tcx_lock_try_acquire(&lock)); }).join();
  tcx_lock_release(&lock);
  std::thread([&] {
    ASSERT_TRUE(tcx_lock_try_acquire(&lock));
    tcx_lock_release(&lock);
  }).join();
}

TEST(LockTest, SleeperIsWokenAndCounted) {
  struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
  tcx_lock_acquire(&lock);
  std::atomic<int> inside{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; i++) {
    waiters.emplace_back([&] {
      tcx_lock_acquire(&lock);
      inside++;
      tcx_lock_release(&lock);
    });
  }
  while (__atomic_load_n(&lock.waits, __ATOMIC_RELAXED) < 3)
    usleep(100);
  EXPECT_EQ(inside, 0);
  EXPECT_EQ(__atomic_load_n(&lock.word, __ATOMIC_RELAXED), 2u);
  tcx_lock_release(&lock);
  for (std::thread &waiter : waiters)
    waiter.join();
  EXPECT_EQ(inside, 3);
  EXPECT_GE(lock.waits, 3u);
  EXPECT_EQ(lock.word, 0u);
}

// A lost wake-up shows as a test that does not end: each section lasts longer
// than the spin, and at the end of each round all are asleep or gone.
TEST(LockTest, NoWakeUpIsLost) {
  for (int round = 0; round < 200; round++) {
    struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
    uint64_t counter = 0;
    RunThreads(4, [&](int) {
      for (int i = 0; i < 10; i++) {
        tcx_lock_acquire(&lock);
        uint64_t seen = counter;
        std::this_thread::yield();
        if (i % 4 == 0)
          usleep(20);
        counter = seen + 1;
        tcx_lock_release(&lock);
      }
    });
    ASSERT_EQ(counter, 40u);
  }
}

TEST(LockTest, ErrnoStaysAsItIs) {
  struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
  tcx_lock_acquire(&lock);
  std::thread waiter([&] {
    errno = 4711;
    tcx_lock_acquire(&lock);
    tcx_lock_release(&lock);
    EXPECT_EQ(errno, 4711);
  });
  while (__atomic_load_n(&lock.waits, __ATOMIC_RELAXED) == 0)
    usleep(100);
  tcx_lock_release(&lock);
  waiter.join();
}

TEST(LockTest, RisingRanksAndAnyOrderOfRelease) {
  struct tcx_lock low = TCX_LOCK_INIT(TCX_LOCK_RANK_RELEASE);
  struct tcx_lock same[2] = {TCX_LOCK_INIT(TCX_LOCK_RANK_SYSTEM),
                             TCX_LOCK_INIT(TCX_LOCK_RANK_SYSTEM)};
  struct tcx_lock high = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
  tcx_lock_acquire(&low);
  tcx_lock_acquire(&same[0]);
  tcx_lock_acquire(&same[1]);
  tcx_lock_release(&same[0]);
  tcx_lock_acquire(&high);
  tcx_lock_release(&low);
  tcx_lock_release(&same[1]);
  EXPECT_TRUE(tcx_lock_is_held(&high));
  tcx_lock_release(&high);
}

TEST(LockTest, ResetInChildClearsTheMark) {
  struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
  tcx_lock_acquire(&lock);
  lock.word = 2;
  tcx_lock_reset_in_child(&lock);
  EXPECT_EQ(lock.word, 0u);
  ASSERT_TRUE(tcx_lock_try_acquire(&lock));
  tcx_lock_release(&lock);
}

#if TCX_ASSERTIONS

struct tcx_lock outer_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_RELEASE);
struct tcx_lock inner_locks[2] = {TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA),
                                  TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA)};

TEST(LockDeathTest, RankInversion) {
  EXPECT_DEATH(
      {
        tcx_lock_acquire(&inner_locks[0]);
        tcx_lock_acquire(&outer_lock);
      },
      "^tcx: lock 0x[0-9a-f]+ of rank [0-9]+ is taken while 0x[0-9a-f]+ of "
      "rank "
      "[0-9]+ is held\n$");
}

TEST(LockDeathTest, FallingAddressInARank) {
  EXPECT_DEATH(
      {
        tcx_lock_acquire(&inner_locks[1]);
        EXPECT_TRUE(tcx_lock_try_acquire(&inner_locks[0]));
      },
      "^tcx: lock .* is taken while");
}

TEST(LockDeathTest, SelfDeadlock) {
  EXPECT_DEATH(
      {
        tcx_lock_acquire(&outer_lock);
        tcx_lock_acquire(&inner_locks[0]);
        tcx_lock_acquire(&outer_lock);
      },
      "^tcx: lock 0x[0-9a-f]+ of rank [0-9]+ is taken twice by one thread\n$");
}

TEST(LockDeathTest, ReleaseByAnother) {
  EXPECT_DEATH(
      {
        tcx_lock_acquire(&outer_lock);
        std::thread([] { tcx_lock_release(&outer_lock); }).join();
      },
      "is released by a thread without it");
}

TEST(LockDeathTest, NeverInitialised) {
  struct tcx_lock zero = {0, 0, 0};
  EXPECT_DEATH(tcx_lock_acquire(&zero), "check failed");
}

TEST(LockTest, HeldIsPerThread) {
  struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
  EXPECT_FALSE(tcx_lock_is_held(&lock));
  tcx_lock_acquire(&lock);
  std::thread([&] { EXPECT_FALSE(tcx_lock_is_held(&lock)); }).join();
  tcx_lock_release(&lock);
  EXPECT_FALSE(tcx_lock_is_held(&lock));
}

#endif  // TCX_ASSERTIONS

}  // namespace

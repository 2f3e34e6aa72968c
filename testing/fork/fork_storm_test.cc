// fork_storm_test.cc -- fork in a busy process, and what else makes processes.
//
// Method: eight threads allocate, free and hand objects to each other without
//   pause while the main thread forks for some seconds. Each child checks and
//   frees what it inherited and allocates from every class; some make a thread
//   and fork once more. Any end of a child but exit code 0 is a failure.
// Method: threads that fork at the same time; forks seven generations deep;
//   posix_spawn, system, popen and vfork beside busy threads.
// Method: what idle threads had cached comes back in the child, by the figures
//   of mallinfo2.
#include <spawn.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "testing/fork/support.h"

extern char **environ;

namespace {

constexpr int kStormSeconds = 5;
constexpr int kStormForksMin = 30;

double Seconds() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

// -- a busy process -----------------------------------------------------------

class BusyThreads {
 public:
  BusyThreads(int count, const std::vector<size_t> &sizes) {
    for (int i = 0; i < count; i++) {
      threads_.emplace_back(
          [this, &sizes, i] { Allocate(sizes, static_cast<unsigned>(i + 1)); });
    }
  }
  ~BusyThreads() {
    stop_ = true;
    for (std::thread &thread : threads_)
      thread.join();
    for (std::atomic<void *> &object : shared_)
      free(object);
  }

 private:
  void Allocate(const std::vector<size_t> &sizes, unsigned random) {
    void *objects[64] = {};
    while (!stop_) {
      random = random * 1664525 + 1013904223;
      void *&slot = objects[(random >> 8) % 64];
      free(slot);
      // Large ones now and then: all tiers must be at work.
      size_t limit = random >> 28 == 0 ? sizes.size() : sizes.size() / 2;
      slot = malloc(sizes[(random >> 14) % limit]);
      if (random >> 29 == 1)
        slot = shared_[(random >> 20) % 64].exchange(slot);
      // A burst: batches go through the middle.
      if (random >> 22 == 7)
        Burst(sizes[(random >> 14) % (sizes.size() / 3)]);
    }
    for (void *object : objects)
      free(object);
  }
  static void Burst(size_t size) {
    void *objects[200];
    for (void *&object : objects)
      object = malloc(size);
    for (void *object : objects)
      free(object);
  }

  std::atomic<bool> stop_{false};
  std::atomic<void *> shared_[64]{};
  std::vector<std::thread> threads_;
};

class Inherited {
 public:
  Inherited() {
    for (size_t i = 0; i < kObjects; i++) {
      objects_[i] = malloc(Opaque(Size(i)));
      Fill(objects_[i], Size(i), 0x66);
    }
  }
  bool Free() {
    for (size_t i = 0; i < kObjects; i++) {
      if (!IsFilled(objects_[i], Size(i), 0x66))
        return false;
      free(objects_[i]);
    }
    return true;
  }

 private:
  static constexpr size_t kObjects = 1000;
  static size_t Size(size_t i) {
    return 8 + i % 40 * 50;
  }
  void *objects_[kObjects];
};

TEST(ForkStormTest, ChildrenOfABusyProcess) {
  const std::vector<size_t> sizes = ClassSizes();
  Inherited inherited;
  int forks = 0;
  {
    BusyThreads busy(8, sizes);
    // On a busy machine for longer.
    double end = Seconds() + kStormSeconds;
    for (; forks < kStormForksMin || Seconds() < end; forks++) {
      pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        alarm(kChildSeconds);
        if (!inherited.Free())
          _exit(20);
        if (forks % 4 != 0)
          _exit(AllocateEveryClass(sizes));
        LiveAsChild(sizes);
      }
      ASSERT_EQ(WaitFor(child), 0) << "fork " << forks;
    }
  }
  EXPECT_TRUE(inherited.Free());
  printf("fork storm: %d forks, and %d of the children\n", forks,
         (forks + 3) / 4);
}

TEST(ForkStormTest, ThreadsForkAtTheSameTime) {
  const std::vector<size_t> sizes = ClassSizes();
  std::atomic<int> failures{0}, forks{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10; j++) {
        void *object = malloc(Opaque(100));
        pid_t child = fork();
        if (child == 0) {
          alarm(kChildSeconds);
          free(object);
          _exit(AllocateEveryClass(sizes));
        }
        failures += WaitFor(child) != 0;
        forks++;
        free(object);
      }
    });
  }
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(failures, 0);
  printf("forks of eight threads at the same time: %d\n", forks.load());
}

// Each generation has threads of its own at work when it forks the next.
int Generation(const std::vector<size_t> &sizes, int left) {
  alarm(kChildSeconds);
  int result = AllocateEveryClass(sizes);
  if (result != 0 || left == 0)
    return result;
  BusyThreads busy(2, sizes);
  usleep(2000);
  pid_t child = fork();
  if (child == 0)
    _exit(Generation(sizes, left - 1));
  return WaitFor(child) == 0 ? 0 : 30 + left;
}

TEST(ForkStormTest, ForkOfForkSevenDeep) {
  const std::vector<size_t> sizes = ClassSizes();
  pid_t child = fork();
  if (child == 0)
    _exit(Generation(sizes, 7));
  EXPECT_EQ(WaitFor(child), 0);
}

// -- without fork handlers ----------------------------------------------------

TEST(ForkStormTest, PosixSpawnSystemAndPopen) {
  const std::vector<size_t> sizes = ClassSizes();
  BusyThreads busy(8, sizes);
  for (int i = 0; i < 20; i++) {
    pid_t child;
    const char *argv[] = {"sh", "-c", "exit 3", nullptr};
    ASSERT_EQ(posix_spawn(&child, "/bin/sh", nullptr, nullptr,
                          const_cast<char **>(argv), environ),
              0);
    EXPECT_EQ(WEXITSTATUS(WaitFor(child)), 3);
    EXPECT_EQ(WEXITSTATUS(system("exit 4")), 4);
    FILE *pipe = popen("echo text", "r");
    ASSERT_NE(pipe, nullptr);
    char line[16] = "";
    EXPECT_NE(fgets(line, sizeof line, pipe), nullptr);
    EXPECT_STREQ(line, "text\n");
    EXPECT_EQ(pclose(pipe), 0);
  }
}

// The per-CPU front end does not take part yet: the child runs on the parent's
// area, which the kernel keeps for neither.
#ifndef TCX_FRONTEND_PERCPU
// The child of vfork runs on its parent's memory and thread-local storage while
// that thread waits: to tcx they are one thread.
__attribute__((noinline)) pid_t VforkOnce(const std::vector<size_t> &sizes,
                                          void **object) {
  pid_t child = vfork();
  if (child == 0) {
    free(*object);
    int result = AllocateEveryClass(sizes);
    *object = malloc(100);
    _exit(result);
  }
  return child;
}

TEST(ForkStormTest, VforkChildAllocates) {
  const std::vector<size_t> sizes = ClassSizes();
  BusyThreads busy(4, sizes);
  for (int i = 0; i < 50; i++) {
    void *object = malloc(Opaque(100));
    ASSERT_EQ(WaitFor(VforkOnce(sizes, &object)), 0);
    ASSERT_EQ(AllocateEveryClass(sizes), 0);
    free(object);
  }
}
#endif

#ifndef TCX_FRONTEND_PERCPU
// -- caches of threads that the child does not have ---------------------------

// Fills its cache: small objects, and blocks of the run classes.
void FillCache() {
  std::vector<void *> objects;
  objects.reserve(3000);
  // Twice: capacity comes with regret.
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 2000; i++)
      objects.push_back(malloc(Opaque(512)));
    objects.push_back(malloc(Opaque(300000)));
    for (void *object : objects)
      free(object);
    objects.clear();
  }
}

// What a child finds in no cache any more; its exit code.
int EmptyOrphans(int threads, size_t few) {
  alarm(kChildSeconds);
  // Each slow path empties one; large blocks have no part in that.
  for (int i = 0; i < 4 * threads; i++)
    free(Keep(malloc(Opaque(300000) + static_cast<size_t>(i) * 60000)));
  malloc_trim(0);
  size_t now = mallinfo2().fordblks;
  if (now > few)
    fprintf(stderr, "%zu bytes are still cached, not %zu\n", now, few);
  return now <= few ? 0 : 11;
}

TEST(ForkStormTest, CachesOfIdleThreadsComeBack) {
  constexpr int kThreads = 8;
  constexpr size_t kCached = kThreads * (256 << 10);
  std::atomic<int> ready{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  malloc_trim(0);
  size_t before = mallinfo2().fordblks;
  for (int i = 0; i < kThreads; i++) {
    threads.emplace_back([&] {
      FillCache();
      ready++;
      while (!stop)
        usleep(1000);
    });
  }
  while (ready < kThreads)
    usleep(100);
  malloc_trim(0);
  EXPECT_GT(mallinfo2().fordblks, before + kCached) << "nothing was cached";
  pid_t child = fork();
  if (child == 0)
    _exit(EmptyOrphans(kThreads, before + kCached / 2));
  EXPECT_EQ(WaitFor(child), 0);
  stop = true;
  for (std::thread &thread : threads)
    thread.join();
}
#endif

}  // namespace

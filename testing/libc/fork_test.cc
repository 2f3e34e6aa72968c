// fork_test.cc -- fork in a process whose other threads are inside malloc.
//
// Method: four threads allocate and free without pause, in every class; the
//   main thread forks 200 times. Each child allocates from every class, frees
//   what it inherited, makes a thread and forks once more. A child that hangs
//   is ended by its alarm; any other end than exit code 0 is a failure.
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "testing/libc/support.h"

namespace {

constexpr int kForks = 200;
constexpr unsigned kChildSeconds = 30;

// The sizes of all classes, one after the other, and two large ones.
std::vector<size_t> ClassSizes() {
  std::vector<size_t> sizes;
  size_t size = 1;
  while (size <= (4 << 20)) {
    size = nallocx(size, 0);
    sizes.push_back(size);
    size++;
  }
  sizes.push_back(5 << 20);
  sizes.push_back(9 << 20);
  return sizes;
}

void Hammer(const std::vector<size_t> &sizes, unsigned seed,
            const std::atomic<bool> &stop) {
  std::vector<void *> objects(64);
  unsigned random = seed;
  while (!stop.load(std::memory_order_relaxed)) {
    random = random * 1664525 + 1013904223;
    void *&slot = objects[(random >> 8) % objects.size()];
    free(slot);
    // Large ones now and then: the page heap's lock must be held sometimes.
    size_t limit = (random >> 28) == 0 ? sizes.size() : sizes.size() / 2;
    slot = malloc(sizes[(random >> 16) % limit]);
  }
  for (void *object : objects)
    free(object);
}

// 0 when all went well; runs in the child.
int AllocateEveryClass(const std::vector<size_t> &sizes) {
  for (size_t size : sizes) {
    void *objects[3];
    for (void *&object : objects) {
      object = malloc(size);
      if (object == nullptr)
        return 2;
      size_t touched = size < 65536 ? size : 65536;
      Fill(object, touched, 0x21);
      if (!IsFilled(object, touched, 0x21))
        return 3;
    }
    for (void *object : objects)
      free(object);
  }
  return 0;
}

void *ThreadOfChild(void *sizes) {
  AllocateEveryClass(*static_cast<const std::vector<size_t> *>(sizes));
  return nullptr;
}

int WaitFor(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child)
    return -1;
  return status;
}

[[noreturn]] void LiveAsChild(const std::vector<size_t> &sizes,
                              std::vector<void *> *inherited) {
  alarm(kChildSeconds);
  for (void *object : *inherited) {
    if (!IsFilled(object, 500, 0x66))
      _exit(4);
    free(object);
  }
  int result = AllocateEveryClass(sizes);
  if (result != 0)
    _exit(result);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, ThreadOfChild,
                     const_cast<std::vector<size_t> *>(&sizes)) != 0) {
    _exit(5);
  }
  if (pthread_join(thread, nullptr) != 0)
    _exit(6);
  pid_t grandchild = fork();
  if (grandchild == 0) {
    alarm(kChildSeconds);
    _exit(AllocateEveryClass(sizes));
  }
  if (WaitFor(grandchild) != 0)
    _exit(7);
  malloc_trim(0);
  if (mallinfo2().arena == 0)
    _exit(8);
  _exit(0);
}

TEST(ForkTest, ChildrenOfABusyProcessCanAllocate) {
  const std::vector<size_t> sizes = ClassSizes();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; i++) {
    threads.emplace_back([&sizes, &stop, i] { Hammer(sizes, i + 1, stop); });
  }
  std::vector<void *> inherited;
  for (int i = 0; i < 1000; i++) {
    inherited.push_back(malloc(Opaque(500)));
    Fill(inherited.back(), 500, 0x66);
  }
  int failures = 0;
  for (int i = 0; i < kForks; i++) {
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0)
      LiveAsChild(sizes, &inherited);
    int status = WaitFor(child);
    if (status != 0) {
      failures++;
      ADD_FAILURE() << "child " << i << ": status " << std::hex << status;
    }
    if (failures > 3)
      break;
  }
  stop = true;
  for (std::thread &thread : threads)
    thread.join();
  for (void *object : inherited)
    free(object);
}

TEST(ForkTest, ThreadsMayForkAtTheSameTime) {
  const std::vector<size_t> sizes = ClassSizes();
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10; j++) {
        void *object = malloc(Opaque(100));
        pid_t child = fork();
        if (child == 0) {
          alarm(kChildSeconds);
          free(object);
          _exit(AllocateEveryClass(sizes));
        }
        if (WaitFor(child) != 0)
          failures++;
        free(object);
      }
    });
  }
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(failures, 0);
}

}  // namespace

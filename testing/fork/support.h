// support.h -- what the fork tests share: the sizes of all classes, what a
// child does to show that it can allocate, and how its parent hears of it.
#ifndef TCX_TESTING_FORK_SUPPORT_H_
#define TCX_TESTING_FORK_SUPPORT_H_

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "testing/libc/support.h"

// A child that hangs is ended by its alarm.
constexpr unsigned kChildSeconds = 60;

// One size of each class, small and run, and two large ones.
inline std::vector<size_t> ClassSizes() {
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

// Many at once of the small classes: an object that lies in two caches, as a
// torn one would leave it, is then handed out twice.
inline int CountOf(size_t size) {
  size_t count = (128 << 10) / size;
  return count < 3 ? 3 : count > 600 ? 600 : static_cast<int>(count);
}

// Exit code: 0 when all went well.
inline int AllocateEveryClass(const std::vector<size_t> &sizes) {
  for (size_t size : sizes) {
    void *objects[600];
    int count = CountOf(size);
    size_t touched = size < 16384 ? size : 16384;
    for (int i = 0; i < count; i++) {
      objects[i] = malloc(size);
      if (objects[i] == nullptr)
        return 2;
      Fill(objects[i], touched, static_cast<unsigned char>(i % 251));
    }
    for (int i = 0; i < count; i++) {
      if (!IsFilled(objects[i], touched, static_cast<unsigned char>(i % 251)))
        return 3;
    }
    for (int i = 0; i < count; i++)
      free(objects[i]);
  }
  return 0;
}

inline void *AllocateInThread(void *sizes) {
  int result =
      AllocateEveryClass(*static_cast<const std::vector<size_t> *>(sizes));
  return result == 0 ? nullptr : sizes;
}

// The status that waitpid reports; -1 when there is no such child.
inline int WaitFor(pid_t child) {
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child)
    return -1;
  return status;
}

// The whole life of a child, to its exit code: it allocates from every class,
// gives memory back, reads figures, makes a thread, and forks a child that
// allocates too.
[[noreturn]] inline void LiveAsChild(const std::vector<size_t> &sizes) {
  alarm(kChildSeconds);
  int result = AllocateEveryClass(sizes);
  if (result != 0)
    _exit(result);
  malloc_trim(0);
  if (mallinfo2().arena == 0)
    _exit(4);
  pthread_t thread;
  void *failed;
  if (pthread_create(&thread, nullptr, AllocateInThread,
                     const_cast<std::vector<size_t> *>(&sizes)) != 0) {
    _exit(5);
  }
  if (pthread_join(thread, &failed) != 0 || failed != nullptr)
    _exit(6);
  pid_t grandchild = fork();
  if (grandchild == 0) {
    alarm(kChildSeconds);
    _exit(AllocateEveryClass(sizes));
  }
  _exit(WaitFor(grandchild) == 0 ? 0 : 7);
}

#endif  // TCX_TESTING_FORK_SUPPORT_H_

// fork_prefix_test.cc -- what the child of fork sees of a thread that writes.
//
// tcx stops no thread around fork. The caches of other threads are whole in the
// child because it sees the stores of each thread up to some point of its
// program, and none behind (docs/adr/0005). That is a promise of the kernel, so
// here it is put to the test.
//
// Method: a thread writes the same number to one word of each of many pages, in
//   ascending or descending order of addresses, then the next number. In a
//   child the words, in the order of writing, never rise, and differ by at most
//   one. The pages are small ones, mappings of their own, and of a huge page.
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

namespace {

constexpr int kPages = 64;
constexpr size_t kPageBytes = 4096;
constexpr int kForks = 1000;

struct Way {
  const char *name;
  bool ascending;
  int advice;
};

class ForkPrefixTest : public ::testing::TestWithParam<Way> {};

volatile uint64_t *WordOf(char *memory, int i, bool ascending) {
  size_t page = static_cast<size_t>(ascending ? i : kPages - 1 - i);
  return reinterpret_cast<volatile uint64_t *>(memory + page * kPageBytes);
}

bool IsPrefix(char *memory, bool ascending) {
  uint64_t first = *WordOf(memory, 0, ascending);
  uint64_t before = first;
  for (int i = 1; i < kPages; i++) {
    uint64_t word = *WordOf(memory, i, ascending);
    if (word > before || word + 1 < first)
      return false;
    before = word;
  }
  return true;
}

TEST_P(ForkPrefixTest, ChildSeesAPrefixOfTheStores) {
  const Way &way = GetParam();
  constexpr size_t kHuge = 2 << 20;
  char *mapping =
      static_cast<char *>(mmap(nullptr, 2 * kHuge, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(mapping, MAP_FAILED);
  char *memory = reinterpret_cast<char *>(
      (reinterpret_cast<uintptr_t>(mapping) + kHuge - 1) & ~(kHuge - 1));
  // Refused where there are no huge pages: then it is the other case again.
  if (way.advice != MADV_RANDOM)
    (void)madvise(memory, kHuge, way.advice);
  // Neighbours that differ are mappings of their own to the kernel.
  for (size_t i = 0; i < kPages && way.advice == MADV_RANDOM; i += 2)
    ASSERT_EQ(madvise(memory + i * kPageBytes, kPageBytes, way.advice), 0);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> rounds{0};
  std::thread writer([&] {
    for (uint64_t n = 1; !stop; n++) {
      for (int i = 0; i < kPages; i++)
        *WordOf(memory, i, way.ascending) = n;
      rounds.store(n, std::memory_order_relaxed);
    }
  });
  int cut = 0;
  for (int i = 0; i < kForks; i++) {
    // The writer is at work again, and has its pages.
    for (uint64_t n = rounds; rounds < n + 3;)
      usleep(1);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      if (!IsPrefix(memory, way.ascending))
        _exit(1);
      bool is_cut =
          *WordOf(memory, 0, true) != *WordOf(memory, kPages - 1, true);
      _exit(is_cut ? 2 : 0);
    }
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_NE(WEXITSTATUS(status), 1) << "fork " << i;
    cut += WEXITSTATUS(status) == 2;
  }
  stop = true;
  writer.join();
  munmap(mapping, 2 * kHuge);
  printf("fork prefix, %s: %d forks, %d of them amid a round\n", way.name,
         kForks, cut);
  EXPECT_GT(cut, 0) << "no fork came amid the writing: the test saw nothing";
}

INSTANTIATE_TEST_SUITE_P(
    Memory, ForkPrefixTest,
    ::testing::Values(Way{"small pages, ascending", true, MADV_NOHUGEPAGE},
                      Way{"small pages, descending", false, MADV_NOHUGEPAGE},
                      Way{"64 mappings", true, MADV_RANDOM},
                      Way{"a huge page", true, MADV_HUGEPAGE}));

}  // namespace

// Tests of hardened mode where nothing is wrong: libc/harden.c.
//
// Method: the program asks for it by its own tcx_conf, and runs on tcx. What is
// reported of wrong programs, wrong_use_test.py compares.

#include <gtest/gtest.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <set>
#include <thread>
#include <vector>

extern "C" {
extern const char *tcx_conf;
const char *tcx_conf = "harden:1";
}

namespace {

constexpr size_t kMib = 1 << 20;
constexpr uint64_t kPoison = UINT64_C(0xdeadf4eedeadf4ee);

template <class T>
T Opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

char *Make(size_t bytes) {
  return static_cast<char *>(malloc(Opaque(bytes)));
}

bool IsZero(const char *object, size_t bytes) {
  return std::all_of(object, object + bytes, [](char c) { return c == 0; });
}

// Below, across and above the sizes of small objects, runs and large ones.
std::vector<size_t> Sizes() {
  std::vector<size_t> sizes;
  for (size_t bytes = 1; bytes < 9 * kMib; bytes += bytes / 2 + 1)
    sizes.push_back(bytes);
  return sizes;
}

TEST(HardenTest, FreedObjectsArePoisonedAndErased) {
  for (size_t bytes : {16, 32, 100, 1000, 5000, 100000}) {
    char *neighbour = Make(bytes);  // Keeps the span.
    char *object = Make(bytes);
    size_t usable = malloc_usable_size(object);
    memset(object, 0x5a, usable);
    free(object);
    const char *freed = Opaque(object);
    size_t head = std::min<size_t>(usable, 32);
    for (size_t i = 0; i < head; i += 8) {
      uint64_t word;
      memcpy(&word, freed + i, sizeof word);
      EXPECT_EQ(word, kPoison) << bytes;
    }
    EXPECT_TRUE(IsZero(freed + head, usable - head)) << bytes;
    free(neighbour);
  }
}

TEST(HardenTest, FreedBlocksOfAllSizesAreErased) {
  for (size_t bytes : {kMib, 4 * kMib, 8 * kMib}) {
    char *block = Make(bytes);
    memset(block, 0x5a, bytes);
    free(block);
    // Its address space stays tcx's own, and readable.
    EXPECT_TRUE(IsZero(Opaque(block), bytes));
  }
}

TEST(HardenTest, NewObjectsAndCallocsReadAsZero) {
  std::mt19937 random(1);
  std::vector<char *> held(500);
  for (int step = 0; step < 20000; step++) {
    char *&slot = held[random() % held.size()];
    free(slot);
    size_t bytes = random() % 3000;
    slot = step % 2 ? Make(bytes) : static_cast<char *>(calloc(1, bytes));
    ASSERT_TRUE(IsZero(slot, bytes));
    memset(slot, 0x5a, malloc_usable_size(slot));
  }
  for (char *object : held)
    free(object);
  for (size_t bytes : Sizes()) {
    char *object = Make(bytes);
    memset(object, 0x5a, bytes);
    free(object);
    object = static_cast<char *>(calloc(1, Opaque(bytes)));
    EXPECT_TRUE(IsZero(object, bytes)) << bytes;
    free(object);
  }
}

TEST(HardenTest, ReallocKeepsTheContentAndNoMore) {
  for (size_t bytes : Sizes()) {
    char *object = Make(bytes);
    memset(object, 0x5a, bytes);
    object = static_cast<char *>(realloc(object, Opaque(2 * bytes)));
    EXPECT_EQ(std::count(object, object + bytes, 0x5a), long(bytes));
    object = static_cast<char *>(realloc(object, Opaque(bytes / 2 + 1)));
    EXPECT_EQ(std::count(object, object + bytes / 2 + 1, 0x5a),
              long(bytes / 2 + 1));
    free(object);
  }
}

TEST(HardenTest, AddressesComeInRandomOrder) {
  std::vector<char *> objects;
  for (int i = 0; i < 100; i++)
    objects.push_back(Make(64));
  int ascending = 0;
  for (size_t i = 1; i < objects.size(); i++)
    ascending += objects[i] > objects[i - 1];
  // Half of them, by chance; all or none without it.
  EXPECT_GT(ascending, 10);
  EXPECT_LT(ascending, 90);
  for (char *object : objects)
    free(object);
}

TEST(HardenTest, AlignedObjectsAreAligned) {
  for (size_t align = 16; align <= 4 * kMib; align *= 2) {
    void *object = aligned_alloc(align, 100);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(object) % align, 0u);
    free(object);
  }
}

TEST(HardenTest, ThreadsAndForkedChildrenAllocate) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; t++) {
    threads.emplace_back([t] {
      std::mt19937 random(t);
      std::vector<char *> held(200);
      for (int step = 0; step < 20000; step++) {
        char *&slot = held[random() % held.size()];
        free(slot);
        size_t bytes = random() % 500;
        slot = Make(bytes);
        memset(slot, static_cast<int>(t), bytes);
      }
      for (char *object : held)
        free(object);
    });
  }
  for (int i = 0; i < 10; i++) {
    pid_t child = fork();
    if (child == 0) {
      for (size_t bytes : Sizes())
        free(Make(bytes));
      _exit(0);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  for (std::thread &thread : threads)
    thread.join();
}

}  // namespace

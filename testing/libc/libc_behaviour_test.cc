// libc_behaviour_test.cc -- what POSIX and glibc 2.36 say of each function.
//
// Method: the test runs on tcx as its malloc. Each rule is asked at sizes on
//   both sides of every boundary: 0, the size classes up to 256 KiB, the run
//   classes up to 4 MiB, large objects, and near SIZE_MAX.
// Method: contents are checked by filling objects with a tag of their own.
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <stack>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "testing/libc/support.h"

namespace {

constexpr size_t kKib = 1024;
constexpr size_t kMib = 1024 * kKib;
constexpr size_t kMaxSmall = 256 * kKib;
constexpr size_t kMaxRun = 4 * kMib;

// Sizes at and around all that could be a boundary.
std::vector<size_t> Sizes() {
  std::vector<size_t> sizes;
  for (size_t size = 0; size <= 1100; size++)
    sizes.push_back(size);
  for (size_t power = 2 * kKib; power <= 32 * kMib; power *= 2) {
    for (size_t quarter = 4; quarter < 8; quarter++) {
      for (int delta = -1; delta <= 1; delta++) {
        sizes.push_back(power / 4 * quarter + delta);
      }
    }
  }
  return sizes;
}

const std::vector<size_t> kTooLarge = {
    PTRDIFF_MAX,         static_cast<size_t>(PTRDIFF_MAX) + 1,
    SIZE_MAX / 2 - 4095, SIZE_MAX - 4096,
    SIZE_MAX - 4095,     SIZE_MAX - 15,
    SIZE_MAX - 1,        SIZE_MAX,
    size_t{1} << 50};

TEST(MallocTest, TcxServesThisProcess) {
  void *object = Keep(malloc(Opaque(100)));
  EXPECT_GT(tcx_served_objects(), 0u);
  free(object);
}

TEST(MallocTest, EveryResultIsAlignedAndUsable) {
  for (size_t size : Sizes()) {
    void *object = malloc(Opaque(size));
    ASSERT_NE(object, nullptr) << size;
    ASSERT_TRUE(IsAligned(object, 16)) << size;
    size_t usable = malloc_usable_size(object);
    ASSERT_GE(usable, std::max<size_t>(size, 1));
    ASSERT_EQ(usable, nallocx(size, 0)) << size;
    Fill(object, usable, 0xa5);
    free(object);
  }
}

TEST(MallocTest, AllSizesUpTo4MibAreAligned) {
  for (size_t size = 1; size <= kMaxRun; size += 1 + size / 64) {
    void *object = malloc(Opaque(size));
    ASSERT_TRUE(object != nullptr && IsAligned(object, 16)) << size;
    free(object);
  }
}

TEST(MallocTest, ZeroSizesAreObjectsOfTheirOwn) {
  std::set<void *> objects;
  for (int i = 0; i < 100; i++) {
    ASSERT_TRUE(objects.insert(malloc(Opaque(0))).second);
    ASSERT_TRUE(objects.insert(calloc(Opaque(0), 8)).second);
    ASSERT_TRUE(objects.insert(calloc(8, Opaque(0))).second);
    ASSERT_TRUE(objects.insert(memalign(64, Opaque(0))).second);
    ASSERT_TRUE(objects.insert(aligned_alloc(4096, Opaque(0))).second);
    ASSERT_TRUE(objects.insert(valloc(Opaque(0))).second);
    ASSERT_TRUE(objects.insert(pvalloc(Opaque(0))).second);
    ASSERT_TRUE(objects.insert(realloc(nullptr, Opaque(0))).second);
  }
  EXPECT_EQ(objects.count(nullptr), 0u);
  for (void *object : objects)
    free(object);
}

TEST(MallocTest, TooLargeIsEnomem) {
  for (size_t size : kTooLarge) {
    size_t bytes = Opaque(size);
    const auto fails = [&](const char *what, void *object) {
      EXPECT_EQ(object, nullptr) << what << " " << size;
      EXPECT_EQ(errno, ENOMEM) << what << " " << size;
      errno = 0;
    };
    errno = 0;
    fails("malloc", malloc(bytes));
    fails("calloc", calloc(bytes, 1));
    fails("memalign", memalign(64, bytes));
    fails("memalign 64K", memalign(64 * kKib, bytes));
    fails("aligned_alloc", aligned_alloc(4096, bytes));
    fails("aligned_alloc 8", aligned_alloc(8, bytes));
    fails("valloc", valloc(bytes));
    fails("pvalloc", pvalloc(bytes));
    fails("realloc", realloc(nullptr, bytes));
    void *out = &out;
    EXPECT_EQ(posix_memalign(&out, 64, bytes), ENOMEM);
    EXPECT_EQ(out, &out);
    EXPECT_EQ(errno, 0);
    EXPECT_EQ(nallocx(bytes, 0), 0u) << size;
    EXPECT_EQ(nallocx(bytes, 12), 0u) << size;
  }
}

TEST(MallocTest, FreeKeepsErrno) {
  for (size_t size : {size_t{10}, kMaxSmall, kMib, 5 * kMib, 64 * kMib}) {
    void *object = malloc(Opaque(size));
    errno = 1234;
    free(object);
    EXPECT_EQ(errno, 1234);
  }
  free(nullptr);
  EXPECT_EQ(errno, 1234);
}

TEST(CallocTest, ZeroesUsedMemory) {
  for (int round = 0; round < 3; round++) {
    for (size_t size : Sizes()) {
      void *object = calloc(Opaque(1), Opaque(size));
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(IsFilled(object, size, 0)) << size;
      Fill(object, malloc_usable_size(object), 0xff);
      free(object);
    }
  }
}

TEST(CallocTest, OverflowIsEnomem) {
  const std::vector<std::pair<size_t, size_t>> products = {
      {SIZE_MAX, 2},           {2, SIZE_MAX},
      {SIZE_MAX / 2 + 1, 2},   {size_t{1} << 32, size_t{1} << 32},
      {SIZE_MAX / 16 + 1, 16}, {SIZE_MAX, SIZE_MAX}};
  for (auto [count, size] : products) {
    errno = 0;
    EXPECT_EQ(calloc(Opaque(count), Opaque(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    void *old = malloc(Opaque(10));
    errno = 0;
    void *alias = Keep(old);
    EXPECT_EQ(reallocarray(old, Opaque(count), Opaque(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    Fill(alias, 10, 1);  // Still live.
    free(alias);
  }
}

TEST(ReallocTest, NullIsMallocAndZeroIsFree) {
  void *object = realloc(nullptr, Opaque(100));
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(realloc(object, Opaque(0)), nullptr);
  void *array = reallocarray(nullptr, Opaque(10), Opaque(10));
  ASSERT_NE(array, nullptr);
  EXPECT_GE(malloc_usable_size(array), 100u);
  EXPECT_EQ(reallocarray(array, Opaque(10), Opaque(0)), nullptr);
}

TEST(ReallocTest, KeepsContentBetweenAllKindsOfSizes) {
  const std::vector<size_t> sizes = {
      1,        16,      17,          100,           1000,       4096,
      8191,     70000,   kMaxSmall,   kMaxSmall + 1, 500 * kKib, kMib,
      3 * kMib, kMaxRun, kMaxRun + 1, 5 * kMib,      9 * kMib,   32 * kMib};
  for (size_t from : sizes) {
    for (size_t to : sizes) {
      void *object = malloc(Opaque(from));
      Fill(object, from, 0x5a);
      void *moved = realloc(object, Opaque(to));
      ASSERT_NE(moved, nullptr);
      ASSERT_TRUE(IsAligned(moved, 16));
      ASSERT_TRUE(IsFilled(moved, std::min(from, to), 0x5a)) << from << to;
      // A sized free must always be possible.
      ASSERT_EQ(malloc_usable_size(moved), nallocx(to, 0)) << from << " " << to;
      Fill(moved, malloc_usable_size(moved), 0x11);
      free_sized(moved, Opaque(to));
    }
  }
}

TEST(ReallocTest, GrowsAndShrinksStepByStep) {
  std::string model;
  char *object = nullptr;
  uint32_t random = 1;
  for (int step = 0; step < 2000; step++) {
    random = random * 1664525 + 1013904223;
    size_t size = (random >> 8) % (size_t{1} << (random >> 28) % 23) + 1;
    object = static_cast<char *>(realloc(object, Opaque(size)));
    ASSERT_NE(object, nullptr);
    size_t kept = std::min(size, model.size());
    ASSERT_EQ(memcmp(object, model.data(), kept), 0) << step;
    model.resize(size, static_cast<char>(step));
    memcpy(object, model.data(), size);
  }
  free(object);
}

TEST(ReallocTest, FailureLeavesTheObject) {
  for (size_t size : {size_t{100}, kMib, 8 * kMib}) {
    void *object = malloc(Opaque(size));
    Fill(object, size, 0x77);
    for (size_t huge : kTooLarge) {
      errno = 0;
      ASSERT_EQ(realloc(Keep(object), Opaque(huge)), nullptr);
      ASSERT_EQ(errno, ENOMEM);
    }
    ASSERT_TRUE(IsFilled(object, size, 0x77));
    free(object);
  }
}

TEST(MemalignTest, EveryPowerOfTwoAndSize) {
  const std::vector<size_t> sizes = {
      0,    1,    15,    16,        17,     63,   100,      1000,    4095,
      4097, 9000, 70000, kMaxSmall, 300000, kMib, 4 * kMib, 5 * kMib};
  for (size_t align = 1; align <= 4 * kMib; align *= 2) {
    for (size_t size : sizes) {
      void *objects[4];
      objects[0] = memalign(Opaque(align), Opaque(size));
      objects[1] = aligned_alloc(Opaque(align), Opaque(size));
      objects[2] = nullptr;
      size_t pointer_align = std::max(align, sizeof(void *));
      ASSERT_EQ(
          posix_memalign(&objects[2], Opaque(pointer_align), Opaque(size)), 0);
      objects[3] = ::operator new(size, std::align_val_t(align));
      for (void *object : objects) {
        ASSERT_NE(object, nullptr) << align << " " << size;
        ASSERT_TRUE(IsAligned(object, std::max<size_t>(align, 16)))
            << align << " " << size;
        ASSERT_GE(malloc_usable_size(object), size);
        ASSERT_EQ(malloc_usable_size(object),
                  nallocx(size, __builtin_ctzl(align)))
            << align << " " << size;
        Fill(object, malloc_usable_size(object), 0xcc);
      }
      free(objects[0]);
      free_aligned_sized(objects[1], align, size);
      sdallocx(objects[2], size, __builtin_ctzl(align));
      ::operator delete(objects[3], size, std::align_val_t(align));
    }
  }
}

TEST(MemalignTest, ErrorsOfTheAlignment) {
  for (size_t align :
       {size_t{0}, size_t{3}, size_t{24}, size_t{4097}, SIZE_MAX}) {
    errno = 0;
    EXPECT_EQ(aligned_alloc(Opaque(align), 10), nullptr);
    EXPECT_EQ(errno, EINVAL);
    errno = 0;
    void *out = &out;
    EXPECT_EQ(posix_memalign(&out, Opaque(align), 10), EINVAL);
    EXPECT_EQ(out, &out);
    EXPECT_EQ(errno, 0);
  }
  for (size_t align : {size_t{1}, size_t{2}, size_t{4}}) {
    void *out = &out;
    EXPECT_EQ(posix_memalign(&out, Opaque(align), 10), EINVAL);
    EXPECT_EQ(out, &out);
  }
}

TEST(MemalignTest, MemalignRoundsTheAlignmentUp) {
  for (auto [align, rounded] : {std::pair<size_t, size_t>{0, 16},
                                {3, 16},
                                {24, 32},
                                {33, 64},
                                {4097, 8192},
                                {70000, 131072}}) {
    void *object = memalign(Opaque(align), 100);
    ASSERT_NE(object, nullptr);
    EXPECT_TRUE(IsAligned(object, rounded));
    free(object);
  }
  errno = 0;
  EXPECT_EQ(memalign(Opaque(SIZE_MAX / 2 + 2), 10), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST(MemalignTest, HugeAlignmentsNeedNoMemory) {
  for (unsigned log2 = 23; log2 < 34; log2++) {
    size_t align = size_t{1} << log2;
    void *object = memalign(Opaque(align), 100);
    ASSERT_NE(object, nullptr) << log2;
    EXPECT_TRUE(IsAligned(object, align));
    free(object);
  }
  for (unsigned log2 : {48u, 62u, 63u}) {
    errno = 0;
    EXPECT_EQ(memalign(Opaque(size_t{1} << log2), 100), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
}

TEST(MemalignTest, VallocAndPvallocUseWholePages) {
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t size : {size_t{0}, size_t{1}, page, page + 1, 10 * page + 1}) {
    void *plain = valloc(Opaque(size));
    void *whole = pvalloc(Opaque(size));
    EXPECT_TRUE(IsAligned(plain, page));
    EXPECT_TRUE(IsAligned(whole, page));
    EXPECT_GE(malloc_usable_size(whole),
              (std::max<size_t>(size, 1) + page - 1) / page * page);
    free(plain);
    free(whole);
  }
}

TEST(MemalignTest, ReallocOfAnAlignedObjectKeepsContent) {
  for (size_t align = 32; align <= kMib; align *= 2) {
    for (size_t to : {size_t{10}, size_t{5000}, kMib, 6 * kMib}) {
      void *object = aligned_alloc(align, Opaque(3000));
      Fill(object, 3000, 0x42);
      void *moved = realloc(object, Opaque(to));
      ASSERT_TRUE(IsFilled(moved, std::min<size_t>(3000, to), 0x42));
      free_sized(moved, to);
    }
  }
}

TEST(SizedFreeTest, EverySizeOfTheClassIsRight) {
  for (size_t size : Sizes()) {
    void *object = malloc(Opaque(size));
    size_t usable = malloc_usable_size(object);
    free_sized(object, Opaque(usable));
    object = malloc(Opaque(size));
    free_sized(object, Opaque(size));
    object = malloc(Opaque(usable));
    sdallocx(object, Opaque(size), 0);
    object = calloc(1, Opaque(size));
    free_aligned_sized(object, 16, size);
  }
  free_sized(nullptr, Opaque(0));
  free_sized(nullptr, Opaque(kMib));
  free_aligned_sized(nullptr, 64, 64);
  sdallocx(nullptr, 10, 0);
  cfree(nullptr);
  cfree(malloc(Opaque(10)));
}

TEST(WrongUseTest, EndsTheProcessWithOneLine) {
  char on_stack[64];
  void *stack =
      Keep(on_stack + 16 - reinterpret_cast<uintptr_t>(on_stack) % 16);
  EXPECT_DEATH(free(stack), "tcx: free\\(\\): invalid pointer");
  EXPECT_DEATH(Keep(realloc(stack, 10)), "tcx: realloc\\(\\): invalid pointer");
  EXPECT_DEATH(malloc_usable_size(stack), "tcx: malloc_usable_size\\(\\)");
  void *small = malloc(Opaque(100));
  EXPECT_DEATH(free_sized(small, Opaque(1000)), "tcx: free_sized\\(\\)");
  EXPECT_DEATH(
      {
        free(Keep(small));
        free(Keep(small));
      },
      "tcx: free\\(\\): double free");
  void *large = malloc(Opaque(8 * kMib));
  EXPECT_DEATH(
      {
        free(Keep(large));
        free(Keep(large));
      },
      "tcx: free\\(\\): invalid pointer");
  EXPECT_DEATH(free(Keep(static_cast<char *>(large) + 4096)),
               "inside a large object|not from malloc");
  free(small);
  free(large);
}

TEST(MallinfoTest, FiguresAddUp) {
  std::vector<void *> objects;
  struct mallinfo2 before = mallinfo2();
  size_t bytes = 0;
  size_t rounding = 0;  // Runs and large objects count as whole tcx pages.
  for (size_t size : Sizes()) {
    objects.push_back(malloc(Opaque(size)));
    size_t usable = malloc_usable_size(objects.back());
    bytes += usable;
    if (size > kMaxSmall)
      rounding += -usable % (size_t{1} << TCX_PAGE_SHIFT);
  }
  struct mallinfo2 info = mallinfo2();
  EXPECT_EQ(info.arena, info.uordblks + info.fordblks);
  EXPECT_GE(info.uordblks, bytes);
  // The vector's own storage is the rest.
  EXPECT_LE(info.uordblks - before.uordblks, bytes + rounding + kMib);
  EXPECT_GE(info.uordblks - before.uordblks, bytes);
  for (void *object : objects)
    free(object);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
  EXPECT_EQ(narrow.arena, narrow.uordblks + narrow.fordblks);
  EXPECT_GT(narrow.arena, 0);
}

TEST(MallinfoTest, TrimGivesMemoryBack) {
  std::vector<void *> objects;
  for (int i = 0; i < 100000; i++) {
    objects.push_back(malloc(Opaque(300)));
    Fill(objects.back(), 300, 1);
  }
  for (void *object : objects)
    free(object);
  size_t held = mallinfo2().arena;
  EXPECT_EQ(malloc_trim(0), 1);
  size_t left = mallinfo2().arena;
  EXPECT_LT(left, held - 20 * kMib);
  EXPECT_EQ(mallinfo2().keepcost, 0u);
}

TEST(MallinfoTest, MalloptAcceptsEverything) {
  EXPECT_EQ(mallopt(M_MMAP_THRESHOLD, 4096), 1);
  EXPECT_EQ(mallopt(M_ARENA_MAX, 1), 1);
  EXPECT_EQ(mallopt(12345, -1), 1);
}

// Elements are opened and closed in order, attributes are quoted.
bool IsWellFormed(const std::string &xml) {
  std::stack<std::string> open;
  size_t at = 0;
  bool any = false;
  while ((at = xml.find('<', at)) != std::string::npos) {
    size_t end = xml.find('>', at);
    if (end == std::string::npos)
      return false;
    std::string tag = xml.substr(at + 1, end - at - 1);
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0)
      return false;
    std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      if (open.empty() || open.top() != tag.substr(1))
        return false;
      open.pop();
    } else if (tag.back() != '/') {
      if (open.empty() && any)
        return false;
      open.push(name);
      any = true;
    }
    at = end;
  }
  return any && open.empty();
}

TEST(MallinfoTest, MallocInfoIsXml) {
  char *text = nullptr;
  size_t bytes = 0;
  FILE *stream = open_memstream(&text, &bytes);
  EXPECT_EQ(malloc_info(1, stream), EINVAL);
  EXPECT_EQ(malloc_info(0, stream), 0);
  fclose(stream);
  std::string xml(text, bytes);
  free(text);
  EXPECT_TRUE(IsWellFormed(xml)) << xml;
  EXPECT_EQ(xml.rfind("<malloc version=", 0), 0u);
  EXPECT_NE(xml.find("allocated"), std::string::npos);
}

TEST(MallinfoTest, MallocStatsWritesToStandardError) {
  testing::internal::CaptureStderr();
  malloc_stats();
  std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("tcx: allocated_bytes "), std::string::npos);
}

}  // namespace

// os_test.cc -- the OS layer on the real kernel, and with calls that fail.
//
// Method: a table that passes calls on to the kernel but can make the n-th of a
// kind fail, answer with another address, or do half of its work.
#include "base/os.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>

#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"

namespace {

enum Kind { kMmap, kMunmap, kMprotect, kMadvise, kMremap, kKinds };

struct Fake {
  int calls[kKinds];
  int fail_at[kKinds];  // 1: the first; 0: none
  int error[kKinds];
  intptr_t mmap_shift;  // added to the address that the kernel gave
  bool hints_hold;      // not where there was a hint
} fake;

intptr_t Planned(Kind kind) {
  return ++fake.calls[kind] == fake.fail_at[kind] ? -fake.error[kind] : 0;
}

const struct tcx_os_calls kFakeCalls = {
    [](void *address, size_t bytes, int protection, int flags) -> intptr_t {
      intptr_t planned = Planned(kMmap);
      if (planned < 0)
        return planned;
      intptr_t result = tcx_os_linux.mmap(address, bytes, protection, flags);
      bool is_shifted = address == nullptr || !fake.hints_hold;
      return is_shifted ? result + fake.mmap_shift : result;
    },
    [](void *address, size_t bytes) -> intptr_t {
      intptr_t planned = Planned(kMunmap);
      if (planned < 0)
        return planned;
      char *start = static_cast<char *>(address);
      if (!fake.hints_hold || reinterpret_cast<intptr_t>(start) >> 47 != 0)
        start -= fake.mmap_shift;
      return tcx_os_linux.munmap(start, bytes);
    },
    [](void *address, size_t bytes, int protection) -> intptr_t {
      intptr_t planned = Planned(kMprotect);
      return planned < 0 ? planned
                         : tcx_os_linux.mprotect(address, bytes, protection);
    },
    [](void *address, size_t bytes, int advice) -> intptr_t {
      intptr_t planned = Planned(kMadvise);
      return planned < 0 ? planned
                         : tcx_os_linux.madvise(address, bytes, advice);
    },
    [](void *address, size_t old_bytes, size_t new_bytes, int flags,
       void *target) -> intptr_t {
      intptr_t planned = Planned(kMremap);
      return planned < 0 ? planned
                         : tcx_os_linux.mremap(address, old_bytes, new_bytes,
                                               flags, target);
    },
    []() -> size_t { return 123456; },
    []() -> size_t { return 65536; },
};

class OsTest : public testing::Test {
 protected:
  void SetUp() override {
    fake = Fake();
    errno = 4711;
  }
  void TearDown() override {
    EXPECT_EQ(errno, 4711) << "errno was changed";
    tcx_os_install(&tcx_os_linux);
  }
  static void FailAt(Kind kind, int call, int error) {
    tcx_os_install(&kFakeCalls);
    fake.fail_at[kind] = call;
    fake.error[kind] = error;
  }
};

bool IsZero(const void *address, size_t bytes) {
  const char *p = static_cast<const char *>(address);
  for (size_t i = 0; i < bytes; i++) {
    if (p[i] != 0)
      return false;
  }
  return true;
}

// True if nothing is mapped in the range.
bool IsUnmapped(void *address, size_t bytes) {
  void *got = tcx_os_reserve(address, bytes);
  if (got == nullptr)
    return false;
  EXPECT_EQ(tcx_os_unmap(got, bytes), 0);
  return true;
}

TEST_F(OsTest, PageSizeIsTheSystems) {
  EXPECT_EQ(tcx_os_page_size(), size_t(getpagesize()));
  tcx_os_install(&kFakeCalls);
  EXPECT_EQ(tcx_os_page_size(), 65536u);
  EXPECT_EQ(tcx_os_address_space_limit(), 123456u);
}

TEST_F(OsTest, AddressSpaceLimitIsTheSoftOne) {
  struct rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &limit), 0);
  EXPECT_EQ(tcx_os_address_space_limit(), size_t(limit.rlim_cur));
}

TEST_F(OsTest, PossibleCpusCoverTheConfiguredOnes) {
  unsigned cpus = tcx_os_possible_cpus();
  EXPECT_GE(cpus, unsigned(sysconf(_SC_NPROCESSORS_ONLN)));
  EXPECT_LE(cpus, 8192u);
  EXPECT_EQ(tcx_os_possible_cpus(), cpus);
}

TEST_F(OsTest, ReserveCommitUse) {
  char *p = static_cast<char *>(tcx_os_reserve(nullptr, TCX_MIB));
  ASSERT_NE(p, nullptr);
  ASSERT_EQ(tcx_os_commit(p, 64 * TCX_KIB), 0);
  EXPECT_TRUE(IsZero(p, 64 * TCX_KIB));
  memset(p, 1, 64 * TCX_KIB);
  EXPECT_EQ(tcx_os_unmap(p, TCX_MIB), 0);
  EXPECT_TRUE(IsUnmapped(p, TCX_MIB));
}

TEST_F(OsTest, ReserveAtAHintIsExactOrNothing) {
  void *p = tcx_os_reserve(nullptr, 2 * TCX_MIB);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(tcx_os_reserve(p, TCX_MIB), nullptr) << "taken";
  ASSERT_EQ(tcx_os_unmap(p, 2 * TCX_MIB), 0);
  EXPECT_EQ(tcx_os_reserve(p, 2 * TCX_MIB), p);
  ASSERT_EQ(tcx_os_unmap(p, 2 * TCX_MIB), 0);
}

// Kernels before 4.17 take the hint as a wish.
TEST_F(OsTest, ReserveElsewhereIsUndone) {
  void *p = tcx_os_reserve(nullptr, TCX_MIB);
  ASSERT_NE(p, nullptr);
  ASSERT_EQ(tcx_os_unmap(p, TCX_MIB), 0);
  tcx_os_install(&kFakeCalls);
  fake.mmap_shift = 4096;
  EXPECT_EQ(tcx_os_reserve(p, TCX_MIB), nullptr);
  EXPECT_EQ(fake.calls[kMunmap], 1);
  fake.mmap_shift = 0;
  EXPECT_TRUE(IsUnmapped(p, TCX_MIB));
}

TEST_F(OsTest, AddressesFrom47BitsOnAreRefused) {
  tcx_os_install(&kFakeCalls);
  fake.mmap_shift = intptr_t{1} << 47;
  EXPECT_EQ(tcx_os_reserve(nullptr, TCX_MIB), nullptr);
  EXPECT_EQ(tcx_os_map(TCX_MIB), nullptr);
  EXPECT_EQ(tcx_os_reserve_aligned(TCX_MIB, TCX_MIB), nullptr);
  EXPECT_EQ(fake.calls[kMunmap], fake.calls[kMmap]) << "all undone";
  fake.mmap_shift = 0;
  EXPECT_EQ(tcx_os_reserve(nullptr, size_t{1} << 47), nullptr);
  EXPECT_EQ(tcx_os_reserve(reinterpret_cast<void *>(uintptr_t{1} << 47), 4096),
            nullptr);
}

// As arm64 does with 48 bits of address.
TEST_F(OsTest, MapsLowWhereTheKernelWouldNot) {
  tcx_os_install(&kFakeCalls);
  fake.mmap_shift = intptr_t{1} << 47;
  fake.hints_hold = true;
  char *p = static_cast<char *>(tcx_os_map(TCX_MIB));
  ASSERT_NE(p, nullptr);
  memset(p, 1, TCX_MIB);
  EXPECT_EQ(fake.calls[kMunmap], 1) << "the kernel's choice";
  // Somebody is where the next one would go.
  void *taken = tcx_os_reserve(p - TCX_MIB, TCX_MIB);
  ASSERT_EQ(taken, p - TCX_MIB);
  char *q = static_cast<char *>(tcx_os_reserve_aligned(TCX_MIB, TCX_MIB));
  ASSERT_NE(q, nullptr);
  EXPECT_LT(reinterpret_cast<uintptr_t>(q), uintptr_t{1} << 47);
  EXPECT_NE(q, taken);
  EXPECT_EQ(tcx_os_unmap(p, TCX_MIB), 0);
  EXPECT_EQ(tcx_os_unmap(taken, TCX_MIB), 0);
  EXPECT_EQ(tcx_os_unmap(q, TCX_MIB), 0);
}

TEST_F(OsTest, ReserveAlignedIsAlignedAndTrimmed) {
  for (size_t align = 4 * TCX_KIB; align <= 64 * TCX_MIB; align *= 4) {
    size_t bytes = 3 * 64 * TCX_KIB;
    char *p = static_cast<char *>(tcx_os_reserve_aligned(bytes, align));
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(tcx_is_aligned(reinterpret_cast<uintptr_t>(p), align));
    ASSERT_EQ(tcx_os_commit(p, bytes), 0);
    memset(p, 1, bytes);
    ASSERT_EQ(tcx_os_unmap(p, bytes), 0);
  }
}

TEST_F(OsTest, ReserveAlignedLeavesNothingBeside) {
  struct tcx_os_counts before;
  struct tcx_os_counts after;
  tcx_os_install(&kFakeCalls);
  // Not by looking into /proc: a neighbour may be somebody else's mapping.
  fake.mmap_shift = 0;
  tcx_os_read_counts(&before);
  void *p = tcx_os_reserve_aligned(TCX_GIB, TCX_GIB);
  ASSERT_NE(p, nullptr);
  tcx_os_read_counts(&after);
  EXPECT_EQ(after.calls[kMmap] - before.calls[kMmap], 1u);
  EXPECT_GE(after.calls[kMunmap] - before.calls[kMunmap], 1u);
  EXPECT_EQ(after.failures[kMunmap] - before.failures[kMunmap], 0u);
  ASSERT_EQ(tcx_os_unmap(p, TCX_GIB), 0);
}

TEST_F(OsTest, ReserveAlignedOverflowIsNull) {
  EXPECT_EQ(tcx_os_reserve_aligned(SIZE_MAX - 4095, TCX_GIB), nullptr);
  EXPECT_EQ(tcx_os_reserve_aligned(size_t{1} << 48, TCX_GIB), nullptr);
}

TEST_F(OsTest, FailuresAreReported) {
  char *p = static_cast<char *>(tcx_os_map(TCX_MIB));
  ASSERT_NE(p, nullptr);
  struct tcx_os_counts before;
  tcx_os_read_counts(&before);
  for (int kind = 0; kind < kKinds; kind++)
    FailAt(Kind(kind), 1, ENOMEM);
  EXPECT_EQ(tcx_os_map(TCX_MIB), nullptr);
  fake.calls[kMmap] = 0;
  EXPECT_EQ(tcx_os_reserve(nullptr, TCX_MIB), nullptr);
  fake.calls[kMmap] = 0;
  EXPECT_EQ(tcx_os_reserve_aligned(TCX_MIB, TCX_MIB), nullptr);
  EXPECT_EQ(tcx_os_unmap(p, TCX_MIB), ENOMEM);
  EXPECT_EQ(tcx_os_commit(p, TCX_MIB), ENOMEM);
  EXPECT_EQ(tcx_os_release(p, TCX_MIB), ENOMEM);
  EXPECT_EQ(tcx_os_remap(p, p + TCX_MIB / 2, TCX_MIB / 2), ENOMEM);
  struct tcx_os_counts after;
  tcx_os_read_counts(&after);
  EXPECT_EQ(after.failures[kMmap] - before.failures[kMmap], 3u);
  for (int kind = kMunmap; kind < kKinds; kind++) {
    EXPECT_EQ(after.calls[kind] - before.calls[kind], 1u) << kind;
    EXPECT_EQ(after.failures[kind] - before.failures[kind], 1u) << kind;
  }
  EXPECT_EQ(tcx_os_unmap(p, TCX_MIB), 0);
}

TEST_F(OsTest, RealErrorsComeThrough) {
  EXPECT_EQ(tcx_os_advise(nullptr, 4096, 0x7777), EINVAL);
  EXPECT_EQ(tcx_os_unmap(reinterpret_cast<void *>(1), 4096), EINVAL);
  EXPECT_EQ(tcx_os_commit(reinterpret_cast<void *>(4096), 4096), ENOMEM);
}

TEST_F(OsTest, ReleaseGivesZeroPages) {
  char *p = static_cast<char *>(tcx_os_map(TCX_MIB));
  ASSERT_NE(p, nullptr);
  memset(p, 1, TCX_MIB);
  ASSERT_EQ(tcx_os_release(p, TCX_MIB), 0);
  EXPECT_TRUE(IsZero(p, TCX_MIB));
  ASSERT_EQ(tcx_os_unmap(p, TCX_MIB), 0);
}

TEST_F(OsTest, ReleaseUnlocksLockedPages) {
  const size_t kBytes = 8192;
  char *p = static_cast<char *>(tcx_os_map(kBytes));
  ASSERT_NE(p, nullptr);
  memset(p, 1, kBytes);
  if (mlock(p, kBytes) != 0) {
    errno = 4711;
    GTEST_SKIP() << "no memory may be locked here";
  }
  ASSERT_EQ(tcx_os_release(p, kBytes), 0);
  EXPECT_TRUE(IsZero(p, kBytes));
  ASSERT_EQ(tcx_os_unmap(p, kBytes), 0);
}

TEST_F(OsTest, ReleaseTriesOnceMoreOnly) {
  char *p = static_cast<char *>(tcx_os_map(TCX_MIB));
  ASSERT_NE(p, nullptr);
  memset(p, 1, TCX_MIB);
  FailAt(kMadvise, 1, EINVAL);
  EXPECT_EQ(tcx_os_release(p, TCX_MIB), 0);
  EXPECT_EQ(fake.calls[kMadvise], 2);
  EXPECT_TRUE(IsZero(p, TCX_MIB));
  ASSERT_EQ(tcx_os_unmap(p, TCX_MIB), 0);
  EXPECT_EQ(tcx_os_release(reinterpret_cast<void *>(1), 4096), EINVAL);
}

TEST_F(OsTest, Getenv) {
  setenv("TCX_OS_TEST", "value=1", 1);
  setenv("TCX_OS_TEST_EMPTY", "", 1);
  EXPECT_STREQ(tcx_os_getenv("TCX_OS_TEST"), "value=1");
  EXPECT_STREQ(tcx_os_getenv("TCX_OS_TEST_EMPTY"), "");
  EXPECT_EQ(tcx_os_getenv("TCX_OS_TES"), nullptr);
  EXPECT_EQ(tcx_os_getenv("TCX_OS_TEST_NOT"), nullptr);
  char **saved = environ;
  environ = nullptr;
  EXPECT_EQ(tcx_os_getenv("TCX_OS_TEST"), nullptr);
  environ = saved;
}

TEST_F(OsTest, WriteWritesAll) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::string text(40000, 'x');
  tcx_os_write(ends[1], text.data(), text.size());
  tcx_os_write(-1, "lost", 4);
  close(ends[1]);
  std::string got(50000, ' ');
  size_t bytes = 0;
  for (;;) {
    ssize_t more = read(ends[0], &got[bytes], got.size() - bytes);
    if (more <= 0)
      break;
    bytes += size_t(more);
  }
  close(ends[0]);
  EXPECT_EQ(bytes, text.size());
  errno = 4711;
}

}  // namespace

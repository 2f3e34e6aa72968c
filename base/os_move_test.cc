// os_move_test.cc -- pages move whole, whatever the kernel leaves half-done.
//
// Method: a table that passes calls on to the kernel, but lets the n-th mremap
// fail in each of the ways in which kernels do, and mmap and madvise beside it;
// with source, target and what lies in neither compared byte by byte. Then the
// real kernel, on blocks that the program split and short of mappings.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>

#include "base/bits.h"
#include "base/config.h"
#include "base/os.h"

namespace {

constexpr size_t kPage =
    65536;  // of every system that tcx knows, or a multiple
constexpr size_t kHuge = TCX_HUGE_PAGE_SIZE;
constexpr size_t kBytes = 3 * kHuge + 5 * kPage;  // the last piece is short
constexpr int kPieces = 4;

// What a mremap that fails has done.
enum Way {
  kNothing,
  kUnmapped,
  kSomeMoved,
  kMiddleMoved,
  kAllButOneMoved,
  kWays
};

struct Fake {
  int mremaps, mremap_fails;  // the n-th, from 1
  Way way;
  int mmap_fails;                      // so many, from the first on
  void *foreign;                       // mapped by another thread before a mmap
  int madvises, madvise_fails, until;  // from the n-th on, until before
} fake;

void Map(void *at, size_t bytes) {
  void *got = mmap(at, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  ASSERT_EQ(got, at);
}

intptr_t FakeMmap(void *at, size_t bytes, int protection, int flags) {
  if (fake.mmap_fails > 0) {
    fake.mmap_fails--;
    return -ENOMEM;
  }
  if (fake.foreign != nullptr) {
    Map(fake.foreign, kPage);
    memset(fake.foreign, 0x77, kPage);
    fake.foreign = nullptr;
  }
  return tcx_os_linux.mmap(at, bytes, protection, flags);
}

intptr_t FakeMadvise(void *at, size_t bytes, int advice) {
  int n = ++fake.madvises;
  if (n >= fake.madvise_fails && n < fake.until)
    return -ENOMEM;
  return tcx_os_linux.madvise(at, bytes, advice);
}

intptr_t FakeMremap(void *from, size_t bytes, size_t, int flags, void *to) {
  if (++fake.mremaps != fake.mremap_fails)
    return tcx_os_linux.mremap(from, bytes, bytes, flags, to);
  if (fake.way == kNothing)
    return -EAGAIN;
  size_t skipped = fake.way == kMiddleMoved ? 2 * kPage : 0;
  size_t moved = fake.way == kUnmapped         ? 0
                 : fake.way == kAllButOneMoved ? bytes - kPage
                                               : 2 * kPage;
  char *target = static_cast<char *>(to);
  munmap(target, bytes);
  if (moved != 0) {
    EXPECT_GT(tcx_os_linux.mremap(static_cast<char *>(from) + skipped, moved,
                                  moved, flags, target + skipped),
              0);
  }
  return -ENOMEM;
}

bool IsAll(const char *start, size_t bytes, char value) {
  return start[0] == value && memcmp(start, start + 1, bytes - 1) == 0;
}

class OsMoveTest : public testing::Test {
 protected:
  void SetUp() override {
    fake = Fake();
    calls_ = tcx_os_linux;
    calls_.mmap = FakeMmap;
    calls_.madvise = FakeMadvise;
    calls_.mremap = FakeMremap;
    // Every third page is zero, and so is a piece.
    wanted_.reset(new char[kBytes]);
    for (size_t i = 0; i < kBytes; i++) {
      bool is_zero = i / 4096 % 3 == 1 || i / kHuge == 1;
      wanted_[i] = char(is_zero ? 0 : i * 7 + i / 4096 + 1);
    }
  }
  void TearDown() override {
    tcx_os_install(&tcx_os_linux);
    Unmap();
  }
  void Unmap() {
    if (start_ != nullptr)
      munmap(start_, 10 * kHuge);
    start_ = nullptr;
  }

  // A source with data, a target with other data, and a huge page beside each.
  void Prepare() {
    Unmap();
    tcx_os_install(&tcx_os_linux);
    start_ = static_cast<char *>(tcx_os_reserve_aligned(10 * kHuge, kHuge));
    ASSERT_NE(start_, nullptr);
    ASSERT_EQ(tcx_os_commit(start_, 10 * kHuge), 0);
    from_ = start_;
    to_ = start_ + 5 * kHuge;
    memcpy(from_, wanted_.get(), kBytes);
    memset(from_ + kBytes, 88, kPage);
    memset(to_, 99, kBytes + kPage);
  }
  int Move(bool is_faked = true) {
    if (is_faked)
      tcx_os_install(&calls_);
    errno = 4711;
    int result = tcx_os_move(from_, to_, kBytes, &hole_);
    EXPECT_EQ(errno, 4711) << "errno was changed";
    EXPECT_TRUE(IsAll(from_ + kBytes, kPage, 88)) << "behind the source";
    EXPECT_TRUE(IsAll(to_ + kBytes, kPage, 99)) << "behind the target";
    return result;
  }

  bool Holds(const char *range) const {
    return memcmp(range, wanted_.get(), kBytes) == 0;
  }
  bool HasMemory(char *range, const char *end = nullptr) const {
    size_t bytes = end != nullptr ? size_t(end - range) : kBytes;
    std::unique_ptr<unsigned char[]> pages(new unsigned char[kBytes / 4096]);
    EXPECT_EQ(mincore(range, bytes, pages.get()), 0);
    return memchr(pages.get(), 1, bytes / size_t(getpagesize())) != nullptr;
  }
  void ExpectMoved() {
    EXPECT_TRUE(Holds(to_));
    EXPECT_FALSE(HasMemory(from_));
    EXPECT_TRUE(IsAll(from_, kBytes, 0));
  }
  void ExpectLost() {
    EXPECT_TRUE(Holds(from_));
    EXPECT_EQ(tcx_os_restore(hole_.start, hole_.bytes), 0) << "not all of it";
    EXPECT_LE(hole_.bytes, kHuge);
    // Nothing else is missing.
    memset(to_, 99, kBytes);
    EXPECT_TRUE(Holds(from_));
  }

  // Runs `check` for each piece that fails and each way.
  template <typename Check>
  void ForEachFailure(Check check) {
    for (int piece = 1; piece <= kPieces; piece++) {
      for (int way = 0; way < kWays; way++) {
        SCOPED_TRACE(testing::Message() << "piece " << piece << " way " << way);
        fake = Fake();
        fake.mremap_fails = piece;
        fake.way = Way(way);
        ASSERT_NO_FATAL_FAILURE(Prepare());
        check();
        ASSERT_FALSE(HasFailure());
      }
    }
  }

  tcx_os_calls calls_;
  std::unique_ptr<char[]> wanted_;
  char *start_ = nullptr;
  char *from_ = nullptr;
  char *to_ = nullptr;
  tcx_os_hole hole_;
};

TEST_F(OsMoveTest, MovesByHugePages) {
  ASSERT_NO_FATAL_FAILURE(Prepare());
  ASSERT_EQ(Move(), 0);
  EXPECT_EQ(fake.mremaps, kPieces);
  ExpectMoved();
  memset(from_, 1, kBytes);
  EXPECT_TRUE(Holds(to_));
}

TEST_F(OsMoveTest, PieceThatFailsAndTheRestAreCopied) {
  ForEachFailure([&] {
    ASSERT_EQ(Move(), 0);
    EXPECT_EQ(fake.mremaps, fake.mremap_fails) << "tried on";
    ExpectMoved();
  });
}

TEST_F(OsMoveTest, HoleThatCannotBeFilledUndoesTheMove) {
  ForEachFailure([&] {
    fake.mmap_fails = 1;
    bool has_hole = fake.way != kNothing;
    ASSERT_EQ(Move(), has_hole ? TCX_OS_TARGET_LOST : 0);
    EXPECT_TRUE(!has_hole || !HasMemory(to_, hole_.start));
    fake.mmap_fails = 0;
    has_hole ? ExpectLost() : ExpectMoved();
  });
}

// Another thread's mapping came into the hole: no byte of it changes.
TEST_F(OsMoveTest, HoleThatIsTakenIsLeftAlone) {
  ForEachFailure([&] {
    if (fake.way == kNothing)
      return;
    size_t piece = size_t(fake.mremap_fails) * kHuge;
    char *taken = to_ + tcx_min_size(piece, kBytes) - kPage;
    fake.foreign = taken;
    ASSERT_EQ(Move(), TCX_OS_TARGET_LOST);
    EXPECT_EQ(tcx_os_restore(hole_.start, hole_.bytes), EEXIST);
    EXPECT_TRUE(IsAll(taken, kPage, 0x77));
    munmap(taken, kPage);
    ExpectLost();
  });
}

// Whether the first thing or not: nothing has moved.
TEST_F(OsMoveTest, TargetThatCannotBeEmptiedIsAnError) {
  ASSERT_NO_FATAL_FAILURE(Prepare());
  fake.madvise_fails = 1;
  fake.until = 2;
  ASSERT_EQ(Move(), ENOMEM);
  EXPECT_EQ(fake.mremaps, 0);
  EXPECT_TRUE(Holds(from_));
  memset(to_, 1, kBytes);
}

TEST_F(OsMoveTest, SourceThatCannotBeReleasedIsToldApart) {
  for (int until : {3, 100}) {
    ForEachFailure([&] {
      fake.madvise_fails = 2;
      fake.until = until;
      ASSERT_EQ(Move(), TCX_OS_COPIED);
      EXPECT_TRUE(Holds(to_));
      EXPECT_TRUE(IsAll(from_, kBytes, 0));
    });
  }
}

// Memory that cannot be released and a hole: the data counts.
TEST_F(OsMoveTest, UndoNeedsNoAdvice) {
  ForEachFailure([&] {
    if (fake.way == kNothing)
      return;
    fake.mmap_fails = 1;
    fake.madvise_fails = 2;
    fake.until = 100;
    ASSERT_EQ(Move(), TCX_OS_TARGET_LOST);
    ExpectLost();
  });
}

// -- the real kernel ----------------------------------------------------------

// Advice on a part of a huge page splits its mapping in two.
TEST_F(OsMoveTest, PartsOfOtherAdvice) {
  for (size_t at : {size_t{0}, kPage, 2 * kHuge + kPage, 3 * kHuge + kPage}) {
    for (bool is_target : {false, true}) {
      ASSERT_NO_FATAL_FAILURE(Prepare());
      char *part = (is_target ? to_ : from_) + at;
      ASSERT_EQ(madvise(part, 3 * kPage, MADV_DONTDUMP), 0);
      ASSERT_EQ(Move(false), 0);
      ExpectMoved();
    }
  }
}

TEST_F(OsMoveTest, LockedParts) {
  for (size_t at : {kPage, kHuge - kPage}) {
    for (bool is_target : {false, true}) {
      ASSERT_NO_FATAL_FAILURE(Prepare());
      if (mlock((is_target ? to_ : from_) + at, 2 * kPage) != 0)
        GTEST_SKIP() << "no memory may be locked here";
      ASSERT_EQ(Move(false), 0);
      ExpectMoved();
    }
  }
}

// Lines of /proc/self/maps.
int CountMappings() {
  static char buffer[1 << 16];
  int fd = open("/proc/self/maps", O_RDONLY);
  int count = 0;
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) {
    for (ssize_t i = 0; i < got; i++)
      count += buffer[i] == '\n';
  }
  close(fd);
  return count;
}

// Mappings to have a given number of them.
class Mappings {
 public:
  explicit Mappings(int most) : bytes_(size_t(most + 2) * page_) {
    start_ = static_cast<char *>(
        mmap(nullptr, bytes_, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  }
  ~Mappings() {
    munmap(start_, bytes_);
  }
  // Each page of another protection makes two more.
  void Reach(int wanted) {
    int have = CountMappings();
    for (; have + 2 <= wanted && Protect(2 * n_ + 1, PROT_READ); have += 2)
      n_++;
    for (; have > wanted && Protect(2 * n_ - 1, PROT_NONE); have -= 2)
      n_--;
  }

 private:
  bool Protect(size_t i, int protection) {
    return mprotect(start_ + i * page_, page_, protection) == 0;
  }

  const size_t page_ = size_t(getpagesize());
  const size_t bytes_;
  size_t n_ = 0;
  char *start_;
};

// Every huge page of the source has an advice of its own, one more than that,
// and hardly a mapping is left: from 6.17 on such a call moves a part.
TEST_F(OsMoveTest, ShortOfMappings) {
  int most = 0;
  FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
  if (file != nullptr) {
    EXPECT_EQ(fscanf(file, "%d", &most), 1);
    fclose(file);
  }
  if (most == 0 || most > 200000)
    GTEST_SKIP() << "no limit that could be reached";
  struct tcx_os_counts before;
  tcx_os_read_counts(&before);
  Mappings mappings(most);
  for (int room = 0; room <= 14; room++) {
    SCOPED_TRACE(testing::Message() << "room " << room);
    mappings.Reach(most - 40);
    ASSERT_NO_FATAL_FAILURE(Prepare());
    for (size_t at = 0; at < kBytes; at += 2 * kHuge)
      ASSERT_EQ(madvise(from_ + at, kHuge, MADV_DONTDUMP), 0);
    for (size_t at = 2 * kPage; at < 12 * kPage; at += 2 * kPage)
      ASSERT_EQ(madvise(from_ + at, kPage, MADV_DODUMP), 0);
    mappings.Reach(most - room);
    int result = Move(false);
    mappings.Reach(most - 40);
    ASSERT_TRUE(result == 0 || result == TCX_OS_TARGET_LOST) << result;
    result == 0 ? ExpectMoved() : ExpectLost();
    ASSERT_FALSE(HasFailure());
  }
  struct tcx_os_counts after;
  tcx_os_read_counts(&after);
  EXPECT_GT(after.failures[4], before.failures[4]) << "no mremap failed";
}

}  // namespace

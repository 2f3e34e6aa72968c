// coverage_test.cc -- the text of smaps, and this process's own.
//
// Method: texts as the kernel writes them, cut at every place; then memory that
// the page map is told of, beside memory that it is not.
#include "telemetry/coverage.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "base/config.h"
#include "pagemap/pagemap.h"

namespace {

constexpr uint64_t kKib = 1024;

// Below 4 GiB is the heap's.
bool IsLow(uintptr_t start, uintptr_t end) {
  EXPECT_LT(start, end);
  return end <= uintptr_t{1} << 32;
}

// In pieces of `step` bytes.
tcx_coverage Parse(const std::string &text, size_t step) {
  tcx_coverage_reader reader;
  tcx_coverage_begin(&reader, IsLow);
  for (size_t i = 0; i < text.size(); i += step)
    tcx_coverage_add(&reader, text.data() + i, std::min(step, text.size() - i));
  tcx_coverage_end(&reader);
  return reader.sum;
}

tcx_coverage Parse(const std::string &text) {
  return Parse(text, text.size() + 1);
}

std::string Mapping(const char *range, unsigned rss_kib, unsigned huge_kib) {
  return std::string(range) +
         " rw-p 00000000 00:00 0        [a name that makes a line so long that "
         "it does not fit into what is looked at]\n"
         "Size:               4096 kB\n"
         "Rss:                " +
         std::to_string(rss_kib) +
         " kB\n"
         "Anonymous:          123 kB\n"
         "AnonHugePages:      " +
         std::to_string(huge_kib) +
         " kB\n"
         "ShmemPmdMapped:        0 kB\n"
         "VmFlags: rd wr mr mw me ac hg\n";
}

TEST(CoverageTest, AddsUpTheHeapsMappings) {
  std::string text = Mapping("200000-600000", 4096, 2048) +
                     Mapping("7f5d1a200000-7f5d1a600000", 77777, 6144) +
                     Mapping("f0000000-f0001000", 4, 0) +
                     Mapping("e0000000-e0001000", 0, 0);
  for (size_t step = 1; step <= text.size(); step++) {
    tcx_coverage sum = Parse(text, step);
    ASSERT_EQ(sum.resident_bytes, 4100 * kKib) << step;
    ASSERT_EQ(sum.huge_bytes, 2048 * kKib) << step;
    ASSERT_EQ(sum.mappings, 2u) << step;
  }
}

TEST(CoverageTest, TheLastLineNeedsNoEnd) {
  tcx_coverage sum =
      Parse("200000-600000 rw-p\nRss: 8 kB\nAnonHugePages: 4 kB");
  EXPECT_EQ(sum.resident_bytes, 8 * kKib);
  EXPECT_EQ(sum.huge_bytes, 4 * kKib);
}

TEST(CoverageTest, OtherTextsChangeNothing) {
  for (const char *text :
       {"", "\n\n", "Rss: 8 kB\n", "200000 rw-p\nRss: 8 kB\n",
        "600000-200000 rw-p\nRss: 8 kB\n", "200000-600000\nRss: 8 kB\n",
        "-600000 rw-p\nRss: 8 kB\n", "200000-600000 rw-p\nRss: x kB\n",
        "200000-600000 rw-p\nrss: 8 kB\n Rss: 8 kB\n",
        "00000000000200000-600000 r\nRss: 99999999999999999999 kB\n",
        "11112222333344445-11112222333344446 r\nRss: 8 kB\n"}) {
    tcx_coverage sum = Parse(text);
    EXPECT_EQ(sum.resident_bytes, 0u) << text;
    EXPECT_EQ(sum.mappings, 0u) << text;
  }
}

// Memory of this process that only the test and the page map know of.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes) {
    // Neighbours that cannot be a part of the same mapping.
    void *all = mmap(nullptr, bytes + 4 * kHuge, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(all, MAP_FAILED);
    all_ = static_cast<char *>(all);
    uintptr_t start = reinterpret_cast<uintptr_t>(all) + kHuge;
    start_ = reinterpret_cast<char *>((start + kHuge - 1) / kHuge * kHuge);
    EXPECT_EQ(mprotect(start_, bytes, PROT_READ | PROT_WRITE), 0);
    memset(start_, 1, bytes);
    EXPECT_TRUE(tcx_pagemap_ensure(reinterpret_cast<uintptr_t>(start_), bytes));
  }
  ~Memory() {
    munmap(all_, bytes_ + 4 * kHuge);
  }

  uint64_t page() const {
    return reinterpret_cast<uintptr_t>(start_) >> TCX_PAGE_SHIFT;
  }
  uint64_t huge() const {
    return reinterpret_cast<uintptr_t>(start_) >> TCX_HUGE_PAGE_SHIFT;
  }
  bool Advise(int advice) {
    return madvise(start_, bytes_, advice) == 0;
  }

  static constexpr size_t kHuge = TCX_HUGE_PAGE_SIZE;

 private:
  size_t bytes_;
  char *all_;
  char *start_;
};

tcx_coverage Read() {
  tcx_coverage coverage;
  EXPECT_EQ(tcx_coverage_read(&coverage), 0);
  return coverage;
}

TEST(CoverageTest, FindsMemoryBySpansAndByNotes) {
  EXPECT_EQ(Read().mappings, 0u);
  Memory by_span(6 * Memory::kHuge);
  Memory by_note(4 * Memory::kHuge);
  Memory foreign(8 * Memory::kHuge);
  EXPECT_EQ(Read().mappings, 0u);

  static tcx_span span;
  span.first_page = by_span.page();
  span.pages = 1;
  span.state = TCX_SPAN_LARGE;
  tcx_pagemap_set_ends(&span);
  tcx_coverage one = Read();
  EXPECT_EQ(one.mappings, 1u);
  EXPECT_EQ(one.resident_bytes, 6 * Memory::kHuge);

  // Not its first huge page.
  tcx_pagemap_set_huge_note(by_note.huge() + 2, &span);
  tcx_coverage both = Read();
  EXPECT_EQ(both.mappings, 2u);
  EXPECT_EQ(both.resident_bytes, 10 * Memory::kHuge);
  EXPECT_LE(both.huge_bytes, both.resident_bytes);
  tcx_pagemap_clear_ends(&span);
  tcx_pagemap_set_huge_note(by_note.huge() + 2, nullptr);
}

// Only where the kernel has huge pages to give.
TEST(CoverageTest, SeesHugePages) {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE
  Memory memory(4 * Memory::kHuge);
  static tcx_span span;
  tcx_pagemap_set_huge_note(memory.huge(), &span);
  uint64_t before = Read().huge_bytes;
  if (!memory.Advise(MADV_HUGEPAGE) || !memory.Advise(kCollapse))
    GTEST_SKIP() << "no huge pages here";
  EXPECT_EQ(Read().resident_bytes, 4 * Memory::kHuge);
  EXPECT_EQ(Read().huge_bytes, 4 * Memory::kHuge);
  EXPECT_GE(Read().huge_bytes, before);
  tcx_pagemap_set_huge_note(memory.huge(), nullptr);
}

}  // namespace

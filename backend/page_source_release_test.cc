// page_source_release_test.cc -- what every page source gives back, and when.
//
// Method: the contract of page_source.h for maintain, due_ms and release_part,
// over each implementation, in simulated time and on systems that refuse.
#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "backend/page_source.h"
#include "backend/page_source_testing.h"
#include "base/config.h"
#include "base/os.h"

namespace {

using tcx::testing::kKeepMs;
using tcx::testing::kKeepMsMax;
using tcx::testing::now_ms;

class PageSourceReleaseTest : public tcx::testing::PageSourceTest {};
INSTANTIATE_TEST_SUITE_P(All, PageSourceReleaseTest,
                         ::testing::Values(tcx::testing::PageHeap,
                                           tcx::testing::Hpaa,
                                           tcx::testing::Fake,
                                           tcx::testing::Reclaimer),
                         tcx::testing::PageSourceName);

// -- Release by demand --------------------------------------------------------

TEST_P(PageSourceReleaseTest, NothingHeldIsNeverDue) {
  MaintainFor(kKeepMsMax);
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_EQ(DueMs(), UINT64_MAX);
  EXPECT_EQ(Maintain(), 0u);
}

TEST_P(PageSourceReleaseTest, FreeMemoryIsKeptForAWhileAndThenGoesBack) {
  tcx_page_source_release(source_, SIZE_MAX);
  const size_t huge_pages = TCX_HUGE_PAGE_SIZE / TCX_PAGE_SIZE;
  std::vector<tcx_span *> spans;
  for (size_t pages : {size_t{1}, size_t{3}, 5 * huge_pages, size_t{40},
                       huge_pages, 2 * huge_pages + 3, size_t{1}}) {
    spans.push_back(Allocate(pages));
    ASSERT_NE(spans.back(), nullptr);
    Stamp(spans.back(), 1);
  }
  for (tcx_span *span : spans) {
    Deallocate(span);
  }
  uint64_t held = Stats().free_bytes;
  EXPECT_GE(held, 8 * TCX_HUGE_PAGE_SIZE);
  uint64_t due_ms = DueMs();
  EXPECT_GE(due_ms, now_ms + kKeepMs);
  EXPECT_LE(due_ms, now_ms + kKeepMsMax);
  now_ms += kKeepMs - 1;
  EXPECT_EQ(Maintain(), 0u);
  EXPECT_EQ(DueMs(), due_ms) << "demand stayed as it is";
  EXPECT_GE(MaintainFor(kKeepMsMax), held);
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_EQ(DueMs(), UINT64_MAX);
}

TEST_P(PageSourceReleaseTest, MaintainGivesBackAboutWhatItMay) {
  const size_t huge_pages = TCX_HUGE_PAGE_SIZE / TCX_PAGE_SIZE;
  tcx_page_source_release(source_, SIZE_MAX);
  tcx_span *span = Allocate(20 * huge_pages);
  ASSERT_NE(span, nullptr);
  Stamp(span, 1);
  Deallocate(span);
  now_ms += kKeepMsMax;
  EXPECT_EQ(DueMs(), now_ms);
  EXPECT_EQ(Maintain(0), 0u);
  for (int i = 0; i < 4; i++) {
    size_t bytes = Maintain(4 * TCX_HUGE_PAGE_SIZE);
    EXPECT_GE(bytes, 4 * TCX_HUGE_PAGE_SIZE);
    EXPECT_LE(bytes, 5 * TCX_HUGE_PAGE_SIZE);
    EXPECT_EQ(DueMs(), now_ms);
  }
  Maintain();
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_EQ(DueMs(), UINT64_MAX);
}

TEST_P(PageSourceReleaseTest, MaintainLeavesWhatIsInUse) {
  std::mt19937 random(3);
  std::vector<tcx_span *> spans;
  for (uint64_t i = 0; i < 200; i++) {
    spans.push_back(Allocate(1 + random() % 5));
    ASSERT_NE(spans.back(), nullptr);
    Stamp(spans.back(), i);
  }
  for (size_t i = 0; i < spans.size(); i += 2) {
    Deallocate(spans[i]);
  }
  MaintainFor(kKeepMsMax);
  CheckStats();
  for (size_t i = 1; i < spans.size(); i += 2) {
    EXPECT_TRUE(HasStamp(spans[i], i, spans[i]->pages)) << i;
    Deallocate(spans[i]);
  }
  MaintainFor(kKeepMsMax);
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_EQ(DueMs(), UINT64_MAX);
}

TEST_P(PageSourceReleaseTest, MemoryGivenBackByDemandIsKnownZero) {
  tcx_span *span = Allocate(16);
  ASSERT_NE(span, nullptr);
  Stamp(span, ~uint64_t{0});
  Deallocate(span);
  MaintainFor(kKeepMsMax);
  bool is_zero;
  span = Allocate(16, 1, &is_zero);
  ASSERT_NE(span, nullptr);
  EXPECT_TRUE(is_zero);
  EXPECT_TRUE(IsZero(span));
  Deallocate(span);
}

// Refuses to give anything back while it lives.
class UnwillingSystem {
 public:
  UnwillingSystem() {
    static tcx_os_calls calls;
    calls = tcx_os_linux;
    calls.madvise = [](void *at, size_t bytes, int advice) -> intptr_t {
      return advice == MADV_DONTNEED ? -EINVAL
                                     : tcx_os_linux.madvise(at, bytes, advice);
    };
    tcx_os_install(&calls);
  }
  ~UnwillingSystem() {
    tcx_os_install(&tcx_os_linux);
  }
};

TEST_P(PageSourceReleaseTest, RefusedReleasesLoseNothingAndEnd) {
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < 100; i++) {
    spans.push_back(Allocate(1 + i % 7));
    ASSERT_NE(spans.back(), nullptr);
    Stamp(spans.back(), i);
  }
  spans.push_back(Allocate(3 * TCX_HUGE_PAGE_SIZE / TCX_PAGE_SIZE));
  ASSERT_NE(spans.back(), nullptr);
  for (size_t i = 0; i < spans.size(); i += 2) {
    Deallocate(spans[i]);
  }
  {
    UnwillingSystem system;
    MaintainFor(2 * kKeepMsMax);
    tcx_page_source_release(source_, SIZE_MAX);
    CheckStats();
  }
  for (size_t i = 1; i < spans.size(); i += 2) {
    EXPECT_TRUE(HasStamp(spans[i], i, spans[i]->pages)) << i;
    Deallocate(spans[i]);
  }
  {
    UnwillingSystem system;
    MaintainFor(2 * kKeepMsMax);
    CheckStats();
  }
  MaintainFor(2 * kKeepMsMax);
  EXPECT_EQ(Stats().free_bytes, 0u);
  EXPECT_EQ(DueMs(), UINT64_MAX);
}

// -- Parts of spans in use ----------------------------------------------------

// As long as the central free list may cut up: at least four pages of the
// system.
size_t PartPages() {
  return std::max<size_t>(1, 4 * tcx_os_page_size() / TCX_PAGE_SIZE);
}

TEST_P(PageSourceReleaseTest, ReleasedPartsReadZeroAndTheOthersStay) {
  const size_t system_page = tcx_os_page_size();
  std::vector<tcx_span *> spans;
  for (uint64_t i = 0; i < 3; i++) {
    spans.push_back(Allocate(PartPages()));
    ASSERT_NE(spans.back(), nullptr);
    memset(tcx_span_start(spans.back()), 0x5a, tcx_span_bytes(spans.back()));
  }
  std::vector<char> expected(tcx_span_bytes(spans[1]), 0x5a);
  uint64_t free_bytes = Stats().free_bytes;
  for (size_t page : {size_t{1}, size_t{3}}) {
    if (ReleasePart(spans[1], page * system_page, system_page)) {
      memset(&expected[page * system_page], 0, system_page);
    }
    CheckStats();
  }
  // Only for the sake of a huge page it may be refused.
  EXPECT_TRUE(expected[system_page] == 0 || source_ == tcx::testing::Hpaa());
  EXPECT_EQ(memcmp(tcx_span_start(spans[1]), expected.data(), expected.size()),
            0);
  EXPECT_EQ(Stats().in_use_bytes, in_use_ + 3 * PartPages() * TCX_PAGE_SIZE);
  EXPECT_EQ(Stats().free_bytes, free_bytes);
  expected.assign(expected.size(), 0x5a);
  for (size_t i : {size_t{0}, size_t{2}}) {
    EXPECT_EQ(
        memcmp(tcx_span_start(spans[i]), expected.data(), expected.size()), 0);
  }
  // It may be written again, and freed as it is.
  Stamp(spans[1], 7);
  EXPECT_TRUE(HasStamp(spans[1], 7, spans[1]->pages));
  for (tcx_span *span : spans) {
    ReleasePart(span, 0, system_page);
    Deallocate(span);
    CheckStats();
  }
}

// What was refused is worth it when so much is offered.
TEST_P(PageSourceReleaseTest, ManyPartsGo) {
  const size_t system_page = tcx_os_page_size();
  const size_t span_bytes = PartPages() * TCX_PAGE_SIZE;
  std::vector<tcx_span *> spans;
  for (size_t i = 0; i < 2 * TCX_HUGE_PAGE_SIZE / span_bytes; i++) {
    spans.push_back(Allocate(PartPages()));
    ASSERT_NE(spans.back(), nullptr);
    memset(tcx_span_start(spans.back()), 0x5a, span_bytes);
  }
  size_t gone = 0;
  for (int walk = 0; walk < 2; walk++) {
    for (tcx_span *span : spans) {
      gone += ReleasePart(span, system_page, span_bytes - system_page);
    }
    CheckStats();
  }
  EXPECT_GE(gone, spans.size());
  for (tcx_span *span : spans) {
    const char *start = tcx_span_start(span);
    EXPECT_EQ(start[system_page - 1], 0x5a);
    EXPECT_EQ(start[system_page], 0);
    EXPECT_EQ(start[span_bytes - 1], 0);
    Deallocate(span);
  }
}

TEST_P(PageSourceReleaseTest, RefusedPartIsAsItWas) {
  tcx_span *span = Allocate(PartPages());
  ASSERT_NE(span, nullptr);
  memset(tcx_span_start(span), 0x5a, tcx_span_bytes(span));
  std::vector<char> expected(tcx_span_bytes(span), 0x5a);
  {
    UnwillingSystem system;
    EXPECT_FALSE(ReleasePart(span, 0, tcx_os_page_size()));
  }
  CheckStats();
  EXPECT_EQ(memcmp(tcx_span_start(span), expected.data(), expected.size()), 0);
  Deallocate(span);
}

// The span that a freed one becomes is zero only where all of it is.
TEST_P(PageSourceReleaseTest, PartsAreForgottenWhenTheSpanIsFreed) {
  tcx_span *span = Allocate(PartPages());
  ASSERT_NE(span, nullptr);
  Stamp(span, ~uint64_t{0});
  ReleasePart(span, 0, tcx_os_page_size());
  Deallocate(span);
  for (int i = 0; i < 8; i++) {
    bool is_zero;
    span = Allocate(PartPages(), 1, &is_zero);
    ASSERT_NE(span, nullptr);
    EXPECT_TRUE(!is_zero || IsZero(span));
    Deallocate(span);
  }
}

}  // namespace

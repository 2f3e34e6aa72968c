// huge_policy_test.cc -- what the kernel is asked for, and when.
//
// Method: files and madvise are faked. The fake kernel keeps the advice of each
// huge page of an address range that does not exist, and fails to order. One
// test breaks and mends a real huge page where this machine has any.
#include "backend/hpaa/huge_policy.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>

#include <fstream>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "backend/fake_files.h"
#include "base/os.h"
#include "base/os_files.h"

namespace {

constexpr int kCold = 20;
constexpr int kCollapse = 25;
constexpr uint64_t kHuge = 0x1000;  // a huge page number that is nobody's

struct Call {
  uintptr_t start;
  size_t bytes;
  int advice;
  bool operator==(const Call &other) const {
    return std::tie(start, bytes, advice) ==
           std::tie(other.start, other.bytes, other.advice);
  }
};

struct Fake {
  std::vector<Call> calls;
  std::map<int, int> errors;  // by advice
  bool knows_collapse = false;
} fake;

Call Advice(uint64_t huge, int advice, uint64_t count = 1) {
  return {huge << TCX_HUGE_SHIFT, count << TCX_HUGE_SHIFT, advice};
}

char *Address(uint64_t huge) {
  return reinterpret_cast<char *>(huge << TCX_HUGE_SHIFT);
}

class HugePolicyTest : public testing::Test {
 protected:
  void SetUp() override {
    fake = Fake();
    calls_ = tcx_os_linux;
    calls_.madvise = [](void *start, size_t bytes, int advice) -> intptr_t {
      fake.calls.push_back({reinterpret_cast<uintptr_t>(start), bytes, advice});
      if (bytes == 0 && fake.knows_collapse)
        return 0;
      auto error = fake.errors.find(advice);
      return error != fake.errors.end() ? -error->second : 0;
    };
    tcx_os_install(&calls_);
  }
  void TearDown() override {
    tcx_huge_policy_check(&policy_);
    tcx_os_install(&tcx_os_linux);
  }
  void Init(tcx_huge_thp thp, uint64_t choice = TCX_HUGEPAGES_DEFAULT,
            uint64_t mappings_max = 400) {
    tcx_huge_machine machine = {thp, mappings_max};
    tcx_huge_policy_init(&policy_, &machine, choice);
  }
  // The advice that memory of a heap of so many MiB gets; 0: none.
  int AdviceAt(uint64_t heap_mib) {
    fake.calls.clear();
    tcx_huge_policy_advise(&policy_, {kHuge, 3}, heap_mib << 20);
    if (fake.calls.empty())
      return 0;
    EXPECT_EQ(fake.calls,
              std::vector<Call>{Advice(kHuge, fake.calls[0].advice, 3)});
    return fake.calls[0].advice;
  }
  bool Begin(uint64_t huge, uint64_t now_ms = 0) {
    return tcx_huge_policy_break_begin(&policy_, huge, Address(huge) + 8192,
                                       now_ms);
  }
  bool Break(uint64_t huge, uint64_t now_ms = 0) {
    return Begin(huge, now_ms) &&
           tcx_huge_policy_break_end(&policy_, huge, true);
  }
  const tcx_huge_policy_stats &stats() {
    return policy_.stats;
  }

  tcx::testing::FakeFiles files_;
  tcx_os_calls calls_;
  tcx_huge_policy policy_;
};

// -- The machine --------------------------------------------------------------

tcx_huge_thp Machine() {
  tcx_huge_machine machine;
  tcx_huge_machine_read(&machine);
  return machine.thp;
}

const char kEnabled[] = "/sys/kernel/mm/transparent_hugepage/enabled";
const char kEnabledOfSize[] =
    "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled";

TEST_F(HugePolicyTest, ReadsWhatTheKernelDoes) {
  Init(TCX_HUGE_THP_NEVER);
  EXPECT_EQ(Machine(), TCX_HUGE_THP_NEVER) << "no such file";
  files_[kEnabled] = "always [madvise] never\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_MADVISE);
  files_[kEnabled] = "[always] madvise never\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_ALWAYS);
  files_[kEnabled] = "always madvise [never]\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_NEVER);
  files_[kEnabled] = "nonsense\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_NEVER);
}

TEST_F(HugePolicyTest, TheFileOfTheSizeWins) {
  Init(TCX_HUGE_THP_NEVER);
  files_[kEnabled] = "always [madvise] never\n";
  files_[kEnabledOfSize] = "always [inherit] madvise never\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_MADVISE);
  files_[kEnabledOfSize] = "[always] inherit madvise never\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_ALWAYS);
  files_[kEnabledOfSize] = "always inherit madvise [never]\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_NEVER);
}

TEST_F(HugePolicyTest, HugePagesOfAnotherSizeAreNone) {
  Init(TCX_HUGE_THP_NEVER);
  files_[kEnabled] = "[always] madvise never\n";
  files_["/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"] = "536870912\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_NEVER);
}

TEST_F(HugePolicyTest, ProcessMayHaveNone) {
  Init(TCX_HUGE_THP_NEVER);
  files_[kEnabled] = "[always] madvise never\n";
  files_.thp_disable = -EINVAL;
  EXPECT_EQ(Machine(), TCX_HUGE_THP_ALWAYS);
  files_.thp_disable = TCX_OS_THP_DISABLED;
  EXPECT_EQ(Machine(), TCX_HUGE_THP_NEVER);
  files_.thp_disable = TCX_OS_THP_DISABLED | TCX_OS_THP_EXCEPT_ADVISED;
  EXPECT_EQ(Machine(), TCX_HUGE_THP_MADVISE);
  files_[kEnabled] = "always madvise [never]\n";
  EXPECT_EQ(Machine(), TCX_HUGE_THP_NEVER);
}

TEST_F(HugePolicyTest, ReadsHowManyMappingsThereMayBe) {
  Init(TCX_HUGE_THP_NEVER);
  tcx_huge_machine machine;
  tcx_huge_machine_read(&machine);
  EXPECT_EQ(machine.mappings_max, 65530u);
  files_["/proc/sys/vm/max_map_count"] = "1048576\n";
  tcx_huge_machine_read(&machine);
  EXPECT_EQ(machine.mappings_max, 1048576u);
}

// -- Advice -------------------------------------------------------------------

TEST_F(HugePolicyTest, AsksWhenTheHeapIsWorthIt) {
  Init(TCX_HUGE_THP_MADVISE);
  EXPECT_EQ(AdviceAt(31), 0);
  EXPECT_EQ(AdviceAt(32), MADV_HUGEPAGE);
  EXPECT_FALSE(tcx_huge_policy_is_worth(&policy_, (32 << 20) - 1));
  EXPECT_TRUE(tcx_huge_policy_is_worth(&policy_, 32 << 20));
  Init(TCX_HUGE_THP_ALWAYS);
  EXPECT_EQ(AdviceAt(3), MADV_NOHUGEPAGE);
  EXPECT_EQ(AdviceAt(4), MADV_HUGEPAGE);
  Init(TCX_HUGE_THP_NEVER);
  EXPECT_EQ(AdviceAt(1000), 0);
}

TEST_F(HugePolicyTest, TheUserDecides) {
  Init(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  EXPECT_EQ(AdviceAt(2), MADV_HUGEPAGE);
  Init(TCX_HUGE_THP_ALWAYS, TCX_HUGEPAGES_ALWAYS);
  EXPECT_EQ(AdviceAt(2), MADV_HUGEPAGE);
  Init(TCX_HUGE_THP_NEVER, TCX_HUGEPAGES_ALWAYS);
  EXPECT_EQ(AdviceAt(2), 0);
  Init(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_NEVER);
  EXPECT_EQ(AdviceAt(1000), 0);
  Init(TCX_HUGE_THP_ALWAYS, TCX_HUGEPAGES_NEVER);
  EXPECT_EQ(AdviceAt(1000), MADV_NOHUGEPAGE);
}

TEST_F(HugePolicyTest, CountsWhatWasAdvised) {
  Init(TCX_HUGE_THP_MADVISE);
  AdviceAt(64);
  EXPECT_EQ(stats().advised_bytes, 3 * TCX_HUGE_BYTES);
  fake.errors[MADV_HUGEPAGE] = ENOMEM;
  AdviceAt(64);
  EXPECT_EQ(stats().advised_bytes, 3 * TCX_HUGE_BYTES);
  EXPECT_EQ(stats().advise_failures, 1u);
}

// -- Breaking and mending -----------------------------------------------------

TEST_F(HugePolicyTest, BreaksInThreeSteps) {
  Init(TCX_HUGE_THP_MADVISE);
  size_t page = tcx_os_page_size();
  ASSERT_TRUE(Begin(kHuge));
  ASSERT_TRUE(tcx_huge_policy_release(&policy_, Address(kHuge) + 8192, 65536));
  EXPECT_TRUE(tcx_huge_policy_break_end(&policy_, kHuge, true));
  uintptr_t start = kHuge << TCX_HUGE_SHIFT;
  EXPECT_EQ(fake.calls, (std::vector<Call>{
                            Advice(kHuge, MADV_NOHUGEPAGE),
                            {start + 8192, page, kCold},
                            {start + 8192, 65536, MADV_DONTNEED},
                        }));
  EXPECT_EQ(stats().broken, 1u);
  EXPECT_EQ(stats().released_bytes, 65536u);
}

TEST_F(HugePolicyTest, NothingIsBrokenWhereNothingIsHuge) {
  for (auto [thp, choice] : {std::pair<tcx_huge_thp, uint64_t>{
                                 TCX_HUGE_THP_NEVER, TCX_HUGEPAGES_DEFAULT},
                             {TCX_HUGE_THP_ALWAYS, TCX_HUGEPAGES_NEVER}}) {
    Init(thp, choice);
    fake.calls.clear();
    EXPECT_TRUE(Break(kHuge));
    EXPECT_EQ(tcx_huge_policy_mend(&policy_, kHuge, true, 0), TCX_HUGE_MENDED);
    EXPECT_TRUE(fake.calls.empty());
    tcx_huge_policy_check(&policy_);
  }
}

TEST_F(HugePolicyTest, AQuarterOfTheMappingsMayBeBroken) {
  Init(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_DEFAULT, 400);
  for (uint64_t i = 0; i < 100; i++)
    ASSERT_TRUE(Break(kHuge + i));
  fake.calls.clear();
  EXPECT_FALSE(Begin(kHuge + 100));
  EXPECT_TRUE(fake.calls.empty());
  EXPECT_EQ(stats().breaks_refused, 1u);
  EXPECT_EQ(tcx_huge_policy_mend(&policy_, kHuge, false, 0), TCX_HUGE_MENDED);
  EXPECT_TRUE(Break(kHuge + 100));
  EXPECT_EQ(stats().broken, 100u);
}

TEST_F(HugePolicyTest, NoMappingsLeftIsNotAskedAtOnceAgain) {
  Init(TCX_HUGE_THP_MADVISE);
  fake.errors[MADV_NOHUGEPAGE] = ENOMEM;
  EXPECT_FALSE(Begin(kHuge, 1000));
  EXPECT_EQ(stats().broken, 0u);
  fake.errors.clear();
  EXPECT_FALSE(Begin(kHuge, 10999));
  EXPECT_TRUE(Begin(kHuge, 11000));
  EXPECT_FALSE(tcx_huge_policy_break_end(&policy_, kHuge, false));
}

TEST_F(HugePolicyTest, SplitThatFailsIsCountedOnly) {
  Init(TCX_HUGE_THP_MADVISE);
  fake.errors[kCold] = EINVAL;
  EXPECT_TRUE(Break(kHuge));
  EXPECT_EQ(stats().splits_failed, 1u);
}

TEST_F(HugePolicyTest, NothingReleasedIsNotBroken) {
  Init(TCX_HUGE_THP_MADVISE);
  fake.errors[MADV_DONTNEED] = ENOMEM;
  ASSERT_TRUE(Begin(kHuge));
  EXPECT_FALSE(tcx_huge_policy_release(&policy_, Address(kHuge), 8192));
  EXPECT_EQ(stats().release_failures, 1u);
  EXPECT_FALSE(tcx_huge_policy_break_end(&policy_, kHuge, false));
  EXPECT_EQ(fake.calls.back(), Advice(kHuge, MADV_HUGEPAGE));
  EXPECT_EQ(stats().broken, 0u);
  // If not even that is possible, it stays broken.
  ASSERT_TRUE(Begin(kHuge));
  fake.errors[MADV_HUGEPAGE] = ENOMEM;
  EXPECT_TRUE(tcx_huge_policy_break_end(&policy_, kHuge, false));
  EXPECT_EQ(stats().broken, 1u);
}

TEST_F(HugePolicyTest, MendsAndCollapses) {
  Init(TCX_HUGE_THP_MADVISE);
  ASSERT_TRUE(Break(kHuge));
  fake.calls.clear();
  EXPECT_EQ(tcx_huge_policy_mend(&policy_, kHuge, true, 0), TCX_HUGE_COLLAPSED);
  EXPECT_EQ(fake.calls, (std::vector<Call>{Advice(kHuge, MADV_HUGEPAGE),
                                           Advice(kHuge, kCollapse)}));
  EXPECT_EQ(stats().broken, 0u);
  EXPECT_EQ(stats().mended, 1u);
  EXPECT_EQ(stats().collapsed, 1u);
}

TEST_F(HugePolicyTest, MendingThatFailsLeavesItBroken) {
  Init(TCX_HUGE_THP_MADVISE);
  ASSERT_TRUE(Break(kHuge));
  fake.errors[MADV_HUGEPAGE] = ENOMEM;
  EXPECT_EQ(tcx_huge_policy_mend(&policy_, kHuge, true, 0),
            TCX_HUGE_STILL_BROKEN);
  EXPECT_EQ(stats().broken, 1u);
  EXPECT_EQ(stats().mend_failures, 1u);
}

TEST_F(HugePolicyTest, CollapsingBacksOff) {
  Init(TCX_HUGE_THP_MADVISE);
  fake.errors[kCollapse] = ENOMEM;
  uint64_t now = 0;
  std::vector<uint64_t> waits;
  for (int i = 0; i < 10; i++) {
    uint64_t failures = stats().collapse_failures;
    ASSERT_TRUE(Break(kHuge, now));
    EXPECT_EQ(tcx_huge_policy_mend(&policy_, kHuge, true, now),
              TCX_HUGE_MENDED);
    EXPECT_EQ(stats().collapse_failures, failures + 1);
    waits.push_back(policy_.collapse_again_ms - now);
    ASSERT_TRUE(Break(kHuge, now));
    tcx_huge_policy_mend(&policy_, kHuge, true, now + waits.back() - 1);
    EXPECT_EQ(stats().collapse_failures, failures + 1) << "asked too early";
    now = policy_.collapse_again_ms;
  }
  EXPECT_EQ(waits, (std::vector<uint64_t>{1000, 2000, 4000, 8000, 16000, 32000,
                                          64000, 128000, 128000, 128000}));
  fake.errors.clear();
  ASSERT_TRUE(Break(kHuge, now));
  EXPECT_EQ(tcx_huge_policy_mend(&policy_, kHuge, true, now),
            TCX_HUGE_COLLAPSED);
  EXPECT_EQ(policy_.collapse_wait_ms, 1000u);
}

TEST_F(HugePolicyTest, KernelWithoutCollapseIsNotAskedAgain) {
  Init(TCX_HUGE_THP_MADVISE);
  fake.errors[kCollapse] = EINVAL;
  for (int i = 0; i < 2; i++) {
    ASSERT_TRUE(Break(kHuge));
    EXPECT_EQ(tcx_huge_policy_mend(&policy_, kHuge, true, 1000000 * i),
              TCX_HUGE_MENDED);
  }
  EXPECT_EQ(stats().collapse_failures, 1u);
}

TEST_F(HugePolicyTest, AHugePageThatCannotBeCollapsedEndsNothing) {
  Init(TCX_HUGE_THP_MADVISE);
  fake.errors[kCollapse] = EINVAL;  // As of one with a locked page.
  fake.knows_collapse = true;
  for (int i = 0; i < 2; i++) {
    ASSERT_TRUE(Break(kHuge));
    (void)tcx_huge_policy_mend(&policy_, kHuge, true, 1000000 * i);
  }
  EXPECT_EQ(stats().collapse_failures, 2u);
}

TEST_F(HugePolicyTest, StatisticsAreACopy) {
  Init(TCX_HUGE_THP_MADVISE);
  ASSERT_TRUE(Break(kHuge));
  tcx_huge_policy_stats copy;
  tcx_huge_policy_read_stats(&policy_, &copy);
  EXPECT_EQ(memcmp(&copy, &policy_.stats, sizeof copy), 0);
}

// -- The real kernel ----------------------------------------------------------

// KiB of a kind that the mapping around an address has.
long Smaps(const void *address, const std::string &kind) {
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  bool is_inside = false;
  long sum = 0;
  uintptr_t want = reinterpret_cast<uintptr_t>(address);
  while (std::getline(smaps, line)) {
    uintptr_t start, end;
    if (sscanf(line.c_str(), "%lx-%lx ", &start, &end) == 2)
      is_inside = start < want + TCX_HUGE_BYTES && end > want;
    long kib;
    if (is_inside && line.compare(0, kind.size() + 1, kind + ":") == 0 &&
        sscanf(line.c_str() + kind.size() + 1, "%ld", &kib) == 1) {
      sum += kib;
    }
  }
  return sum;
}

TEST(HugePolicyKernelTest, BreaksAndMendsARealHugePage) {
  tcx_huge_machine machine;
  tcx_huge_machine_read(&machine);
  if (machine.thp == TCX_HUGE_THP_NEVER)
    GTEST_SKIP() << "this machine has no huge pages";
  tcx_huge_policy policy;
  tcx_huge_policy_init(&policy, &machine, TCX_HUGEPAGES_ALWAYS);
  // With an empty neighbour on both sides, so that the mapping is its own.
  char *block = static_cast<char *>(
      tcx_os_reserve_aligned(3 * TCX_HUGE_BYTES, TCX_HUGE_BYTES));
  ASSERT_NE(block, nullptr);
  char *start = block + TCX_HUGE_BYTES;
  ASSERT_EQ(tcx_os_commit(start, TCX_HUGE_BYTES), 0);
  uint64_t huge = reinterpret_cast<uintptr_t>(start) >> TCX_HUGE_SHIFT;
  tcx_huge_policy_advise(&policy, {huge, 1}, TCX_HUGE_BYTES);
  memset(start, 1, TCX_HUGE_BYTES);
  if (Smaps(start, "AnonHugePages") != 2048)
    GTEST_SKIP() << "no huge page to be had now";

  char *half = start + TCX_HUGE_BYTES / 2;
  ASSERT_TRUE(tcx_huge_policy_break_begin(&policy, huge, half, 0));
  EXPECT_EQ(policy.stats.splits_failed, 0u);
  ASSERT_TRUE(tcx_huge_policy_release(&policy, half, TCX_HUGE_BYTES / 2));
  EXPECT_TRUE(tcx_huge_policy_break_end(&policy, huge, true));
  EXPECT_EQ(Smaps(start, "AnonHugePages"), 0);
  EXPECT_EQ(Smaps(start, "Rss"), 1024);
  EXPECT_EQ(start[0], 1);
  EXPECT_EQ(half[0], 0);

  memset(half, 2, TCX_HUGE_BYTES / 2);
  EXPECT_EQ(Smaps(start, "AnonHugePages"), 0);
  // Before Linux 6.1 khugepaged does it, some time.
  if (tcx_huge_policy_mend(&policy, huge, true, 0) == TCX_HUGE_COLLAPSED) {
    EXPECT_EQ(Smaps(start, "AnonHugePages"), 2048);
  }
  EXPECT_EQ(start[0], 1);
  EXPECT_EQ(half[0], 2);
  tcx_huge_policy_check(&policy);
  tcx_os_unmap(block, 3 * TCX_HUGE_BYTES);
}

}  // namespace

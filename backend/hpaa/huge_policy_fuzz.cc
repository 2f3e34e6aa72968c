// Fuzz target of huge_policy.h, over a kernel whose calls fail to order.
//
// Model: the state of each huge page as the fake kernel has it (asked for, not
// wanted, neither) beside which of them are broken as the policy answered. No
// call may reach a huge page that the step was not about; what is broken never
// is asked for; the budget holds; the invariants are walked after each step.
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <set>

#include "backend/hpaa/huge_policy.h"
#include "base/check.h"
#include "base/os.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;

constexpr uint64_t kFirst = 0x2000;
constexpr uint64_t kCount = 24;
constexpr int kCold = 20;
constexpr int kCollapse = 25;

enum Wish { kNeither, kHuge, kNotHuge };

struct Kernel {
  Wish wish[kCount];
  uint64_t about;  // the huge page of this step
  uint64_t count;
  unsigned failing;  // bits of calls to come
  unsigned collapse_calls;
};
Kernel kernel;

intptr_t Madvise(void *start, size_t bytes, int advice) {
  uint64_t address = reinterpret_cast<uintptr_t>(start);
  uint64_t huge = address >> TCX_HUGE_SHIFT;
  uint64_t end = address + bytes;
  TCX_CHECK(huge >= kernel.about);
  TCX_CHECK(end <= (kernel.about + kernel.count) << TCX_HUGE_SHIFT);
  bool fails = (kernel.failing & 1) != 0;
  kernel.failing >>= 1;
  if (bytes == 0)  // whether it knows the advice
    return fails ? -EINVAL : 0;
  if (advice == kCollapse)
    kernel.collapse_calls++;
  if (fails)
    return advice == kCollapse && (kernel.failing & 1) != 0 ? -EINVAL : -ENOMEM;
  bool is_wish = advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE;
  for (; is_wish && huge << TCX_HUGE_SHIFT < end; huge++) {
    kernel.wish[huge - kFirst] = advice == MADV_HUGEPAGE ? kHuge : kNotHuge;
  }
  if (advice == kCold) {
    TCX_CHECK(kernel.wish[huge - kFirst] == kNotHuge);
  }
  TCX_CHECK(advice != kCollapse || kernel.wish[huge - kFirst] == kHuge);
  return 0;
}

void Install() {
  static tcx_os_calls calls = tcx_os_linux;
  calls.madvise = Madvise;
  tcx_os_install(&calls);
}

void About(uint64_t huge, uint64_t count) {
  kernel.about = huge;
  kernel.count = count;
}

class Run {
 public:
  explicit Run(FuzzInput *input) : input_(input) {
    kernel = Kernel();
    machine_ = {static_cast<tcx_huge_thp>(input->Below(3)),
                input->Below(4 * kCount)};
    choice_ = input->Below(3);
    tcx_huge_policy_init(&policy_, &machine_, choice_);
    can_ = machine_.thp != TCX_HUGE_THP_NEVER && choice_ != TCX_HUGEPAGES_NEVER;
  }

  void Step() {
    unsigned operation = input_->Byte();
    kernel.failing = operation & 0x80 ? input_->Byte() : 0;
    uint64_t huge = kFirst + input_->Below(kCount);
    now_ms_ += input_->Below(1 << 16);
    switch (operation & 3) {
      case 0:
        Advise(huge);
        break;
      case 1:
        Break(huge);
        break;
      default:
        Mend(huge, (operation & 4) != 0);
    }
    tcx_huge_policy_check(&policy_);
    TCX_CHECK(policy_.stats.broken == (can_ ? broken_.size() : 0));
    TCX_CHECK(broken_.size() <= machine_.mappings_max / 4 || !can_);
    for (uint64_t one : broken_)
      TCX_CHECK(!can_ || kernel.wish[one - kFirst] == kNotHuge);
  }

 private:
  void Advise(uint64_t huge) {
    uint64_t count = 1 + input_->Below(kCount - (huge - kFirst));
    for (uint64_t i = 0; i < count; i++) {
      if (broken_.count(huge + i) != 0)
        return;
    }
    uint64_t heap = input_->Size(27);
    About(huge, count);
    bool fails = (kernel.failing & 1) != 0;
    Wish before = kernel.wish[huge - kFirst];
    tcx_huge_policy_advise(&policy_, {huge, count}, heap);
    bool is_always = machine_.thp == TCX_HUGE_THP_ALWAYS;
    Wish want = before;
    if (can_ && tcx_huge_policy_is_worth(&policy_, heap))
      want = kHuge;
    else if (is_always)
      want = kNotHuge;
    TCX_CHECK(kernel.wish[huge - kFirst] == (fails ? before : want));
  }

  void Break(uint64_t huge) {
    if (broken_.count(huge) != 0)
      return;
    About(huge, 1);
    char *start = reinterpret_cast<char *>(huge << TCX_HUGE_SHIFT);
    Wish before = kernel.wish[huge - kFirst];
    if (!tcx_huge_policy_break_begin(&policy_, huge, start, now_ms_)) {
      TCX_CHECK(can_ && kernel.wish[huge - kFirst] == before);
      return;
    }
    bool has_released = false;
    for (size_t i = input_->Below(4); i > 0; i--) {
      char *page = start + i * 64 * 1024;
      has_released |= tcx_huge_policy_release(&policy_, page, 64 * 1024);
    }
    bool is_broken = tcx_huge_policy_break_end(&policy_, huge, has_released);
    TCX_CHECK(is_broken || !has_released);
    if (is_broken)
      broken_.insert(huge);
  }

  void Mend(uint64_t huge, bool is_full) {
    if (broken_.count(huge) == 0)
      return;
    About(huge, 1);
    uint64_t again_ms = policy_.collapse_again_ms;
    unsigned calls = kernel.collapse_calls;
    tcx_huge_mended mended =
        tcx_huge_policy_mend(&policy_, huge, is_full, now_ms_);
    unsigned collapses = kernel.collapse_calls - calls;
    TCX_CHECK(collapses <= (is_full && now_ms_ >= again_ms ? 1u : 0u));
    TCX_CHECK(mended != TCX_HUGE_COLLAPSED || collapses == 1);
    if (mended == TCX_HUGE_STILL_BROKEN)
      return;
    broken_.erase(huge);
    TCX_CHECK(!can_ || kernel.wish[huge - kFirst] == kHuge);
  }

  FuzzInput *input_;
  tcx_huge_machine machine_;
  uint64_t choice_;
  bool can_;  // whether anything can be broken
  tcx_huge_policy policy_;
  uint64_t now_ms_ = 0;
  std::set<uint64_t> broken_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  Install();
  FuzzInput input(data, bytes);
  Run run(&input);
  while (!input.empty())
    run.Step();
  return 0;
}

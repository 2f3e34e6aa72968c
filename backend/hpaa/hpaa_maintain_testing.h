// hpaa_maintain_testing.h -- for tests of what the back end does by itself: the
// whole of it on a simulated clock, and a kernel that refuses what the test
// says, counts what it is asked, and has pages of any size.
#ifndef TCX_BACKEND_HPAA_HPAA_MAINTAIN_TESTING_H_
#define TCX_BACKEND_HPAA_HPAA_MAINTAIN_TESTING_H_

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "backend/hpaa/hpaa.h"
#include "backend/hpaa/hpaa_model.h"
#include "base/knobs.h"
#include "base/os.h"

namespace tcx {
namespace testing {

constexpr size_t kP = TCX_HUGE_PAGES;

struct Kernel {
  size_t page_bytes = 4096;
  bool refuses = false;             // to take memory back
  uintptr_t locked = 0;             // as mlock(2) does: of one page
  unsigned releases = 0;            // that were asked for
  std::map<uintptr_t, int> advice;  // by huge page: HUGEPAGE or NOHUGEPAGE
  int refused_advice = 0;
  // What another thread does, once, before this advice is taken.
  int meanwhile_at = 0;
  std::function<void()> meanwhile;
};
inline Kernel kernel;

inline intptr_t Madvise(void *address, size_t bytes, int advice) {
  uintptr_t start = reinterpret_cast<uintptr_t>(address);
  if (advice == MADV_DONTNEED) {
    kernel.releases++;
    if (kernel.refuses || kernel.locked - start < bytes)
      return -EINVAL;
    return tcx_os_linux.madvise(address, bytes, advice);
  }
  if (advice == kernel.meanwhile_at) {
    kernel.meanwhile_at = 0;
    kernel.meanwhile();
  }
  if (advice == kernel.refused_advice)
    return -ENOMEM;
  if (advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE) {
    for (uintptr_t at = start; at < start + bytes; at += TCX_HUGE_BYTES)
      kernel.advice[at >> TCX_HUGE_SHIFT] = advice;
  }
  return 0;
}

class HpaaMaintainTest : public ::testing::Test {
 protected:
  HpaaMaintainTest() : world_(HpaaWorld::Get()) {
    kernel = Kernel();
    Install();
    world_->Start(TCX_HUGE_THP_MADVISE, TCX_HUGEPAGES_ALWAYS);
  }
  ~HpaaMaintainTest() override {
    Check();
    while (!live_.empty())
      Free(live_.size() - 1);
    Check();
  }

  static void Install() {
    static tcx_os_calls calls = tcx_os_linux;
    calls.madvise = Madvise;
    calls.page_size = [] { return kernel.page_bytes; };
    tcx_os_install(&calls);
  }
  // Pages of the system larger than ours. False: ours are.
  static bool InstallLargePages() {
    kernel.page_bytes = 64 << 10;
    Install();
    return TCX_PAGE_SIZE < kernel.page_bytes;
  }
  void Check() {
    world_->source->ops->check(world_->source);
  }
  tcx_span *Allocate(size_t pages, unsigned objects = 1) {
    tcx_span *span =
        tcx_page_source_allocate(world_->source, pages, 1, objects);
    TCX_CHECK(span != nullptr);
    live_.push_back(span);
    return span;
  }
  void Free(size_t index) {
    tcx_page_source_deallocate(world_->source, live_[index]);
    live_[index] = live_.back();
    live_.pop_back();
  }
  void Free(const tcx_span *span) {
    Free(static_cast<size_t>(std::find(live_.begin(), live_.end(), span) -
                             live_.begin()));
  }
  tcx_page_source_stats Stats() {
    tcx_page_source_stats stats;
    world_->source->ops->stats(world_->source, &stats);
    return stats;
  }
  tcx_hpaa_stats Parts() {
    tcx_hpaa_stats stats;
    tcx_hpaa_read_stats(&world_->heap, world_->now_ms, &stats);
    return stats;
  }
  uint64_t Due() {
    return tcx_hpaa_due_ms(&world_->heap, world_->now_ms);
  }
  size_t Release() {
    return tcx_page_source_release(world_->source, SIZE_MAX);
  }

  // Time goes on by so much. Returns how often there was something to do.
  unsigned Pass(uint64_t ms) {
    uint64_t end_ms = world_->now_ms + ms;
    unsigned calls = 0;
    for (uint64_t due_ms = Due(); due_ms <= end_ms; due_ms = Due()) {
      EXPECT_GE(due_ms, world_->now_ms);
      world_->now_ms = due_ms;
      (void)tcx_hpaa_maintain(&world_->heap, due_ms,
                              TCX_HPAA_RELEASE_STEP_BYTES, may_grow_);
      if (++calls == 5000) {
        ADD_FAILURE() << "due for ever";
        break;
      }
    }
    Check();
    world_->now_ms = end_ms;
    return calls;
  }

  // Some of everything free: huge pages in the cache, idle ones and parts in a
  // region, parts of huge pages in the filler.
  void MakeAllKinds() {
    while (Parts().regions == 0)
      Allocate(kP + 1);
    tcx_span *idle = Allocate(5 * kP - 1);
    tcx_span *part = Allocate(kP + kP / 2);
    std::vector<tcx_span *> most;
    for (int i = 0; i < 12; i++) {
      most.push_back(Allocate(kP / 2));
      most.push_back(Allocate(kP / 4));
      Allocate(kP / 8);
    }
    tcx_span *raw = Allocate(6 * kP);
    for (tcx_span *span : most)
      Free(span);
    Free(idle);
    Free(part);
    Free(raw);
  }

  HpaaWorld *world_;
  bool may_grow_ = true;
  std::vector<tcx_span *> live_;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_HPAA_MAINTAIN_TESTING_H_

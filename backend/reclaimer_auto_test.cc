// reclaimer_auto_test.cc -- when the reclaimer reads the container's limit.
//
// Method: as reclaimer_test.cc, simulated time and a fake page source; the
// files of the cgroup are texts.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend/fake_files.h"
#include "backend/fake_page_source.h"
#include "backend/reclaimer.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/knobs.h"

namespace {

using tcx::testing::FakeFiles;
using tcx::testing::FakePageSource;

uint64_t now_ms;
int urgent_calls;

class ReclaimerAutoTest : public ::testing::Test {
 protected:
  ReclaimerAutoTest() {
    static const tcx_reclaimer_hooks hooks = {
        [](bool) {},
        [](uint64_t, size_t, bool) { return size_t{0}; },
        [] { return uint64_t{0}; },
        [](uint64_t) { return UINT64_MAX; },
        [](bool is_urgent) { urgent_calls += is_urgent; },
        [] {},
    };
    now_ms = uint64_t{1} << 40;
    urgent_calls = 0;
    tcx_knobs.limit = tcx_knobs.hard_limit = tcx_knobs.hard_limit_policy = 0;
    tcx_clock_install([] { return now_ms; });
    source_ = tcx_reclaimer_init(&reclaimer_, fake_.get(), &hooks);
    files_["/proc/self/cgroup"] = "0::/app\n";
    files_["/proc/self/mountinfo"] =
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    files_["/sys/fs/cgroup/app/memory.current"] = "0\n";
  }
  ~ReclaimerAutoTest() override {
    for (tcx_span *span : live_)
      tcx_page_source_deallocate(source_, span);
    tcx_clock_install(nullptr);
  }
  void Fill(size_t spans) {
    for (size_t i = 0; i < spans; i++) {
      live_.push_back(tcx_page_source_allocate(source_, 1, 1, 1));
      ASSERT_NE(live_.back(), nullptr);
    }
  }
  uint64_t Visit() {
    return tcx_reclaimer_visit(&reclaimer_, now_ms);
  }

  FakeFiles files_;
  FakePageSource fake_;
  tcx_reclaimer reclaimer_ = {};
  tcx_page_source *source_;
  std::vector<tcx_span *> live_;
};

// The program may take the rest of its container without us.
TEST_F(ReclaimerAutoTest, NearTheLimitTheNextReadingIsSoon) {
  Fill(1);
  // Half of what may be used is far above what tcx itself needs.
  uint64_t near_bytes = (8 << 20) + (50 << TCX_PAGE_SHIFT);
  files_["/sys/fs/cgroup/app/memory.max"] =
      std::to_string(near_bytes * 20 / 9) + "\n";
  tcx_knobs.limit = TCX_KNOB_LIMIT_AUTO;
  tcx_reclaimer_set_limits(&reclaimer_);
  (void)tcx_reclaimer_round(&reclaimer_, now_ms);
  ASSERT_GT(files_.reads, 0u);
  EXPECT_EQ(Visit(), 1000u);
  now_ms += 10;
  urgent_calls = 0;
  Fill(10);
  EXPECT_EQ(urgent_calls, 0);
  Fill(near_bytes >> TCX_PAGE_SHIFT);
  EXPECT_EQ(urgent_calls, 1);
  EXPECT_EQ(Visit(), 90u);
  now_ms += 90;
  unsigned reads = files_.reads;
  (void)Visit();
  EXPECT_GT(files_.reads, reads);
}

}  // namespace

// page_source_testing.h -- for tests: each page source, one to a process.
//
// PageSourceTest is the fixture of the two conformance tests: what a page
// source hands out and takes back, and what it gives back to the system. After
// each test the invariants are walked. The clock is the test's, and goes on
// only where a test says so.
#ifndef TCX_BACKEND_PAGE_SOURCE_TESTING_H_
#define TCX_BACKEND_PAGE_SOURCE_TESTING_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/page_source.h"

namespace tcx {
namespace testing {

// What free memory is kept for at the least, and for how long it may be kept.
constexpr uint64_t kKeepMs = 2000;
constexpr uint64_t kKeepMsMax = 40000;

extern std::atomic<uint64_t> now_ms;

// One of each to a process, as a page source is never given up. They take their
// memory from the same system.
tcx_page_source *PageHeap();
tcx_page_source *Hpaa();
tcx_page_source *Fake();
tcx_page_source *Reclaimer();

using PageSourceFactory = tcx_page_source *(*)();

// For suites over PageHeap, Hpaa, Fake, Reclaimer in this order.
std::string PageSourceName(
    const ::testing::TestParamInfo<PageSourceFactory> &factory);

class PageSourceTest : public ::testing::TestWithParam<PageSourceFactory> {
 protected:
  void SetUp() override;
  void TearDown() override;

  tcx_page_source_stats Stats();
  void CheckStats();

  // Checks what a new span must be.
  static void ExpectNew(const tcx_span *span, size_t pages, size_t align);
  tcx_span *Allocate(size_t pages, size_t align = 1, bool *is_zero = nullptr);
  void Deallocate(tcx_span *span);

  uint64_t DueMs();
  // One call, which the statistics must bear out.
  size_t Maintain(size_t bytes_max = SIZE_MAX);
  // Whenever it is due, until nothing is, or `ms` have passed. Returns how much
  // went back.
  size_t MaintainFor(uint64_t ms);
  // As if the span were cut up meanwhile.
  bool ReleasePart(tcx_span *span, size_t offset, size_t bytes);

  // Writes the span's own number at both ends of each page.
  static void Stamp(const tcx_span *span, uint64_t number);
  static bool HasStamp(const tcx_span *span, uint64_t number, size_t pages);
  static bool IsZero(const tcx_span *span);

  tcx_page_source *source_ = nullptr;
  uint64_t in_use_ = 0;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_PAGE_SOURCE_TESTING_H_

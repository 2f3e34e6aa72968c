// fake_page_source.h -- a page source for tests: small, random, fails to order.
//
// WHAT IT DECIDES
//   Places spans at random in an arena of fixed size, so that no test comes to
//   depend on neighbours or on the order of addresses. Counts what it does, and
//   fails from a chosen allocation on. Freed pages are overwritten, so that an
//   object used after its span went back is seen. Each freed page is due two
//   seconds after that, whatever demand is; giving back fails when told to.
//
// It is a full implementation: page_source_conformance_test.cc runs over it.
#ifndef TCX_BACKEND_FAKE_PAGE_SOURCE_H_
#define TCX_BACKEND_FAKE_PAGE_SOURCE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <set>

#include "backend/page_source.h"

namespace tcx {
namespace testing {

class FakePageSource {
 public:
  FakePageSource();
  // Live spans are taken out of the pagemap; their heads are freed.
  ~FakePageSource();
  FakePageSource(const FakePageSource &) = delete;
  FakePageSource &operator=(const FakePageSource &) = delete;

  tcx_page_source *get() {
    return &base_.source;
  }

  // The next `count` allocations succeed, all later ones fail.
  void FailAfter(size_t count);
  void NeverFail() {
    FailAfter(SIZE_MAX);
  }

  // From now on nothing can be given back, or it can be again.
  void RefuseReleases(bool refuses);

  // So many of the free pages are not kept whole.
  void SetFragmented(size_t pages);

  // As it was last told.
  bool may_grow() const {
    return may_grow_;
  }
  tcx_page_release last_release() const {
    return last_release_;
  }

  size_t allocations() const;  // that succeeded
  size_t live_spans() const;

 private:
  struct Base {
    tcx_page_source source;  // first
    FakePageSource *self;
  };
  struct Ops;
  friend struct Ops;

  tcx_span *AllocateSome(const tcx_page_request &request);
  tcx_span *Allocate(const tcx_page_request &request);
  void Deallocate(tcx_span *span);
  bool Resize(tcx_span *span, size_t pages);
  size_t ReleaseFreedBy(uint64_t ms, size_t bytes);
  size_t KeptPages() const;
  size_t Release(size_t bytes, tcx_page_release kind);
  size_t Maintain(uint64_t now_ms, size_t bytes_max);
  uint64_t DueMs(uint64_t now_ms) const;
  bool ReleasePart(const tcx_span *span, void *start, size_t bytes);
  void Stats(tcx_page_source_stats *out) const;
  void Check() const;

  bool Find(const tcx_page_request &request, uint64_t *first);
  void AddFree(uint64_t first, size_t pages, bool is_zero);
  void TakeFree(uint64_t first, size_t pages);
  uint64_t FreePages() const;

  Base base_;
  mutable std::mutex mutex_;
  char *arena_;
  std::map<uint64_t, size_t> free_;       // first page -> pages, merged
  std::map<uint64_t, uint64_t> written_;  // free, may not be zero -> since, ms
  std::set<tcx_span *> live_;
  std::mt19937_64 random_{1};
  size_t left_ = SIZE_MAX;
  bool refuses_releases_ = false;
  size_t fragmented_ = 0;
  std::atomic<bool> may_grow_{false};
  std::atomic<tcx_page_release> last_release_{TCX_PAGE_RELEASE_ALL};
  size_t allocations_ = 0;
  size_t deallocations_ = 0;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_FAKE_PAGE_SOURCE_H_

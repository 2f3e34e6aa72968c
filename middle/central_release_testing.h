// central_release_testing.h -- for tests of memory that goes back under free
// objects: tags that show what lost memory, a page source that can be watched,
// a list over it.
#ifndef TCX_MIDDLE_CENTRAL_RELEASE_TESTING_H_
#define TCX_MIDDLE_CENTRAL_RELEASE_TESTING_H_

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "backend/fake_page_source.h"
#include "backend/page_source.h"
#include "middle/central_freelist.h"
#include "pagemap/pagemap.h"
#include "pagemap/span_parts.h"
#include "size_classes/size_classes.h"

namespace tcx {
namespace testing {

constexpr size_t kTagEach = 512;

inline void Tag(void *object, size_t bytes) {
  for (size_t at = 0; at + sizeof(void *) <= bytes; at += kTagEach)
    *reinterpret_cast<void **>(static_cast<char *>(object) + at) = object;
}

inline bool HasTag(const void *object, size_t bytes) {
  for (size_t at = 0; at + sizeof(void *) <= bytes; at += kTagEach) {
    const char *word = static_cast<const char *>(object) + at;
    if (*reinterpret_cast<void *const *>(word) != object)
      return false;
  }
  return true;
}

// A page source whose release_part and notice can be watched.
class HookedPages {
 public:
  HookedPages() {
    inner_ops_ = pages_.get()->ops;
    ops_ = *inner_ops_;
    ops_.release_part = ReleasePart;
    ops_.notice = [](tcx_page_source *) { current_->notices++; };
    pages_.get()->ops = &ops_;
    current_ = this;
  }
  ~HookedPages() {
    pages_.get()->ops = inner_ops_;
    current_ = nullptr;
  }

  FakePageSource pages_;
  std::function<void(const tcx_span *)> hook;
  std::atomic<size_t> calls{0};
  std::atomic<size_t> notices{0};

 private:
  static bool ReleasePart(tcx_page_source *source, const tcx_span *span,
                          void *start, size_t bytes, uint64_t now_ms) {
    HookedPages *self = current_;
    self->calls++;
    if (self->hook)
      self->hook(span);
    return self->inner_ops_->release_part(source, span, start, bytes, now_ms);
  }

  static inline HookedPages *current_ = nullptr;
  const tcx_page_source_ops *inner_ops_;
  tcx_page_source_ops ops_;
};

inline bool HasSeveralObjects(const tcx_size_class &row) {
  return row.objects > 1;
}

// A list of objects of the parameter's size. Those that are out are tagged.
class CentralReleaseTest : public ::testing::TestWithParam<size_t> {
 protected:
  CentralReleaseTest() {
    tcx_size_classes_init();
    id_ = tcx_size_class_of(GetParam());
    tcx_central_freelist_init(&list_, pages_.pages_.get(), id_);
  }
  ~CentralReleaseTest() override {
    pages_.hook = nullptr;
    Check();
    InsertAll();
    tcx_central_freelist_check(&list_);
    EXPECT_EQ(pages_.pages_.live_spans(), 0u);
    EXPECT_EQ(list_.release.bytes, 0u);
    EXPECT_EQ(list_.release.tail_bytes, 0u);
  }

  const tcx_size_class &row() const {
    return tcx_size_classes[id_];
  }
  void Remove(unsigned count) {
    void *batch[TCX_BATCH_MAX];
    count = tcx_central_freelist_remove_range(&list_, batch, count);
    for (unsigned i = 0; i < count; i++) {
      Tag(batch[i], row().size);
      EXPECT_TRUE(out_.insert(batch[i]).second);
    }
  }
  void Insert(void *object) {
    EXPECT_TRUE(HasTag(object, row().size));
    EXPECT_EQ(out_.erase(object), 1u);
    tcx_central_freelist_insert_range(&list_, &object, 1);
  }
  void InsertAll() {
    while (!out_.empty())
      Insert(*out_.begin());
  }
  // All objects of so many spans are out.
  void Fill(unsigned spans) {
    while (out_.size() < size_t{spans} * row().objects) {
      size_t left = size_t{spans} * row().objects - out_.size();
      Remove(static_cast<unsigned>(std::min<size_t>(left, TCX_BATCH_MAX)));
    }
  }
  // All but the first object of each span.
  void FreeMost() {
    std::vector<void *> all(out_.begin(), out_.end());
    for (void *object : all) {
      if (object != tcx_span_start(tcx_pagemap_span_of(object)))
        Insert(object);
    }
  }
  // Round after round until one has looked at all spans.
  size_t Release(uint64_t now_ms, bool is_now, size_t bytes_max = SIZE_MAX) {
    bool is_done = false;
    size_t released = 0;
    while (!is_done)
      released += ReleaseOnce(now_ms, bytes_max, is_now, &is_done);
    return released;
  }
  size_t ReleaseOnce(uint64_t now_ms, size_t most, bool is_now, bool *is_done) {
    size_t looks_max = SIZE_MAX;
    return tcx_central_freelist_release(&list_, now_ms, most, &looks_max,
                                        is_now, is_done);
  }
  uint64_t DueMs(uint64_t now_ms) {
    return tcx_central_freelist_release_due_ms(&list_, now_ms);
  }
  // Until there is nothing to wait for. Returns when that is.
  uint64_t Quiet(uint64_t now_ms) {
    for (int looks = 0; looks < 30; looks++) {
      uint64_t due_ms = DueMs(now_ms);
      if (due_ms == UINT64_MAX)
        return now_ms;
      now_ms = due_ms;
      (void)Release(now_ms, false);
    }
    ADD_FAILURE() << "due for ever";
    return now_ms;
  }
  tcx_central_freelist_stats Stats() const {
    tcx_central_freelist_stats stats;
    tcx_central_freelist_read_stats(&list_, &stats);
    return stats;
  }
  void Check() {
    tcx_central_freelist_check(&list_);
    for (void *object : out_)
      ASSERT_TRUE(HasTag(object, row().size)) << "lost memory while in use";
    CheckKernel();
  }
  // What counts as released has no memory.
  void CheckKernel() {
    uint64_t bytes = 0;
    for (tcx_span *span : Spans()) {
      tcx_span_parts parts = tcx_span_parts_of(span);
      for (unsigned i = 0; i < parts.count; i++) {
        if ((span->released_words >> i & 1) == 0)
          continue;
        bytes += size_t{1} << parts.shift;
        unsigned char there[256] = {};
        char *part = tcx_span_start(span) + tcx_span_part_offset(parts, i);
        ASSERT_EQ(mincore(part, size_t{1} << parts.shift, there), 0);
        ASSERT_EQ(there[0] & 1, 0);
      }
    }
    EXPECT_EQ(bytes, Stats().released_bytes);
  }
  std::set<tcx_span *> Spans() const {
    std::set<tcx_span *> spans;
    for (void *object : out_)
      spans.insert(tcx_pagemap_span_of(object));
    return spans;
  }
  // What can go of these spans.
  size_t FreeBytes() const {
    size_t bytes = 0;
    for (tcx_span *span : Spans()) {
      tcx_span_parts parts = tcx_span_parts_of(span);
      uint64_t free_parts = tcx_span_parts_all(parts);
      for (void *object : out_) {
        size_t at = static_cast<char *>(object) - tcx_span_start(span);
        if (tcx_pagemap_span_of(object) == span)
          free_parts &= ~tcx_span_parts_touched(parts, at, at + row().size);
      }
      bytes += size_t(__builtin_popcountll(free_parts)) << parts.shift;
    }
    return bytes;
  }

  HookedPages pages_;
  tcx_central_freelist list_ = {};
  unsigned id_;
  std::set<void *> out_;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_MIDDLE_CENTRAL_RELEASE_TESTING_H_

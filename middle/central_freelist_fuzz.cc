// Fuzz target of central_freelist.h.
//
// Model: the set of the objects that are out. A span lives exactly while one of
// its objects is out; all counts follow from that. The page source is the fake
// one, which places spans at random, overwrites what comes back, and fails when
// the input says so. Both walks of invariants follow each step.
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "backend/fake_page_source.h"
#include "backend/metadata.h"
#include "base/check.h"
#include "base/config.h"
#include "middle/central_freelist.h"
#include "pagemap/pagemap.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;

// Far below what the fake page source has: however the spans lie, there is
// room for one more.
constexpr size_t kOutBytesMax = 16 * TCX_MIB;

uint64_t MetadataInUse() {
  tcx_metadata_stats stats;
  tcx_metadata_read_stats(&stats);
  return stats.in_use_bytes;
}

class ListAndModel {
 public:
  explicit ListAndModel(unsigned id) : row_(tcx_size_classes[id]) {
    tcx_central_freelist_init(&list_, pages_.get(), id);
  }

  void Remove(unsigned count) {
    if ((out_.size() + count) * row_.size > kOutBytesMax)
      return;
    uint64_t waiting = Stats().free_objects;
    size_t spans = pages_.allocations();
    void *batch[TCX_BATCH_MAX];
    unsigned moved = tcx_central_freelist_remove_range(&list_, batch, count);
    // What is there is handed out before any page is asked for.
    TCX_CHECK(moved == count || (may_fail_ && moved >= waiting));
    TCX_CHECK(count > waiting || pages_.allocations() == spans);
    for (unsigned i = 0; i < moved; i++)
      Add(batch[i]);
  }

  // Objects that the input picks, in its order.
  void Insert(FuzzInput *input, unsigned count) {
    void *batch[TCX_BATCH_MAX];
    unsigned taken = 0;
    while (taken < count && !out_.empty())
      batch[taken++] = Pick(input->Below(out_.size()));
    if (taken > 0)
      tcx_central_freelist_insert_range(&list_, batch, taken);
  }

  void FailAfter(size_t spans) {
    may_fail_ = true;
    pages_.FailAfter(spans);
  }
  void NeverFail() {
    may_fail_ = false;
    pages_.NeverFail();
  }

  void Check() {
    tcx_central_freelist_check(&list_);
    tcx_central_freelist_stats stats = Stats();
    TCX_CHECK(stats.out_objects == out_.size());
    TCX_CHECK(stats.spans == out_of_span_.size());
    TCX_CHECK(stats.spans == pages_.live_spans());
    TCX_CHECK(stats.spans_total == pages_.allocations());
    TCX_CHECK(stats.free_objects == stats.spans * row_.objects - out_.size());
  }

  size_t out() const {
    return out_.size();
  }

 private:
  tcx_central_freelist_stats Stats() const {
    tcx_central_freelist_stats stats;
    tcx_central_freelist_read_stats(&list_, &stats);
    return stats;
  }

  void Add(void *object) {
    const tcx_span *span = tcx_pagemap_span_of(object);
    TCX_CHECK(span != nullptr);
    TCX_CHECK(tcx_pagemap_class_byte(object) == 2 * list_.size_class);
    size_t offset =
        static_cast<size_t>(static_cast<char *>(object) - tcx_span_start(span));
    TCX_CHECK(offset % row_.size == 0 && offset / row_.size < row_.objects);
    // The tag of an object is its address. Handed out twice it is there
    // already.
    TCX_CHECK(*static_cast<void **>(object) != object);
    *static_cast<void **>(object) = object;
    out_.push_back(object);
    out_of_span_[span]++;
  }

  void *Pick(size_t index) {
    void *object = out_[index];
    out_[index] = out_.back();
    out_.pop_back();
    TCX_CHECK(*static_cast<void **>(object) == object);
    *static_cast<void **>(object) = nullptr;
    const tcx_span *span = tcx_pagemap_span_of(object);
    if (--out_of_span_[span] == 0)
      out_of_span_.erase(span);
    return object;
  }

  const tcx_size_class &row_;
  tcx::testing::FakePageSource pages_;
  tcx_central_freelist list_ = {};
  bool may_fail_ = false;
  std::vector<void *> out_;
  std::map<const tcx_span *, size_t> out_of_span_;
};

void RunInput(FuzzInput *input) {
  ListAndModel list(
      1 + static_cast<unsigned>(input->Below(TCX_RUN_CLASS_FIRST - 1)));
  while (!input->empty()) {
    unsigned choice = input->Byte();
    unsigned count = 1 + static_cast<unsigned>(input->Below(TCX_BATCH_MAX));
    if (choice % 16 == 0) {
      list.FailAfter(count % 4);
    } else if (choice % 16 == 1) {
      list.NeverFail();
    } else if (choice % 2 == 0) {
      list.Remove(count);
    } else {
      list.Insert(input, count);
    }
    list.Check();
  }
  // The input is used up: picks the first of what is left.
  while (list.out() > 0)
    list.Insert(input, TCX_BATCH_MAX);
  list.Check();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  uint64_t metadata = MetadataInUse();
  FuzzInput input(data, bytes);
  RunInput(&input);
  TCX_CHECK(MetadataInUse() == metadata);
  return 0;
}

// Fuzz target of span.h: the free bits of a span.
//
// Model: a std::set of the free objects. A span hands out the lowest, refuses
// what is free already, and its walk finds nothing wrong after any step. The
// bitmap has exactly the words it may use, so that AddressSanitizer sees more.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>

#include "base/check.h"
#include "pagemap/span.h"
#include "size_classes/size_classes.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;

constexpr uint64_t kFirstPage = uint64_t{1} << 20;

class SpanAndModel {
 public:
  explicit SpanAndModel(unsigned id) : row_(tcx_size_classes[id]) {
    if (row_.objects > 64 * TCX_SPAN_INLINE_WORDS)
      words_.reset(new uint64_t[tcx_span_bitmap_words(row_.objects)]);
    span_.first_page = kFirstPage;
    span_.pages = row_.pages;
    span_.state = TCX_SPAN_SMALL;
    tcx_span_init_objects(&span_, id, words_.get());
    for (unsigned i = 0; i < row_.objects; i++)
      free_.insert(i);
  }

  void Take(unsigned count) {
    void *batch[TCX_BATCH_MAX];
    unsigned taken = tcx_span_take(&span_, batch, count);
    TCX_CHECK(taken == (count < free_.size() ? count : free_.size()));
    for (unsigned i = 0; i < taken; i++) {
      size_t offset = size_t{*free_.begin()} * row_.size;
      TCX_CHECK(batch[i] == tcx_span_start(&span_) + offset);
      free_.erase(free_.begin());
    }
  }

  void Put(unsigned index) {
    TCX_CHECK(tcx_span_put(&span_, index) == free_.insert(index).second);
  }

  void Check() const {
    tcx_span_check(&span_);
    TCX_CHECK(span_.allocated + free_.size() == row_.objects);
  }

  unsigned objects() const {
    return row_.objects;
  }

 private:
  const tcx_size_class &row_;
  tcx_span span_ = {};
  std::unique_ptr<uint64_t[]> words_;
  std::set<unsigned> free_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  FuzzInput input(data, bytes);
  unsigned id = 1 + static_cast<unsigned>(input.Below(TCX_RUN_CLASS_FIRST - 1));
  SpanAndModel span(id);
  while (!input.empty()) {
    if (input.Byte() % 2 == 0) {
      span.Take(1 + static_cast<unsigned>(input.Below(TCX_BATCH_MAX)));
    } else {
      span.Put(static_cast<unsigned>(input.Below(span.objects())));
    }
    span.Check();
  }
  return 0;
}

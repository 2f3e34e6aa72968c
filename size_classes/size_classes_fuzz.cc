// Fuzz target of size_classes.h.
//
// Model: a search along the rows, and division. Whatever size, alignment or
// offset, the table, the closed form of the run classes and the multiplication
// by the reciprocal must say the same.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "size_classes/size_classes.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;

// The first class of at least `size` bytes that is a multiple of `align`.
unsigned SlowClass(size_t size, size_t align) {
  size_t least = size > align ? size : align;
  for (unsigned id = 1; id < TCX_SIZE_CLASS_COUNT; id++) {
    const tcx_size_class &row = tcx_size_classes[id];
    if (row.size >= least && row.size % align == 0)
      return id;
  }
  return 0;
}

void CheckSize(size_t size, size_t align) {
  TCX_CHECK(tcx_size_class_of(size) == SlowClass(size, 1));
  TCX_CHECK(tcx_size_class_of_aligned(size, align) == SlowClass(size, align));
  // The look-up of malloc's fast path: the class, or 0 where it is not small.
  if (size <= TCX_MAX_INDEXED_SIZE) {
    uint16_t index =
        static_cast<uint16_t>((static_cast<uint32_t>(size) + 15) >> 4);
    unsigned expected = size <= TCX_MAX_SMALL_SIZE ? SlowClass(size, 1) : 0;
    TCX_CHECK(tcx_size_class_table[index] == 16 * expected);
  }
}

void CheckOffset(unsigned id, uint32_t offset) {
  const tcx_size_class &row = tcx_size_classes[id];
  uint32_t index = row.objects > 1 ? offset / row.size : 0;
  TCX_CHECK(tcx_object_index(&row, offset) == index);
  bool is_multiple = row.objects > 1 ? offset % row.size == 0 : offset == 0;
  TCX_CHECK((tcx_object_offset_is_multiple(&row, offset) != 0) == is_multiple);
  bool is_start = is_multiple && index < row.objects;
  TCX_CHECK((tcx_object_offset_is_exact(&row, offset) != 0) == is_start);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  static const bool is_sound = [] {
    tcx_size_classes_init();
    return tcx_size_classes_check() == 0;
  }();
  TCX_CHECK(is_sound);
  FuzzInput input(data, bytes);
  while (!input.empty()) {
    unsigned choice = input.Byte();
    size_t size = choice % 4 == 0 ? input.Number(8) : input.Size(24);
    size_t align = size_t{1} << input.Below(TCX_PAGE_SHIFT + 1);
    CheckSize(size, align);
    unsigned id =
        1 + static_cast<unsigned>(input.Below(TCX_SIZE_CLASS_COUNT - 1));
    const tcx_size_class &row = tcx_size_classes[id];
    size_t span_bytes = size_t{row.pages} << TCX_PAGE_SHIFT;
    // Any byte of the span, or one beside the start of an object.
    size_t offset = input.Below(span_bytes);
    if (choice % 2 == 0)
      offset = offset / row.size * row.size + (choice >> 1) % 3 - 1;
    if (offset < span_bytes)
      CheckOffset(id, static_cast<uint32_t>(offset));
  }
  return 0;
}

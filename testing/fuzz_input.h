// fuzz_input.h -- numbers out of the bytes of a fuzzer's input.
//
// Reads from the front; what is used up reads as zero. Targets take one byte to
// choose an operation, then its operands, and stop when empty.
#ifndef TCX_TESTING_FUZZ_INPUT_H_
#define TCX_TESTING_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>

namespace tcx {
namespace testing {

class FuzzInput {
 public:
  FuzzInput(const uint8_t *data, size_t bytes)
      : next_(data), end_(data + bytes) {}

  bool empty() const {
    return next_ == end_;
  }
  size_t left() const {
    return static_cast<size_t>(end_ - next_);
  }

  // A number of `bytes` bytes, at most 8.
  uint64_t Number(unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
      value = value << 8 | Byte();
    return value;
  }
  uint8_t Byte() {
    return next_ != end_ ? *next_++ : 0;
  }

  // 0 .. bound - 1, from no more bytes than that takes. bound > 0.
  size_t Below(size_t bound) {
    unsigned bytes = bound <= 1 << 8 ? 1 : bound <= 1 << 16 ? 2 : 4;
    return static_cast<size_t>(Number(bytes) % bound);
  }

  // 0 .. 2^bits (bits < 64): each power of two, and the numbers just beside it,
  // as likely as the next.
  uint64_t Size(unsigned bits) {
    unsigned shape = Byte();
    uint64_t power = uint64_t{1} << (shape >> 2) % (bits + 1);
    switch (shape & 3) {
      case 0:
        return power;
      case 1:
        return power - 1;
      default:
        return power / 2 + Number(3) % (power / 2 + 1);
    }
  }

  // True once in about `n` times.
  bool OneIn(unsigned n) {
    return Below(n) == 0;
  }

 private:
  const uint8_t *next_;
  const uint8_t *const end_;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_TESTING_FUZZ_INPUT_H_

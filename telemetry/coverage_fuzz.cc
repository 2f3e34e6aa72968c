// Fuzz target of coverage.h's parser.
//
// Model: the rules of the header restated over whole lines of a std::string.
// The text comes from the input; a byte from 128 on stands for a word that the
// file has, so that many texts are nearly right. It arrives in pieces whose
// lengths the input gives.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "telemetry/coverage.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;

const char *const kWords[] = {
    "200000-400000 rw-p 00000000 00:00 0\n",
    "7fff00000000-7fff00200000 r--p 0 /lib/a b.so\n",
    "Rss:             2048 kB\n",
    "AnonHugePages:   2048 kB\n",
    "AnonHugePages:",
    "Rss:",
    "Rss: 18014398509481984 kB\n",
    "Rss: 18446744073709551616 kB\n",
    "Rss: max kB\n",
    "VmFlags: rd wr\n",
    "ffffffffffffffff",
    "10000000000000000",
    " kB\n",
    "0",
    "-",
    " ",
    "\n",
    "                                                                        ",
};

bool IsEven(uintptr_t start, uintptr_t end) {
  TCX_CHECK(start < end);
  return (start >> 21) % 2 == 0;
}

// Hexadecimal, at most 16 digits beside zeros in front. npos: none.
size_t Address(const std::string &line, size_t at, uint64_t *out) {
  size_t end = line.find_first_not_of("0123456789abcdef", at);
  if (end == std::string::npos)
    end = line.size();
  if (end == at)
    return std::string::npos;
  std::string digits = line.substr(at, end - at);
  size_t first = digits.find_first_not_of('0');
  digits = first == std::string::npos ? "0" : digits.substr(first);
  if (digits.size() > 16)
    return std::string::npos;
  *out = std::stoull(digits, nullptr, 16);
  return end;
}

bool Range(const std::string &line, uint64_t *start, uint64_t *end) {
  size_t at = Address(line, 0, start);
  if (at >= line.size() || line[at] != '-')
    return false;
  at = Address(line, at + 1, end);
  return at < line.size() && line[at] == ' ' && *start < *end;
}

// In bytes.
bool Field(const std::string &line, const std::string &name, uint64_t *out) {
  if (line.compare(0, name.size(), name) != 0)
    return false;
  size_t at = line.find_first_not_of(' ', name.size());
  if (at == std::string::npos)
    return false;
  size_t end = line.find_first_not_of("0123456789", at);
  std::string digits = line.substr(at, end - at);
  size_t first = digits.find_first_not_of('0');
  if (digits.empty())
    return false;
  digits = first == std::string::npos ? "0" : digits.substr(first);
  constexpr uint64_t kMax = UINT64_MAX / 1024;
  if (digits.size() > 19 || std::stoull(digits) > kMax)
    return false;
  *out = std::stoull(digits) * 1024;
  return true;
}

struct Model {
  tcx_coverage sum = {0, 0, 0};
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t rss = 0;
  uint64_t huge = 0;

  void EndMapping() {
    if (rss > 0 && start < end && IsEven(start, end)) {
      sum.resident_bytes += rss;
      sum.huge_bytes += huge;
      sum.mappings++;
    }
    rss = 0;
    huge = 0;
  }

  void Line(const std::string &whole) {
    std::string line = whole.substr(0, TCX_COVERAGE_LINE_BYTES);
    uint64_t from = 0;
    uint64_t to = 0;
    if (Range(line, &from, &to)) {
      EndMapping();
      start = from;
      end = to;
    } else if (!Field(line, "Rss:", &rss)) {
      Field(line, "AnonHugePages:", &huge);
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  FuzzInput input(data, bytes);
  tcx_coverage_reader reader;
  tcx_coverage_begin(&reader, IsEven);
  std::string text;
  while (!input.empty()) {
    std::string piece;
    for (size_t left = input.Below(8); left > 0 && !input.empty(); left--) {
      uint8_t byte = input.Byte();
      if (byte < 128) {
        piece += static_cast<char>(byte);
      } else {
        piece += kWords[(byte - 128) % (sizeof kWords / sizeof kWords[0])];
      }
    }
    tcx_coverage_add(&reader, piece.data(), piece.size());
    text += piece;
  }
  tcx_coverage_end(&reader);

  Model model;
  size_t at = 0;
  for (size_t stop; (stop = text.find('\n', at)) != std::string::npos;
       at = stop + 1) {
    model.Line(text.substr(at, stop - at));
  }
  model.Line(text.substr(at));
  model.EndMapping();
  TCX_CHECK(reader.sum.resident_bytes == model.sum.resident_bytes);
  TCX_CHECK(reader.sum.huge_bytes == model.sum.huge_bytes);
  TCX_CHECK(reader.sum.mappings == model.sum.mappings);
  return 0;
}

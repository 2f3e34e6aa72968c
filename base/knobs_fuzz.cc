// Fuzz target of knobs.h: settings in a text.
//
// Model: the grammar of the header restated over std::string, and a map of the
// values as text. After each input every knob must have the value of the model,
// those that were set their source, and standard error one line that begins
// with "tcx: " for each bad setting.
//
// A byte of the input from 128 on stands for a whole word: a name, a unit, a
// separator; so that most texts are nearly right.
#include <errno.h>
#include <sanitizer/common_interface_defs.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/knobs.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;

// -- The table of the settings, once more -------------------------------------

struct Knob {
  std::string kind;
  std::string name;
  uint64_t least;
  uint64_t most;
  bool is_live;
  std::string text;
};

const std::vector<Knob> kKnobs = {
#define TCX_KNOB(kind, name, initial, least, most, live, text) \
  {#kind, #name, least, most, live != 0, text},
#define TCX_KNOB_TEXT(name, text) \
  {"TEXT", #name, 0, TCX_KNOB_TEXT_BYTES - 1, false, text},
#include "base/knobs.def"
#undef TCX_KNOB
#undef TCX_KNOB_TEXT
};

const char *const kWords[] = {",",        ":",
                              "=",        "\n",
                              "#",        " ",
                              "0",        "1",
                              "on",       "off",
                              "k",        "M",
                              "G",        "T",
                              "ms",       "s",
                              "m",        "true",
                              "libc",     "abort",
                              "exit",     "auto",
                              "64",       "4096",
                              "1000",     "18446744073709551616",
                              "16777217", "18014398509481984"};

std::string Text(FuzzInput *input) {
  std::string text;
  while (!input->empty()) {
    size_t byte = input->Byte();
    size_t word = byte - 128;
    if (byte < 128) {
      text += static_cast<char>(byte);
    } else if (word < kKnobs.size()) {
      text += kKnobs[word].name;
    } else {
      text +=
          kWords[(word - kKnobs.size()) % (sizeof(kWords) / sizeof(kWords[0]))];
    }
  }
  return text;
}

// -- The model ----------------------------------------------------------------

using Values = std::map<std::string, std::string>;

int ReadNumber(const std::string &kind, const std::string &text,
               uint64_t *out) {
  static const std::map<std::string, std::map<std::string, uint64_t>> kUnits = {
      {"COUNT", {{"", 1}}},
      {"TIME", {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}}},
      {"BYTES",
       {{"", 1},
        {"k", 1ull << 10},
        {"K", 1ull << 10},
        {"m", 1ull << 20},
        {"M", 1ull << 20},
        {"g", 1ull << 30},
        {"G", 1ull << 30},
        {"t", 1ull << 40},
        {"T", 1ull << 40}}}};
  size_t digits = text.find_first_not_of("0123456789");
  if (digits == std::string::npos)
    digits = text.size();
  unsigned __int128 value = 0;
  for (size_t i = 0; i < digits; i++) {
    value = 10 * value + static_cast<unsigned>(text[i] - '0');
    if (value > UINT64_MAX)
      return ERANGE;
  }
  auto &units = kUnits.at(kind);
  auto unit = units.find(text.substr(digits));
  if (digits == 0 || unit == units.end())
    return EINVAL;
  value *= unit->second;
  *out = static_cast<uint64_t>(value);
  return value > UINT64_MAX ? ERANGE : 0;
}

// The value as it will be shown, or why there is none.
int ReadValue(const Knob &knob, const std::string &text, std::string *shown) {
  if (knob.kind == "TEXT") {
    *shown = text.c_str();
    return text.size() > knob.most ? ERANGE : 0;
  }
  if (knob.kind == "FLAG") {
    static const std::map<std::string, std::string> kFlags = {
        {"0", "0"}, {"off", "0"}, {"false", "0"},
        {"1", "1"}, {"on", "1"},  {"true", "1"}};
    auto flag = kFlags.find(text);
    if (flag == kFlags.end())
      return EINVAL;
    *shown = flag->second;
    return 0;
  }
  if (knob.kind == "CHOICE") {
    *shown = text;
    std::string words = "|" + knob.text.substr(0, knob.text.find(':')) + "|";
    bool is_word = text.find_first_of("|:") == std::string::npos &&
                   words.find("|" + text + "|") != std::string::npos;
    return is_word ? 0 : EINVAL;
  }
  uint64_t value = 0;
  bool is_limit = knob.kind == "LIMIT";
  if (is_limit && text == "auto") {
    *shown = text;
    return 0;
  }
  int error = ReadNumber(is_limit ? "BYTES" : knob.kind, text, &value);
  *shown = is_limit && value == knob.most ? "auto" : std::to_string(value);
  if (error == 0 && (value < knob.least || value > knob.most))
    error = ERANGE;
  return error;
}

int Set(Values *values, const std::string &name, const std::string &text,
        tcx_knob_source source) {
  for (const Knob &knob : kKnobs) {
    if (knob.name != name)
      continue;
    if (source == TCX_KNOB_API && !knob.is_live)
      return EPERM;
    std::string shown;
    int error = ReadValue(knob, text, &shown);
    if (error == 0)
      (*values)[name] = shown;
    return error;
  }
  return ENOENT;
}

std::string Trim(const std::string &text) {
  size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string::npos)
    return "";
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// How many settings are bad; -1 where one of them would end the process.
int SetAll(Values *values, const std::string &text, bool is_lines) {
  int bad = 0;
  std::string rest = text + (is_lines ? '\n' : ',');
  while (!rest.empty()) {
    size_t end = rest.find(is_lines ? '\n' : ',');
    std::string one = rest.substr(0, end);
    rest.erase(0, end + 1);
    if (is_lines)
      one = one.substr(0, one.find('#'));
    one = Trim(one);
    if (one.empty())
      continue;
    size_t middle = one.find(is_lines ? '=' : ':');
    std::string name = Trim(one.substr(0, middle));
    std::string value =
        middle == std::string::npos ? "" : Trim(one.substr(middle + 1));
    if (Set(values, name, value, TCX_KNOB_CONF) != 0) {
      bad++;
      if ((*values)["abort_on_bad_config"] == "1")
        return -1;
    }
  }
  return bad;
}

// -- Beside tcx ---------------------------------------------------------------

// While one lives, standard error is a file.
class Captured {
 public:
  Captured() {
    static const int kStderr = [] {
      int fd = dup(STDERR_FILENO);
      __sanitizer_set_report_fd(reinterpret_cast<void *>(intptr_t{fd}));
      return fd;
    }();
    static const int kFile = memfd_create("stderr", 0);
    saved_ = kStderr;
    file_ = kFile;
    TCX_CHECK(ftruncate(file_, 0) == 0 && lseek(file_, 0, SEEK_SET) == 0);
    dup2(file_, STDERR_FILENO);
  }
  ~Captured() {
    dup2(saved_, STDERR_FILENO);
  }
  std::string text() const {
    std::string text(static_cast<size_t>(lseek(file_, 0, SEEK_END)), 0);
    TCX_CHECK(pread(file_, &text[0], text.size(), 0) ==
              static_cast<ssize_t>(text.size()));
    return text;
  }

 private:
  int saved_;
  int file_;
};

Values Read() {
  Values values;
  for (const Knob &knob : kKnobs) {
    char value[TCX_KNOB_TEXT_BYTES];
    TCX_CHECK(tcx_knob_get(knob.name.c_str(), value, sizeof value) == 0);
    values[knob.name] = value;
  }
  return values;
}

void CheckLines(const std::string &text, int expected) {
  int lines = 0;
  for (size_t at = 0; at < text.size(); lines++) {
    TCX_CHECK(text.compare(at, 5, "tcx: ") == 0);
    at = text.find('\n', at) + 1;
    TCX_CHECK(at != 0);
  }
  TCX_CHECK(lines == expected);
}

// A buffer of that length: a byte read beyond the end is seen.
std::unique_ptr<char[]> Exactly(const std::string &text) {
  std::unique_ptr<char[]> bytes(new char[text.size()]);
  memcpy(bytes.get(), text.data(), text.size());
  return bytes;
}

void RunText(const std::string &text, bool is_lines) {
  Values expected = Read();
  int bad = SetAll(&expected, text, is_lines);
  if (bad < 0)
    return;
  std::unique_ptr<char[]> bytes = Exactly(text);
  std::string said;
  {
    Captured captured;
    (is_lines ? tcx_knobs_parse_lines : tcx_knobs_parse_pairs)(
        bytes.get(), text.size(), "fuzz", TCX_KNOB_CONF);
    said = captured.text();
  }
  TCX_CHECK(Read() == expected);
  CheckLines(said, bad);
}

void RunOne(const std::string &name, const std::string &text,
            tcx_knob_source source) {
  Values expected = Read();
  int error = Set(&expected, name, text, source);
  std::unique_ptr<char[]> bytes = Exactly(text);
  TCX_CHECK(tcx_knob_set(name.data(), name.size(), bytes.get(), text.size(),
                         source) == error);
  TCX_CHECK(Read() == expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  static const struct tcx_knobs initial = tcx_knobs;
  tcx_knobs = initial;
  FuzzInput input(data, bytes);
  unsigned choice = input.Byte();
  const Knob &knob = kKnobs[input.Below(kKnobs.size())];
  std::string text = Text(&input);
  if (choice % 4 < 2) {
    RunText(text, choice % 4 == 0);
  } else {
    RunOne(choice % 16 == 2 ? text : knob.name, text,
           choice % 4 == 2 ? TCX_KNOB_CONF : TCX_KNOB_API);
  }
  return 0;
}

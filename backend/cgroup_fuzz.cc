// Fuzz target of cgroup.h and of the automatic limit over it.
//
// Model: the rules of both headers restated over std::string and a map of
// files. The texts of all files come from the input; a byte from 128 on stands
// for a word that such files have, so that many texts are nearly right.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cgroup.h"
#include "backend/fake_files.h"
#include "backend/limits.h"
#include "base/check.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FakeFiles;
using tcx::testing::FuzzInput;

constexpr uint64_t kNone = UINT64_MAX;
constexpr size_t kLineMax = 1024;  // longer lines are passed over

const char *const kWords[] = {"0::/",
                              "4:memory:/",
                              "cpu,memory",
                              "a",
                              "/",
                              "a/b",
                              "\n",
                              ":",
                              ",",
                              " ",
                              "30 23 0:26 / /m rw - cgroup2 c rw\n",
                              "30 23 0:26 /a /m rw x - cgroup c rw,memory\n",
                              "30 23 0:26 / /m rw - cgroup c rw,memory\n",
                              "max",
                              "1000000000",
                              "9223372036854771712",
                              "18446744073709551616",
                              "inactive_file ",
                              "total_inactive_file ",
                              "memory",
                              "cgroup2",
                              " - "};

std::string Text(FuzzInput *input) {
  std::string text;
  size_t length = input->Below(24);
  while (length-- > 0 && !input->empty()) {
    size_t byte = input->Byte();
    if (byte < 128) {
      text += static_cast<char>(byte);
    } else if (byte == 255) {
      text += std::string(kLineMax, 'x');
    } else {
      text += kWords[(byte - 128) % (sizeof(kWords) / sizeof(kWords[0]))];
    }
  }
  return text;
}

// -- The model ----------------------------------------------------------------

std::vector<std::string> Split(const std::string &text, char end) {
  std::vector<std::string> parts;
  size_t start = 0;
  for (size_t stop; (stop = text.find(end, start)) != std::string::npos;
       start = stop + 1) {
    parts.push_back(text.substr(start, stop - start));
  }
  parts.push_back(text.substr(start));
  return parts;
}

bool Has(const std::vector<std::string> &words, const std::string &word) {
  for (const std::string &one : words) {
    if (one == word)
      return true;
  }
  return false;
}

// Without those that do not fit the reader, nor the empty one at the end.
std::vector<std::string> Lines(FakeFiles *files, const std::string &path) {
  std::vector<std::string> lines;
  auto file = files->texts.find(path);
  if (file == files->texts.end())
    return lines;
  std::vector<std::string> all = Split(file->second, '\n');
  for (size_t i = 0; i < all.size(); i++) {
    bool is_last = i + 1 == all.size();
    size_t bytes = all[i].size() + !is_last;
    bool fits = is_last ? bytes > 0 && bytes < kLineMax : bytes <= kLineMax;
    if (fits)
      lines.push_back(all[i]);
  }
  return lines;
}

// What is behind the first `count` separators.
std::string Behind(const std::string &line, char separator, int count) {
  size_t start = 0;
  for (int i = 0; i < count; i++) {
    size_t stop = line.find(separator, start);
    if (stop == std::string::npos)
      return "";
    start = stop + 1;
  }
  return line.substr(start);
}

struct Found {
  unsigned version = 0;
  std::string root;
  std::string path;
};

Found Find(FakeFiles *files) {
  unsigned version = 0;
  std::string path;
  for (const std::string &line : Lines(files, "/proc/self/cgroup")) {
    std::vector<std::string> parts = Split(line, ':');
    parts.resize(3);
    bool is_one = Has(Split(parts[1], ','), "memory");
    bool is_two = !is_one && parts[0] == "0" && parts[1].empty();
    std::string rest = Behind(line, ':', 2);
    if ((!is_one && !is_two) || rest.size() >= TCX_CGROUP_PATH_BYTES)
      continue;
    path = rest.c_str();
    version = is_one ? 1 : 2;
    if (is_one)
      break;
  }
  Found found;
  if (version == 0)
    return found;
  for (const std::string &line : Lines(files, "/proc/self/mountinfo")) {
    std::vector<std::string> parts = Split(line, ' ');
    size_t dash = 5;
    while (dash < parts.size() && parts[dash] != "-")
      dash++;
    parts.resize(dash + 3);
    bool fits =
        version == 2
            ? parts[dash + 1] == "cgroup2"
            : parts[dash + 1] == "cgroup" &&
                  Has(Split(Behind(line, ' ', static_cast<int>(dash) + 3), ','),
                      "memory");
    std::string root = parts[3] == "/" ? "" : parts[3];
    if (!fits || path.compare(0, root.size(), root) != 0)
      continue;
    std::string rest = path.substr(root.size());
    if (!rest.empty() && rest[0] != '/')
      continue;
    if (rest == "/")
      rest = "";
    if (parts[4].size() + rest.size() >= TCX_CGROUP_PATH_BYTES)
      continue;
    found.version = version;
    found.root = parts[4];
    found.path = parts[4] + rest;
    return found;
  }
  return found;
}

// Texts without a zero byte, so that paths are strings.
void RemoveZeros(std::string *text) {
  for (char &c : *text) {
    if (c == 0)
      c = '0';
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  FuzzInput input(data, bytes);
  FakeFiles files;
  for (const char *path : {"/proc/self/cgroup", "/proc/self/mountinfo"}) {
    files[path] = Text(&input);
    RemoveZeros(&files[path]);
  }
  Found want = Find(&files);
  tcx_cgroup group;
  TCX_CHECK((tcx_cgroup_find(&group) == 0) == (want.version != 0));
  TCX_CHECK(group.version == want.version);
  if (want.version == 0)
    return 0;
  TCX_CHECK(group.path == want.path);
  TCX_CHECK(group.root_bytes == want.root.size());

  const char *const names[] = {"memory.max",     "memory.limit_in_bytes",
                               "memory.high",    "memory.usage_in_bytes",
                               "memory.current", "memory.stat"};
  std::string folder = want.path;
  for (int i = 0; i < 2; i++) {
    for (const char *name : names) {
      if (!input.OneIn(4))
        files[folder + "/" + name] = Text(&input);
    }
    size_t slash = folder.rfind('/');
    if (slash != std::string::npos && slash >= want.root.size())
      folder.resize(slash);
  }
  uint64_t resident = input.Size(40);
  tcx_limits limits;
  tcx_limits_init(&limits);
  tcx_limits_set(&limits, TCX_KNOB_LIMIT_AUTO, 0, TCX_HARD_LIMIT_FAIL);
  tcx_limits_refresh(&limits, resident, 0);
  tcx_limits_check(&limits);
  uint64_t least = kNone;
  tcx_cgroup_memory memory;
  for (unsigned level = 0; tcx_cgroup_read(&group, level, &memory) == 0;
       level++) {
    TCX_CHECK(level < TCX_CGROUP_LEVELS_MAX);
    if (memory.limit_bytes == kNone)
      continue;
    uint64_t others =
        memory.charge_bytes > resident ? memory.charge_bytes - resident : 0;
    uint64_t usable = memory.limit_bytes - memory.limit_bytes / 10;
    uint64_t left = usable > others ? usable - others : 0;
    least = std::min(least, std::max(left, uint64_t{1} << 20));
  }
  TCX_CHECK(tcx_limits_soft(&limits) == least);
  return 0;
}

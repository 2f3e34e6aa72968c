// fuzz_main.cc -- in every fuzz target: how libFuzzer and tcx get along, and
// where files go when Bazel runs the target.
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/log.h"

extern "C" int LLVMFuzzerInitialize(int *argc, char ***argv);

namespace {

bool IsFile(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool IsFolder(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

// New inputs go to the first folder named, inputs that crash to the prefix.
// Neither may be the corpus of the source tree, which a test cannot write.
void AddFolders(std::vector<char *> *args) {
  const char *temporary = getenv("TEST_TMPDIR");
  const char *kept = getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  if (temporary == nullptr)
    return;
  static std::string prefix = std::string("-artifact_prefix=") +
                              (kept != nullptr ? kept : temporary) + "/";
  static std::string found = std::string(temporary) + "/found";
  mkdir(found.c_str(), 0777);
  args->insert(args->begin() + 1, {&prefix[0], &found[0]});
}

}  // namespace

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  // tcx ends a process without its SIGABRT handlers; libFuzzer needs to be
  // called, so that it writes the input.
  tcx_fatal_install([] { abort(); });
  static std::vector<char *> args(*argv, *argv + *argc);
  // A file is an input to run again; libFuzzer does so when no folder is named.
  if (std::any_of(args.begin() + 1, args.end(), IsFile)) {
    args.erase(std::remove_if(args.begin() + 1, args.end(), IsFolder),
               args.end());
  } else {
    AddFolders(&args);
  }
  *argc = static_cast<int>(args.size());
  args.push_back(nullptr);
  *argv = args.data();
  return 0;
}

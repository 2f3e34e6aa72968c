// fake_files.h -- for tests: files of the system that are a map of texts.
#ifndef TCX_BACKEND_FAKE_FILES_H_
#define TCX_BACKEND_FAKE_FILES_H_

#include <cerrno>
#include <functional>
#include <map>
#include <string>

#include "base/os_files.h"

namespace tcx {
namespace testing {

// One at a time, of one thread.
class FakeFiles {
 public:
  FakeFiles() {
    self_ = this;
    static const tcx_os_files kTable = {Read,
                                        [] { return self_->thp_disable; }};
    tcx_os_files_install(&kTable);
  }
  ~FakeFiles() {
    tcx_os_files_install(&tcx_os_files_linux);
  }
  FakeFiles(const FakeFiles &) = delete;
  FakeFiles &operator=(const FakeFiles &) = delete;

  std::string &operator[](const std::string &path) {
    return texts[path];
  }

  std::map<std::string, std::string> texts;
  intptr_t thp_disable = 0;
  unsigned reads = 0;
  std::function<void()> on_read;  // after it was counted
  // Of a read that fails; 0: it does not.
  std::function<int(const std::string &path)> error_of;

 private:
  static intptr_t Read(const char *path, uint64_t offset, char *buffer,
                       size_t capacity) {
    self_->reads++;
    if (self_->on_read)
      self_->on_read();
    int error = self_->error_of ? self_->error_of(path) : 0;
    if (error != 0)
      return -error;
    auto file = self_->texts.find(path);
    if (file == self_->texts.end())
      return -ENOENT;
    if (offset >= file->second.size())
      return 0;
    return static_cast<intptr_t>(file->second.copy(buffer, capacity, offset));
  }

  static inline FakeFiles *self_;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_FAKE_FILES_H_

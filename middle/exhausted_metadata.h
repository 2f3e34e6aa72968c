// exhausted_metadata.h -- for tests: while one lives, tcx_metadata_allocate
// returns NULL for buffers of a size.
#ifndef TCX_MIDDLE_EXHAUSTED_METADATA_H_
#define TCX_MIDDLE_EXHAUSTED_METADATA_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/metadata.h"
#include "base/os.h"

namespace tcx {
namespace testing {

// Makes mmap fail and then takes what the pools still have.
class ExhaustedMetadata {
 public:
  explicit ExhaustedMetadata(size_t bytes) : bytes_(bytes) {
    static tcx_os_calls calls;
    calls = tcx_os_linux;
    calls.mmap = [](void *, size_t, int, int) {
      return static_cast<intptr_t>(-ENOMEM);
    };
    calls.mprotect = [](void *, size_t, int) {
      return static_cast<intptr_t>(-ENOMEM);
    };
    tcx_os_install(&calls);
    while (void *buffer = tcx_metadata_allocate(bytes_)) {
      taken_.push_back(buffer);
    }
  }
  ~ExhaustedMetadata() {
    tcx_os_install(&tcx_os_linux);
    for (void *buffer : taken_) {
      tcx_metadata_free(buffer, bytes_);
    }
  }
  ExhaustedMetadata(const ExhaustedMetadata &) = delete;
  ExhaustedMetadata &operator=(const ExhaustedMetadata &) = delete;

 private:
  const size_t bytes_;
  std::vector<void *> taken_;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_MIDDLE_EXHAUSTED_METADATA_H_

// fuzz_system.h -- for fuzz targets: a system whose calls fail to order.
#ifndef TCX_TESTING_FUZZ_SYSTEM_H_
#define TCX_TESTING_FUZZ_SYSTEM_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "base/os.h"
#include "testing/fuzz_input.h"

namespace tcx {
namespace testing {

// Of one thread. Lives as long as the process, once installed.
class FailingSystem {
 public:
  FailingSystem() {
    static FailingSystem *self;
    self = this;
    calls_ = tcx_os_linux;
    calls_.mmap = [](void *at, size_t bytes, int protection, int flags) {
      return self->Fails(kMmap)
                 ? kFailure
                 : tcx_os_linux.mmap(at, bytes, protection, flags);
    };
    calls_.mprotect = [](void *at, size_t bytes, int protection) {
      return self->Fails(kMprotect)
                 ? kFailure
                 : tcx_os_linux.mprotect(at, bytes, protection);
    };
    calls_.madvise = [](void *at, size_t bytes, int advice) {
      return self->Fails(kMadvise) ? kFailure
                                   : tcx_os_linux.madvise(at, bytes, advice);
    };
    calls_.mremap = [](void *from, size_t old_bytes, size_t new_bytes,
                       int flags, void *to) {
      return self->Fails(kMremap)
                 ? kFailure
                 : tcx_os_linux.mremap(from, old_bytes, new_bytes, flags, to);
    };
    tcx_os_install(&calls_);
  }
  FailingSystem(const FailingSystem &) = delete;
  FailingSystem &operator=(const FailingSystem &) = delete;

  // A kind of call, when it begins to fail and how often: all by the input.
  void FailSome(FuzzInput *input) {
    Fault *fault = &faults_[input->Below(kCalls)];
    fault->skip = static_cast<unsigned>(input->Below(8));
    fault->count = 1 + static_cast<unsigned>(input->Below(4));
  }
  // The next `count` calls of each kind.
  void FailAll(unsigned count) {
    for (Fault &fault : faults_)
      fault = {0, count};
  }
  bool may_fail() const {
    for (const Fault &fault : faults_) {
      if (fault.count != 0)
        return true;
    }
    return false;
  }

 private:
  enum Call { kMmap, kMprotect, kMadvise, kMremap, kCalls };
  static constexpr intptr_t kFailure = -ENOMEM;

  struct Fault {
    unsigned skip = 0;   // so many more calls succeed
    unsigned count = 0;  // and then so many fail
  };

  bool Fails(Call call) {
    Fault *fault = &faults_[call];
    if (fault->count == 0)
      return false;
    if (fault->skip > 0) {
      fault->skip--;
      return false;
    }
    fault->count--;
    return true;
  }

  tcx_os_calls calls_;
  Fault faults_[kCalls];
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_TESTING_FUZZ_SYSTEM_H_

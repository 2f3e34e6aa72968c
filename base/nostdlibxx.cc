// nostdlibxx.cc -- what Abseil needs of libstdc++, without libstdc++.
//
// PLACE IN THE SYSTEM
//   Linked into the shared library alone: these are the only two functions
//   that the debugging part of Abseil leaves undefined when it is compiled with
//   -fno-exceptions. The version script keeps them local. In an executable the
//   program's own libstdc++ defines them.
#include <thread>

#include "base/log.h"
#include "base/os.h"

namespace std {

unsigned thread::hardware_concurrency() noexcept {
  return tcx_os_possible_cpus();
}

void __throw_bad_function_call() {
  tcx_fatal("an empty std::function");
}

}  // namespace std

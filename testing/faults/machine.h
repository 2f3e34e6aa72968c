// machine.h -- an operating system for tests: fails on plan, has another page
// size, another width of addresses, a bound on what may be committed.
//
// It stands behind the seam of base/os.h and passes calls on to the kernel. It
// is stricter than the kernel: a call that is not in whole pages of the machine
// ends the process, because the kernel would round it up and change memory that
// the caller did not name.
//
// Nothing here allocates. Installed before the first call of malloc
// (.preinit_array), so that the start of tcx meets it too.
#ifndef TCX_TESTING_FAULTS_MACHINE_H_
#define TCX_TESTING_FAULTS_MACHINE_H_

#include <cstddef>
#include <cstdint>

namespace tcx {
namespace testing {

enum Call { kMmap, kMunmap, kMprotect, kMadvise, kMremap, kCalls };

struct Machine {
  // Calls of these kinds (a bit each) are counted together; those from the
  // `first`-th on, `count` of them, fail with `error`. first == 0: none.
  unsigned long kinds;
  unsigned long first;
  unsigned long count;
  unsigned long error;
  // A mremap that fails has unmapped its target before, as the kernel may (1),
  // or has moved a half of it and unmapped the other (2).
  unsigned long unmaps;

  // 0: as the kernel has it. With 48 bits the kernel's own choice lies above
  // 2^47, as on arm64; with 57 below it, but hints above it are honoured.
  unsigned long address_bits;
  unsigned long page_bytes;
  // As vm.overcommit_memory = 2: bytes that may be writable; 0: no bound.
  unsigned long commit_bytes;
};
extern Machine machine;

void MachineInstall();
// No more faults; and calls are not counted any more.
void MachineStopFaults();

// Faults injected, of the process and of the calling thread.
unsigned long MachineInjected();
unsigned long MachineInjectedHere();
unsigned long MachineCalls(Call kind);
// Writable bytes, where there is a bound.
size_t MachineCommitted();

// One line on standard error, and exit(2).
[[noreturn]] void Fail(const char *what, unsigned long value = 0);

}  // namespace testing
}  // namespace tcx

#endif  // TCX_TESTING_FAULTS_MACHINE_H_

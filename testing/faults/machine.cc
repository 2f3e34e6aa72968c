// machine.cc -- see machine.h.
#include "testing/faults/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/os.h"

namespace tcx {
namespace testing {

Machine machine;

namespace {

constexpr uintptr_t kOwnLimit = uintptr_t{1} << 47;
constexpr uintptr_t kLowest = 1 << 20;
constexpr size_t kSearchStep = size_t{64} << 20;

unsigned long calls[kCalls];
unsigned long planned_calls;
bool is_over;
unsigned long injected;
thread_local unsigned long injected_here;
size_t committed;
uintptr_t cursor;  // the next mapping ends here; downwards

size_t PageBytes() {
  return machine.page_bytes != 0 ? machine.page_bytes
                                 : tcx_os_linux.page_size();
}

// The error that the plan has for this call, or 0.
intptr_t Planned(Call kind) {
  if (is_over)
    return 0;
  __atomic_fetch_add(&calls[kind], 1, __ATOMIC_RELAXED);
  if ((machine.kinds >> kind & 1) == 0 || machine.first == 0)
    return 0;
  unsigned long n = __atomic_add_fetch(&planned_calls, 1, __ATOMIC_RELAXED);
  if (n < machine.first || n - machine.first >= machine.count)
    return 0;
  __atomic_fetch_add(&injected, 1, __ATOMIC_RELAXED);
  injected_here++;
  return -static_cast<intptr_t>(machine.error);
}

void MustBeWhole(const char *what, const void *address, size_t bytes) {
  if (!tcx_is_aligned(reinterpret_cast<uintptr_t>(address), PageBytes()))
    Fail(what, reinterpret_cast<uintptr_t>(address));
  if (bytes == 0 || !tcx_is_aligned(bytes, PageBytes()))
    Fail(what, bytes);
}

bool IsHigh(const void *address, size_t bytes) {
  return reinterpret_cast<uintptr_t>(address) > kOwnLimit - bytes;
}

// -- where mappings go --------------------------------------------------------

uintptr_t AddressTop() {
  if (machine.address_bits == 0 || machine.address_bits > 47)
    return kOwnLimit - 4096;
  return uintptr_t{1} << machine.address_bits;
}

intptr_t MapAt(uintptr_t address, size_t bytes, int protection, int flags) {
  return tcx_os_linux.mmap(reinterpret_cast<void *>(address), bytes, protection,
                           flags | MAP_FIXED_NOREPLACE);
}

// At whole pages of the machine, below its top.
intptr_t MapAnywhere(size_t bytes, int protection, int flags) {
  for (int round = 0; round < 2; round++) {
    while (cursor > kLowest + bytes) {
      uintptr_t address = tcx_align_down(cursor - bytes, PageBytes());
      intptr_t result = MapAt(address, bytes, protection, flags);
      if (result != -EEXIST) {
        cursor = address;
        return result;
      }
      cursor -= cursor > kSearchStep ? kSearchStep : cursor;
    }
    cursor = AddressTop();
  }
  return -ENOMEM;
}

intptr_t Map(void *hint, size_t bytes, int protection, int flags) {
  uintptr_t address = reinterpret_cast<uintptr_t>(hint);
  if (hint != nullptr) {
    bool is_low = bytes < AddressTop() && address <= AddressTop() - bytes;
    if (!is_low && machine.address_bits > 48)
      Fail("a hint above 2^47", address);
    return is_low ? MapAt(address, bytes, protection, flags) : -ENOMEM;
  }
  // Nobody may touch what lies there, so nothing need be mapped.
  if (machine.address_bits == 48)
    return static_cast<intptr_t>(kOwnLimit + PageBytes());
  return MapAnywhere(bytes, protection, flags);
}

bool Charge(size_t bytes, int protection) {
  if (machine.commit_bytes == 0 || (protection & PROT_WRITE) == 0)
    return true;
  if (committed + bytes > machine.commit_bytes)
    return false;
  committed += bytes;
  return true;
}

// -- the calls ----------------------------------------------------------------

intptr_t FakeMmap(void *hint, size_t bytes, int protection, int flags) {
  if (intptr_t error = Planned(kMmap))
    return error;
  MustBeWhole("mmap of parts of pages", hint, bytes);
  if (!Charge(bytes, protection))
    return -ENOMEM;
  if (machine.address_bits == 0 && machine.page_bytes == 0)
    return tcx_os_linux.mmap(hint, bytes, protection, flags);
  return Map(hint, bytes, protection, flags);
}

intptr_t FakeMunmap(void *address, size_t bytes) {
  if (intptr_t error = Planned(kMunmap))
    return error;
  MustBeWhole("munmap of parts of pages", address, bytes);
  return IsHigh(address, bytes) ? 0 : tcx_os_linux.munmap(address, bytes);
}

intptr_t FakeMprotect(void *address, size_t bytes, int protection) {
  if (intptr_t error = Planned(kMprotect))
    return error;
  MustBeWhole("mprotect of parts of pages", address, bytes);
  if (!Charge(bytes, protection))
    return -ENOMEM;
  return tcx_os_linux.mprotect(address, bytes, protection);
}

intptr_t FakeMadvise(void *address, size_t bytes, int advice) {
  if (intptr_t error = Planned(kMadvise))
    return error;
  MustBeWhole("madvise of parts of pages", address, bytes);
  return tcx_os_linux.madvise(address, bytes, advice);
}

intptr_t FakeMremap(void *address, size_t old_bytes, size_t new_bytes,
                    int flags, void *target) {
  if (intptr_t error = Planned(kMremap)) {
    size_t moved =
        machine.unmaps == 2 ? tcx_align_down(new_bytes / 2, PageBytes()) : 0;
    if (moved != 0)
      tcx_os_linux.mremap(address, moved, moved, flags, target);
    if (machine.unmaps != 0)
      tcx_os_linux.munmap(static_cast<char *>(target) + moved,
                          new_bytes - moved);
    return error;
  }
  MustBeWhole("mremap of parts of pages", address, old_bytes);
  MustBeWhole("mremap to parts of pages", target, new_bytes);
  return tcx_os_linux.mremap(address, old_bytes, new_bytes, flags, target);
}

size_t FakeAddressSpaceLimit() {
  return tcx_os_linux.address_space_limit();
}

const struct tcx_os_calls kCallsOfMachine = {
    FakeMmap,    FakeMunmap, FakeMprotect,
    FakeMadvise, FakeMremap, FakeAddressSpaceLimit,
    PageBytes,
};

}  // namespace

void MachineInstall() {
  struct tcx_os_counts counts;
  tcx_os_read_counts(&counts);
  if (counts.calls[kMmap] != 0)
    Fail("tcx started before the machine was there");
  cursor = AddressTop();
  tcx_os_install(&kCallsOfMachine);
}

void MachineStopFaults() {
  is_over = true;
}

unsigned long MachineInjected() {
  return __atomic_load_n(&injected, __ATOMIC_RELAXED);
}

unsigned long MachineInjectedHere() {
  return injected_here;
}

unsigned long MachineCalls(Call kind) {
  return __atomic_load_n(&calls[kind], __ATOMIC_RELAXED);
}

size_t MachineCommitted() {
  return committed;
}

void Fail(const char *what, unsigned long value) {
  char text[200];
  int bytes = snprintf(text, sizeof text, "faults: %s (%#lx)\n", what, value);
  if (write(STDERR_FILENO, text, static_cast<size_t>(bytes)) < 0) {
  }
  _exit(2);
}

}  // namespace testing
}  // namespace tcx

// os.c -- what tcx asks of the operating system, by way of the table of calls.
//
// PLACE IN THE SYSTEM
//   backend, pagemap and metadata -> os.c -> tcx_os_calls (os_linux.c, or a
//   fake in tests).
//
// INVARIANTS
//   I1. No range at or above 2^TCX_ADDRESS_BITS leaves this file.
//   I2. errno is never changed: results are the kernel's own.
#include "base/os.h"

#include <errno.h>
#include <linux/mman.h>
#include <sys/mman.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"
#include "base/syscall.h"

#define ADDRESS_LIMIT ((uintptr_t)1 << TCX_ADDRESS_BITS)
// Where the search below the limit ends, its steps, and how many it takes.
#define LOW_FLOOR TCX_GIB
#define LOW_STEP_BYTES TCX_GIB
#define LOW_TRIES 64

enum { MMAP, MUNMAP, MPROTECT, MADVISE, MREMAP };

const char *const tcx_os_call_names[TCX_OS_CALL_KINDS] = {
    "mmap", "munmap", "mprotect", "madvise", "mremap"};
static_assert(MREMAP + 1 == TCX_OS_CALL_KINDS, "one counter per kind of call");

static const struct tcx_os_calls *calls = &tcx_os_linux;
static struct tcx_os_counts counts;
static size_t page_size;  // 0: not yet read.
// End of the next mapping on a machine where the kernel's own choice lies above
// the limit (arm64 with 48 bits); 0 elsewhere. Only a wish, so threads race.
static uintptr_t low_end;

void tcx_os_install(const struct tcx_os_calls *new_calls) {
  calls = new_calls;
  tcx_atomic_store_relaxed(&page_size, 0);
  tcx_atomic_store_relaxed(&low_end, 0);
}

void tcx_os_read_counts(struct tcx_os_counts *out) {
  for (int kind = 0; kind < TCX_OS_CALL_KINDS; kind++) {
    out->calls[kind] = tcx_atomic_load_relaxed(&counts.calls[kind]);
    out->failures[kind] = tcx_atomic_load_relaxed(&counts.failures[kind]);
  }
}

static intptr_t counted(int kind, intptr_t result) {
  tcx_atomic_fetch_add_relaxed(&counts.calls[kind], 1);
  if (result < 0)
    tcx_atomic_fetch_add_relaxed(&counts.failures[kind], 1);
  return result;
}

// 0, or an errno value.
static int as_error(intptr_t result) {
  return result < 0 ? (int)-result : 0;
}

size_t tcx_os_page_size(void) {
  size_t size = tcx_atomic_load_relaxed(&page_size);
  if (size == 0) {
    size = calls->page_size();
    TCX_CHECK(tcx_is_power_of_two(size));
    tcx_atomic_store_relaxed(&page_size, size);
  }
  return size;
}

size_t tcx_os_address_space_limit(void) {
  return calls->address_space_limit();
}

// One call; what is not at `hint` (if there is one), or not below 2^47, is
// undone. 0 and *out, or an errno value: EEXIST where `hint` is taken, ERANGE
// where the kernel knows only places that are too high.
static int map_once(void *hint, size_t bytes, int protection, int flags,
                    void **out) {
  *out = NULL;
  flags |= MAP_PRIVATE | MAP_ANONYMOUS;
  if (hint != NULL)
    flags |= MAP_FIXED_NOREPLACE;
  intptr_t result = counted(MMAP, calls->mmap(hint, bytes, protection, flags));
  if (result < 0)
    return as_error(result);
  uintptr_t start = (uintptr_t)result;
  // Kernels before 4.17 do not know the flag and take `hint` as a mere wish.
  bool misplaced = hint != NULL && start != (uintptr_t)hint;
  bool too_high = bytes > ADDRESS_LIMIT || start > ADDRESS_LIMIT - bytes;
  if (misplaced || too_high) {
    (void)tcx_os_unmap((void *)start, bytes);
    return misplaced ? EEXIST : ERANGE;
  }
  *out = (void *)start;
  return 0;
}

// Searches from 2^47 downwards, where nothing but our own mappings is near.
static void *map_low(size_t bytes, int protection, int flags) {
  if (bytes > ADDRESS_LIMIT - LOW_STEP_BYTES - LOW_FLOOR)
    return NULL;
  size_t length = tcx_align_up(bytes, tcx_os_page_size());
  for (int i = 0; i < LOW_TRIES; i++) {
    uintptr_t end = tcx_atomic_load_relaxed(&low_end);
    if (end < LOW_FLOOR + length)
      end = ADDRESS_LIMIT - LOW_STEP_BYTES;
    uintptr_t start = end - length;
    void *mapping;
    int error = map_once((void *)start, bytes, protection, flags, &mapping);
    if (error == 0) {
      tcx_atomic_store_relaxed(&low_end, start);
      return mapping;
    }
    if (error != EEXIST)
      return NULL;
    size_t step = tcx_max_size(length, LOW_STEP_BYTES);
    tcx_atomic_store_relaxed(&low_end, end > step ? end - step : 1);
  }
  return NULL;
}

// Maps at `hint` exactly, or with NULL anywhere below 2^47.
static void *map(void *hint, size_t bytes, int protection, int flags) {
  void *mapping = NULL;
  int error = ERANGE;
  if (hint != NULL || tcx_atomic_load_relaxed(&low_end) == 0)
    error = map_once(hint, bytes, protection, flags, &mapping);
  if (error == ERANGE && hint == NULL)
    mapping = map_low(bytes, protection, flags);
  return mapping;
}

void *tcx_os_reserve(void *hint, size_t bytes) {
  return map(hint, bytes, PROT_NONE, MAP_NORESERVE);
}

void *tcx_os_reserve_aligned(size_t bytes, size_t align) {
  size_t page = tcx_os_page_size();
  TCX_ASSERT(tcx_is_power_of_two(align));
  TCX_ASSERT(tcx_is_aligned(bytes, page));
  if (align <= page)
    return tcx_os_reserve(NULL, bytes);
  size_t slack = align - page;
  if (bytes > SIZE_MAX - slack)
    return NULL;
  char *start = (char *)tcx_os_reserve(NULL, bytes + slack);
  if (start == NULL)
    return NULL;
  size_t head = tcx_align_up((uintptr_t)start, align) - (uintptr_t)start;
  size_t tail = slack - head;
  // Should trimming fail, what stays is address space and no memory.
  if (head > 0)
    (void)tcx_os_unmap(start, head);
  if (tail > 0)
    (void)tcx_os_unmap(start + head + bytes, tail);
  TCX_ASSERT(tcx_is_aligned((uintptr_t)start + head, align));
  return start + head;
}

int tcx_os_commit(void *address, size_t bytes) {
  return as_error(counted(
      MPROTECT, calls->mprotect(address, bytes, PROT_READ | PROT_WRITE)));
}

void *tcx_os_map(size_t bytes) {
  return map(NULL, bytes, PROT_READ | PROT_WRITE, 0);
}

int tcx_os_unmap(void *address, size_t bytes) {
  return as_error(counted(MUNMAP, calls->munmap(address, bytes)));
}

int tcx_os_advise(void *address, size_t bytes, int advice) {
  return as_error(counted(MADVISE, calls->madvise(address, bytes, advice)));
}

int tcx_os_release(void *address, size_t bytes) {
  int error = tcx_os_advise(address, bytes, MADV_DONTNEED);
  if (error != EINVAL)
    return error;
  // Locked pages are refused so. The program that called mlockall() wanted no
  // page faults on what it uses; this range is free.
  tcx_syscall3(SYS_munlock, (intptr_t)address, (intptr_t)bytes, 0);
  return tcx_os_advise(address, bytes, MADV_DONTNEED);
}

int tcx_os_restore(void *address, size_t bytes) {
  void *mapping;
  return map_once(address, bytes, PROT_READ | PROT_WRITE, MAP_NORESERVE,
                  &mapping);
}

int tcx_os_remap(void *from, void *to, size_t bytes) {
  TCX_ASSERT(tcx_is_aligned(bytes, tcx_os_page_size()));
  return as_error(counted(
      MREMAP,
      calls->mremap(from, bytes, bytes,
                    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to)));
}

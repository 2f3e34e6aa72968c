// rseq.h -- restartable sequences: the area of each thread, and the fence.
//
// PLACE IN THE SYSTEM
//   Used by the per-CPU front end alone. The kernel keeps the number of the CPU
//   that a thread runs on in its registered area, and restarts a section whose
//   descriptor stands in `rseq_cs` when it takes the CPU away in the middle.
//   (rseq(2), membarrier(2); Documentation/userspace-api/rseq.rst.)
//
// WHAT IT DECIDES
//   Which area: the one that libc registered; else one of our own; else none,
//   and the thread has no per-CPU cache. Which number: mm_cid where the kernel
//   keeps it (dense from 0, so few caches serve many CPUs), else cpu_id.
//
// INVARIANT. Of an area that the kernel knows, tcx writes rseq_cs alone. All
//   other fields are read-only by the kernel's ABI, and newer kernels check it.
#ifndef TCX_BASE_RSEQ_H_
#define TCX_BASE_RSEQ_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// As the kernel has it (include/uapi/linux/rseq.h), up to mm_cid.
struct tcx_rseq_area {
  uint32_t cpu_id_start;
  int32_t cpu_id;  // negative: not registered
  uint64_t rseq_cs;
  uint32_t flags;
  uint32_t node_id;
  int32_t mm_cid;
  uint32_t reserved;
} __attribute__((aligned(32)));

static_assert(offsetof(struct tcx_rseq_area, rseq_cs) == 8, "kernel ABI");
static_assert(offsetof(struct tcx_rseq_area, mm_cid) == 24, "kernel ABI");
static_assert(sizeof(struct tcx_rseq_area) == 32, "the least the kernel takes");

// The word before each abort handler: as glibc registers it.
#if defined(__x86_64__)
#define TCX_RSEQ_SIGNATURE 0x53053053
#elif defined(__aarch64__)
#define TCX_RSEQ_SIGNATURE 0xd428bc00
#endif

// What the process can do; decided once.
struct tcx_rseq_support {
  bool is_usable;      // sections work, and the fence does
  bool has_mm_cid;     // ids are mm_cid, else cpu_id
  bool is_libcs_area;  // libc registers its threads
  const char *reason;  // why not usable, or "ok"
};

// Ids are below this, or it is not usable.
#define TCX_RSEQ_IDS 1024

// Finds out, and registers the process for the fence: cheap before there are
// threads, milliseconds later. Called once, at start. Not `wanted`: nothing is
// tried, and it is not usable.
const struct tcx_rseq_support *tcx_rseq_start(bool wanted);

// Where a thread without an area stands: ids of -1 for ever.
extern struct tcx_rseq_area tcx_rseq_nowhere;

// The calling thread's area that libc registered, or NULL.
struct tcx_rseq_area *tcx_rseq_of_libc(void);

// An area for the calling thread, with ids of -1; it must be unregistered
// before its memory goes. False: the kernel refused.
bool tcx_rseq_register(struct tcx_rseq_area *own);
void tcx_rseq_unregister(struct tcx_rseq_area *own);

// Every section of this process that was running anywhere has been aborted or
// has ended, and what it stored is visible. 0 or an errno value.
int tcx_rseq_fence(void);
// For tests: what tcx_rseq_fence does instead.
void tcx_rseq_fence_install(int (*fence)(void));

// What tcx_rseq_start asks of the kernel; -errno on failure. A seam for tests,
// to be installed before it.
struct tcx_rseq_calls {
  intptr_t (*membarrier)(int command);
  // sched_getaffinity(2) of this thread: EINVAL where there are more CPUs.
  intptr_t (*cpu_mask)(void *mask, size_t bytes);
};
extern const struct tcx_rseq_calls tcx_rseq_linux;
void tcx_rseq_install(const struct tcx_rseq_calls *calls);

TCX_END_DECLS

#endif  // TCX_BASE_RSEQ_H_

// rseq.c -- finding and registering areas; the fence. See rseq.h.
#include "base/rseq.h"

#include <errno.h>
#include <sys/auxv.h>

#include "base/syscall.h"

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#define AT_RSEQ_ALIGN 28
#endif
#ifndef SYS_rseq
#if defined(__x86_64__)
#define SYS_rseq 334
#elif defined(__aarch64__)
#define SYS_rseq 293
#endif
#endif
#define RSEQ_FLAG_UNREGISTER 1
#define MM_CID_END 28u  // of the area, with mm_cid

// linux/membarrier.h of newer kernels than Debian's headers.
#define MEMBARRIER_PRIVATE_EXPEDITED_RSEQ (1 << 7)
#define MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ (1 << 8)

// glibc 2.35 and newer; absent elsewhere. The offset is from the thread
// pointer, of either sign.
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

static struct tcx_rseq_support support;

static unsigned long auxiliary(unsigned long type) {
  int saved = errno;
  unsigned long value = getauxval(type);
  errno = saved;
  return value;
}

struct tcx_rseq_area tcx_rseq_nowhere = {.cpu_id = -1, .mm_cid = -1};

struct tcx_rseq_area *tcx_rseq_of_libc(void) {
  if (&__rseq_offset == NULL)
    return NULL;
  char *thread_pointer = (char *)__builtin_thread_pointer();
  struct tcx_rseq_area *area =
      (struct tcx_rseq_area *)(thread_pointer + __rseq_offset);
  return area->cpu_id >= 0 ? area : NULL;
}

static intptr_t call_rseq(struct tcx_rseq_area *area, int flags) {
  return tcx_syscall4(SYS_rseq, (intptr_t)area, sizeof *area, flags,
                      TCX_RSEQ_SIGNATURE);
}

bool tcx_rseq_register(struct tcx_rseq_area *own) {
  return call_rseq(own, 0) == 0;
}

void tcx_rseq_unregister(struct tcx_rseq_area *own) {
  (void)call_rseq(own, RSEQ_FLAG_UNREGISTER);
}

static intptr_t call_membarrier(int command) {
  return tcx_syscall3(SYS_membarrier, command, 0, 0);
}

static intptr_t call_cpu_mask(void *mask, size_t bytes) {
  return tcx_syscall3(SYS_sched_getaffinity, 0, (intptr_t)bytes,
                      (intptr_t)mask);
}

const struct tcx_rseq_calls tcx_rseq_linux = {
    .membarrier = call_membarrier,
    .cpu_mask = call_cpu_mask,
};
static const struct tcx_rseq_calls *calls = &tcx_rseq_linux;

void tcx_rseq_install(const struct tcx_rseq_calls *instead) {
  calls = instead;
}

// Sections use an id without a test. The kernel refuses a mask that is too
// short for all CPUs that can ever be there.
static bool ids_fit(void) {
  uint64_t mask[TCX_RSEQ_IDS / 64];
  return calls->cpu_mask(mask, sizeof mask) != -EINVAL;
}

static int (*fence_installed)(void);

void tcx_rseq_fence_install(int (*fence)(void)) {
  fence_installed = fence;
}

int tcx_rseq_fence(void) {
  if (TCX_UNLIKELY(fence_installed != NULL))
    return fence_installed();
  return (int)-calls->membarrier(MEMBARRIER_PRIVATE_EXPEDITED_RSEQ);
}

const struct tcx_rseq_support *tcx_rseq_start(bool wanted) {
  support.is_libcs_area = tcx_rseq_of_libc() != NULL;
  support.has_mm_cid = auxiliary(AT_RSEQ_FEATURE_SIZE) >= MM_CID_END;
  if (!wanted) {
    support.reason = "not wanted";
  } else if (!ids_fit()) {
    support.reason = "too many CPUs";
  } else if (calls->membarrier(MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ) !=
             0) {
    support.reason = "no membarrier for rseq";
  } else {
    support.is_usable = true;
    support.reason = "ok";
  }
  return &support;
}

// os.h -- what tcx asks of the operating system, through one seam.
//
// Every system call that tcx makes for memory goes through the table
// `tcx_os_calls`, so that a test can make the n-th call of a kind fail, or
// stand for a machine with another page size or address width.
//
// RULES
//   No function here changes errno. Failure is NULL, or an errno value as the
//   result (0 is success). All are thread safe; none allocates or locks.
#ifndef TCX_BASE_OS_H_
#define TCX_BASE_OS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// The raw calls, as system calls do it: a negative result is -errno.
struct tcx_os_calls {
  intptr_t (*mmap)(void *address, size_t bytes, int protection, int flags);
  intptr_t (*munmap)(void *address, size_t bytes);
  intptr_t (*mprotect)(void *address, size_t bytes, int protection);
  intptr_t (*madvise)(void *address, size_t bytes, int advice);
  intptr_t (*mremap)(void *address, size_t old_bytes, size_t new_bytes,
                     int flags, void *target);
  // Soft limit of RLIMIT_AS in bytes; SIZE_MAX when there is none.
  size_t (*address_space_limit)(void);
  // Page size of the system, in bytes.
  size_t (*page_size)(void);
};

// The real ones, and those in use. Installing a table is for tests; it must
// stay valid, and no other thread may be inside tcx meanwhile.
extern const struct tcx_os_calls tcx_os_linux;
void tcx_os_install(const struct tcx_os_calls *calls);

// Page size of the system in bytes, a power of two; read once.
size_t tcx_os_page_size(void);
// CPUs that can ever be there (/sys/devices/system/cpu/possible), as a bound of
// their ids: the highest id plus one; at least 1.
unsigned tcx_os_possible_cpus(void);
size_t tcx_os_address_space_limit(void);

// Reserves address space without memory (PROT_NONE, MAP_NORESERVE). `hint` is
// where, exactly (MAP_FIXED_NOREPLACE), or NULL for anywhere below 2^47.
// NULL: no address space, or something else is at `hint`.
TCX_NODISCARD void *tcx_os_reserve(void *hint, size_t bytes);
// The same, at a multiple of `align` (a power of two): reserves more and trims.
// pre: `bytes` is a multiple of the system's page size.
TCX_NODISCARD void *tcx_os_reserve_aligned(size_t bytes, size_t align);
// Makes a part of a reservation readable and writable. 0 or an errno value.
TCX_NODISCARD int tcx_os_commit(void *address, size_t bytes);
// Readable and writable zero pages, anywhere below 2^47. NULL: no memory.
TCX_NODISCARD void *tcx_os_map(size_t bytes);
int tcx_os_unmap(void *address, size_t bytes);
// madvise(2) with any advice. 0 or an errno value.
int tcx_os_advise(void *address, size_t bytes, int advice);
// Gives whole pages back (MADV_DONTNEED): they read as zero afterwards. Locked
// pages (mlockall) are unlocked and tried again. 0 or an errno value.
TCX_NODISCARD int tcx_os_release(void *address, size_t bytes);
// Moves the pages of a range to another range of the same length that is
// already ours, without copying where the kernel can (os_move.c); the old range
// stays mapped and reads as zero.
//   0                   all is moved, and no memory is behind the old range;
//   TCX_OS_COPIED       all is moved, but memory may be behind the old range;
//   TCX_OS_TARGET_LOST  nothing is moved, and `lost` says where nothing is
//                       mapped at the target until tcx_os_restore succeeds;
//   an errno value      nothing is moved; the target's content may be lost.
// pre: the target was readable and writable; both lie the same within a huge
// page; `bytes` is a multiple of the system's page size.
#define TCX_OS_TARGET_LOST (-1)
#define TCX_OS_COPIED (-2)
struct tcx_os_hole {
  char *start;
  size_t bytes;
};
TCX_NODISCARD int tcx_os_move(void *from, void *to, size_t bytes,
                              struct tcx_os_hole *lost);
// Fills a hole that a move left with zero pages. 0, or an errno value: EEXIST
// when something else lies there by now.
TCX_NODISCARD int tcx_os_restore(void *address, size_t bytes);
// The bare call of os_move.c: mremap onto the target, with MREMAP_DONTUNMAP. 0,
// or an errno value; both ranges are as the kernel left them then.
TCX_NODISCARD int tcx_os_remap(void *from, void *to, size_t bytes);

// How many of each call were made and how many failed; for statistics.
enum { TCX_OS_CALL_KINDS = 5 };
extern const char *const tcx_os_call_names[TCX_OS_CALL_KINDS];
struct tcx_os_counts {
  uint64_t calls[TCX_OS_CALL_KINDS];
  uint64_t failures[TCX_OS_CALL_KINDS];
};
void tcx_os_read_counts(struct tcx_os_counts *out);

// A number that nobody can guess; where the system has none yet, one that is
// hard to.
uint64_t tcx_os_random(void);

// Value of an environment variable, NULL if unset or the process is AT_SECURE.
// Works before libc's own start-up code has run (reads `environ`).
const char *tcx_os_getenv(const char *name);

// All variables, or NULL where tcx_os_getenv would give none.
char **tcx_os_environment(void);

// Reads a file of settings. Bytes read, or -errno; -EPERM where another than
// root and this user owns it, or others may write it; -EFBIG where it does not
// fit.
intptr_t tcx_os_read_trusted_file(const char *path, char *buffer,
                                  size_t capacity);

// Writes all of `text` to a descriptor; partial writes and EINTR handled.
void tcx_os_write(int fd, const char *text, size_t bytes);
// Opens a file to append to, makes it where there is none. -errno on failure.
int tcx_os_open_append(const char *path);
void tcx_os_close(int fd);

TCX_END_DECLS

#endif  // TCX_BASE_OS_H_

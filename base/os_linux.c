// os_linux.c -- the real system calls, and what Linux tells about the machine.
//
// WHAT IT DECIDES
//   Only raw calls: none sets errno, none allocates, none can be interposed.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/atomic.h"
#include "base/os.h"
#include "base/syscall.h"

static intptr_t linux_mmap(void *address, size_t bytes, int protection,
                           int flags) {
  return tcx_syscall6(SYS_mmap, (intptr_t)address, (intptr_t)bytes, protection,
                      flags, -1, 0);
}

static intptr_t linux_munmap(void *address, size_t bytes) {
  return tcx_syscall3(SYS_munmap, (intptr_t)address, (intptr_t)bytes, 0);
}

static intptr_t linux_mprotect(void *address, size_t bytes, int protection) {
  return tcx_syscall3(SYS_mprotect, (intptr_t)address, (intptr_t)bytes,
                      protection);
}

static intptr_t linux_madvise(void *address, size_t bytes, int advice) {
  return tcx_syscall3(SYS_madvise, (intptr_t)address, (intptr_t)bytes, advice);
}

static intptr_t linux_mremap(void *address, size_t old_bytes, size_t new_bytes,
                             int flags, void *target) {
  return tcx_syscall6(SYS_mremap, (intptr_t)address, (intptr_t)old_bytes,
                      (intptr_t)new_bytes, flags, (intptr_t)target, 0);
}

static size_t linux_address_space_limit(void) {
  struct {
    uint64_t soft;
    uint64_t hard;
  } limit = {SIZE_MAX, SIZE_MAX};
  if (tcx_syscall4(SYS_prlimit64, 0, RLIMIT_AS, 0, (intptr_t)&limit) < 0) {
    return SIZE_MAX;
  }
  return (size_t)limit.soft;  // RLIM64_INFINITY is SIZE_MAX.
}

// getauxval, which sets errno when there is no such entry.
static unsigned long auxiliary(unsigned long type) {
  int saved = errno;
  unsigned long value = getauxval(type);
  errno = saved;
  return value;
}

static size_t linux_page_size(void) {
  size_t size = auxiliary(AT_PAGESZ);
  return size != 0 ? size : 4096;
}

const struct tcx_os_calls tcx_os_linux = {
    linux_mmap,      linux_munmap, linux_mprotect,
    linux_madvise,   linux_mremap, linux_address_space_limit,
    linux_page_size,
};

// Bytes read; 0 also where there is no such file.
static size_t read_file(const char *path, char *buffer, size_t capacity) {
  intptr_t fd = tcx_syscall4(SYS_openat, AT_FDCWD, (intptr_t)path,
                             O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0)
    return 0;
  intptr_t bytes;
  do {
    bytes = tcx_syscall3(SYS_read, fd, (intptr_t)buffer, (intptr_t)capacity);
  } while (bytes == -EINTR);
  tcx_syscall3(SYS_close, fd, 0, 0);
  return bytes > 0 ? (size_t)bytes : 0;
}

// "0-3,8-11\n" -> 12: ids are indexes, so the highest one counts.
static unsigned count_from_list(const char *list, size_t bytes) {
  unsigned count = 0;
  unsigned id = 0;
  for (size_t i = 0; i < bytes; i++) {
    if (list[i] >= '0' && list[i] <= '9') {
      id = id * 10 + (unsigned)(list[i] - '0');
      if (id >= count)
        count = id + 1;
    } else {
      id = 0;
    }
  }
  return count;
}

// Without /sys: the kernel tells how long its CPU masks are.
static unsigned count_from_affinity(void) {
  uint64_t mask[128];
  intptr_t bytes =
      tcx_syscall3(SYS_sched_getaffinity, 0, sizeof(mask), (intptr_t)mask);
  return bytes > 0 ? (unsigned)bytes * 8 : 1;
}

unsigned tcx_os_possible_cpus(void) {
  static unsigned cached;
  unsigned count = tcx_atomic_load_relaxed(&cached);
  if (count != 0)
    return count;
  char list[1024] = {0};
  size_t bytes =
      read_file("/sys/devices/system/cpu/possible", list, sizeof(list));
  count = count_from_list(list, bytes);
  if (count == 0)
    count = count_from_affinity();
  tcx_atomic_store_relaxed(&cached, count);
  return count;
}

// Owned by root or this user, and writable by nobody else.
static bool is_trusted(intptr_t fd) {
  struct stat info = {0};
  if (tcx_syscall3(SYS_fstat, fd, (intptr_t)&info, 0) < 0)
    return false;
  bool is_ours = info.st_uid == 0 ||
                 info.st_uid == (uid_t)tcx_syscall3(SYS_geteuid, 0, 0, 0);
  return S_ISREG(info.st_mode) && is_ours && (info.st_mode & S_IWOTH) == 0;
}

intptr_t tcx_os_read_trusted_file(const char *path, char *buffer,
                                  size_t capacity) {
  intptr_t fd = tcx_syscall4(SYS_openat, AT_FDCWD, (intptr_t)path,
                             O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
  if (fd < 0)
    return fd;
  size_t bytes = 0;
  intptr_t got = is_trusted(fd) ? 1 : -EPERM;
  while (got > 0 && bytes < capacity) {
    got = tcx_syscall3(SYS_read, fd, (intptr_t)(buffer + bytes),
                       (intptr_t)(capacity - bytes));
    if (got > 0)
      bytes += (size_t)got;
    if (got == -EINTR)
      got = 1;
  }
  tcx_syscall3(SYS_close, fd, 0, 0);
  if (got < 0)
    return got;
  return bytes < capacity ? (intptr_t)bytes : -EFBIG;
}

uint64_t tcx_os_random(void) {
  uint64_t number = 0;
  if (tcx_syscall3(SYS_getrandom, (intptr_t)&number, sizeof number,
                   GRND_NONBLOCK) != sizeof number) {
    // Early after boot. The kernel gave the process 16 random bytes.
    memcpy(&number, (const void *)auxiliary(AT_RANDOM), sizeof number);
  }
  return number;
}

extern char **environ;
// The address of argc, as the kernel laid it out: argv and environment follow.
extern intptr_t *__libc_stack_end __attribute__((weak));

// libc's constructor sets `environ`; IFUNC resolvers and .preinit_array run
// before it.
static char **early_environment(void) {
  if (&__libc_stack_end == NULL || __libc_stack_end == NULL)
    return NULL;
  intptr_t argc = __libc_stack_end[0];
  return (char **)&__libc_stack_end[1 + argc + 1];
}

char **tcx_os_environment(void) {
  if (auxiliary(AT_SECURE) != 0)
    return NULL;
  return environ != NULL ? environ : early_environment();
}

const char *tcx_os_getenv(const char *name) {
  char **entry = tcx_os_environment();
  if (entry == NULL)
    return NULL;
  for (; *entry != NULL; entry++) {
    const char *have = *entry;
    const char *want = name;
    while (*want != 0 && *have == *want) {
      have++;
      want++;
    }
    if (*want == 0 && *have == '=')
      return have + 1;
  }
  return NULL;
}

// os_files.c -- reads small files of the system. See os_files.h.
#include "base/os_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/syscall.h"

static intptr_t linux_read(const char *path, uint64_t offset, char *buffer,
                           size_t capacity) {
  int fd = tcx_os_open_read(path);
  if (fd < 0)
    return fd;
  size_t bytes = 0;
  intptr_t got = 1;
  while (got > 0 && bytes < capacity) {
    got =
        tcx_syscall4(SYS_pread64, fd, (intptr_t)(buffer + bytes),
                     (intptr_t)(capacity - bytes), (intptr_t)(offset + bytes));
    if (got > 0)
      bytes += (size_t)got;
    if (got == -EINTR)
      got = 1;
  }
  tcx_syscall3(SYS_close, fd, 0, 0);
  return got < 0 ? got : (intptr_t)bytes;
}

static intptr_t linux_thp_disable(void) {
  return tcx_syscall6(SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0, 0);
}

const struct tcx_os_files tcx_os_files_linux = {linux_read, linux_thp_disable};

static const struct tcx_os_files *files = &tcx_os_files_linux;

void tcx_os_files_install(const struct tcx_os_files *new_files) {
  files = new_files;
}

intptr_t tcx_os_read_file(const char *path, uint64_t offset, char *buffer,
                          size_t capacity) {
  return files->read(path, offset, buffer, capacity);
}

intptr_t tcx_os_thp_disable(void) {
  return files->thp_disable();
}

int tcx_os_open_read(const char *path) {
  return (int)tcx_syscall4(SYS_openat, AT_FDCWD, (intptr_t)path,
                           O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
}

intptr_t tcx_os_read(int fd, char *buffer, size_t capacity) {
  intptr_t got = -EINTR;
  while (got == -EINTR)
    got = tcx_syscall3(SYS_read, fd, (intptr_t)buffer, (intptr_t)capacity);
  return got;
}

bool tcx_os_parse_number(const char *text, size_t bytes, uint64_t *out) {
  if (bytes >= 3 && memcmp(text, "max", 3) == 0) {
    *out = UINT64_MAX;
    return true;
  }
  uint64_t value = 0;
  size_t i = 0;
  for (; i < bytes && text[i] >= '0' && text[i] <= '9'; i++) {
    if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
        __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) {
      *out = UINT64_MAX;
      return true;
    }
  }
  *out = value;
  return i > 0;
}

bool tcx_os_read_number(const char *path, uint64_t *out) {
  char text[32];
  intptr_t bytes = tcx_os_read_file(path, 0, text, sizeof text);
  return bytes > 0 && tcx_os_parse_number(text, (size_t)bytes, out);
}

// os_write.c -- the calls of the OS layer that checks and messages need.
//
// PLACE IN THE SYSTEM
//   A file of its own, so that check and log do not depend on os.c, which
//   itself uses checks.
#include <errno.h>
#include <fcntl.h>

#include "base/os.h"
#include "base/syscall.h"

void tcx_os_write(int fd, const char *text, size_t bytes) {
  while (bytes > 0) {
    intptr_t written =
        tcx_syscall3(SYS_write, fd, (intptr_t)text, (intptr_t)bytes);
    if (written == -EINTR)
      continue;
    if (written <= 0)
      return;  // Nobody is left who could be told.
    text += written;
    bytes -= (size_t)written;
  }
}

int tcx_os_open_append(const char *path) {
  return (int)tcx_syscall4(SYS_openat, AT_FDCWD, (intptr_t)path,
                           O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

void tcx_os_close(int fd) {
  tcx_syscall3(SYS_close, fd, 0, 0);
}

// log.c -- messages of one line on standard error, and the last words.
//
// WHAT IT DECIDES
//   A line is built on the stack and written at once, so that lines of several
//   threads do not mix; what exceeds TCX_LOG_LINE_BYTES is cut off.
#include "base/log.h"

#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/fmt.h"
#include "base/os.h"
#include "base/syscall.h"

#define TCX_LOG_LINE_BYTES 512

static void write_line(const char *format, va_list args) {
  char line[TCX_LOG_LINE_BYTES + 1];
  struct tcx_fmt out;
  tcx_fmt_init(&out, line, TCX_LOG_LINE_BYTES);
  tcx_fmt_add(&out, "tcx: ");
  tcx_fmt_addv(&out, format, args);
  // The terminator's place is always there for the end of the line.
  line[out.bytes] = '\n';
  tcx_os_write(STDERR_FILENO, line, out.bytes + 1);
}

void tcx_log(const char *format, ...) {
  va_list args;
  va_start(args, format);
  write_line(format, args);
  va_end(args);
}

// As abort(), but the program's SIGABRT handler is not run: a lock of tcx may
// be held here, and a handler that allocates would hang instead of ending.
static TCX_NORETURN void die(void) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = SIG_DFL;
  sigaction(SIGABRT, &action, NULL);
  sigset_t abort_only;
  sigemptyset(&abort_only);
  sigaddset(&abort_only, SIGABRT);
  // Bytes of the kernel's set are 8, of libc's 128; the low ones agree.
  tcx_syscall4(SYS_rt_sigprocmask, SIG_UNBLOCK, (intptr_t)&abort_only, 0, 8);
  tcx_syscall3(SYS_tgkill, tcx_syscall3(SYS_getpid, 0, 0, 0),
               tcx_syscall3(SYS_gettid, 0, 0, 0), SIGABRT);
  // Reached if another thread put a handler back in between, or as init.
  for (;;)
    tcx_syscall3(SYS_exit_group, 128 + SIGABRT, 0, 0);
}

#ifdef TCX_COVERAGE
void __gcov_dump(void);
#endif

static void (*fatal_report)(void);

void tcx_fatal_install(void (*report)(void)) {
  fatal_report = report;
}

void tcx_fatal(const char *format, ...) {
  va_list args;
  va_start(args, format);
  write_line(format, args);
  va_end(args);
  void (*report)(void) = fatal_report;
  fatal_report = NULL;  // A failure inside it ends here.
  if (report != NULL)
    report();
#ifdef TCX_COVERAGE
  // In "bazel coverage" the lines of a process that is to end so count too.
  static int is_dumped;
  if (!is_dumped++)
    __gcov_dump();
#endif
  die();
}

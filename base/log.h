// log.h -- messages of one line on standard error, and the last words.
#ifndef TCX_BASE_LOG_H_
#define TCX_BASE_LOG_H_

#include "base/compiler.h"

TCX_BEGIN_DECLS

// Writes "tcx: MESSAGE\n" by one write(2). Format as tcx_fmt_add.
void tcx_log(const char *format, ...) TCX_PRINTF(1, 2);

// The same, then ends by SIGABRT, even where that is caught, ignored or
// blocked. The program's handler for it is not run: a lock of tcx may be held
// here.
TCX_COLD TCX_NORETURN void tcx_fatal(const char *format, ...) TCX_PRINTF(1, 2);

// What tcx_fatal calls between its line and the end, once, whatever else goes
// wrong in it: to print the stack. NULL: nothing. Called at start.
void tcx_fatal_install(void (*report)(void));

TCX_END_DECLS

#endif  // TCX_BASE_LOG_H_

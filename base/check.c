// check.c -- the end of the process after a failed check.
#include "base/check.h"

#include "base/log.h"

void tcx_check_failed(const char *file, int line, const char *text) {
  tcx_fatal("%s:%d: check failed: %s", file, line, text);
}

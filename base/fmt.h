// fmt.h -- text into a fixed buffer, without malloc, locale or stdio.
#ifndef TCX_BASE_FMT_H_
#define TCX_BASE_FMT_H_

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

// A buffer that is filled from the left and is always a terminated string.
// What does not fit is cut off.
struct tcx_fmt {
  char *text;
  size_t bytes;     // length of the text, without the terminator
  size_t capacity;  // of `text`, terminator included
};

void tcx_fmt_init(struct tcx_fmt *self, char *buffer, size_t capacity);
// printf's %s %c %d %u %x %p %% with l, ll, z and a field width, 0 and -. A
// null pointer is 0x0 by %p and (null) by %s.
void tcx_fmt_add(struct tcx_fmt *self, const char *format, ...)
    TCX_PRINTF(2, 3);
void tcx_fmt_addv(struct tcx_fmt *self, const char *format, va_list args)
    TCX_PRINTF(2, 0);

TCX_END_DECLS

#endif  // TCX_BASE_FMT_H_

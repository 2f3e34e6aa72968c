// stack.h -- the stack of the calling thread, for fatal reports.
#ifndef TCX_LIBC_STACK_H_
#define TCX_LIBC_STACK_H_

#include "base/compiler.h"

TCX_BEGIN_DECLS

// Writes a line "tcx:   at ADDRESS NAME" for each frame, innermost first, to
// standard error. Does not allocate. The function that called tcx is among them
// even where it has no frame pointer; its callers then are if the process has
// libgcc's unwinder.
void tcx_stack_print(void);

TCX_END_DECLS

#endif  // TCX_LIBC_STACK_H_

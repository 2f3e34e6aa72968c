// stack.h -- the stack of the calling thread, for fatal reports.
#ifndef TCX_LIBC_STACK_H_
#define TCX_LIBC_STACK_H_

#include "base/compiler.h"

TCX_BEGIN_DECLS

// Writes a line "tcx:   at ADDRESS NAME" for each frame, innermost first, to
// standard error. Does not allocate. Frames of code without frame pointers end
// the walk early.
void tcx_stack_print(void);

TCX_END_DECLS

#endif  // TCX_LIBC_STACK_H_

// replaced.h -- which operators new and delete the process really uses.
//
// The names are looked up by the linker or the loader, so the table holds what
// the program's own code calls; where that is not ours, the program replaced
// it. The table is constant after relocation.
#ifndef TCX_LIBC_REPLACED_H_
#define TCX_LIBC_REPLACED_H_

#include <stddef.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

struct tcx_operators {
  void *(*new_plain)(size_t size);
  void *(*new_array)(size_t size);
  void *(*new_aligned)(size_t size, size_t align);
  void *(*new_array_aligned)(size_t size, size_t align);
  void (*delete_plain)(void *pointer);
  void (*delete_array)(void *pointer);
  void (*delete_aligned)(void *pointer, size_t align);
  void (*delete_array_aligned)(void *pointer, size_t align);
};
extern TCX_HIDDEN const struct tcx_operators tcx_operators;

// Ours, whatever the program did.
TCX_HIDDEN void *tcx_operator_new_plain(size_t size);
TCX_HIDDEN void *tcx_operator_new_array(size_t size);
TCX_HIDDEN void *tcx_operator_new_aligned(size_t size, size_t align);
TCX_HIDDEN void *tcx_operator_new_array_aligned(size_t size, size_t align);
TCX_HIDDEN void tcx_operator_delete_plain(void *pointer);
TCX_HIDDEN void tcx_operator_delete_array(void *pointer);
TCX_HIDDEN void tcx_operator_delete_aligned(void *pointer, size_t align);
TCX_HIDDEN void tcx_operator_delete_array_aligned(void *pointer, size_t align);

#define TCX_REPLACED(form) \
  TCX_UNLIKELY(tcx_operators.form != tcx_operator_##form)

TCX_END_DECLS

#endif  // TCX_LIBC_REPLACED_H_

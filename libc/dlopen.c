// dlopen.c -- dlopen without RTLD_DEEPBIND. In the shared library only.
//
// PLACE IN THE SYSTEM
//   program --> our dlopen --(jump)--> libc's dlopen
//
// WHAT IT DECIDES
//   A library that is opened with RTLD_DEEPBIND looks for malloc and free in
//   its own dependencies first, and so finds glibc's, while the rest of the
//   process uses tcx: the first pointer that goes from one to the other ends
//   the process (PHP opens its extensions like that). So the flag is cleared,
//   unless the setting `deepbind` is 0 or tcx is disabled.
//
//   libc's dlopen asks who called it, by the return address: for the caller's
//   RUNPATH, its $ORIGIN and its name space. So it must not be called from
//   here: the function is a jump that leaves stack and arguments as they were.
#include <dlfcn.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/knobs.h"
#include "base/log.h"
#include "libc/heap.h"

typedef void *dlopen_function(const char *file, int mode);

TCX_HIDDEN dlopen_function *tcx_dlopen_prepare(int *mode);

// Clears the flag and says where to go on. Called by the jump below.
__attribute__((used)) dlopen_function *tcx_dlopen_prepare(int *mode) {
  static dlopen_function *next;
  dlopen_function *found = tcx_atomic_load_relaxed(&next);
  if (found == NULL) {
    found = (dlopen_function *)dlsym(RTLD_NEXT, "dlopen");
    if (found == NULL)
      tcx_fatal("dlopen(): this process has none but that of tcx");
    tcx_atomic_store_relaxed(&next, found);
  }
  if (tcx_heap_start() && tcx_knobs.deepbind != 0)
    *mode &= ~RTLD_DEEPBIND;
  return found;
}

#ifdef __x86_64__

// dlopen(%rdi = file, %esi = mode)
__asm__(
    ".text\n"
    ".globl dlopen\n"
    ".type dlopen, @function\n"
    ".p2align 4\n"
    "dlopen:\n"
    "  .cfi_startproc\n"
    "  endbr64\n"
    "  subq $24, %rsp\n"
    "  .cfi_adjust_cfa_offset 24\n"
    "  movq %rdi, (%rsp)\n"
    "  movl %esi, 8(%rsp)\n"
    "  leaq 8(%rsp), %rdi\n"
    "  call tcx_dlopen_prepare\n"
    "  movq (%rsp), %rdi\n"
    "  movl 8(%rsp), %esi\n"
    "  addq $24, %rsp\n"
    "  .cfi_adjust_cfa_offset -24\n"
    "  jmp *%rax\n"
    "  .cfi_endproc\n"
    "  .size dlopen, . - dlopen\n");

#elif defined(__aarch64__)

// dlopen(x0 = file, w1 = mode)
__asm__(
    ".text\n"
    ".globl dlopen\n"
    ".type dlopen, %function\n"
    ".p2align 4\n"
    "dlopen:\n"
    "  .cfi_startproc\n"
    "  hint 34\n"  // bti c, a nop elsewhere
    "  stp x29, x30, [sp, -32]!\n"
    "  .cfi_def_cfa_offset 32\n"
    "  .cfi_offset 29, -32\n"
    "  .cfi_offset 30, -24\n"
    "  mov x29, sp\n"
    "  str x0, [sp, 16]\n"
    "  str w1, [sp, 24]\n"
    "  add x0, sp, 24\n"
    "  bl tcx_dlopen_prepare\n"
    "  mov x16, x0\n"
    "  ldr x0, [sp, 16]\n"
    "  ldr w1, [sp, 24]\n"
    "  ldp x29, x30, [sp], 32\n"
    "  .cfi_def_cfa_offset 0\n"
    "  .cfi_restore 29\n"
    "  .cfi_restore 30\n"
    "  br x16\n"
    "  .cfi_endproc\n"
    "  .size dlopen, . - dlopen\n");

#else

// A call: libc takes tcx for the caller.
TCX_EXPORT void *dlopen(const char *file, int mode) {
  dlopen_function *next = tcx_dlopen_prepare(&mode);
  return next(file, mode);
}

#endif

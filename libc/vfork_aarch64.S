// vfork_aarch64.S -- vfork, for the per-CPU front end. See vfork_x86_64.S.
//
// The link register holds the return address, and survives in both; of the
// others a system call changes x0 alone.
#include <sys/syscall.h>

#include "frontend/thread_offsets.h"

#define CLONE_VM_VFORK_SIGCHLD 0x4111

	.text
	.globl	vfork, __vfork
	.type	vfork, @function
	.type	__vfork, @function
	.balign	64
vfork:
__vfork:
	.cfi_startproc
	mrs	x9, tpidr_el0
	adrp	x10, :gottprel:tcx_thread
	ldr	x10, [x10, :gottprel_lo12:tcx_thread]
	add	x9, x9, x10
	ldr	w10, [x9, TCX_THREAD_FLAGS_OFFSET]
	orr	w11, w10, TCX_THREAD_VFORK_BIT
	str	w11, [x9, TCX_THREAD_FLAGS_OFFSET]
	ldr	x12, [x9, TCX_THREAD_AREA_OFFSET]
	adrp	x13, tcx_rseq_nowhere
	add	x13, x13, :lo12:tcx_rseq_nowhere
	str	x13, [x9, TCX_THREAD_AREA_OFFSET]
	mov	x0, CLONE_VM_VFORK_SIGCHLD
	mov	x1, 0
	mov	x8, SYS_clone
	svc	0
	cbz	x0, .Lreturn
	str	x12, [x9, TCX_THREAD_AREA_OFFSET]
	str	w10, [x9, TCX_THREAD_FLAGS_OFFSET]
	tbnz	x0, 63, .Lfailed
.Lreturn:
	ret
.Lfailed:
	stp	x29, x30, [sp, -32]!
	.cfi_def_cfa_offset 32
	.cfi_offset 29, -32
	.cfi_offset 30, -24
	neg	w0, w0
	str	w0, [sp, 16]
	bl	__errno_location
	ldr	w1, [sp, 16]
	str	w1, [x0]
	mov	w0, -1
	ldp	x29, x30, [sp], 32
	.cfi_restore 30
	.cfi_restore 29
	.cfi_def_cfa_offset 0
	ret
	.cfi_endproc
	.size	vfork, . - vfork
	.size	__vfork, . - __vfork

	.section .note.GNU-stack, "", @progbits

// vfork_x86_64.S -- vfork, for the per-CPU front end.
//
// PLACE IN THE SYSTEM: the program's vfork, beside malloc.c. The per-thread
//   front end needs none: the child goes on with the slab of its thread, which
//   nobody else uses while that thread waits, and hands it back as good as new.
//
// WHAT IT DECIDES
//   The child runs on its parent's thread-local storage, but not under the
//   parent's registration of restartable sequences: ids in the area are stale,
//   and nothing aborts its sections. So for the child's life the thread stands
//   at tcx_rseq_nowhere, and the flag keeps the slow paths from finding the area
//   again. What the child allocates comes from the thread's own slab where it
//   has one, else from the middle; it makes no slab. All of it is as good in the
//   parent: the memory is the same.
//
// INVARIANTS
//   I1. What is to be put back is kept in registers, of which the parent has
//       its own: the child may itself call vfork, and overwrites the stack.
//   I2. Signal handlers: the flag is set before the area goes, and is cleared
//       after it is back.
//
// Not for posix_spawn, system and popen: glibc's child of these does not
// allocate. Handlers of pthread_atfork do not run, as POSIX has it.
#include <sys/syscall.h>

#include "frontend/thread_offsets.h"

	.text
	.globl	vfork, __vfork
	.type	vfork, @function
	.type	__vfork, @function
	.balign	64
vfork:
__vfork:
	.cfi_startproc
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	.cfi_register %rip, %rdi
	movq	tcx_thread@gottpoff(%rip), %r8
	movl	%fs:TCX_THREAD_FLAGS_OFFSET(%r8), %edx
	movl	%edx, %eax
	orl	$TCX_THREAD_VFORK_BIT, %eax
	movl	%eax, %fs:TCX_THREAD_FLAGS_OFFSET(%r8)
	movq	%fs:TCX_THREAD_AREA_OFFSET(%r8), %rsi
	leaq	tcx_rseq_nowhere(%rip), %rax
	movq	%rax, %fs:TCX_THREAD_AREA_OFFSET(%r8)
	movl	$SYS_vfork, %eax
	syscall			// clobbers %rax, %rcx, %r11
	testl	%eax, %eax
	je	.Lchild
	movq	%rsi, %fs:TCX_THREAD_AREA_OFFSET(%r8)
	movl	%edx, %fs:TCX_THREAD_FLAGS_OFFSET(%r8)
	.cfi_remember_state
	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	.cfi_restore %rip
	testl	%eax, %eax
	js	.Lfailed
	ret
.Lfailed:
	negl	%eax
	pushq	%rax
	.cfi_adjust_cfa_offset 8
	call	*__errno_location@GOTPCREL(%rip)
	popq	%rcx
	.cfi_adjust_cfa_offset -8
	movl	%ecx, (%rax)
	movl	$-1, %eax
	ret
.Lchild:
	.cfi_restore_state
	jmp	*%rdi		// A shadow stack, which both share, stays whole.
	.cfi_endproc
	.size	vfork, . - vfork
	.size	__vfork, . - __vfork

	.section .note.GNU-stack, "", @progbits

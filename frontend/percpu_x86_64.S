// percpu_x86_64.S -- the sections that move several objects; see percpu_fast.h
// for the rules R1 to R5, which hold here too.
//
//   push_batch  for i in 0 .. min(count, (end - top)):  *++t = batch[i]
//               commit top = t
//   pop_batch   while i < count and *t is even:          batch[i] = *t--
//               commit top = t
//   grow        commit end = min(end + slots, slab + limit)
//   shrink      commit end = max(end - slots, top)
//   is_top      whether *top == object; commits nothing
//
// The abort handler lies behind the return, within the function's symbol and its
// unwind table. The signature is the operand of a `ud1`, so that disassemblers
// stay in step.
	.text

// Stores the descriptor into area->rseq_cs; from there on the section runs: %r10 =
// slab of this id, or the dummy.
.macro BEGIN name
	.pushsection .data.rel.ro.tcx_rseq, "aw"
	.balign	32
.L\name\()_descriptor:
	.long	0, 0
	.quad	.L\name\()_start, .L\name\()_end - .L\name\()_start
	.quad	.L\name\()_abort
	.popsection
.L\name\()_arm:
	leaq	.L\name\()_descriptor(%rip), %r10
	movq	%r10, 8(%rdi)
.L\name\()_start:
	leaq	tcx_percpu(%rip), %r10
	movq	(%r10), %r11
	movslq	(%rdi,%r11), %r11
	movq	32(%r10,%r11,8), %r10
.endm

.macro FUNCTION name
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.balign	64
\name:
	.cfi_startproc
.endm

.macro FINISH name, symbol
	.byte	0x0f, 0xb9, 0x3d
	.long	0x53053053
.L\name\()_abort:
	jmp	.L\name\()_arm
	.cfi_endproc
	.size	\symbol, . - \symbol
.endm

// %rdi area, %rsi header offset, %rdx batch, %ecx count
FUNCTION tcx_percpu_push_batch
	movl	%ecx, %ecx
	BEGIN	push
	addq	%rsi, %r10
	movq	(%r10), %r11
	movq	8(%r10), %rax
	subq	%r11, %rax
	sarq	$3, %rax
	cmpq	%rcx, %rax
	cmovaq	%rcx, %rax
	testq	%rax, %rax
	je	.Lpush_out
	xorl	%r8d, %r8d
.Lpush_next:
	movq	(%rdx,%r8,8), %r9
	addq	$8, %r11
	movq	%r9, (%r11)
	incq	%r8
	cmpq	%rax, %r8
	jb	.Lpush_next
	movq	%r11, (%r10)
.Lpush_end:
.Lpush_out:
	ret
	FINISH	push, tcx_percpu_push_batch

// %rdi area, %rsi header offset, %rdx batch, %ecx count
FUNCTION tcx_percpu_pop_batch
	movl	%ecx, %ecx
	BEGIN	pop
	addq	%rsi, %r10
	movq	(%r10), %r11
	xorl	%eax, %eax
.Lpop_next:
	cmpq	%rcx, %rax
	jae	.Lpop_enough
	movq	(%r11), %r9
	testb	$1, %r9b
	jne	.Lpop_enough
	movq	%r9, (%rdx,%rax,8)
	subq	$8, %r11
	incq	%rax
	jmp	.Lpop_next
.Lpop_enough:
	testq	%rax, %rax
	je	.Lpop_out
	movq	%r11, (%r10)
.Lpop_end:
.Lpop_out:
	ret
	FINISH	pop, tcx_percpu_pop_batch

// %rdi area, %rsi header offset, %edx slots, %rcx limit, %r8 slab
FUNCTION tcx_percpu_grow
	movl	%edx, %edx
	BEGIN	grow
	cmpq	%r10, %r8
	jne	.Lgrow_none
	leaq	(%r10,%rcx), %r11
	addq	%rsi, %r10
	movq	8(%r10), %rax
	subq	%rax, %r11
	sarq	$3, %r11
	cmpq	%rdx, %r11
	cmovgq	%rdx, %r11
	testq	%r11, %r11
	jle	.Lgrow_none
	leaq	(%rax,%r11,8), %rax
	movq	%rax, 8(%r10)
.Lgrow_end:
	movl	%r11d, %eax
	ret
.Lgrow_none:
	xorl	%eax, %eax
	ret
	FINISH	grow, tcx_percpu_grow

// %rdi area, %rsi header offset, %edx slots, %rcx slab
FUNCTION tcx_percpu_shrink
	movl	%edx, %edx
	BEGIN	shrink
	cmpq	%r10, %rcx
	jne	.Lshrink_none
	addq	%rsi, %r10
	movq	8(%r10), %r11
	movq	%r11, %rax
	subq	(%r10), %rax
	sarq	$3, %rax
	cmpq	%rdx, %rax
	cmovaq	%rdx, %rax
	testq	%rax, %rax
	je	.Lshrink_none
	movq	%rax, %r9
	shlq	$3, %r9
	subq	%r9, %r11
	movq	%r11, 8(%r10)
.Lshrink_end:
	ret
.Lshrink_none:
	xorl	%eax, %eax
	ret
	FINISH	shrink, tcx_percpu_shrink

// %rdi area, %rsi header offset, %rdx object
FUNCTION tcx_percpu_is_top
	BEGIN	is_top
	addq	%rsi, %r10
	movq	(%r10), %r11
	xorl	%eax, %eax
	cmpq	(%r11), %rdx
	sete	%al
.Lis_top_end:
	ret
	FINISH	is_top, tcx_percpu_is_top

	.section .note.GNU-stack, "", @progbits

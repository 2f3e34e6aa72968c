// percpu_aarch64.S -- the sections that move several objects; see percpu_fast.h
// for the rules R1 to R5, and percpu_aarch64.h for the order of memory.
//
//   push_batch  for i in 0 .. min(count, (end - top)):  *++t = batch[i]
//               commit top = t
//   pop_batch   while i < count and *t is even:          batch[i] = *t--
//               commit top = t
//   grow        commit end = min(end + slots, slab + limit)
//   shrink      commit end = max(end - slots, top)
//   is_top      whether *top == object; commits nothing
//
// The abort handler lies behind the return, within the function's symbol and
// its unwind table, after the signature, an undefined `brk`. It goes back to
// where the section is armed, so a section writes none of its arguments: the
// result moves into x0 behind the end.
	.text

// Stores the descriptor into area->rseq_cs; from there on the section runs: x9
// = slab of this id, or the dummy.
.macro BEGIN name
	.pushsection .data.rel.ro.tcx_rseq, "aw"
	.balign	32
.L\name\()_descriptor:
	.long	0, 0
	.quad	.L\name\()_start, .L\name\()_end - .L\name\()_start
	.quad	.L\name\()_abort
	.popsection
.L\name\()_arm:
	adrp	x9, .L\name\()_descriptor
	add	x9, x9, :lo12:.L\name\()_descriptor
	str	x9, [x0, 8]
.L\name\()_start:
	adrp	x9, tcx_percpu
	add	x9, x9, :lo12:tcx_percpu
	ldr	x10, [x9], 32
	ldrsw	x10, [x0, x10]
	ldr	x9, [x9, x10, lsl 3]
.endm

.macro FUNCTION name
	.globl	\name
	.hidden	\name
	.type	\name, %function
	.balign	64
\name:
	.cfi_startproc
.endm

.macro FINISH name, symbol
	.inst	0xd428bc00
.L\name\()_abort:
	b	.L\name\()_arm
	.cfi_endproc
	.size	\symbol, . - \symbol
.endm

// x0 area, x1 header offset, x2 batch, w3 count
FUNCTION tcx_percpu_push_batch
	mov	w3, w3
	BEGIN	push
	add	x9, x9, x1
	ldp	x10, x11, [x9]
	sub	x11, x11, x10
	asr	x11, x11, 3
	cmp	x11, x3
	csel	x11, x3, x11, hi
	cbz	x11, .Lpush_out
	mov	x12, 0
.Lpush_next:
	ldr	x13, [x2, x12, lsl 3]
	str	x13, [x10, 8]!
	add	x12, x12, 1
	cmp	x12, x11
	b.lo	.Lpush_next
	str	x10, [x9]
.Lpush_end:
.Lpush_out:
	mov	w0, w11
	ret
	FINISH	push, tcx_percpu_push_batch

// x0 area, x1 header offset, x2 batch, w3 count
FUNCTION tcx_percpu_pop_batch
	mov	w3, w3
	BEGIN	pop
	add	x9, x9, x1
	ldr	x10, [x9]
	mov	x11, 0
.Lpop_next:
	cmp	x11, x3
	b.hs	.Lpop_enough
	ldr	x12, [x10]
	tbnz	x12, 0, .Lpop_enough
	str	x12, [x2, x11, lsl 3]
	sub	x10, x10, 8
	add	x11, x11, 1
	b	.Lpop_next
.Lpop_enough:
	cbz	x11, .Lpop_out
	str	x10, [x9]
.Lpop_end:
.Lpop_out:
	mov	w0, w11
	ret
	FINISH	pop, tcx_percpu_pop_batch

// x0 area, x1 header offset, w2 slots, x3 limit, x4 slab
FUNCTION tcx_percpu_grow
	mov	w2, w2
	BEGIN	grow
	cmp	x9, x4
	b.ne	.Lgrow_none
	add	x10, x9, x3
	add	x9, x9, x1
	ldr	x11, [x9, 8]
	sub	x10, x10, x11
	asr	x10, x10, 3
	cmp	x10, x2
	csel	x10, x2, x10, gt
	cmp	x10, 0
	b.le	.Lgrow_none
	add	x11, x11, x10, lsl 3
	str	x11, [x9, 8]
.Lgrow_end:
	mov	w0, w10
	ret
.Lgrow_none:
	mov	w0, 0
	ret
	FINISH	grow, tcx_percpu_grow

// x0 area, x1 header offset, w2 slots, x3 slab
FUNCTION tcx_percpu_shrink
	mov	w2, w2
	BEGIN	shrink
	cmp	x9, x3
	b.ne	.Lshrink_none
	add	x9, x9, x1
	ldp	x10, x11, [x9]
	sub	x12, x11, x10
	asr	x12, x12, 3
	cmp	x12, x2
	csel	x12, x2, x12, hi
	cbz	x12, .Lshrink_none
	sub	x11, x11, x12, lsl 3
	str	x11, [x9, 8]
.Lshrink_end:
	mov	w0, w12
	ret
.Lshrink_none:
	mov	w0, 0
	ret
	FINISH	shrink, tcx_percpu_shrink

// x0 area, x1 header offset, x2 object
FUNCTION tcx_percpu_is_top
	BEGIN	is_top
	add	x9, x9, x1
	ldr	x10, [x9]
	ldr	x10, [x10]
	cmp	x10, x2
	cset	w11, eq
.Lis_top_end:
	mov	w0, w11
	ret
	FINISH	is_top, tcx_percpu_is_top

	.section .note.GNU-stack, "", %progbits

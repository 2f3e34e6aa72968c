// percpu_x86_64.h -- pop and push of percpu_fast.h for x86-64.
//
// Included by percpu_fast.h alone, which says what a section does and what must
// hold (R1 to R5).
//
// The abort handler is the operand of a `movabs` right behind the commit: its
// first four bytes are the signature that the kernel wants before the handler,
// the other four the jump back. So it lies within the function, under its
// symbol and its unwind table, and costs one instruction that moves a constant.
// Disassemblers stay in step.
#ifndef TCX_FRONTEND_PERCPU_X86_64_H_
#define TCX_FRONTEND_PERCPU_X86_64_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/rseq.h"
#include "frontend/percpu.h"
#include "frontend/thread.h"

// Both ways out of a section meet behind it, and a flag of the processor tells
// which it was: no instruction between the test and the end changes it. (asm
// goto with outputs would say it better; gcc before 12.4 miscompiles that.)
#define TCX_RSEQ_SECTION_BEGIN                                          \
  ".pushsection .data.rel.ro.tcx_rseq, \"aw\"\n\t"                      \
  ".balign 32\n"                                                        \
  ".Ltcx_descriptor%=:\n\t"                                             \
  ".long 0, 0\n\t"                                                      \
  ".quad .Ltcx_start%=, .Ltcx_end%= - .Ltcx_start%=, .Ltcx_abort%=\n\t" \
  ".popsection\n"                                                       \
  ".Ltcx_arm%=:\n\t"                                                    \
  "leaq .Ltcx_descriptor%=(%%rip), %[slab]\n\t"                         \
  "movq %[slab], 8(%[area])\n"                                          \
  ".Ltcx_start%=:\n\t"                                                  \
  "movslq (%[area],%[id_offset]), %[slab]\n\t"                          \
  "movq %c[base](%[percpu],%[slab],8), %[slab]\n\t"                     \
  "addq %[header_offset], %[slab]\n\t"                                  \
  "movq (%[slab]), %[top]\n\t"

#define TCX_RSEQ_SECTION_END \
  ".Ltcx_end%=:\n\t"         \
  ".byte 0x49, 0xbb\n\t"     \
  ".long 0x53053053\n"       \
  ".Ltcx_abort%=:\n\t"       \
  "jmp .Ltcx_arm%=\n\t"      \
  ".byte 0x90, 0x90\n"       \
  ".Ltcx_out%=:\n\t"

// Before the commit: a test that must find races makes the sections long. May
// change r11, not the carry; leaves "equal".
#ifndef TCX_RSEQ_TEST_WINDOW
#define TCX_RSEQ_TEST_WINDOW ""
#endif

TCX_ALWAYS_INLINE void *tcx_percpu_pop(uintptr_t header_offset) {
  const struct tcx_percpu *percpu = &tcx_percpu;
  TCX_KEEP_SIMPLE(percpu);
  struct tcx_rseq_area *area = tcx_thread.area;
  uintptr_t slab;
  void **top;
  void *object;
  int is_empty;
  // clang-format off
  __asm__ volatile(
      TCX_RSEQ_SECTION_BEGIN
      "movq (%[top]), %[object]\n\t"
      "testb $1, %b[object]\n\t"
      "jne .Ltcx_out%=\n\t"
      "leaq -8(%[top]), %[top]\n\t"
      TCX_RSEQ_TEST_WINDOW
      "movq %[top], (%[slab])\n"
      TCX_RSEQ_SECTION_END
      : [slab] "=&r"(slab), [top] "=&r"(top), [object] "=&a"(object),
        "=@ccne"(is_empty)
      : [area] "r"(area), [header_offset] "r"(header_offset),
        [percpu] "r"(percpu), [id_offset] "r"(percpu->id_offset),
        [base] "i"(offsetof(struct tcx_percpu, base[2]))
      : "memory", "r11");
  // clang-format on
  if (TCX_UNLIKELY(is_empty))
    return NULL;
  tcx_percpu_prefetch(top);
  // No slot holds NULL, so the caller's test for it costs nothing here.
  if (object == NULL)
    __builtin_unreachable();
  return object;
}

TCX_ALWAYS_INLINE bool tcx_percpu_push_by(struct tcx_rseq_area *area,
                                          uintptr_t header_offset,
                                          void *object) {
  const struct tcx_percpu *percpu = &tcx_percpu;
  TCX_KEEP_SIMPLE(percpu);
  uintptr_t slab;
  void **top;
  int is_refused;
  // The carry says that `end` is below the new top. An object that is on top
  // already sets it by hand, out of the way.
  // clang-format off
  __asm__ volatile(
      TCX_RSEQ_SECTION_BEGIN
      "cmpq %[object], (%[top])\n\t"
      "je .Ltcx_double%=\n\t"
      "addq $8, %[top]\n\t"
      "cmpq %[top], 8(%[slab])\n\t"
      "jb .Ltcx_out%=\n\t"
      "movq %[object], (%[top])\n\t"
      TCX_RSEQ_TEST_WINDOW
      "movq %[top], (%[slab])\n"
      TCX_RSEQ_SECTION_END
      ".pushsection .text.tcx_rseq, \"ax\"\n"
      ".Ltcx_double%=:\n\t"
      "stc\n\t"
      "jmp .Ltcx_out%=\n\t"
      ".popsection\n\t"
      : [slab] "=&r"(slab), [top] "=&r"(top), "=@ccc"(is_refused)
      : [area] "r"(area), [header_offset] "r"(header_offset),
        [percpu] "r"(percpu), [id_offset] "r"(percpu->id_offset),
        [object] "r"(object), [base] "i"(offsetof(struct tcx_percpu, base[2]))
      : "memory", "r11");
  // clang-format on
  return !is_refused;
}

TCX_ALWAYS_INLINE struct tcx_rseq_area *tcx_percpu_area_at(
    intptr_t thread_offset) {
  struct tcx_rseq_area *area;
  // Volatile and with memory: a slow path may have changed it.
  __asm__ volatile("movq %%fs:%c2(%1), %0"
                   : "=r"(area)
                   : "r"(thread_offset), "i"(offsetof(struct tcx_thread, area))
                   : "memory");
  return area;
}

#endif  // TCX_FRONTEND_PERCPU_X86_64_H_

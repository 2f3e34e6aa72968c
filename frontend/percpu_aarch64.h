// percpu_aarch64.h -- pop and push of percpu_fast.h for arm64.
//
// Included by percpu_fast.h alone, which says what a section does and what must
// hold (R1 to R5).
//
// ORDER. A weakly ordered machine keeps these sections right because
//   - the loads from the slab take their address from the load of base[id], so
//     they see what was stored before tcx_cpus_drain released that pointer;
//   - all sections on one slab run on one CPU, or the scheduler's full barrier
//     lies between them: they see each other's stores in order;
//   - who stops an id fences, and the fence is a full barrier on both sides.
//
// The abort handler lies between the commit and the way out, within the
// function, under its symbol and its unwind table. The word before it is the
// signature that the kernel wants, an undefined `brk`.
#ifndef TCX_FRONTEND_PERCPU_AARCH64_H_
#define TCX_FRONTEND_PERCPU_AARCH64_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/rseq.h"
#include "frontend/percpu.h"
#include "frontend/thread.h"

// `slab` becomes the address of the class's header, `top` its top.
#define TCX_RSEQ_SECTION_BEGIN                                          \
  ".pushsection .data.rel.ro.tcx_rseq, \"aw\"\n\t"                      \
  ".balign 32\n"                                                        \
  ".Ltcx_descriptor%=:\n\t"                                             \
  ".long 0, 0\n\t"                                                      \
  ".quad .Ltcx_start%=, .Ltcx_end%= - .Ltcx_start%=, .Ltcx_abort%=\n\t" \
  ".popsection\n"                                                       \
  ".Ltcx_arm%=:\n\t"                                                    \
  "adrp %[slab], .Ltcx_descriptor%=\n\t"                                \
  "add %[slab], %[slab], :lo12:.Ltcx_descriptor%=\n\t"                  \
  "str %[slab], [%[area], 8]\n"                                         \
  ".Ltcx_start%=:\n\t"                                                  \
  "ldrsw %[slab], [%[area], %[id_offset]]\n\t"                          \
  "ldr %[slab], [%[base], %[slab], lsl 3]\n\t"                          \
  "add %[slab], %[slab], %[header_offset]\n\t"                          \
  "ldr %[top], [%[slab]]\n\t"

// Whoever refuses goes to `refused`; `result` is 0 there. gcc before 12.4
// miscompiles asm goto with outputs, and the flags are no output here, so that
// other way out is told by a register that is never 0 after the commit.
#define TCX_RSEQ_SECTION_END(result) \
  ".Ltcx_end%=:\n\t"                 \
  "b .Ltcx_out%=\n\t"                \
  ".inst 0xd428bc00\n"               \
  ".Ltcx_abort%=:\n\t"               \
  "b .Ltcx_arm%=\n"                  \
  ".Ltcx_refused%=:\n\t"             \
  "mov " result                      \
  ", 0\n"                            \
  ".Ltcx_out%=:\n\t"

static_assert(TCX_RSEQ_SIGNATURE == 0xd428bc00, "the word before the handler");

TCX_ALWAYS_INLINE void *tcx_percpu_pop(uintptr_t header_offset) {
  const struct tcx_percpu *percpu = &tcx_percpu;
  TCX_KEEP_SIMPLE(percpu);
  uintptr_t slab;
  void **top;
  void *object;
  // clang-format off
  __asm__ volatile(
      TCX_RSEQ_SECTION_BEGIN
      "ldr %[object], [%[top]]\n\t"
      "tbnz %[object], 0, .Ltcx_refused%=\n\t"
      "sub %[top], %[top], 8\n\t"
      "str %[top], [%[slab]]\n"
      TCX_RSEQ_SECTION_END("%[object]")
      : [slab] "=&r"(slab), [top] "=&r"(top), [object] "=&r"(object)
      : [area] "r"(tcx_thread.area), [header_offset] "r"(header_offset),
        [base] "r"(&percpu->base[2]), [id_offset] "r"(percpu->id_offset)
      : "memory");
  // clang-format on
  if (TCX_LIKELY(object != NULL))
    tcx_percpu_prefetch(top);
  return object;
}

TCX_ALWAYS_INLINE bool tcx_percpu_push_by(struct tcx_rseq_area *area,
                                          uintptr_t header_offset,
                                          void *object) {
  const struct tcx_percpu *percpu = &tcx_percpu;
  TCX_KEEP_SIMPLE(percpu);
  uintptr_t slab;
  uintptr_t word;
  void **top;
  // clang-format off
  __asm__ volatile(
      TCX_RSEQ_SECTION_BEGIN
      "ldr %[word], [%[top]]\n\t"
      "cmp %[word], %[object]\n\t"
      "b.eq .Ltcx_refused%=\n\t"
      "ldr %[word], [%[slab], 8]\n\t"
      "add %[top], %[top], 8\n\t"
      "cmp %[word], %[top]\n\t"
      "b.lo .Ltcx_refused%=\n\t"
      "str %[object], [%[top]]\n\t"
      "str %[top], [%[slab]]\n"
      TCX_RSEQ_SECTION_END("%[top]")
      : [slab] "=&r"(slab), [top] "=&r"(top), [word] "=&r"(word)
      : [area] "r"(area), [header_offset] "r"(header_offset),
        [base] "r"(&percpu->base[2]), [id_offset] "r"(percpu->id_offset),
        [object] "r"(object)
      : "memory", "cc");
  // clang-format on
  return top != NULL;
}

TCX_ALWAYS_INLINE struct tcx_rseq_area *tcx_percpu_area_at(
    intptr_t thread_offset) {
  return tcx_thread_at(thread_offset)->area;
}

#endif  // TCX_FRONTEND_PERCPU_AARCH64_H_

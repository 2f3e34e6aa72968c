// harden.h -- hardened mode (TCX_HARDEN=1): finds at once what the default
// finds late or never.
//
// PLACE IN THE SYSTEM
//   heap.c --(each object, on its way out and in)--> harden --> the object
//   The setting is read at start, and each part asks for it where it does not
//   cost the default anything:
//     front end      gives no thread a slab: the fast paths fail by their own
//                    tests, and every call comes to heap.c's slow paths
//     pagemap        shows class 0 for every page: so do realloc and sized free
//     central list   without a transfer cache above it, so the bitmap of a span
//                    says of each object whether the program has it; hands out
//                    a random free object, and only spans that read as zero
//     here           fills objects that come in, checks them before they go out
//
// WHAT IT DECIDES
//   What a free object holds. The first words are poison, an address that no
//   machine has, so that a stale pointer that is followed faults; the rest is
//   zero: nothing of what the program had there can be read again. An object
//   that goes out is zero throughout.
//   What cannot be told apart: whoever writes zeros over all the poison of an
//   object makes it look like one that was never used.
//   Larger blocks are not filled: their memory goes back to the system.
//
// INVARIANTS
//   I1. A free object of a hardened span is zero but for its first HEAD words,
//       which are all poison or all zero.
//
// LOCKING: none; the caller owns the object.
#ifndef TCX_LIBC_HARDEN_H_
#define TCX_LIBC_HARDEN_H_

#include <stdbool.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/knobs.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

// Bits 63 to 57 are not all alike: no address, also with five levels of pages.
#define TCX_HARDEN_POISON UINT64_C(0xdeadf4eedeadf4ee)

static inline bool tcx_harden_is_on(void) {
  return TCX_UNLIKELY(tcx_atomic_load_relaxed(&tcx_knobs.harden) != 0);
}

// A free small object goes out: ends the process if it was written to since it
// was freed; else the object is zero.
void tcx_harden_object_out(void *object, unsigned size_class);

// A small object comes in: fills it.
void tcx_harden_object_in(void *object, unsigned size_class);

// A large object or a block of a run class comes in: its content goes.
void tcx_harden_span_in(struct tcx_span *span);

TCX_END_DECLS

#endif  // TCX_LIBC_HARDEN_H_

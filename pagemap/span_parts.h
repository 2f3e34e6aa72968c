// span_parts.h -- the parts of a span that can go back to the system alone.
//
// PLACE IN THE SYSTEM
//   The central free list gives back the memory under free objects of a live
//   span; `released_words` of the span says of which parts. The page source
//   reads it when the span comes back.
//
// WHAT IT DECIDES
//   A part is a whole page of the system inside the span; where a span has more
//   than 64 of these, as many of them as it takes, a power of two. Bit i of
//   released_words is the i-th part. What lies at the ends of a span, outside
//   of any part, never goes back alone: that is so only where pages of the
//   system are larger than ours.
#ifndef TCX_PAGEMAP_SPAN_PARTS_H_
#define TCX_PAGEMAP_SPAN_PARTS_H_

#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/check.h"
#include "base/compiler.h"
#include "base/os.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

#define TCX_SPAN_PARTS_MAX 64

struct tcx_span_parts {
  size_t lead_bytes;  // of the span, before the first part
  unsigned shift;     // log2 of the bytes of a part
  unsigned count;
};

static inline struct tcx_span_parts tcx_span_parts_of(
    const struct tcx_span *span) {
  size_t bytes = tcx_span_bytes(span);
  struct tcx_span_parts parts = {0, tcx_highest_bit(tcx_os_page_size()), 0};
  while (bytes >> parts.shift > TCX_SPAN_PARTS_MAX)
    parts.shift++;
  uintptr_t start = (uintptr_t)tcx_span_start(span);
  parts.lead_bytes = tcx_align_up(start, (size_t)1 << parts.shift) - start;
  if (parts.lead_bytes < bytes)
    parts.count = (unsigned)((bytes - parts.lead_bytes) >> parts.shift);
  return parts;
}

// The bits of `count` parts from `first` on. 0 < count, first + count <= 64.
static inline uint64_t tcx_span_parts_mask(unsigned first, unsigned count) {
  TCX_ASSERT(count > 0 && first + count <= TCX_SPAN_PARTS_MAX);
  return ~UINT64_C(0) >> (TCX_SPAN_PARTS_MAX - count) << first;
}

static inline uint64_t tcx_span_parts_all(struct tcx_span_parts parts) {
  return parts.count == 0 ? 0 : tcx_span_parts_mask(0, parts.count);
}

// The parts that the bytes [from, end) of the span lie in. from < end.
static inline uint64_t tcx_span_parts_touched(struct tcx_span_parts parts,
                                              size_t from, size_t end) {
  TCX_ASSERT(from < end);
  if (end <= parts.lead_bytes)
    return 0;
  size_t first =
      from <= parts.lead_bytes ? 0 : (from - parts.lead_bytes) >> parts.shift;
  size_t last = (end - 1 - parts.lead_bytes) >> parts.shift;
  if (first >= parts.count)
    return 0;
  last = tcx_min_size(last, parts.count - 1);
  return tcx_span_parts_mask((unsigned)first, (unsigned)(last - first + 1));
}

// Where the i-th part starts, in bytes from the start of the span.
static inline size_t tcx_span_part_offset(struct tcx_span_parts parts,
                                          unsigned i) {
  return parts.lead_bytes + ((size_t)i << parts.shift);
}

TCX_END_DECLS

#endif  // TCX_PAGEMAP_SPAN_PARTS_H_

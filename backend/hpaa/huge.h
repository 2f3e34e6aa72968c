// huge.h -- huge pages by number, and runs of them.
//
// PLACE IN THE SYSTEM: the unit of everything in backend/hpaa. The huge page
//   number of an address is the address >> 21, as a page number is the address
//   >> TCX_PAGE_SHIFT; so both say where it lies, and convert by a shift.
#ifndef TCX_BACKEND_HPAA_HUGE_H_
#define TCX_BACKEND_HPAA_HUGE_H_

#include <stdint.h>

#include "base/config.h"

TCX_BEGIN_DECLS

#define TCX_HUGE_SHIFT TCX_HUGE_PAGE_SHIFT
#define TCX_HUGE_BYTES ((uint64_t)1 << TCX_HUGE_SHIFT)
// P: pages of ours in one huge page; 512, 256, 64 or 8.
#define TCX_HUGE_PAGES ((uint64_t)1 << (TCX_HUGE_SHIFT - TCX_PAGE_SHIFT))
// Huge page numbers are below this: they and counts of them fit 32 bits.
#define TCX_HUGE_LIMIT ((uint64_t)1 << (TCX_ADDRESS_BITS - TCX_HUGE_SHIFT))

static_assert(TCX_HUGE_LIMIT <= UINT32_MAX, "a number fits 32 bits");

// Neighbouring huge pages. count == 0: none.
struct tcx_huge_run {
  uint64_t first;  // huge page number
  uint64_t count;
};

static inline uint64_t tcx_huge_of_page(uint64_t page) {
  return page >> (TCX_HUGE_SHIFT - TCX_PAGE_SHIFT);
}

// The first page of a huge page.
static inline uint64_t tcx_page_of_huge(uint64_t huge) {
  return huge << (TCX_HUGE_SHIFT - TCX_PAGE_SHIFT);
}

// The huge pages that a range of pages lies in.
static inline struct tcx_huge_run tcx_huge_run_around(uint64_t page,
                                                      uint64_t pages) {
  struct tcx_huge_run run;
  run.first = tcx_huge_of_page(page);
  run.count = tcx_huge_of_page(page + pages - 1) - run.first + 1;
  return run;
}

static inline uint64_t tcx_huge_run_end(struct tcx_huge_run run) {
  return run.first + run.count;
}

static inline char *tcx_huge_run_start(struct tcx_huge_run run) {
  return (char *)(uintptr_t)(run.first << TCX_HUGE_SHIFT);
}

static inline uint64_t tcx_huge_run_bytes(struct tcx_huge_run run) {
  return run.count << TCX_HUGE_SHIFT;
}

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HUGE_H_

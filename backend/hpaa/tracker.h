// tracker.h -- one huge page that is cut into pages.
//
// PLACE IN THE SYSTEM
//   The filler has one for each huge page that it packs; the memory is the
//   owner's, from a metadata pool.
//
// WHAT IT KNOWS
//   Which pages are used, which of the free ones have no memory behind them
//   (released, or never touched) and which are known to read as zero; the
//   longest range of free pages; whether the whole is on one huge page.
//
// INVARIANTS (tcx_tracker_check)
//   I1. used_pages, released_pages count the bits of `used`, `released`.
//   I2. No page is used and released, or used and zero; released are zero.
//   I3. longest_pages is the length of the longest free range. A dense tracker
//       serves single pages only: there it is the number of free pages.
//   I4. A tracker that is HUGE has no released page, and is not BROKEN.
//   I5. No bit at or past TCX_HUGE_PAGES is set.
//   I6. part_count counts the bits of `parts`; each lies in a used page. Only
//       one that is not HUGE has holes, and only while there are parts.
//
// LOCKING: none; the owner's lock covers it.
#ifndef TCX_BACKEND_HPAA_TRACKER_H_
#define TCX_BACKEND_HPAA_TRACKER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/hpaa/huge.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_TRACKER_WORDS ((size_t)(TCX_HUGE_PAGES + 63) / 64)

// A bit for each page of a huge page.
struct tcx_tracker_bits {
  uint64_t words[TCX_TRACKER_WORDS];
};

enum tcx_tracker_flag {
  // On one huge page, or will be as soon as a page of it is touched: counts as
  // backed, and must be broken before a part of it can go back.
  TCX_TRACKER_HUGE = 1u << 0,
  // The system was told to keep huge pages out (MADV_NOHUGEPAGE); counts
  // against the budget of such pages.
  TCX_TRACKER_BROKEN = 1u << 1,
  // Single pages of many objects each, nothing else.
  TCX_TRACKER_DENSE = 1u << 2,
  // Its memory is worked on without the lock: nothing is handed out of it, and
  // it stays when its last page comes back.
  TCX_TRACKER_PINNED = 1u << 3,
  // For tcx_tracker_init alone: all pages have no memory behind them (so they
  // are zero); all pages are known zero.
  TCX_TRACKER_UNBACKED = 1u << 4,
  TCX_TRACKER_ZERO = 1u << 5,
  // Its release gave nothing: it is no candidate before the next retry.
  TCX_TRACKER_ASIDE = 1u << 6,
};

// Queues of the filler that a tracker may be on, beside its search list.
enum tcx_tracker_queue {
  TCX_TRACKER_IDLE,  // with free, backed pages
  TCX_TRACKER_MEND,  // nearly full, not HUGE
};
#define TCX_TRACKER_QUEUES 2

// Pages of the system under free objects of live spans, a bit for each 4 KiB of
// the huge page: offered; where it has holes perhaps given back, and perhaps
// touched again since. Page sizes of ours above and below 4 KiB alike.
#define TCX_TRACKER_PART_SHIFT 12
#define TCX_TRACKER_PARTS ((unsigned)(TCX_HUGE_BYTES >> TCX_TRACKER_PART_SHIFT))

struct tcx_tracker_link {
  struct tcx_tracker *next;
  struct tcx_tracker *prev;
};

struct tcx_tracker {
  struct tcx_tracker *next;  // filler: its search list
  struct tcx_tracker *prev;
  struct tcx_tracker_link links[TCX_TRACKER_QUEUES];
  uint32_t huge;  // huge page number
  uint16_t used_pages;
  uint16_t released_pages;
  uint16_t head_pages;   // the end of a live large run, at the front; or 0
  uint16_t allocations;  // the end of a large run is one of them
  uint16_t longest_pages;
  uint16_t index;      // filler: its search list
  uint8_t family;      // filler: enum tcx_filler_family
  uint8_t idle_place;  // filler: its idle list; 0: none
  uint8_t flags;       // enum tcx_tracker_flag
  uint8_t is_to_mend;  // filler: it is in that queue
  struct tcx_tracker_bits used;
  struct tcx_tracker_bits released;
  struct tcx_tracker_bits zero;
  uint16_t part_count;
  bool has_holes;
  bool was_donated;    // head_pages was not 0 once, and that run is dead
  uint32_t offered_s;  // when the first of them was offered
  uint64_t parts[TCX_TRACKER_PARTS / 64];
};

static_assert(TCX_HUGE_PAGES <= UINT16_MAX, "page counts fit 16 bits");

// What a range was when it was handed out.
struct tcx_tracker_taken {
  uint32_t released_pages;  // that will fault
  bool is_zero;             // all of it
};

// Memory for one tracker; NULL: the system has none. Takes a lock of rank
// METADATA.
TCX_NODISCARD struct tcx_tracker *tcx_tracker_new(void);
void tcx_tracker_delete(struct tcx_tracker *self);

// All pages free. flags: HUGE, BROKEN, UNBACKED, ZERO; not HUGE with one of
// BROKEN and UNBACKED.
void tcx_tracker_init(struct tcx_tracker *self, uint64_t huge, unsigned flags);

// The shortest free range with `pages` at a multiple of `align_pages` in it, of
// equals the lowest; *first is where they start. False: there is none.
TCX_NODISCARD bool tcx_tracker_find(const struct tcx_tracker *self,
                                    unsigned pages, unsigned align_pages,
                                    unsigned *first);

// Free pages become used.
struct tcx_tracker_taken tcx_tracker_mark(struct tcx_tracker *self,
                                          unsigned first, unsigned pages);
// Used pages become free: with memory behind them, not known zero.
void tcx_tracker_unmark(struct tcx_tracker *self, unsigned first,
                        unsigned pages);
bool tcx_tracker_is_free(const struct tcx_tracker *self, unsigned first,
                         unsigned pages);

// The first range of set bits at or after *first; then *first and *pages are
// its place. False: there is none.
bool tcx_tracker_next_range(const struct tcx_tracker_bits *bits,
                            unsigned *first, unsigned *pages);
void tcx_tracker_set_range(struct tcx_tracker_bits *bits, unsigned first,
                           unsigned pages);
void tcx_tracker_clear_range(struct tcx_tracker_bits *bits, unsigned first,
                             unsigned pages);

// Pages that are free with memory behind them; returns how many.
unsigned tcx_tracker_backed_free(const struct tcx_tracker *self,
                                 struct tcx_tracker_bits *out);

// Free pages went back to the system, with success: no memory, zero. The
// tracker is not HUGE.
void tcx_tracker_set_released(struct tcx_tracker *self,
                              const struct tcx_tracker_bits *pages);
// All pages have memory behind them again, by what the system did.
void tcx_tracker_set_backed(struct tcx_tracker *self);

// Bytes of live spans, from the start of the huge page on, are offered or were
// given back; or that is forgotten. Whole 4 KiB.
void tcx_tracker_set_parts(struct tcx_tracker *self, size_t offset,
                           size_t bytes, bool are_holes);
void tcx_tracker_clear_parts(struct tcx_tracker *self, size_t offset,
                             size_t bytes);

void tcx_tracker_check(const struct tcx_tracker *self);

static inline unsigned tcx_tracker_free_pages(const struct tcx_tracker *self) {
  return (unsigned)TCX_HUGE_PAGES - self->used_pages;
}

// Free pages with memory behind them.
static inline unsigned tcx_tracker_idle_pages(const struct tcx_tracker *self) {
  return tcx_tracker_free_pages(self) - self->released_pages;
}

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_TRACKER_H_

// tracker.c -- bitmaps of the pages of one huge page. See tracker.h.
#include "backend/hpaa/tracker.h"

#include <string.h>

#include "backend/metadata.h"
#include "base/bits.h"
#include "base/check.h"

#define PAGES ((unsigned)TCX_HUGE_PAGES)

static struct tcx_metadata_pool tracker_pool = TCX_METADATA_POOL_INIT(
    (sizeof(struct tcx_tracker) + TCX_CACHELINE_BYTES - 1) /
        TCX_CACHELINE_BYTES * TCX_CACHELINE_BYTES,
    TCX_CACHELINE_BYTES);

struct tcx_tracker *tcx_tracker_new(void) {
  return (struct tcx_tracker *)tcx_metadata_pool_allocate(&tracker_pool);
}

void tcx_tracker_delete(struct tcx_tracker *self) {
  tcx_metadata_pool_free(&tracker_pool, self);
}

// -- Bits ---------------------------------------------------------------------

// The bits of one word that stand for pages `first` to `end` - 1; some do.
static uint64_t range_mask(unsigned word, unsigned first, unsigned end) {
  unsigned low = first > word * 64 ? first - word * 64 : 0;
  unsigned high = end < word * 64 + 64 ? end - word * 64 : 64;
  TCX_ASSERT(low < high);
  return ~UINT64_C(0) >> (64 - (high - low)) << low;
}

// Steps through the words of pages *at to `end` - 1: the bits of the word of
// *at, which moves behind them.
static uint64_t next_mask(unsigned *at, unsigned end) {
  unsigned bit = *at % 64;
  unsigned count = 64 - bit < end - *at ? 64 - bit : end - *at;
  *at += count;
  return ~UINT64_C(0) >> (64 - count) << bit;
}

// The bits of one word that stand for pages.
static uint64_t valid_mask(unsigned word) {
  return range_mask(word, 0, PAGES);
}

static unsigned count_range(const struct tcx_tracker_bits *bits, unsigned first,
                            unsigned end) {
  unsigned count = 0;
  for (unsigned w = first / 64; w * 64 < end; w++)
    count += tcx_count_bits(bits->words[w] & range_mask(w, first, end));
  return count;
}

void tcx_tracker_set_range(struct tcx_tracker_bits *bits, unsigned first,
                           unsigned pages) {
  TCX_ASSERT(pages > 0 && first + pages <= PAGES);
  for (unsigned w = first / 64; w * 64 < first + pages; w++) {
    bits->words[w] |= range_mask(w, first, first + pages);
  }
}

void tcx_tracker_clear_range(struct tcx_tracker_bits *bits, unsigned first,
                             unsigned pages) {
  TCX_ASSERT(pages > 0 && first + pages <= PAGES);
  for (unsigned w = first / 64; w * 64 < first + pages; w++) {
    bits->words[w] &= ~range_mask(w, first, first + pages);
  }
}

// The first page at or after `from` whose bit differs from those of `flip` (all
// 0: the first set, all 1: the first clear); PAGES if there is none.
static unsigned find_from(const struct tcx_tracker_bits *bits, unsigned from,
                          uint64_t flip) {
  while (from < PAGES) {
    uint64_t word = (bits->words[from / 64] ^ flip) >> (from % 64);
    if (word != 0) {
      unsigned found = from + tcx_lowest_bit(word);
      return found < PAGES ? found : PAGES;
    }
    from = (from / 64 + 1) * 64;
  }
  return PAGES;
}

static unsigned next_set(const struct tcx_tracker_bits *bits, unsigned from) {
  return find_from(bits, from, 0);
}

static unsigned next_clear(const struct tcx_tracker_bits *bits, unsigned from) {
  return find_from(bits, from, ~UINT64_C(0));
}

// Where the range of clear bits begins that reaches up to `end`.
static unsigned clear_before(const struct tcx_tracker_bits *bits,
                             unsigned end) {
  for (unsigned w = (end + 63) / 64; w > 0; w--) {
    uint64_t word = bits->words[w - 1];
    if (end < w * 64)
      word &= range_mask(w - 1, 0, end);
    if (word != 0)
      return (w - 1) * 64 + tcx_highest_bit(word) + 1;
  }
  return 0;
}

bool tcx_tracker_next_range(const struct tcx_tracker_bits *bits,
                            unsigned *first, unsigned *pages) {
  unsigned start = next_set(bits, *first);
  if (start == PAGES)
    return false;
  *first = start;
  *pages = next_clear(bits, start) - start;
  return true;
}

// -- Tracker ------------------------------------------------------------------

void tcx_tracker_init(struct tcx_tracker *self, uint64_t huge, unsigned flags) {
  const unsigned init_only = TCX_TRACKER_UNBACKED | TCX_TRACKER_ZERO;
  TCX_ASSERT(huge < TCX_HUGE_LIMIT);
  TCX_ASSERT((flags & ~(init_only | TCX_TRACKER_HUGE | TCX_TRACKER_BROKEN)) ==
             0);
  TCX_ASSERT((flags & TCX_TRACKER_HUGE) == 0 ||
             (flags & (TCX_TRACKER_BROKEN | TCX_TRACKER_UNBACKED)) == 0);
  memset(self, 0, sizeof(*self));
  self->huge = (uint32_t)huge;
  self->flags = (uint8_t)(flags & ~init_only);
  self->longest_pages = PAGES;
  if ((flags & TCX_TRACKER_UNBACKED) != 0) {
    tcx_tracker_set_range(&self->released, 0, PAGES);
    self->released_pages = PAGES;
  }
  if ((flags & init_only) != 0) {
    tcx_tracker_set_range(&self->zero, 0, PAGES);
  }
}

static unsigned max(unsigned a, unsigned b) {
  return a > b ? a : b;
}

static unsigned longest_range(const struct tcx_tracker *self) {
  unsigned longest = 0;
  unsigned open = 0;  // free pages right before
  for (unsigned w = 0; w < TCX_TRACKER_WORDS; w++) {
    uint64_t used = self->used.words[w] | ~valid_mask(w);
    if (used == 0) {
      open += 64;
      continue;
    }
    unsigned low = tcx_lowest_bit(used);
    unsigned high = tcx_highest_bit(used);
    longest = max(longest, open + low);
    uint64_t between = ~used >> low << low << (63 - high) >> (63 - high);
    longest = max(longest, tcx_longest_ones(between));
    open = 63 - high;
  }
  return max(longest, open);
}

bool tcx_tracker_find(const struct tcx_tracker *self, unsigned pages,
                      unsigned align_pages, unsigned *first) {
  TCX_ASSERT(pages > 0);
  TCX_ASSERT(tcx_is_power_of_two(align_pages));
  unsigned start = next_clear(&self->used, 0);
  if ((self->flags & TCX_TRACKER_DENSE) != 0) {
    TCX_ASSERT(pages == 1 && align_pages == 1);
    *first = start;
    return start < PAGES;
  }
  unsigned best = PAGES + 1;
  while (start < PAGES) {
    unsigned end = next_set(&self->used, start);
    unsigned aligned = (unsigned)tcx_align_up(start, align_pages);
    if (aligned + pages <= end && end - start < best) {
      best = end - start;
      *first = aligned;
      if (best == pages)
        break;  // No range is better.
    }
    start = next_clear(&self->used, end);
  }
  return best <= PAGES;
}

bool tcx_tracker_is_free(const struct tcx_tracker *self, unsigned first,
                         unsigned pages) {
  TCX_ASSERT(pages > 0);
  return first + pages <= PAGES &&
         next_set(&self->used, first) >= first + pages;
}

// Length of [first, end) with the free pages right before and behind it.
static unsigned range_around(const struct tcx_tracker *self, unsigned first,
                             unsigned end) {
  return next_set(&self->used, end) - clear_before(&self->used, first);
}

struct tcx_tracker_taken tcx_tracker_mark(struct tcx_tracker *self,
                                          unsigned first, unsigned pages) {
  TCX_ASSERT(tcx_tracker_is_free(self, first, pages));
  unsigned end = first + pages;
  struct tcx_tracker_taken taken = {0, true};
  if (TCX_UNLIKELY(self->released_pages != 0)) {
    taken.released_pages = count_range(&self->released, first, end);
    tcx_tracker_clear_range(&self->released, first, pages);
  }
  for (unsigned at = first; at < end;) {
    unsigned w = at / 64;
    uint64_t mask = next_mask(&at, end);
    taken.is_zero = taken.is_zero && (~self->zero.words[w] & mask) == 0;
    self->zero.words[w] &= ~mask;
    self->used.words[w] |= mask;
  }
  self->used_pages = (uint16_t)(self->used_pages + pages);
  self->released_pages =
      (uint16_t)(self->released_pages - taken.released_pages);
  if ((self->flags & TCX_TRACKER_DENSE) != 0) {
    self->longest_pages = (uint16_t)tcx_tracker_free_pages(self);
  } else if (range_around(self, first, end) == self->longest_pages) {
    self->longest_pages = (uint16_t)longest_range(self);
  }
  return taken;
}

void tcx_tracker_unmark(struct tcx_tracker *self, unsigned first,
                        unsigned pages) {
  TCX_ASSERT(pages > 0);
  unsigned end = first + pages;
  TCX_CHECK(end <= PAGES);
  for (unsigned at = first; at < end;) {
    unsigned w = at / 64;
    uint64_t mask = next_mask(&at, end);
    TCX_CHECK((self->used.words[w] & mask) == mask);  // Else freed twice.
    self->used.words[w] &= ~mask;
  }
  self->used_pages = (uint16_t)(self->used_pages - pages);
  if ((self->flags & TCX_TRACKER_DENSE) != 0) {
    self->longest_pages = (uint16_t)tcx_tracker_free_pages(self);
  } else {
    unsigned merged = range_around(self, first, end);
    self->longest_pages = (uint16_t)max(self->longest_pages, merged);
  }
  if (TCX_UNLIKELY(self->part_count != 0)) {
    tcx_tracker_clear_parts(self, (size_t)first << TCX_PAGE_SHIFT,
                            (size_t)pages << TCX_PAGE_SHIFT);
  }
}

unsigned tcx_tracker_backed_free(const struct tcx_tracker *self,
                                 struct tcx_tracker_bits *out) {
  for (unsigned w = 0; w < TCX_TRACKER_WORDS; w++) {
    out->words[w] =
        ~(self->used.words[w] | self->released.words[w]) & valid_mask(w);
  }
  return tcx_tracker_idle_pages(self);
}

void tcx_tracker_set_released(struct tcx_tracker *self,
                              const struct tcx_tracker_bits *pages) {
  TCX_ASSERT((self->flags & TCX_TRACKER_HUGE) == 0);
  for (unsigned w = 0; w < TCX_TRACKER_WORDS; w++) {
    TCX_ASSERT((pages->words[w] & self->used.words[w]) == 0);
    self->released.words[w] |= pages->words[w];
    self->zero.words[w] |= pages->words[w];
  }
  self->released_pages = (uint16_t)count_range(&self->released, 0, PAGES);
}

void tcx_tracker_set_backed(struct tcx_tracker *self) {
  memset(&self->released, 0, sizeof(self->released));
  self->released_pages = 0;
}

// -- Parts --------------------------------------------------------------------

void tcx_tracker_set_parts(struct tcx_tracker *self, size_t offset,
                           size_t bytes, bool are_holes) {
  TCX_ASSERT(offset + bytes <= TCX_HUGE_BYTES);
  unsigned end = (unsigned)((offset + bytes) >> TCX_TRACKER_PART_SHIFT);
  for (unsigned i = (unsigned)(offset >> TCX_TRACKER_PART_SHIFT); i < end;
       i++) {
    uint64_t bit = UINT64_C(1) << (i % 64);
    self->part_count += (self->parts[i / 64] & bit) == 0;
    self->parts[i / 64] |= bit;
  }
  self->has_holes = self->has_holes || are_holes;
}

void tcx_tracker_clear_parts(struct tcx_tracker *self, size_t offset,
                             size_t bytes) {
  TCX_ASSERT(offset + bytes <= TCX_HUGE_BYTES);
  unsigned end = (unsigned)((offset + bytes) >> TCX_TRACKER_PART_SHIFT);
  for (unsigned i = (unsigned)(offset >> TCX_TRACKER_PART_SHIFT); i < end;
       i++) {
    uint64_t bit = UINT64_C(1) << (i % 64);
    self->part_count -= (self->parts[i / 64] & bit) != 0;
    self->parts[i / 64] &= ~bit;
  }
  if (self->part_count == 0)
    self->has_holes = false;
}

static void check_parts(const struct tcx_tracker *self) {
  unsigned count = 0;
  for (unsigned i = 0; i < TCX_TRACKER_PARTS; i++) {
    if ((self->parts[i / 64] >> (i % 64) & 1) == 0)
      continue;
    unsigned page = i * PAGES / TCX_TRACKER_PARTS;
    TCX_CHECK((self->used.words[page / 64] >> (page % 64) & 1) != 0);
    count++;
  }
  TCX_CHECK(count == self->part_count);
  TCX_CHECK(!self->has_holes || count > 0);
}

void tcx_tracker_check(const struct tcx_tracker *self) {
  check_parts(self);
  for (unsigned w = 0; w < TCX_TRACKER_WORDS; w++) {
    uint64_t used = self->used.words[w];
    uint64_t zero = self->zero.words[w];
    TCX_CHECK(((used | zero) & ~valid_mask(w)) == 0);
    TCX_CHECK((used & zero) == 0);
    TCX_CHECK((self->released.words[w] & ~zero) == 0);
  }
  TCX_CHECK(count_range(&self->used, 0, PAGES) == self->used_pages);
  TCX_CHECK(count_range(&self->released, 0, PAGES) == self->released_pages);
  bool is_dense = (self->flags & TCX_TRACKER_DENSE) != 0;
  TCX_CHECK(self->longest_pages ==
            (is_dense ? tcx_tracker_free_pages(self) : longest_range(self)));
  if ((self->flags & TCX_TRACKER_HUGE) != 0) {
    TCX_CHECK((self->flags & TCX_TRACKER_BROKEN) == 0);
    TCX_CHECK(self->released_pages == 0);
    TCX_CHECK(!self->has_holes);
  }
  TCX_CHECK((self->flags & (TCX_TRACKER_UNBACKED | TCX_TRACKER_ZERO)) == 0);
}

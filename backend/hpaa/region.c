// region.c -- a range tracker over 64 huge pages. See region.h.
#include "backend/hpaa/region.h"

#include "base/bits.h"
#include "base/check.h"

#define HUGE_PAGES ((size_t)TCX_HUGE_PAGES)
#define ALL_ONES (~UINT64_C(0))

// -- Ranges of bits -----------------------------------------------------------

// Bits first .. first + count - 1 of a word; 0 < count, all within the word.
static uint64_t mask_of(size_t first, size_t count) {
  return (ALL_ONES >> (64 - count)) << first;
}

// The part of [*at, end) that lies in the word of *at, as a mask of that word;
// moves *at behind it.
static uint64_t next_part(size_t *at, size_t end) {
  size_t bit = *at % 64;
  size_t count = tcx_min_size(64 - bit, end - *at);
  *at += count;
  return mask_of(bit, count);
}

static void set_bits(uint64_t *words, size_t first, size_t count) {
  for (size_t at = first; at < first + count;) {
    uint64_t *word = &words[at / 64];
    *word |= next_part(&at, first + count);
  }
}

static void clear_bits(uint64_t *words, size_t first, size_t count) {
  for (size_t at = first; at < first + count;) {
    uint64_t *word = &words[at / 64];
    *word &= ~next_part(&at, first + count);
  }
}

static size_t count_bits(const uint64_t *words, size_t first, size_t count) {
  size_t sum = 0;
  for (size_t at = first; at < first + count;) {
    uint64_t word = words[at / 64];
    sum += tcx_count_bits(word & next_part(&at, first + count));
  }
  return sum;
}

// The first page from `from` on, before `end`, whose bit differs from those of
// `flip` (all 0: the first set, all 1: the first clear); else `end`.
static size_t find_bit(const uint64_t *words, size_t from, size_t end,
                       uint64_t flip) {
  while (from < end) {
    uint64_t word = (words[from / 64] ^ flip) >> from % 64;
    if (word != 0)
      return tcx_min_size(from + tcx_lowest_bit(word), end);
    from = (from / 64 + 1) * 64;
  }
  return end;
}

// The first range of set bits in [*first, end). False: there is none.
static bool next_range(const uint64_t *words, size_t *first, size_t end,
                       size_t *length) {
  *first = find_bit(words, *first, end, 0);
  *length = find_bit(words, *first, end, ALL_ONES) - *first;
  return *length > 0;
}

// -- The tree -----------------------------------------------------------------

static struct tcx_region_node node_of_huge(const struct tcx_region *self,
                                           size_t huge) {
  struct tcx_region_node node = {0, 0, 0};
  if (self->used[huge] == HUGE_PAGES)
    return node;
  size_t start = huge * HUGE_PAGES;
  size_t end = start + HUGE_PAGES;
  size_t first = start;
  size_t length;
  for (; next_range(self->free, &first, end, &length); first += length) {
    if (first == start)
      node.prefix = (uint16_t)length;
    if (first + length == end)
      node.suffix = (uint16_t)length;
    node.longest = (uint16_t)tcx_max_size(node.longest, length);
  }
  return node;
}

// `half`: pages below each of the two.
static struct tcx_region_node node_of_pair(const struct tcx_region_node *left,
                                           const struct tcx_region_node *right,
                                           uint32_t half) {
  uint32_t prefix = left->prefix;
  uint32_t suffix = right->suffix;
  uint32_t longest = (uint32_t)left->suffix + right->prefix;
  if (longest < left->longest)
    longest = left->longest;
  if (longest < right->longest)
    longest = right->longest;
  if (prefix == half)
    prefix += right->prefix;
  if (suffix == half)
    suffix += left->suffix;
  struct tcx_region_node node = {(uint16_t)prefix, (uint16_t)suffix,
                                 (uint16_t)longest};
  return node;
}

// After pages first .. last have changed.
static void update_tree(struct tcx_region *self, size_t first, size_t last) {
  first = first / HUGE_PAGES + TCX_REGION_HUGE_PAGES;
  last = last / HUGE_PAGES + TCX_REGION_HUGE_PAGES;
  for (size_t i = first; i <= last; i++)
    self->tree[i] = node_of_huge(self, i - TCX_REGION_HUGE_PAGES);
  for (uint32_t half = (uint32_t)HUGE_PAGES; first > 1; half *= 2) {
    first /= 2;
    last /= 2;
    for (size_t i = first; i <= last; i++)
      self->tree[i] =
          node_of_pair(&self->tree[2 * i], &self->tree[2 * i + 1], half);
  }
}

// Index of the first page of the lowest free range of `pages`.
// pre: the root has one.
static size_t find(const struct tcx_region *self, size_t pages) {
  size_t node = 1;
  size_t start = 0;  // index of the first page below the node
  size_t half = TCX_REGION_PAGES / 2;
  for (; node < TCX_REGION_HUGE_PAGES; half /= 2) {
    const struct tcx_region_node *left = &self->tree[2 * node];
    const struct tcx_region_node *right = &self->tree[2 * node + 1];
    if (left->longest >= pages) {
      node = 2 * node;
    } else if ((size_t)left->suffix + right->prefix >= pages) {
      return start + half - left->suffix;
    } else {
      node = 2 * node + 1;
      start += half;
    }
  }
  size_t length;
  size_t end = start + HUGE_PAGES;
  while (next_range(self->free, &start, end, &length) && length < pages)
    start += length;
  TCX_ASSERT(length >= pages);
  return start;
}

// The same from the start of a huge page on; TCX_REGION_PAGES: there is none.
// By the leaves alone: what is so long is rare.
static size_t find_from_huge(const struct tcx_region *self, size_t pages) {
  size_t whole = pages / HUGE_PAGES;
  size_t tail = pages % HUGE_PAGES;
  size_t free_huge = 0;  // neighbours, below `huge`
  for (size_t huge = 0; huge < TCX_REGION_HUGE_PAGES; huge++) {
    size_t prefix = self->tree[TCX_REGION_HUGE_PAGES + huge].prefix;
    if (free_huge >= whole && prefix >= tail)
      return (huge - whole) * HUGE_PAGES;
    free_huge = prefix == HUGE_PAGES ? free_huge + 1 : 0;
  }
  bool is_last = free_huge >= whole && tail == 0;
  return is_last ? TCX_REGION_PAGES - pages : TCX_REGION_PAGES;
}

// Whether a range has an aligned place wherever it starts.
static bool has_any(const struct tcx_region *self, size_t pages,
                    size_t align_pages) {
  return align_pages < HUGE_PAGES &&
         tcx_region_longest(self) >= pages + align_pages - 1;
}

static size_t find_aligned(const struct tcx_region *self, size_t pages,
                           size_t align_pages) {
  if (has_any(self, pages, align_pages))
    return tcx_align_up(find(self, pages + align_pages - 1), align_pages);
  return find_from_huge(self, pages);
}

bool tcx_region_fits(const struct tcx_region *self, size_t pages,
                     size_t align_pages) {
  return has_any(self, pages, align_pages) ||
         (align_pages > 1 && find_from_huge(self, pages) < TCX_REGION_PAGES);
}

// -- Use of pages -------------------------------------------------------------

static size_t index_of(const struct tcx_region *self, uint64_t page) {
  return (size_t)(page - tcx_region_first_page(self));
}

// What counts of a huge page as `part_pages`.
static uint32_t part_of(const struct tcx_region *self, size_t huge) {
  return self->used[huge] != 0 ? (uint32_t)tcx_region_backed_of(self, huge) : 0;
}

static void set_bit(uint64_t *mask, size_t bit, bool value) {
  *mask = (*mask & ~(UINT64_C(1) << bit)) | (uint64_t)value << bit;
}

// What follows from the counts of a huge page.
static void classify(struct tcx_region *self, size_t huge) {
  size_t backed = tcx_region_backed_of(self, huge);
  bool is_used = self->used[huge] != 0;
  bool is_worth =
      backed >= TCX_REGION_BREAK_PAGES || ((self->broken >> huge) & 1) != 0;
  set_bit(&self->idle, huge, backed != 0 && !is_used);
  set_bit(&self->breakable, huge, backed != 0 && is_used);
  set_bit(&self->worth, huge, backed != 0 && is_used && is_worth);
}

// The part of [at, end) in the huge page of `at` becomes used or free; of it
// `released` pages begin or end to be released.
static void count_part(struct tcx_region *self, size_t at, size_t end,
                       bool is_used, size_t released) {
  size_t huge = at / HUGE_PAGES;
  self->part_pages -= part_of(self, huge);
  if (is_used) {
    self->used[huge] = (uint16_t)(self->used[huge] + (end - at));
    self->released_of[huge] = (uint16_t)(self->released_of[huge] - released);
    self->released_pages -= (uint32_t)released;
  } else {
    self->used[huge] = (uint16_t)(self->used[huge] - (end - at));
    self->released_of[huge] = (uint16_t)(self->released_of[huge] + released);
    self->released_pages += (uint32_t)released;
  }
  self->part_pages += part_of(self, huge);
  classify(self, huge);
}

static size_t end_of_part(size_t at, size_t end) {
  return tcx_min_size((at / HUGE_PAGES + 1) * HUGE_PAGES, end);
}

// Out of the free pages. True: nothing was behind any of them.
static bool mark_used(struct tcx_region *self, size_t first, size_t count) {
  TCX_ASSERT(count_bits(self->free, first, count) == count);
  size_t was_released = self->released_pages;
  size_t end = first + count;
  for (size_t at = first, next; at < end; at = next) {
    next = end_of_part(at, end);
    size_t released = 0;
    if (self->released_of[at / HUGE_PAGES] != 0)
      released = count_bits(self->released, at, next - at);
    count_part(self, at, next, true, released);
  }
  clear_bits(self->free, first, count);
  if (was_released != self->released_pages)
    clear_bits(self->released, first, count);
  update_tree(self, first, end - 1);
  return was_released - self->released_pages == count;
}

static void mark_free(struct tcx_region *self, size_t first, size_t count,
                      bool is_released) {
  TCX_ASSERT(count_bits(self->free, first, count) == 0);
  size_t end = first + count;
  for (size_t at = first, next; at < end; at = next) {
    next = end_of_part(at, end);
    count_part(self, at, next, false, is_released ? next - at : 0);
  }
  set_bits(self->free, first, count);
  if (is_released)
    set_bits(self->released, first, count);
  update_tree(self, first, end - 1);
}

void tcx_region_init(struct tcx_region *self, uint64_t first_huge) {
  *self = (struct tcx_region){.first_huge = first_huge};
  for (size_t h = 0; h < TCX_REGION_HUGE_PAGES; h++)
    self->used[h] = (uint16_t)HUGE_PAGES;
  mark_free(self, 0, TCX_REGION_PAGES, true);
}

uint64_t tcx_region_allocate(struct tcx_region *self, size_t pages,
                             size_t align_pages, bool *is_zero) {
  TCX_ASSERT(pages > 0 && tcx_region_fits(self, pages, align_pages));
  size_t first = find_aligned(self, pages, align_pages);
  *is_zero = mark_used(self, first, pages);
  self->used_pages += (uint32_t)pages;
  return tcx_region_first_page(self) + first;
}

bool tcx_region_take(struct tcx_region *self, uint64_t first_page,
                     size_t pages) {
  size_t first = index_of(self, first_page);
  if (first >= TCX_REGION_PAGES || pages > TCX_REGION_PAGES - first)
    return false;
  if (count_bits(self->free, first, pages) != pages)
    return false;
  (void)mark_used(self, first, pages);
  self->used_pages += (uint32_t)pages;
  return true;
}

void tcx_region_free(struct tcx_region *self, uint64_t first_page, size_t pages,
                     bool is_released) {
  TCX_ASSERT(pages > 0 && pages <= self->used_pages);
  self->used_pages -= (uint32_t)pages;
  mark_free(self, index_of(self, first_page), pages, is_released);
}

// -- Release ------------------------------------------------------------------

// The first range of free, not released pages of a huge page that has a part in
// multiples of `unit`; the part. pages == 0: there is none.
static struct tcx_region_range find_breakable(const struct tcx_region *self,
                                              size_t huge, size_t unit) {
  struct tcx_region_range range = {0, 0, 0, true};
  size_t end = (huge + 1) * HUGE_PAGES;
  size_t start = huge * HUGE_PAGES;
  size_t at = start;
  for (; at <= end && range.pages == 0; at++) {
    bool is_backed = at < end && ((self->free[at / 64] >> at % 64) & 1) != 0 &&
                     ((self->released[at / 64] >> at % 64) & 1) == 0;
    if (is_backed)
      continue;
    size_t first = tcx_align_up(start, unit);
    size_t last = tcx_align_down(at, unit);
    if (first < last) {
      range.first_page = tcx_region_first_page(self) + first;
      range.pages = last - first;
      range.backed_pages = range.pages;
    }
    start = at + 1;
  }
  return range;
}

static struct tcx_region_range whole_of(const struct tcx_region *self,
                                        size_t huge) {
  struct tcx_region_range range = {
      tcx_region_first_page(self) + huge * HUGE_PAGES, HUGE_PAGES,
      tcx_region_backed_of(self, huge), false};
  return range;
}

bool tcx_region_release_begin(struct tcx_region *self, uint64_t candidates,
                              size_t unit_pages,
                              struct tcx_region_range *range) {
  range->pages = 0;
  while (range->pages == 0 && candidates != 0) {
    size_t huge = tcx_highest_bit(candidates);
    bool is_idle = ((self->idle >> huge) & 1) != 0;
    *range =
        is_idle ? whole_of(self, huge) : find_breakable(self, huge, unit_pages);
    candidates &= ~(UINT64_C(1) << huge);
  }
  if (range->pages == 0)
    return false;
  (void)mark_used(self, index_of(self, range->first_page), range->pages);
  self->busy_pages += (uint32_t)range->pages;
  return true;
}

void tcx_region_release_end(struct tcx_region *self,
                            const struct tcx_region_range *range,
                            bool is_released) {
  TCX_ASSERT(range->pages <= self->busy_pages);
  self->busy_pages -= (uint32_t)range->pages;
  mark_free(self, index_of(self, range->first_page), range->pages, is_released);
}

// -- Check --------------------------------------------------------------------

static void check_huge_page(const struct tcx_region *self, size_t huge) {
  size_t first = huge * HUGE_PAGES;
  size_t free = count_bits(self->free, first, HUGE_PAGES);
  size_t released = count_bits(self->released, first, HUGE_PAGES);
  TCX_CHECK(self->used[huge] == HUGE_PAGES - free);
  TCX_CHECK(self->released_of[huge] == released);
  bool is_idle = free == HUGE_PAGES && released < free;
  bool is_breakable = free < HUGE_PAGES && released < free;
  TCX_CHECK(((self->idle >> huge) & 1) == is_idle);
  TCX_CHECK(((self->breakable >> huge) & 1) == is_breakable);
  bool is_worth = free - released >= TCX_REGION_BREAK_PAGES ||
                  ((self->broken >> huge) & 1) != 0;
  TCX_CHECK(((self->worth >> huge) & 1) == (is_breakable && is_worth));
}

static void check_node(const struct tcx_region_node *node,
                       const struct tcx_region_node *right) {
  TCX_CHECK(node->prefix == right->prefix);
  TCX_CHECK(node->suffix == right->suffix);
  TCX_CHECK(node->longest == right->longest);
}

void tcx_region_check(const struct tcx_region *self) {
  for (size_t i = 0; i < TCX_REGION_WORDS; i++)
    TCX_CHECK((self->released[i] & ~self->free[i]) == 0);
  size_t part = 0;
  for (size_t i = 0; i < TCX_REGION_HUGE_PAGES; i++) {
    check_huge_page(self, i);
    part += part_of(self, i);
  }
  TCX_CHECK(part == self->part_pages);
  size_t free = count_bits(self->free, 0, TCX_REGION_PAGES);
  size_t released = count_bits(self->released, 0, TCX_REGION_PAGES);
  TCX_CHECK(free + self->used_pages + self->busy_pages == TCX_REGION_PAGES);
  TCX_CHECK(released == self->released_pages);
  for (size_t i = 0; i < TCX_REGION_HUGE_PAGES; i++) {
    struct tcx_region_node right = node_of_huge(self, i);
    check_node(&self->tree[TCX_REGION_HUGE_PAGES + i], &right);
  }
  uint32_t half = TCX_REGION_PAGES / 2;
  for (size_t level = 1; level < TCX_REGION_HUGE_PAGES; level *= 2, half /= 2) {
    for (size_t i = level; i < 2 * level; i++) {
      struct tcx_region_node right =
          node_of_pair(&self->tree[2 * i], &self->tree[2 * i + 1], half);
      check_node(&self->tree[i], &right);
    }
  }
}

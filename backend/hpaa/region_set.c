// region_set.c -- lists of regions. See region_set.h.
#include "backend/hpaa/region_set.h"

#include "base/bits.h"
#include "base/check.h"

static_assert(TCX_REGION_HUGE_PAGES <= 64, "a mask has a bit for each");
// So many regions of a list whose ranges may not do are looked at.
#define TRIES 4

// -- Lists --------------------------------------------------------------------

// Four lists for each doubling; one for each length up to 7.
static unsigned bucket_of(size_t longest) {
  if (longest < 8)
    return (unsigned)longest;
  unsigned high = tcx_highest_bit(longest);
  return 4 * (high - 1) + (unsigned)((longest >> (high - 2)) & 3);
}

static struct tcx_region **head_of(struct tcx_region_set *self,
                                   const struct tcx_region *region,
                                   enum tcx_region_list list) {
  if (list == TCX_REGION_FIT)
    return &self->fit[region->bucket];
  return &self->first[list];
}

static void push(struct tcx_region_set *self, struct tcx_region *region,
                 enum tcx_region_list list) {
  struct tcx_region **head = head_of(self, region, list);
  region->next[list] = *head;
  region->prev[list] = NULL;
  if (*head != NULL)
    (*head)->prev[list] = region;
  *head = region;
}

static void unlink_from(struct tcx_region_set *self, struct tcx_region *region,
                        enum tcx_region_list list) {
  struct tcx_region *next = region->next[list];
  struct tcx_region *prev = region->prev[list];
  if (next != NULL)
    next->prev[list] = prev;
  if (prev != NULL)
    prev->next[list] = next;
  else
    *head_of(self, region, list) = next;
}

static void link_fit(struct tcx_region_set *self, struct tcx_region *region) {
  region->bucket = (uint16_t)bucket_of(tcx_region_longest(region));
  push(self, region, TCX_REGION_FIT);
  self->nonempty |= UINT64_C(1) << region->bucket;
}

static void unlink_fit(struct tcx_region_set *self, struct tcx_region *region) {
  unlink_from(self, region, TCX_REGION_FIT);
  if (self->fit[region->bucket] == NULL)
    self->nonempty &= ~(UINT64_C(1) << region->bucket);
}

// -- Changes of a region ------------------------------------------------------

static uint64_t count(uint64_t mask) {
  return tcx_count_bits(mask);
}

// The huge pages for which a region is on a list; not set aside.
static uint64_t mask_of(const struct tcx_region *region,
                        enum tcx_region_list list) {
  return list == TCX_REGION_IDLE    ? region->idle
         : list == TCX_REGION_WORTH ? region->worth
                                    : region->breakable;
}

// What the set knows of a region, before it changes.
struct before {
  uint64_t used_pages;
  uint64_t released_pages;
  uint64_t part_pages;
  uint64_t idle;
  bool is_aside;
  unsigned lists;  // a bit for each that it is on
};

static unsigned lists_of(const struct tcx_region *region) {
  if (region->is_aside)
    return 0;
  return (region->idle != 0) << TCX_REGION_IDLE |
         (region->worth != 0) << TCX_REGION_WORTH |
         (region->breakable != 0) << TCX_REGION_BREAKABLE;
}

static struct before before(const struct tcx_region *region) {
  struct before was = {region->used_pages, region->released_pages,
                       region->part_pages, region->idle,
                       region->is_aside,   lists_of(region)};
  return was;
}

static void relist(struct tcx_region_set *self, struct tcx_region *region,
                   unsigned was, unsigned is) {
  for (unsigned list = TCX_REGION_IDLE; list < TCX_REGION_LISTS; list++) {
    if ((is & ~was) >> list & 1)
      push(self, region, (enum tcx_region_list)list);
    if ((was & ~is) >> list & 1)
      unlink_from(self, region, (enum tcx_region_list)list);
  }
}

static void changed(struct tcx_region_set *self, struct tcx_region *region,
                    const struct before *was, uint64_t now_ms) {
  self->used_pages += region->used_pages - was->used_pages;
  self->released_pages += region->released_pages - was->released_pages;
  self->part_pages += region->part_pages - was->part_pages;
  if (region->idle != was->idle)
    self->idle_huge += count(region->idle) - count(was->idle);
  self->aside += (uint64_t)region->is_aside - (uint64_t)was->is_aside;
  tcx_filler_demand_set(&self->idle_demand, self->idle_huge, now_ms);
  tcx_filler_demand_set(&self->part_demand, self->part_pages, now_ms);
  if (bucket_of(tcx_region_longest(region)) != region->bucket) {
    unlink_fit(self, region);
    link_fit(self, region);
  }
  unsigned lists = lists_of(region);
  if (lists != was->lists)
    relist(self, region, was->lists, lists);
}

void tcx_region_set_init(struct tcx_region_set *self) {
  *self = (struct tcx_region_set){.nonempty = 0};
}

void tcx_region_set_add(struct tcx_region_set *self,
                        struct tcx_region *region) {
  TCX_ASSERT(tcx_region_is_released(region));
  self->regions++;
  self->released_pages += region->released_pages;
  link_fit(self, region);
}

void tcx_region_set_remove(struct tcx_region_set *self,
                           struct tcx_region *region) {
  TCX_ASSERT(tcx_region_is_released(region));
  TCX_ASSERT(region->idle == 0 && region->breakable == 0);
  self->regions--;
  self->released_pages -= region->released_pages;
  unlink_fit(self, region);
}

// -- Allocation ---------------------------------------------------------------

static struct tcx_region *find(const struct tcx_region_set *self, size_t pages,
                               size_t align_pages) {
  uint64_t shorter = (UINT64_C(1) << bucket_of(pages)) - 1;
  uint64_t buckets = self->nonempty & ~shorter;
  for (; buckets != 0; buckets &= buckets - 1) {
    struct tcx_region *region = self->fit[tcx_lowest_bit(buckets)];
    for (int i = 0; i < TRIES && region != NULL; i++) {
      if (tcx_region_fits(region, pages, align_pages))
        return region;
      region = region->next[TCX_REGION_FIT];
    }
  }
  return NULL;
}

uint64_t tcx_region_set_allocate(struct tcx_region_set *self, size_t pages,
                                 size_t align_pages, uint64_t now_ms,
                                 struct tcx_region **region, bool *is_zero) {
  *region = find(self, pages, align_pages);
  if (*region == NULL)
    return 0;
  struct before was = before(*region);
  uint64_t first_page =
      tcx_region_allocate(*region, pages, align_pages, is_zero);
  changed(self, *region, &was, now_ms);
  return first_page;
}

bool tcx_region_set_take(struct tcx_region_set *self, struct tcx_region *region,
                         uint64_t first_page, size_t pages, uint64_t now_ms) {
  struct before was = before(region);
  bool is_taken = tcx_region_take(region, first_page, pages);
  changed(self, region, &was, now_ms);
  return is_taken;
}

void tcx_region_set_free(struct tcx_region_set *self, struct tcx_region *region,
                         uint64_t first_page, size_t pages, bool is_released,
                         uint64_t now_ms) {
  struct before was = before(region);
  tcx_region_free(region, first_page, pages, is_released);
  changed(self, region, &was, now_ms);
}

// -- Release ------------------------------------------------------------------

// When the first region of a list has something that was not needed for long
// enough.
static uint64_t list_due_ms(const struct tcx_region_set *self,
                            enum tcx_region_list list, uint64_t now_ms) {
  const struct tcx_region *region = self->first[list];
  if (region == NULL)
    return UINT64_MAX;
  if (list == TCX_REGION_IDLE) {
    return tcx_filler_demand_due(&self->idle_demand, TCX_REGION_KEEP_SECONDS, 1,
                                 now_ms);
  }
  size_t pages = tcx_region_backed_of(region, tcx_highest_bit(region->worth));
  return tcx_filler_demand_due(&self->part_demand, TCX_REGION_BREAK_SECONDS,
                               pages, now_ms);
}

uint64_t tcx_region_set_due_ms(const struct tcx_region_set *self,
                               uint64_t now_ms) {
  return tcx_min_size(list_due_ms(self, TCX_REGION_IDLE, now_ms),
                      list_due_ms(self, TCX_REGION_WORTH, now_ms));
}

// The list to release from; FIT: none.
static enum tcx_region_list choose(const struct tcx_region_set *self,
                                   enum tcx_region_release kind,
                                   uint64_t now_ms) {
  if (kind == TCX_REGION_RELEASE_UNNEEDED) {
    if (list_due_ms(self, TCX_REGION_IDLE, now_ms) <= now_ms)
      return TCX_REGION_IDLE;
    bool is_due = list_due_ms(self, TCX_REGION_WORTH, now_ms) <= now_ms;
    return is_due ? TCX_REGION_WORTH : TCX_REGION_FIT;
  }
  if (self->first[TCX_REGION_IDLE] != NULL)
    return TCX_REGION_IDLE;
  bool has_any = kind == TCX_REGION_RELEASE_ALL &&
                 self->first[TCX_REGION_BREAKABLE] != NULL;
  return has_any ? TCX_REGION_BREAKABLE : TCX_REGION_FIT;
}

static void set_aside(struct tcx_region_set *self, struct tcx_region *region,
                      bool is_aside, uint64_t now_ms) {
  struct before was = before(region);
  region->is_aside = is_aside;
  changed(self, region, &was, now_ms);
}

// What leaves was not needed: there never was so much.
static bool begin(struct tcx_region_set *self, struct tcx_region *region,
                  uint64_t candidates, size_t unit_pages, uint64_t now_ms,
                  struct tcx_region_range *range) {
  struct before was = before(region);
  if (!tcx_region_release_begin(region, candidates, unit_pages, range))
    return false;
  if (range->breaks) {
    tcx_filler_demand_take(&self->part_demand, range->pages, now_ms);
  } else {
    tcx_filler_demand_take(&self->idle_demand, 1, now_ms);
  }
  changed(self, region, &was, now_ms);
  return true;
}

struct tcx_region *tcx_region_set_release_begin(
    struct tcx_region_set *self, enum tcx_region_release kind,
    size_t unit_pages, uint64_t now_ms, struct tcx_region_range *range) {
  for (;;) {
    enum tcx_region_list list = choose(self, kind, now_ms);
    if (list == TCX_REGION_FIT)
      return NULL;
    struct tcx_region *region = self->first[list];
    if (begin(self, region, mask_of(region, list), unit_pages, now_ms, range))
      return region;
    // Pages of the system are larger than ours, and none is free.
    set_aside(self, region, true, now_ms);
  }
}

void tcx_region_set_release_end(struct tcx_region_set *self,
                                struct tcx_region *region,
                                const struct tcx_region_range *range,
                                bool is_released, uint64_t now_ms) {
  struct before was = before(region);
  tcx_region_release_end(region, range, is_released);
  region->is_aside = region->is_aside || !is_released;
  changed(self, region, &was, now_ms);
}

void tcx_region_set_retry(struct tcx_region_set *self, uint64_t now_ms) {
  for (unsigned bucket = 0; bucket < TCX_REGION_BUCKETS; bucket++) {
    struct tcx_region *region = self->fit[bucket];
    for (; region != NULL; region = region->next[TCX_REGION_FIT])
      set_aside(self, region, false, now_ms);
  }
}

// -- Check --------------------------------------------------------------------

struct sums {
  uint64_t regions;
  uint64_t used_pages;
  uint64_t released_pages;
  uint64_t part_pages;
  uint64_t idle_huge;
  uint64_t aside;
  uint64_t on[TCX_REGION_LISTS];
};

static void check_bucket(const struct tcx_region_set *self, unsigned bucket,
                         struct sums *sums) {
  const struct tcx_region *prev = NULL;
  const struct tcx_region *region = self->fit[bucket];
  TCX_CHECK(((self->nonempty >> bucket) & 1) == (region != NULL));
  for (; region != NULL; region = region->next[TCX_REGION_FIT]) {
    TCX_CHECK(region->prev[TCX_REGION_FIT] == prev);
    TCX_CHECK(region->bucket == bucket);
    TCX_CHECK(bucket_of(tcx_region_longest(region)) == bucket);
    tcx_region_check(region);
    sums->regions++;
    sums->used_pages += region->used_pages;
    sums->released_pages += region->released_pages;
    sums->idle_huge += count(region->idle);
    sums->part_pages += region->part_pages;
    sums->aside += region->is_aside;
    for (int list = TCX_REGION_IDLE; list < TCX_REGION_LISTS; list++)
      sums->on[list] += (lists_of(region) >> list) & 1;
    prev = region;
  }
}

static void check_list(const struct tcx_region *region,
                       enum tcx_region_list list, uint64_t expected) {
  const struct tcx_region *prev = NULL;
  for (; region != NULL; region = region->next[list]) {
    TCX_CHECK(((lists_of(region) >> list) & 1) != 0);
    TCX_CHECK(region->prev[list] == prev);
    TCX_CHECK(expected-- > 0);
    prev = region;
  }
  TCX_CHECK(expected == 0);
}

void tcx_region_set_check(const struct tcx_region_set *self) {
  struct sums sums = {0, 0, 0, 0, 0, 0, {0}};
  for (unsigned bucket = 0; bucket < TCX_REGION_BUCKETS; bucket++)
    check_bucket(self, bucket, &sums);
  TCX_CHECK(sums.regions == self->regions);
  TCX_CHECK(sums.used_pages == self->used_pages);
  TCX_CHECK(sums.released_pages == self->released_pages);
  TCX_CHECK(sums.part_pages == self->part_pages);
  TCX_CHECK(sums.idle_huge == self->idle_huge);
  TCX_CHECK(sums.aside == self->aside);
  TCX_CHECK(self->idle_demand.level == self->idle_huge);
  TCX_CHECK(self->part_demand.level == self->part_pages);
  for (int list = TCX_REGION_IDLE; list < TCX_REGION_LISTS; list++)
    check_list(self->first[list], (enum tcx_region_list)list, sums.on[list]);
}

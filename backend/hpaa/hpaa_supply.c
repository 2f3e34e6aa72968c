// hpaa_supply.c -- spare heads and trackers; huge pages in and out; notes.
#include "backend/hpaa/hpaa_internal.h"
#include "backend/metadata.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "pagemap/pagemap.h"

// More than this go back to their pool.
#define TRACKERS_MAX_KEPT 16

// -- Spares -------------------------------------------------------------------

static void put_tracker(struct tcx_hpaa *hpaa, struct tcx_tracker *tracker) {
  if (hpaa->trackers_count >= TRACKERS_MAX_KEPT) {
    tcx_tracker_delete(tracker);
    return;
  }
  tracker->next = hpaa->trackers;
  hpaa->trackers = tracker;
  hpaa->trackers_count++;
}

// Makes what is missing, without the lock. False: nothing could be made.
static bool restock_heads(struct tcx_hpaa *hpaa) {
  struct tcx_span *heads = tcx_head_stock_make();
  tcx_lock_acquire(&hpaa->lock);
  tcx_head_stock_add(&hpaa->heads, heads);
  return heads != NULL;
}

static bool restock_trackers(struct tcx_hpaa *hpaa) {
  struct tcx_tracker *tracker = tcx_tracker_new();
  tcx_lock_acquire(&hpaa->lock);
  if (tracker != NULL)
    put_tracker(hpaa, tracker);
  return tracker != NULL;
}

bool tcx_hpaa_lock(struct tcx_hpaa *hpaa) {
  tcx_lock_acquire(&hpaa->lock);
  while (TCX_UNLIKELY(hpaa->heads.count == 0 || hpaa->trackers == NULL)) {
    bool has_heads = hpaa->heads.count > 0;
    tcx_lock_release(&hpaa->lock);
    if (has_heads ? !restock_trackers(hpaa) : !restock_heads(hpaa)) {
      tcx_lock_release(&hpaa->lock);
      return false;
    }
  }
  return true;
}

static bool is_advised(uint64_t huge) {
  const struct tcx_region *region = tcx_hpaa_region_of(huge);
  if (region == NULL)
    return tcx_pagemap_huge_note(huge) == TCX_HPAA_NOTE_ADVISED;
  return ((region->advised >> (huge - region->first_huge)) & 1) != 0;
}

// What is asked for of a run, from `at` on.
static struct tcx_huge_run next_advised(struct tcx_hpaa *hpaa,
                                        struct tcx_huge_run run, uint64_t at) {
  uint64_t end = tcx_huge_run_end(run);
  struct tcx_huge_run found = {end, 0};
  tcx_lock_acquire(&hpaa->lock);
  if (hpaa->wants_huge) {
    while (at < end && !is_advised(at))
      at++;
    found.first = at;
    for (; at < end && is_advised(at); at++)
      found.count++;
  }
  tcx_lock_release(&hpaa->lock);
  return found;
}

// The kernel was told to keep huge pages out, as the heap was not worth them.
// If it has become so meanwhile, others may have asked for them before that:
// the last word must be theirs.
static void advise_again(struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  struct tcx_huge_run found = next_advised(hpaa, run, run.first);
  while (found.count > 0) {
    tcx_huge_policy_advise(&hpaa->policy, found, UINT64_MAX);
    found = next_advised(hpaa, run, tcx_huge_run_end(found));
  }
}

void tcx_hpaa_unlock(struct tcx_hpaa *hpaa) {
  struct tcx_hpaa_runs advise;
  advise.count = hpaa->advise.count;
  if (TCX_LIKELY(advise.count == 0)) {
    tcx_lock_release(&hpaa->lock);
    return;
  }
  advise = hpaa->advise;
  hpaa->advise.count = 0;
  hpaa->advising++;
  uint64_t heap_bytes = hpaa->wants_huge ? UINT64_MAX : 0;
  tcx_lock_release(&hpaa->lock);
  for (unsigned i = 0; i < advise.count; i++)
    tcx_huge_policy_advise(&hpaa->policy, advise.runs[i], heap_bytes);
  for (unsigned i = 0; i < advise.count && heap_bytes == 0; i++)
    advise_again(hpaa, advise.runs[i]);
  tcx_lock_acquire(&hpaa->lock);
  hpaa->advising--;
  tcx_lock_release(&hpaa->lock);
}

// -- Notes --------------------------------------------------------------------

struct tcx_region *tcx_hpaa_region_of(uint64_t huge) {
  void *note = tcx_pagemap_huge_note(huge);
  bool is_region = (uintptr_t)note > (uintptr_t)TCX_HPAA_NOTE_ADVISED;
  return is_region ? (struct tcx_region *)note : NULL;
}

void tcx_hpaa_note_ours(struct tcx_huge_run run) {
  for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++) {
    if (tcx_pagemap_huge_note(huge) == NULL)
      tcx_pagemap_set_huge_note(huge, TCX_HPAA_NOTE_OURS);
  }
}

static bool is_noted_broken(uint64_t huge) {
  return tcx_pagemap_huge_note(huge) == TCX_HPAA_NOTE_BROKEN;
}

static bool is_noted_advised(uint64_t huge) {
  return tcx_pagemap_huge_note(huge) == TCX_HPAA_NOTE_ADVISED;
}

// -- Growth -------------------------------------------------------------------

// False: the list is full.
static bool append(struct tcx_hpaa_runs *list, struct tcx_huge_run run) {
  struct tcx_huge_run *last = &list->runs[0];
  if (list->count > 0)
    last = &list->runs[list->count - 1];
  if (list->count > 0 && tcx_huge_run_end(*last) == run.first) {
    last->count += run.count;
    return true;
  }
  if (list->count >= TCX_HPAA_FRESH_RUNS)
    return false;
  list->runs[list->count++] = run;
  return true;
}

static void advise_one(struct tcx_hpaa *hpaa, uint64_t huge) {
  struct tcx_huge_run one = {huge, 1};
  struct tcx_region *region = tcx_hpaa_region_of(huge);
  if (region != NULL) {
    uint64_t bit = UINT64_C(1) << (huge - region->first_huge);
    if (((region->advised | region->broken) & bit) == 0 &&
        append(&hpaa->advise, one)) {
      region->advised |= bit;
    }
  } else if (!is_noted_broken(huge) && !is_noted_advised(huge) &&
             append(&hpaa->advise, one)) {
    tcx_pagemap_set_huge_note(huge, TCX_HPAA_NOTE_ADVISED);
  }
}

void tcx_hpaa_advise(struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  if (!hpaa->wants_huge)
    return;
  for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++)
    advise_one(hpaa, huge);
}

// What is in the filler already (a broken one has a tracker that knows it), or
// all.
static void advise_young(struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  bool asks_for_all = tcx_huge_policy_asks_at_once(&hpaa->policy);
  for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++) {
    const struct tcx_tracker *tracker =
        tcx_filler_tracker_of(&hpaa->filler, tcx_page_of_huge(huge));
    if (tracker != NULL ? (tracker->flags & TCX_TRACKER_BROKEN) == 0
                        : asks_for_all)
      advise_one(hpaa, huge);
  }
}

void tcx_hpaa_become_worth(struct tcx_hpaa *hpaa) {
  hpaa->wants_huge = true;
  for (unsigned i = 0; i < hpaa->young.count; i++)
    advise_young(hpaa, hpaa->young.runs[i]);
  hpaa->young.count = 0;
}

// A heap that is not worth it may have to ask for none.
static void note_growth(struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  if (hpaa->wants_huge) {
    if (tcx_huge_policy_asks_at_once(&hpaa->policy))
      tcx_hpaa_advise(hpaa, run);
    return;
  }
  (void)append(&hpaa->young, run);
  (void)append(&hpaa->advise, run);
}

static bool grow(struct tcx_hpaa *hpaa, uint64_t count) {
  bool is_grown = tcx_huge_source_grow(&hpaa->fresh, &hpaa->unbacked, count);
  for (unsigned i = 0; i < hpaa->fresh.added_count; i++)
    note_growth(hpaa, hpaa->fresh.added[i]);
  return is_grown;
}

// -- Huge pages ---------------------------------------------------------------

struct tcx_huge_run tcx_hpaa_take_unbacked(struct tcx_hpaa *hpaa,
                                           uint64_t count, uint64_t align) {
  struct tcx_huge_run run = tcx_huge_map_take(&hpaa->unbacked, count, align);
  if (run.count == 0 && grow(hpaa, count + align - 1))
    run = tcx_huge_map_take(&hpaa->unbacked, count, align);
  return run;
}

// The part of [at, end) from `at` on that one run of a map has.
static uint64_t count_at(const struct tcx_huge_map *map, uint64_t at,
                         uint64_t end) {
  struct tcx_huge_run run = tcx_huge_map_next(map, at);
  if (run.count == 0 || run.first > at)
    return 0;
  return tcx_min_size(tcx_huge_run_end(run), end) - at;
}

static bool are_free(const struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  uint64_t end = tcx_huge_run_end(run);
  for (uint64_t at = run.first; at < end;) {
    uint64_t count = count_at(&hpaa->cache.map, at, end);
    if (count == 0)
      count = count_at(&hpaa->unbacked, at, end);
    if (count == 0)
      return false;
    at += count;
  }
  return true;
}

bool tcx_hpaa_take_at(struct tcx_hpaa *hpaa, struct tcx_huge_run run,
                      uint64_t now_ms, bool *last_is_backed) {
  if (!are_free(hpaa, run))
    return false;
  uint64_t end = tcx_huge_run_end(run);
  for (uint64_t at = run.first; at < end;) {
    struct tcx_huge_run part = {at, count_at(&hpaa->cache.map, at, end)};
    *last_is_backed = part.count > 0;
    bool is_taken = false;
    if (part.count > 0) {
      is_taken = tcx_huge_cache_take_at(&hpaa->cache, part, now_ms);
    } else {
      part.count = count_at(&hpaa->unbacked, at, end);
      is_taken = tcx_huge_map_take_at(&hpaa->unbacked, part);
    }
    TCX_CHECK(is_taken);
    at += part.count;
  }
  return true;
}

struct tcx_huge_run tcx_hpaa_next_free(const struct tcx_hpaa *hpaa,
                                       uint64_t at) {
  struct tcx_huge_run backed = tcx_huge_map_next(&hpaa->cache.map, at);
  struct tcx_huge_run unbacked = tcx_huge_map_next(&hpaa->unbacked, at);
  if (backed.count == 0)
    return unbacked;
  if (unbacked.count == 0)
    return backed;
  return backed.first < unbacked.first ? backed : unbacked;
}

// Neighbours, some with memory and some without: what a large run was made of
// need not come back as one. Walks all that is free, so it is the last resort.
static struct tcx_huge_run take_mixed(struct tcx_hpaa *hpaa, uint64_t count,
                                      uint64_t align, uint64_t now_ms) {
  struct tcx_huge_run wanted = {0, 0};
  struct tcx_huge_run around = {0, 0};
  struct tcx_huge_run run = tcx_hpaa_next_free(hpaa, 0);
  for (; run.count > 0; run = tcx_hpaa_next_free(hpaa, tcx_huge_run_end(run))) {
    if (around.count > 0 && tcx_huge_run_end(around) == run.first) {
      around.count += run.count;
    } else {
      around = run;
    }
    uint64_t first = tcx_align_up(around.first, align);
    if (first + count > tcx_huge_run_end(around))
      continue;
    wanted.first = first;
    wanted.count = count;
    bool is_backed;
    bool is_taken = tcx_hpaa_take_at(hpaa, wanted, now_ms, &is_backed);
    TCX_CHECK(is_taken);
    break;
  }
  return wanted;
}

struct tcx_huge_run tcx_hpaa_take(struct tcx_hpaa *hpaa, uint64_t count,
                                  uint64_t align, uint64_t now_ms,
                                  bool *is_backed) {
  struct tcx_huge_run run =
      tcx_huge_cache_take(&hpaa->cache, count, align, now_ms);
  *is_backed = run.count > 0;
  if (run.count > 0)
    return run;
  run = tcx_hpaa_take_unbacked(hpaa, count, align);
  if (TCX_LIKELY(run.count > 0))
    return run;
  *is_backed = true;
  return take_mixed(hpaa, count, align, now_ms);
}

// -- Free and broken ----------------------------------------------------------

void tcx_hpaa_lose_mends(struct tcx_hpaa *hpaa) {
  hpaa->mends_lost = true;
  hpaa->mends_from = 0;
}

// False: the list is full.
static bool queue_mend(struct tcx_hpaa *hpaa, uint64_t huge) {
  if (hpaa->mends_count >= TCX_HPAA_MENDS)
    return false;
  hpaa->mends[hpaa->mends_count++] = (uint32_t)huge;
  return true;
}

// Of huge pages that become free.
static void queue_mends(struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  if (tcx_atomic_load_relaxed(&hpaa->policy.stats.broken) == 0)
    return;
  for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++) {
    if (is_noted_broken(huge) && !queue_mend(hpaa, huge)) {
      tcx_hpaa_lose_mends(hpaa);
      return;
    }
  }
}

void tcx_hpaa_find_mends(struct tcx_hpaa *hpaa) {
  if (!hpaa->mends_lost)
    return;
  struct tcx_huge_run run = tcx_hpaa_next_free(hpaa, hpaa->mends_from);
  for (; run.count > 0; run = tcx_hpaa_next_free(hpaa, tcx_huge_run_end(run))) {
    for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++) {
      if (is_noted_broken(huge) && !queue_mend(hpaa, huge)) {
        hpaa->mends_from = huge;
        return;
      }
    }
  }
  hpaa->mends_lost = false;
}

void tcx_hpaa_put(struct tcx_hpaa *hpaa, struct tcx_huge_run run,
                  bool is_backed, uint64_t now_ms) {
  if (run.count == 0)
    return;
  queue_mends(hpaa, run);
  if (is_backed) {
    tcx_huge_cache_put(&hpaa->cache, run, now_ms);
  } else {
    tcx_huge_map_insert(&hpaa->unbacked, run);
  }
}

// -- Trackers -----------------------------------------------------------------

struct tcx_tracker *tcx_hpaa_new_tracker(struct tcx_hpaa *hpaa, uint64_t huge,
                                         bool is_backed, bool wants_huge) {
  struct tcx_tracker *tracker = hpaa->trackers;
  TCX_ASSERT(tracker != NULL);
  hpaa->trackers = tracker->next;
  hpaa->trackers_count--;
  unsigned flags = is_backed ? 0 : TCX_TRACKER_UNBACKED;
  bool was_broken = is_noted_broken(huge);
  // What has memory, but not as a huge page, is mended later.
  if (wants_huge && !is_backed)
    tcx_hpaa_advise(hpaa, (struct tcx_huge_run){huge, 1});
  if (was_broken) {
    flags |= TCX_TRACKER_BROKEN;
  } else if (hpaa->wants_huge && is_noted_advised(huge)) {
    // The first page that is touched makes all of it resident.
    flags = TCX_TRACKER_HUGE | (is_backed ? 0 : TCX_TRACKER_ZERO);
  }
  tcx_tracker_init(tracker, huge, flags);
  if (!is_noted_advised(huge))
    tcx_pagemap_set_huge_note(huge, TCX_HPAA_NOTE_OURS);
  return tracker;
}

void tcx_hpaa_retire(struct tcx_hpaa *hpaa, struct tcx_tracker *tracker) {
  TCX_ASSERT(tracker->used_pages == 0);
  if ((tracker->flags & TCX_TRACKER_BROKEN) != 0)
    tcx_pagemap_set_huge_note(tracker->huge, TCX_HPAA_NOTE_BROKEN);
  put_tracker(hpaa, tracker);
}

void tcx_hpaa_absorb(struct tcx_hpaa *hpaa, struct tcx_tracker *tracker,
                     uint64_t now_ms) {
  if (tracker == NULL)
    return;
  struct tcx_huge_run run = {tracker->huge, 1};
  bool is_backed = tracker->released_pages == 0;
  TCX_ASSERT(is_backed || tracker->released_pages == TCX_HUGE_PAGES);
  tcx_hpaa_retire(hpaa, tracker);
  tcx_hpaa_put(hpaa, run, is_backed, now_ms);
}

struct tcx_tracker *tcx_hpaa_free_in_filler(struct tcx_hpaa *hpaa,
                                            uint64_t page, unsigned pages,
                                            bool is_moved, uint64_t now_ms) {
  return is_moved ? tcx_filler_free_moved(&hpaa->filler, page, pages, now_ms)
                  : tcx_filler_free(&hpaa->filler, page, pages, now_ms);
}

bool tcx_hpaa_donate(struct tcx_hpaa *hpaa, uint64_t huge, size_t head_pages,
                     bool is_backed, uint64_t now_ms) {
  struct tcx_filler_grant grant;
  tcx_filler_donate(&hpaa->filler,
                    tcx_hpaa_new_tracker(hpaa, huge, is_backed, false),
                    (unsigned)head_pages, now_ms, &grant);
  return grant.is_zero;
}

// -- Regions ------------------------------------------------------------------

bool tcx_hpaa_add_region(struct tcx_hpaa *hpaa) {
  struct tcx_region *region =
      (struct tcx_region *)tcx_metadata_allocate(sizeof(struct tcx_region));
  if (region == NULL)
    return false;
  struct tcx_huge_run run =
      tcx_hpaa_take_unbacked(hpaa, TCX_REGION_HUGE_PAGES, 1);
  if (run.count == 0) {
    tcx_metadata_free(region, sizeof(struct tcx_region));
    return false;
  }
  tcx_region_init(region, run.first);
  for (uint64_t i = 0; i < run.count; i++) {
    if (is_noted_broken(run.first + i))
      region->broken |= UINT64_C(1) << i;
    if (is_noted_advised(run.first + i))
      region->advised |= UINT64_C(1) << i;
    tcx_pagemap_set_huge_note(run.first + i, region);
  }
  tcx_region_set_add(&hpaa->regions, region);
  return true;
}

void tcx_hpaa_drop_region(struct tcx_hpaa *hpaa, struct tcx_region *region) {
  tcx_region_set_remove(&hpaa->regions, region);
  struct tcx_huge_run run = {region->first_huge, TCX_REGION_HUGE_PAGES};
  for (uint64_t i = 0; i < run.count; i++) {
    void *note = TCX_HPAA_NOTE_OURS;
    if (((region->broken >> i) & 1) != 0) {
      note = TCX_HPAA_NOTE_BROKEN;
    } else if (((region->advised >> i) & 1) != 0) {
      note = TCX_HPAA_NOTE_ADVISED;
    }
    tcx_pagemap_set_huge_note(run.first + i, note);
  }
  queue_mends(hpaa, run);
  tcx_huge_map_insert(&hpaa->unbacked, run);
  tcx_metadata_free(region, sizeof(struct tcx_region));
}

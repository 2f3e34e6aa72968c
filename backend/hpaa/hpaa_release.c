// hpaa_release.c -- memory back to the system.
//
// Each step takes the lock to choose, drops it for the system calls, and takes
// it again to say what became of it. Only one thread is here at a time.
#include "backend/hpaa/hpaa_internal.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

// So many failures, and one pass gives up: all may fail, and each costs a call.
#define FAILURES_MAX 8
// A failure so long after the last retry is not a repeated one: a huge page is
// due again 31 seconds after it.
#define RETRY_FORGET_MS 60000

static size_t system_page_pages(void) {
  return tcx_max_size(tcx_os_page_size() >> TCX_PAGE_SHIFT, 1);
}

static char *address_of(uint64_t page) {
  return (char *)(uintptr_t)(page << TCX_PAGE_SHIFT);
}

static bool give_back(struct tcx_hpaa *hpaa, uint64_t page, uint64_t pages) {
  return tcx_huge_policy_release(&hpaa->policy, address_of(page),
                                 pages << TCX_PAGE_SHIFT);
}

// -- Passes -------------------------------------------------------------------

// A caller's wish, and what became of it.
struct pass {
  uint64_t now_ms;
  size_t bytes;     // wanted
  size_t released;  // bytes that went back
  unsigned failures;
};

static bool goes_on(const struct pass *pass) {
  return pass->released < pass->bytes && pass->failures < FAILURES_MAX;
}

// Something is set aside: it is tried again later. With the lock.
static void note_aside(struct tcx_hpaa *hpaa, uint64_t now_ms) {
  if (hpaa->has_failed)
    return;
  hpaa->has_failed = true;
  bool is_repeated = now_ms < hpaa->retry_ms + RETRY_FORGET_MS;
  uint64_t wait_ms = is_repeated ? 2 * hpaa->retry_wait_ms : 0;
  wait_ms = tcx_max_size(wait_ms, TCX_HPAA_RETRY_MIN_MS);
  hpaa->retry_wait_ms = tcx_min_size(wait_ms, TCX_HPAA_RETRY_MAX_MS);
  hpaa->retry_ms = now_ms + hpaa->retry_wait_ms;
}

// All that was set aside is to be had again; if it is time, or `is_forced`.
static void retry(struct tcx_hpaa *hpaa, bool is_forced, uint64_t now_ms) {
  tcx_lock_acquire(&hpaa->lock);
  if (hpaa->has_failed && (is_forced || now_ms >= hpaa->retry_ms)) {
    hpaa->has_failed = false;
    hpaa->retry_ms = now_ms;
    tcx_huge_cache_retry(&hpaa->cache);
    tcx_region_set_retry(&hpaa->regions, now_ms);
    tcx_filler_retry(&hpaa->filler, now_ms);
  }
  if (is_forced) {
    hpaa->policy.break_again_ms = 0;
  }
  tcx_lock_release(&hpaa->lock);
}

// -- Whole free huge pages ----------------------------------------------------

static size_t huge_pages_of(size_t bytes) {
  bytes = tcx_min_size(bytes, TCX_HPAA_RELEASE_STEP_BYTES);
  return ((bytes - 1) >> TCX_HUGE_SHIFT) + 1;
}

static bool give_back_cached(struct tcx_hpaa *hpaa, struct tcx_huge_run run,
                             struct pass *pass) {
  bool is_released = tcx_huge_policy_release(
      &hpaa->policy, tcx_huge_run_start(run), tcx_huge_run_bytes(run));
  if (!is_released && run.count > 1)
    return false;
  tcx_lock_acquire(&hpaa->lock);
  if (is_released) {
    tcx_huge_cache_unback_done(&hpaa->cache, run);
    tcx_huge_map_insert(&hpaa->unbacked, run);
    pass->released += tcx_huge_run_bytes(run);
  } else {
    tcx_huge_cache_unback_failed(&hpaa->cache, run, pass->now_ms);
    note_aside(hpaa, pass->now_ms);
    pass->failures++;
  }
  tcx_lock_release(&hpaa->lock);
  return is_released;
}

// One run of the cache; with `is_due` only what demand does not need. False:
// there is none.
static bool release_cached(struct tcx_hpaa *hpaa, bool is_due,
                           struct pass *pass) {
  size_t count = huge_pages_of(pass->bytes - pass->released);
  tcx_lock_acquire(&hpaa->lock);
  struct tcx_huge_run run =
      is_due ? tcx_huge_cache_due(&hpaa->cache, count, pass->now_ms)
             : tcx_huge_cache_evict(&hpaa->cache, count, pass->now_ms);
  tcx_lock_release(&hpaa->lock);
  if (run.count == 0)
    return false;
  if (give_back_cached(hpaa, run, pass) || run.count == 1)
    return true;
  // One of them, as a rule: the program has locked a part.
  for (uint64_t i = run.count; i-- > 0;) {
    struct tcx_huge_run one = {run.first + i, 1};
    (void)give_back_cached(hpaa, one, pass);
  }
  return true;
}

// -- Regions ------------------------------------------------------------------

// What is released of a region, without the lock.
struct region_work {
  struct tcx_region *region;  // has a part being released, so it stays
  struct tcx_region_range range;
  bool was_advised;
  bool was_broken;
  bool may_break;
  bool is_broken;  // huge pages are kept out of the huge page
  bool is_released;
};

// Part of a huge page.
static void release_part(struct tcx_hpaa *hpaa, struct region_work *work,
                         uint64_t now_ms) {
  const struct tcx_region_range *range = &work->range;
  uint64_t huge = tcx_huge_of_page(range->first_page);
  bool breaks = work->was_advised && !work->was_broken;
  if (breaks &&
      (!work->may_break ||
       !tcx_huge_policy_break_begin(&hpaa->policy, huge,
                                    address_of(range->first_page), now_ms))) {
    return;
  }
  work->is_released = give_back(hpaa, range->first_page, range->pages);
  if (breaks) {
    work->is_broken =
        tcx_huge_policy_break_end(&hpaa->policy, huge, work->is_released);
  }
}

// A whole one, which is mended by the way.
static void release_whole(struct tcx_hpaa *hpaa, struct region_work *work,
                          uint64_t now_ms) {
  const struct tcx_region_range *range = &work->range;
  uint64_t huge = tcx_huge_of_page(range->first_page);
  work->is_released = give_back(hpaa, range->first_page, range->pages);
  if (work->is_released && work->was_broken) {
    work->is_broken = tcx_huge_policy_mend(&hpaa->policy, huge, false,
                                           now_ms) == TCX_HUGE_STILL_BROKEN;
  }
}

static uint64_t bit_of(const struct region_work *work) {
  uint64_t huge = tcx_huge_of_page(work->range.first_page);
  return UINT64_C(1) << (huge - work->region->first_huge);
}

static bool begin_region(struct tcx_hpaa *hpaa, enum tcx_region_release kind,
                         uint64_t now_ms, struct region_work *work) {
  work->region = tcx_region_set_release_begin(
      &hpaa->regions, kind, system_page_pages(), now_ms, &work->range);
  if (hpaa->regions.aside > 0)  // by that call
    note_aside(hpaa, now_ms);
  if (work->region == NULL)
    return false;
  work->was_advised = (work->region->advised & bit_of(work)) != 0;
  work->was_broken = (work->region->broken & bit_of(work)) != 0;
  work->may_break = tcx_hpaa_may_break(hpaa);
  work->is_broken = work->was_broken;
  work->is_released = false;
  return true;
}

static void end_region(struct tcx_hpaa *hpaa, const struct region_work *work,
                       uint64_t now_ms) {
  struct tcx_region *region = work->region;
  region->broken &= ~bit_of(work);
  if (work->is_broken) {
    region->broken |= bit_of(work);
  } else if (work->was_broken) {
    region->advised |= bit_of(work);  // by mending it
  }
  tcx_region_set_release_end(&hpaa->regions, region, &work->range,
                             work->is_released, now_ms);
  if (tcx_region_is_released(region))
    tcx_hpaa_drop_region(hpaa, region);
}

// False: there is nothing.
static bool release_in_regions(struct tcx_hpaa *hpaa,
                               enum tcx_region_release kind,
                               struct pass *pass) {
  struct region_work work;
  tcx_lock_acquire(&hpaa->lock);
  bool has_any = begin_region(hpaa, kind, pass->now_ms, &work);
  tcx_lock_release(&hpaa->lock);
  if (!has_any)
    return false;
  if (work.range.breaks) {
    release_part(hpaa, &work, pass->now_ms);
  } else {
    release_whole(hpaa, &work, pass->now_ms);
  }
  if (work.is_released) {
    pass->released += work.range.backed_pages << TCX_PAGE_SHIFT;
  } else {
    pass->failures++;
  }
  tcx_lock_acquire(&hpaa->lock);
  if (!work.is_released)
    note_aside(hpaa, pass->now_ms);
  end_region(hpaa, &work, pass->now_ms);
  tcx_lock_release(&hpaa->lock);
  return true;
}

// -- Filler -------------------------------------------------------------------

// The whole pages of the system in a range.
static void align_range(uint64_t *page, uint64_t *pages) {
  size_t unit = system_page_pages();
  uint64_t first = tcx_align_up(*page, unit);
  uint64_t end = tcx_align_down(*page + *pages, unit);
  *page = first;
  *pages = end > first ? end - first : 0;
}

// A range of `work` that can go back. False: there is none any more.
static bool next_range(struct tcx_filler_release *work, uint64_t *page,
                       uint64_t *pages) {
  while (tcx_filler_release_next(work, page, pages)) {
    align_range(page, pages);
    if (*pages > 0)
      return true;
  }
  return false;
}

// What is done to a huge page of the filler.
enum manner { WHOLE, IN_PARTS, BREAKS_IT, NOT_NOW };

// Of one that is not used all goes. What was never asked for is no huge page,
// and the kernel does not make it one by itself. With the lock.
static enum manner manner_of(const struct tcx_hpaa *hpaa,
                             const struct tcx_tracker *tracker) {
  if (tracker->used_pages == 0)
    return WHOLE;
  if ((tracker->flags & TCX_TRACKER_BROKEN) != 0 ||
      tcx_pagemap_huge_note(tracker->huge) != TCX_HPAA_NOTE_ADVISED) {
    return IN_PARTS;
  }
  return tcx_hpaa_may_break(hpaa) ? BREAKS_IT : NOT_NOW;
}

// Without the lock. `breaks`: huge pages must be kept out of it first. Whether
// that was done.
static bool release_work(struct tcx_hpaa *hpaa, struct tcx_filler_release *work,
                         bool breaks, struct pass *pass) {
  uint64_t huge = work->tracker->huge;
  uint64_t page;
  uint64_t pages;
  if (!next_range(work, &page, &pages)) {
    pass->failures++;
    return false;
  }
  if (breaks && !tcx_huge_policy_break_begin(&hpaa->policy, huge,
                                             address_of(page), pass->now_ms)) {
    pass->failures++;
    return false;
  }
  do {
    if (give_back(hpaa, page, pages))
      tcx_filler_release_done(work, page, pages);
  } while (next_range(work, &page, &pages));
  pass->failures += work->done_pages == 0;
  return breaks &&
         tcx_huge_policy_break_end(&hpaa->policy, huge, work->done_pages > 0);
}

// One of which nothing is used goes whole, what was released included: what was
// released since may be less than a page of the system.
static void release_empty(struct tcx_hpaa *hpaa,
                          struct tcx_filler_release *work, struct pass *pass) {
  uint64_t page = tcx_page_of_huge(work->tracker->huge);
  uint64_t pages;
  if (!give_back(hpaa, page, TCX_HUGE_PAGES)) {
    pass->failures++;
    return;
  }
  while (tcx_filler_release_next(work, &page, &pages))
    tcx_filler_release_done(work, page, pages);
}

// One huge page. False: there is none.
static bool release_in_filler(struct tcx_hpaa *hpaa,
                              enum tcx_filler_release_kind kind,
                              struct pass *pass) {
  struct tcx_filler_release work;
  enum manner manner = NOT_NOW;
  bool is_broken = false;
  tcx_lock_acquire(&hpaa->lock);
  bool has_any =
      tcx_filler_begin_release(&hpaa->filler, kind, pass->now_ms, &work);
  if (has_any)
    manner = manner_of(hpaa, work.tracker);
  tcx_lock_release(&hpaa->lock);
  if (!has_any)
    return false;
  if (manner == WHOLE) {
    release_empty(hpaa, &work, pass);
  } else if (manner == NOT_NOW) {
    pass->failures++;
  } else {
    is_broken = release_work(hpaa, &work, manner == BREAKS_IT, pass);
  }
  pass->released += (size_t)work.done_pages << TCX_PAGE_SHIFT;
  tcx_lock_acquire(&hpaa->lock);
  if (work.done_pages == 0)
    note_aside(hpaa, pass->now_ms);
  tcx_hpaa_absorb(
      hpaa,
      tcx_filler_end_release(&hpaa->filler, &work, is_broken, pass->now_ms),
      pass->now_ms);
  tcx_lock_release(&hpaa->lock);
  return true;
}

// -- Release ------------------------------------------------------------------

// What releases first comes first.
enum step {
  STEP_CACHE,
  STEP_REGIONS,
  STEP_FILLER,
  STEP_FILLER_BREAK,
  STEP_REGIONS_BREAK,
  STEPS
};

// False: there is nothing.
static bool release_step(struct tcx_hpaa *hpaa, enum step step,
                         struct pass *pass) {
  switch (step) {
    case STEP_CACHE:
      return release_cached(hpaa, false, pass);
    case STEP_REGIONS:
      return release_in_regions(hpaa, TCX_REGION_RELEASE_IDLE, pass);
    case STEP_FILLER:
      return release_in_filler(hpaa, TCX_FILLER_RELEASE_CHEAP, pass);
    case STEP_FILLER_BREAK:
      return release_in_filler(hpaa, TCX_FILLER_RELEASE_ALL, pass);
    default:
      return release_in_regions(hpaa, TCX_REGION_RELEASE_ALL, pass);
  }
}

size_t tcx_hpaa_release(struct tcx_page_source *source, size_t bytes,
                        enum tcx_page_release kind) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  struct pass pass = {tcx_clock_ms(), bytes, 0, 0};
  bool is_all = kind == TCX_PAGE_RELEASE_ALL;
  size_t whole = 0;
  tcx_lock_acquire(&hpaa->release_lock);
  retry(hpaa, is_all, pass.now_ms);
  for (int step = 0; step < (is_all ? STEPS : STEP_FILLER); step++) {
    pass.failures = 0;
    while (goes_on(&pass) && release_step(hpaa, (enum step)step, &pass))
      continue;
    if (step < STEP_FILLER)
      whole = pass.released;
  }
  tcx_lock_acquire(&hpaa->lock);
  if (pass.released > whole)
    tcx_hpaa_put_off_mends(hpaa, pass.now_ms);
  tcx_lock_release(&hpaa->lock);
  tcx_lock_release(&hpaa->release_lock);
  return pass.released;
}

// -- Maintenance --------------------------------------------------------------

size_t tcx_hpaa_maintain(struct tcx_hpaa *hpaa, uint64_t now_ms,
                         size_t bytes_max, bool may_grow) {
  struct pass pass = {now_ms, bytes_max, 0, 0};
  tcx_lock_acquire(&hpaa->release_lock);
  retry(hpaa, false, now_ms);
  while (goes_on(&pass) && release_cached(hpaa, true, &pass))
    continue;
  pass.failures = 0;
  while (goes_on(&pass) &&
         release_in_regions(hpaa, TCX_REGION_RELEASE_UNNEEDED, &pass))
    continue;
  pass.failures = 0;
  while (goes_on(&pass) &&
         release_in_filler(hpaa, TCX_FILLER_RELEASE_UNNEEDED, &pass))
    continue;
  tcx_hpaa_mend(hpaa, now_ms, may_grow);
  tcx_lock_release(&hpaa->release_lock);
  return pass.released;
}

uint64_t tcx_hpaa_due_ms(struct tcx_hpaa *hpaa, uint64_t now_ms) {
  tcx_lock_acquire(&hpaa->lock);
  uint64_t due_ms = tcx_filler_release_due(&hpaa->filler, now_ms);
  uint64_t wait_ms = tcx_huge_cache_wait_ms(&hpaa->cache, now_ms);
  if (wait_ms != UINT64_MAX)
    due_ms = tcx_min_size(due_ms, now_ms + wait_ms);
  due_ms = tcx_min_size(due_ms, tcx_region_set_due_ms(&hpaa->regions, now_ms));
  due_ms = tcx_min_size(due_ms, tcx_hpaa_mend_due_ms(hpaa, now_ms));
  if (hpaa->has_failed)
    due_ms = tcx_min_size(due_ms, tcx_max_size(hpaa->retry_ms, now_ms));
  tcx_lock_release(&hpaa->lock);
  return due_ms;
}

// hpaa_mend.c -- broken huge pages become whole again.
//
// WHAT IT DECIDES
//   Free ones first: those that came back broken are on a short list; when more
//   came than it has room for, it is filled again from all that is free. Then
//   those of the filler that are nearly full, unless memory is short: that
//   fills their holes. A few in each call, and when the kernel refused none for
//   a while.
//
// As in hpaa_release.c: with release_lock held; the lock to choose, none for
// the system calls, the lock to say what became of it.
#include "backend/hpaa/hpaa_internal.h"
#include "base/bits.h"
#include "base/check.h"
#include "pagemap/pagemap.h"

#define MENDS_PER_STEP 8

static_assert((uint64_t)MENDS_PER_STEP * TCX_FILLER_MEND_PAGES
                      << TCX_PAGE_SHIFT <=
                  TCX_PAGE_SOURCE_GROWTH_BYTES,
              "what is filled in one step");

// The kernel did not mend a free huge page, which may have a new use by now.
// With the lock.
static void stays_broken(struct tcx_hpaa *hpaa, uint64_t huge,
                         uint64_t now_ms) {
  struct tcx_tracker *tracker =
      tcx_filler_tracker_of(&hpaa->filler, tcx_page_of_huge(huge));
  struct tcx_region *region = tcx_hpaa_region_of(huge);
  if (tracker != NULL) {
    tcx_filler_set_broken(&hpaa->filler, tracker, now_ms);
  } else if (region != NULL) {
    region->broken |= UINT64_C(1) << (huge - region->first_huge);
  } else {
    tcx_pagemap_set_huge_note(huge, TCX_HPAA_NOTE_BROKEN);
    tcx_hpaa_lose_mends(hpaa);
  }
  hpaa->mend_again_ms = now_ms + TCX_HPAA_MEND_AGAIN_MS;
}

// A free huge page that is broken. False: there is none, or the kernel refused.
static bool mend_free(struct tcx_hpaa *hpaa, uint64_t now_ms) {
  tcx_lock_acquire(&hpaa->lock);
  if (hpaa->mends_count == 0)
    tcx_hpaa_find_mends(hpaa);
  if (hpaa->mends_count == 0) {
    tcx_lock_release(&hpaa->lock);
    return false;
  }
  uint64_t huge = hpaa->mends[--hpaa->mends_count];
  bool is_broken = tcx_pagemap_huge_note(huge) == TCX_HPAA_NOTE_BROKEN;
  // Before the call: if it is in use again afterwards, it is known as whole.
  if (is_broken)
    tcx_pagemap_set_huge_note(huge, TCX_HPAA_NOTE_ADVISED);
  tcx_lock_release(&hpaa->lock);
  if (!is_broken || tcx_huge_policy_mend(&hpaa->policy, huge, false, now_ms) !=
                        TCX_HUGE_STILL_BROKEN) {
    return true;
  }
  tcx_lock_acquire(&hpaa->lock);
  stays_broken(hpaa, huge, now_ms);
  tcx_lock_release(&hpaa->lock);
  return false;
}

// Makes it huge in the eyes of the kernel. One that was never broken is only
// asked for, if that was not done: huge pages are asked for as they are used,
// but not all that came before the heap was worth it. khugepaged comes by.
static bool mend_pinned(struct tcx_hpaa *hpaa,
                        const struct tcx_tracker *tracker, bool is_broken,
                        bool asks, uint64_t now_ms) {
  if (is_broken) {
    return tcx_huge_policy_mend(&hpaa->policy, tracker->huge, true, now_ms) !=
           TCX_HUGE_STILL_BROKEN;
  }
  struct tcx_huge_run one = {tracker->huge, 1};
  if (asks)
    tcx_huge_policy_advise(&hpaa->policy, one, UINT64_MAX);
  return true;
}

// A huge page of the filler that is nearly full again. False: there is none, or
// the kernel refused.
static bool mend_used(struct tcx_hpaa *hpaa, uint64_t now_ms) {
  bool is_broken = false;
  bool asks = false;
  tcx_lock_acquire(&hpaa->lock);
  struct tcx_tracker *tracker = tcx_filler_begin_mend(&hpaa->filler, now_ms);
  if (tracker != NULL) {
    is_broken = (tracker->flags & TCX_TRACKER_BROKEN) != 0;
    asks = tcx_pagemap_huge_note(tracker->huge) != TCX_HPAA_NOTE_ADVISED;
    tcx_pagemap_set_huge_note(tracker->huge, TCX_HPAA_NOTE_ADVISED);
  }
  tcx_lock_release(&hpaa->lock);
  if (tracker == NULL)
    return false;
  bool is_mended = mend_pinned(hpaa, tracker, is_broken, asks, now_ms);
  tcx_lock_acquire(&hpaa->lock);
  if (!is_mended)
    hpaa->mend_again_ms = now_ms + TCX_HPAA_MEND_AGAIN_MS;
  tcx_hpaa_absorb(
      hpaa, tcx_filler_end_mend(&hpaa->filler, tracker, is_mended, now_ms),
      now_ms);
  tcx_lock_release(&hpaa->lock);
  return is_mended;
}

// -- When ---------------------------------------------------------------------

// Free ones cost no memory: what is behind them counts as there, whole.
static uint64_t free_due_ms(const struct tcx_hpaa *hpaa) {
  return hpaa->mends_count > 0 || hpaa->mends_lost ? hpaa->mend_again_ms
                                                   : UINT64_MAX;
}

static uint64_t used_due_ms(const struct tcx_hpaa *hpaa) {
  if (hpaa->is_tight || !tcx_filler_has_to_mend(&hpaa->filler))
    return UINT64_MAX;
  return tcx_max_size(hpaa->mend_again_ms, hpaa->mend_used_ms);
}

uint64_t tcx_hpaa_mend_due_ms(const struct tcx_hpaa *hpaa, uint64_t now_ms) {
  uint64_t due_ms = tcx_min_size(free_due_ms(hpaa), used_due_ms(hpaa));
  return hpaa->wants_huge ? tcx_max_size(due_ms, now_ms) : UINT64_MAX;
}

// While it goes on, what is put off stays so. It is repeated if it comes again
// within such a time after they could have been mended.
void tcx_hpaa_put_off_mends(struct tcx_hpaa *hpaa, uint64_t now_ms) {
  uint64_t wait_ms = hpaa->mend_used_wait_ms;
  if (now_ms >= hpaa->mend_used_ms + wait_ms) {
    wait_ms = TCX_HPAA_MEND_USED_MIN_MS;
  } else if (now_ms >= hpaa->mend_used_ms) {
    wait_ms = tcx_min_size(2 * wait_ms, TCX_HPAA_MEND_USED_MAX_MS);
  }
  hpaa->mend_used_wait_ms = wait_ms;
  hpaa->mend_used_ms = now_ms + wait_ms;
}

void tcx_hpaa_mend(struct tcx_hpaa *hpaa, uint64_t now_ms, bool may_grow) {
  tcx_lock_acquire(&hpaa->lock);
  hpaa->is_tight = !may_grow;
  bool mends = hpaa->wants_huge && now_ms >= hpaa->mend_again_ms;
  bool mends_used = mends && now_ms >= used_due_ms(hpaa);
  tcx_lock_release(&hpaa->lock);
  for (int i = 0; mends && i < MENDS_PER_STEP && mend_free(hpaa, now_ms); i++) {
  }
  for (int i = 0; mends_used && i < MENDS_PER_STEP && mend_used(hpaa, now_ms);
       i++) {
  }
}

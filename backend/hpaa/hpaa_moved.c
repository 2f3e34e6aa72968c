// hpaa_moved.c -- spans that got their memory by a move of its page tables.
//
// WHAT IT DECIDES
//   mremap puts the source's mapping, and with it what was asked for of the
//   source, in the place of the target's. So the kernel is told again what is
//   noted of the target. What was moved has been used, so huge pages are asked
//   for, as for large runs that are used again.
#include "backend/hpaa/hpaa_internal.h"
#include "pagemap/pagemap.h"

// With the lock.
static bool is_broken(const struct tcx_hpaa *hpaa, uint64_t huge) {
  const struct tcx_tracker *tracker =
      tcx_filler_tracker_of(&hpaa->filler, tcx_page_of_huge(huge));
  if (tracker != NULL)
    return (tracker->flags & TCX_TRACKER_BROKEN) != 0;
  const struct tcx_region *region = tcx_hpaa_region_of(huge);
  if (region != NULL)
    return ((region->broken >> (huge - region->first_huge)) & 1) != 0;
  return tcx_pagemap_huge_note(huge) == TCX_HPAA_NOTE_BROKEN;
}

// The kernel does not know any more that it was asked for.
static void forget_advice(uint64_t huge) {
  struct tcx_region *region = tcx_hpaa_region_of(huge);
  if (region != NULL) {
    region->advised &= ~(UINT64_C(1) << (huge - region->first_huge));
  } else {
    tcx_pagemap_set_huge_note(huge, TCX_HPAA_NOTE_OURS);
  }
}

// All but broken ones. Whether there are any of these.
static bool ask_again(struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  bool has_broken = false;
  tcx_lock_acquire(&hpaa->lock);
  for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++) {
    if (is_broken(hpaa, huge)) {
      has_broken = true;
      continue;
    }
    forget_advice(huge);
    tcx_hpaa_advise(hpaa, (struct tcx_huge_run){huge, 1});
  }
  tcx_hpaa_unlock(hpaa);
  return has_broken;
}

// Nobody breaks or mends meanwhile.
static void keep_out_again(struct tcx_hpaa *hpaa, struct tcx_huge_run run) {
  tcx_lock_acquire(&hpaa->release_lock);
  for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++) {
    tcx_lock_acquire(&hpaa->lock);
    bool is_kept_out = is_broken(hpaa, huge);
    tcx_lock_release(&hpaa->lock);
    if (is_kept_out)
      tcx_huge_policy_keep_out(&hpaa->policy, huge);
  }
  tcx_lock_release(&hpaa->release_lock);
}

void tcx_hpaa_moved(struct tcx_page_source *source, const struct tcx_span *span,
                    size_t pages) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  struct tcx_huge_run run = tcx_huge_run_around(span->first_page, pages);
  if (ask_again(hpaa, run))
    keep_out_again(hpaa, run);
}

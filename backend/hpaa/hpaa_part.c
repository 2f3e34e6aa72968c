// hpaa_part.c -- memory under free objects of live spans back to the system.
//
// WHAT IT DECIDES
//   Spans of many objects are shorter than half a huge page, so they lie in the
//   filler. Where huge pages are kept out already, or there are none, a part
//   goes back at once. An intact huge page is broken only if an eighth of it
//   can go by that: the tracker remembers what was offered of all its spans,
//   and refuses until it is enough. Then it breaks the huge page for that part;
//   what was refused before goes when it is offered again, which the lists do a
//   few seconds after anything went (middle/central_release.c). Offers of
//   objects that were taken since would count too, so after some time without
//   a break they are forgotten, all at once; but where parts went before the
//   huge page was asked for, these are holes, and all stays noted.
//
//   A huge page with such holes is not mended, which would fill them, until
//   their spans are free: nobody says which were touched again.
//
// The caller keeps the span, so its tracker stays, with the lock or without.
#include <string.h>

#include "backend/hpaa/hpaa_internal.h"
#include "base/check.h"
#include "base/os.h"
#include "pagemap/pagemap.h"
#include "pagemap/span_parts.h"

// An eighth of a huge page, as for free pages of the filler.
#define BREAK_PARTS (TCX_TRACKER_PARTS / 8)
// Some walks of the central free lists.
#define OFFERS_KEPT_S 20

// -- Offers -------------------------------------------------------------------

enum verdict { REFUSED, GOES, GOES_IF_BROKEN };

// Whether enough was offered, this part included.
static bool offer(struct tcx_filler *filler, struct tcx_tracker *tracker,
                  size_t offset, size_t bytes, uint64_t now_ms) {
  uint32_t now_s = (uint32_t)(now_ms / 1000);
  bool is_old = now_s - tracker->offered_s > OFFERS_KEPT_S;
  if (is_old && !tracker->has_holes)
    tcx_tracker_clear_parts(tracker, 0, TCX_HUGE_BYTES);
  if (tracker->part_count == 0)
    tracker->offered_s = now_s;
  tcx_filler_note_parts(filler, tracker, offset, bytes, false);
  return tracker->part_count >= BREAK_PARTS;
}

// With the lock.
static enum verdict judge(struct tcx_hpaa *hpaa, struct tcx_tracker *tracker,
                          size_t offset, size_t bytes, uint64_t now_ms) {
  void *note = tcx_pagemap_huge_note(tracker->huge);
  if (note != TCX_HPAA_NOTE_ADVISED ||
      (tracker->flags & TCX_TRACKER_BROKEN) != 0) {
    return GOES;
  }
  struct tcx_filler *filler = &hpaa->filler;
  if (!offer(filler, tracker, offset, bytes, now_ms) ||
      !tcx_hpaa_may_break(hpaa)) {
    return REFUSED;
  }
  tcx_filler_begin_break(filler, tracker, now_ms);
  return GOES_IF_BROKEN;
}

// -- Giving back --------------------------------------------------------------

// Without the lock. *is_broken: huge pages are kept out from now on.
static bool give_back(struct tcx_hpaa *hpaa, uint64_t huge, void *start,
                      size_t bytes, bool breaks, uint64_t now_ms,
                      bool *is_broken) {
  *is_broken = false;
  if (!breaks)
    return tcx_huge_policy_release(&hpaa->policy, start, bytes);
  if (!tcx_huge_policy_break_begin(&hpaa->policy, huge, start, now_ms))
    return false;
  bool is_done = tcx_huge_policy_release(&hpaa->policy, start, bytes);
  *is_broken = tcx_huge_policy_break_end(&hpaa->policy, huge, is_done);
  return is_done;
}

static bool release_in_tracker(struct tcx_hpaa *hpaa,
                               struct tcx_tracker *tracker, void *start,
                               size_t bytes, uint64_t now_ms) {
  size_t offset = (uintptr_t)start % TCX_HUGE_BYTES;
  tcx_lock_acquire(&hpaa->lock);
  enum verdict verdict = judge(hpaa, tracker, offset, bytes, now_ms);
  tcx_lock_release(&hpaa->lock);
  if (verdict == REFUSED)
    return false;
  bool breaks = verdict == GOES_IF_BROKEN;
  bool is_broken;
  bool is_done =
      give_back(hpaa, tracker->huge, start, bytes, breaks, now_ms, &is_broken);
  tcx_lock_acquire(&hpaa->lock);
  if (breaks)
    tcx_filler_end_break(&hpaa->filler, tracker, is_broken, now_ms);
  if (is_done)
    tcx_filler_note_parts(&hpaa->filler, tracker, offset, bytes, true);
  tcx_lock_release(&hpaa->lock);
  return is_done;
}

bool tcx_hpaa_release_part(struct tcx_page_source *source,
                           const struct tcx_span *span, void *start,
                           size_t bytes, uint64_t now_ms) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  TCX_ASSERT(span->state == TCX_SPAN_SMALL);
  TCX_ASSERT((char *)start >= tcx_span_start(span));
  TCX_ASSERT((char *)start + bytes <=
             tcx_span_start(span) + tcx_span_bytes(span));
  TCX_ASSERT(((uintptr_t)start | bytes) % tcx_os_page_size() == 0);
  tcx_lock_acquire(&hpaa->release_lock);
  tcx_lock_acquire(&hpaa->lock);
  struct tcx_tracker *tracker =
      tcx_filler_tracker_of(&hpaa->filler, span->first_page);
  tcx_lock_release(&hpaa->lock);
  bool is_done = false;
  if (tracker != NULL)
    is_done = release_in_tracker(hpaa, tracker, start, bytes, now_ms);
  tcx_lock_release(&hpaa->release_lock);
  return is_done;
}

// -- The span comes back ------------------------------------------------------

// Pages of ours that lie in released parts altogether.
static bool is_released(const struct tcx_span *span,
                        struct tcx_span_parts parts, size_t i) {
  size_t start = i << TCX_PAGE_SHIFT;
  size_t end = start + TCX_PAGE_SIZE;
  if (start < parts.lead_bytes ||
      end > tcx_span_part_offset(parts, parts.count)) {
    return false;
  }
  uint64_t touched = tcx_span_parts_touched(parts, start, end);
  return (touched & ~span->released_words) == 0;
}

struct tcx_tracker *tcx_hpaa_free_parted(struct tcx_hpaa *hpaa,
                                         const struct tcx_span *span,
                                         uint64_t now_ms) {
  struct tcx_filler *filler = &hpaa->filler;
  struct tcx_tracker *tracker = tcx_filler_tracker_of(filler, span->first_page);
  TCX_CHECK(tracker != NULL);
  TCX_ASSERT((tracker->flags & TCX_TRACKER_HUGE) == 0);
  struct tcx_span_parts parts = tcx_span_parts_of(span);
  struct tcx_tracker_bits bits;
  memset(&bits, 0, sizeof(bits));
  unsigned first = (unsigned)tcx_hpaa_offset(span->first_page);
  for (size_t i = 0; i < span->pages; i++) {
    if (is_released(span, parts, i))
      tcx_tracker_set_range(&bits, first + (unsigned)i, 1);
  }
  return tcx_filler_free_released(filler, span->first_page, span->pages, &bits,
                                  now_ms);
}

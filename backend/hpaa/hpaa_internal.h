// hpaa_internal.h -- what the files of hpaa share.
//
//   hpaa.c           routing, allocate, deallocate
//   hpaa_supply.c    spare heads and trackers, huge pages in and out, notes
//   hpaa_resize.c    resize in place
//   hpaa_moved.c     spans that got their memory by a move
//   hpaa_release.c   memory back to the system
//   hpaa_mend.c      broken huge pages become whole again
//   hpaa_part.c      memory of parts of live spans back to the system
//   hpaa_table.c     statistics, fork, check, the table
//
// SPARES. A step may need a span head and a tracker, and memory for them may be
//   refused. So each entry that may need one takes the lock by tcx_hpaa_lock(),
//   which fails before anything was changed. Freeing needs neither.
//
// LOCKING: all but tcx_hpaa_lock, tcx_hpaa_mend and the entries of the table
//   are called with hpaa->lock held.
#ifndef TCX_BACKEND_HPAA_HPAA_INTERNAL_H_
#define TCX_BACKEND_HPAA_HPAA_INTERNAL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/hpaa/hpaa.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_HPAA_P ((size_t)TCX_HUGE_PAGES)
// Lengths, and sums of two, fit a span's 32 bits.
#define TCX_HPAA_PAGES_MAX ((size_t)UINT32_MAX >> 1)

static inline struct tcx_hpaa *tcx_hpaa_of(struct tcx_page_source *source) {
  return (struct tcx_hpaa *)source;
}

static inline uint64_t tcx_hpaa_offset(uint64_t page) {
  return page % TCX_HUGE_PAGES;
}

// -- Lock and spares ----------------------------------------------------------

// Takes the lock, with a spare head and a spare tracker there. False: no
// memory, and the lock is not taken.
TCX_NODISCARD bool tcx_hpaa_lock(struct tcx_hpaa *hpaa);
// Gives it back, then tells the kernel of memory that came meanwhile.
void tcx_hpaa_unlock(struct tcx_hpaa *hpaa);

// -- Notes: what the pagemap says of a huge page ------------------------------

// Ours; the system was not asked for a huge page.
#define TCX_HPAA_NOTE_OURS ((void *)1)
// Huge pages are kept out of it, and it is in no tracker and no region, which
// know that of theirs.
#define TCX_HPAA_NOTE_BROKEN ((void *)2)
// Ours, and the system was asked, or will be by tcx_hpaa_unlock.
#define TCX_HPAA_NOTE_ADVISED ((void *)3)

// NULL: the huge page is in no region.
struct tcx_region *tcx_hpaa_region_of(uint64_t huge);
// Handed out for the first time?
void tcx_hpaa_note_ours(struct tcx_huge_run run);
// Asks for huge pages where that was not done, and they are not broken, if the
// heap is worth it.
void tcx_hpaa_advise(struct tcx_hpaa *hpaa, struct tcx_huge_run run);
// Whether a huge page may be broken now: what asks for it may be on its way to
// the kernel, and must not be the last word.
static inline bool tcx_hpaa_may_break(const struct tcx_hpaa *hpaa) {
  return hpaa->advising == 0;
}

// -- Huge pages ---------------------------------------------------------------

// `count` huge pages in a row, from the cache or without memory behind them;
// count 0: none.
TCX_NODISCARD struct tcx_huge_run tcx_hpaa_take(struct tcx_hpaa *hpaa,
                                                uint64_t count, uint64_t align,
                                                uint64_t now_ms,
                                                bool *is_backed);
TCX_NODISCARD struct tcx_huge_run tcx_hpaa_take_unbacked(struct tcx_hpaa *hpaa,
                                                         uint64_t count,
                                                         uint64_t align);
// The first free run at or behind a huge page, all with or all without memory;
// count 0: none.
struct tcx_huge_run tcx_hpaa_next_free(const struct tcx_hpaa *hpaa,
                                       uint64_t at);
// These very ones, in whatever state. False: not all are free.
TCX_NODISCARD bool tcx_hpaa_take_at(struct tcx_hpaa *hpaa,
                                    struct tcx_huge_run run, uint64_t now_ms,
                                    bool *last_is_backed);
// Takes them back; broken ones are mended later.
void tcx_hpaa_put(struct tcx_hpaa *hpaa, struct tcx_huge_run run,
                  bool is_backed, uint64_t now_ms);

// Broken huge pages that are free, into the empty list `mends`: as many as fit.
// Walks what is free.
void tcx_hpaa_find_mends(struct tcx_hpaa *hpaa);
// Some of them are not on that list: they are to be found.
void tcx_hpaa_lose_mends(struct tcx_hpaa *hpaa);

// Mends a few, with `may_grow` also such that have holes. Without the lock,
// with release_lock.
void tcx_hpaa_mend(struct tcx_hpaa *hpaa, uint64_t now_ms, bool may_grow);
// When there may be something to mend.
uint64_t tcx_hpaa_mend_due_ms(const struct tcx_hpaa *hpaa, uint64_t now_ms);
// Somebody wanted memory of huge pages of which parts are used: these are not
// mended for a while, which would take it again.
void tcx_hpaa_put_off_mends(struct tcx_hpaa *hpaa, uint64_t now_ms);

// A spare tracker for a huge page, all free, that the filler does not know yet.
// `wants_huge`: it is asked for as one.
struct tcx_tracker *tcx_hpaa_new_tracker(struct tcx_hpaa *hpaa, uint64_t huge,
                                         bool is_backed, bool wants_huge);
// As tcx_filler_free; `is_moved`: the pages read as zero and nothing is behind
// them.
TCX_NODISCARD struct tcx_tracker *tcx_hpaa_free_in_filler(struct tcx_hpaa *hpaa,
                                                          uint64_t page,
                                                          unsigned pages,
                                                          bool is_moved,
                                                          uint64_t now_ms);
// The same for a span of which parts were given back: those count as released.
TCX_NODISCARD struct tcx_tracker *tcx_hpaa_free_parted(
    struct tcx_hpaa *hpaa, const struct tcx_span *span, uint64_t now_ms);
// A tracker that the filler gave up (NULL: none). `absorb` takes its huge page
// back, `retire` leaves it in use.
void tcx_hpaa_absorb(struct tcx_hpaa *hpaa, struct tcx_tracker *tracker,
                     uint64_t now_ms);
void tcx_hpaa_retire(struct tcx_hpaa *hpaa, struct tcx_tracker *tracker);

// Donates the end of the last huge page of a raw run. pre: the filler has room
// to find it. Whether the run's part is known zero.
bool tcx_hpaa_donate(struct tcx_hpaa *hpaa, uint64_t huge, size_t head_pages,
                     bool is_backed, uint64_t now_ms);

// A new region. False: no memory.
TCX_NODISCARD bool tcx_hpaa_add_region(struct tcx_hpaa *hpaa);
// One that is empty, with nothing behind it, goes.
void tcx_hpaa_drop_region(struct tcx_hpaa *hpaa, struct tcx_region *region);

// From now on the heap asks for huge pages.
void tcx_hpaa_become_worth(struct tcx_hpaa *hpaa);

// Whether it is worth it with so many pages in use more: not by how much there
// is, as two short spans may lie in two huge pages.
static inline void tcx_hpaa_check_worth(struct tcx_hpaa *hpaa,
                                        uint64_t more_pages) {
  uint64_t bytes = (hpaa->in_use_pages + more_pages) << TCX_PAGE_SHIFT;
  if (!hpaa->wants_huge &&
      TCX_UNLIKELY(tcx_huge_policy_is_worth(&hpaa->policy, bytes)))
    tcx_hpaa_become_worth(hpaa);
}

static inline uint64_t tcx_hpaa_mapped_bytes(const struct tcx_hpaa *hpaa) {
  return (hpaa->fresh.huge << TCX_HUGE_SHIFT) +
         tcx_huge_source_unused_bytes(&hpaa->fresh);
}

// -- Entries of the table -----------------------------------------------------

bool tcx_hpaa_resize(struct tcx_page_source *source, struct tcx_span *span,
                     size_t pages);
void tcx_hpaa_moved(struct tcx_page_source *source, const struct tcx_span *span,
                    size_t pages);
size_t tcx_hpaa_release(struct tcx_page_source *source, size_t bytes,
                        enum tcx_page_release kind);
bool tcx_hpaa_release_part(struct tcx_page_source *source,
                           const struct tcx_span *span, void *start,
                           size_t bytes, uint64_t now_ms);
struct tcx_span *tcx_hpaa_allocate(struct tcx_page_source *source,
                                   const struct tcx_page_request *request);
void tcx_hpaa_deallocate(struct tcx_page_source *source, struct tcx_span *span);

TCX_END_DECLS

#endif  // TCX_BACKEND_HPAA_HPAA_INTERNAL_H_

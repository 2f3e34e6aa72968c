// hpaa_table.c -- statistics, fork, check, and the table of hpaa.
#include "backend/hpaa/hpaa_internal.h"
#include "backend/system_allocator.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/knobs.h"
#include "pagemap/pagemap.h"

static_assert(offsetof(struct tcx_hpaa, source) == 0,
              "a page source is the start of its implementation");

// -- Statistics ---------------------------------------------------------------

// Free pages with memory behind them, those being released included.
static uint64_t backed_pages(const struct tcx_hpaa *hpaa) {
  uint64_t huge = hpaa->cache.map.huge + hpaa->cache.stats.unbacking;
  return huge * TCX_HUGE_PAGES + hpaa->filler.stats.free_pages +
         tcx_region_set_backed_pages(&hpaa->regions);
}

static uint64_t released_pages(const struct tcx_hpaa *hpaa) {
  return hpaa->unbacked.huge * TCX_HUGE_PAGES +
         hpaa->filler.stats.released_pages + hpaa->regions.released_pages;
}

// Whole free huge pages, those being released included.
static uint64_t kept_pages(const struct tcx_hpaa *hpaa) {
  uint64_t huge = hpaa->cache.map.huge + hpaa->cache.stats.unbacking;
  // Of idle ones in regions, parts may have been released.
  uint64_t idle = tcx_min_size(hpaa->regions.idle_huge * TCX_HUGE_PAGES,
                               tcx_region_set_backed_pages(&hpaa->regions));
  return huge * TCX_HUGE_PAGES + idle;
}

// Used pages of huge pages that were asked for and are not broken. Which large
// runs were asked for is not counted: none, or where all are, all. Nor which of
// the broken ones outside the filler are in use: all. So it is not more than
// there is, but for free pages of the filler that are being worked on.
static uint64_t huge_in_use_pages(const struct tcx_hpaa *hpaa) {
  if (!hpaa->wants_huge)
    return 0;
  const struct tcx_filler_stats *filler = &hpaa->filler.stats;
  uint64_t in_filler = tcx_min_size(
      filler->huge_trackers * TCX_HUGE_PAGES - filler->huge_free_pages,
      filler->used_pages);
  uint64_t others = 0;
  if (tcx_huge_policy_asks_at_once(&hpaa->policy))
    others = hpaa->raw_huge * TCX_HUGE_PAGES + hpaa->regions.used_pages;
  uint64_t broken = tcx_atomic_load_relaxed(&hpaa->policy.stats.broken);
  broken =
      (broken - tcx_min_size(broken, filler->broken_trackers)) * TCX_HUGE_PAGES;
  return in_filler + others - tcx_min_size(others, broken);
}

static void read_huge(const struct tcx_hpaa *hpaa,
                      struct tcx_page_source_stats *out) {
  struct tcx_huge_policy_stats policy;
  tcx_huge_policy_read_stats(&hpaa->policy, &policy);
  out->kept_bytes = kept_pages(hpaa) << TCX_PAGE_SHIFT;
  out->fragmented_bytes = out->free_bytes - out->kept_bytes;
  out->huge_in_use_bytes = huge_in_use_pages(hpaa) << TCX_PAGE_SHIFT;
  out->advised_bytes = policy.advised_bytes;
  out->broken_huge = policy.broken;
  out->breaks = policy.breaks;
  out->breaks_refused = policy.breaks_refused;
  out->splits_failed = policy.splits_failed;
  out->mended = policy.mended;
  out->collapsed = policy.collapsed;
}

static void hpaa_stats(struct tcx_page_source *source,
                       struct tcx_page_source_stats *out) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  tcx_lock_acquire(&hpaa->lock);
  out->mapped_bytes = tcx_hpaa_mapped_bytes(hpaa);
  out->in_use_bytes = hpaa->in_use_pages << TCX_PAGE_SHIFT;
  out->free_bytes = backed_pages(hpaa) << TCX_PAGE_SHIFT;
  out->released_bytes = (released_pages(hpaa) << TCX_PAGE_SHIFT) +
                        tcx_huge_source_unused_bytes(&hpaa->fresh);
  out->spans_allocated = hpaa->spans_allocated;
  out->spans_deallocated = hpaa->spans_deallocated;
  out->lock_waits = tcx_atomic_load_relaxed(&hpaa->lock.waits);
  read_huge(hpaa, out);
  tcx_lock_release(&hpaa->lock);
}

void tcx_hpaa_read_stats(struct tcx_hpaa *hpaa, uint64_t now_ms,
                         struct tcx_hpaa_stats *out) {
  tcx_huge_policy_read_stats(&hpaa->policy, &out->policy);
  tcx_lock_acquire(&hpaa->lock);
  tcx_filler_read_stats(&hpaa->filler, &out->filler);
  tcx_huge_cache_read_stats(&hpaa->cache, now_ms, &out->cache);
  out->unbacked_huge = hpaa->unbacked.huge;
  out->raw_huge = hpaa->raw_huge;
  out->regions = hpaa->regions.regions;
  out->region_used_pages = hpaa->regions.used_pages;
  out->region_free_pages = tcx_region_set_backed_pages(&hpaa->regions);
  out->region_released_pages = hpaa->regions.released_pages;
  out->region_idle_huge = hpaa->regions.idle_huge;
  out->waiting_bytes = tcx_huge_source_unused_bytes(&hpaa->fresh);
  tcx_lock_release(&hpaa->lock);
}

// -- Check --------------------------------------------------------------------

static void check_sums(const struct tcx_hpaa *hpaa) {
  uint64_t in_use = hpaa->filler.stats.used_pages + hpaa->regions.used_pages +
                    hpaa->raw_huge * TCX_HUGE_PAGES;
  TCX_CHECK(in_use == hpaa->in_use_pages);
  uint64_t pages = in_use + backed_pages(hpaa) + released_pages(hpaa);
  TCX_CHECK(pages == hpaa->fresh.huge * TCX_HUGE_PAGES);
}

static void check_free_run(const struct tcx_hpaa *hpaa,
                           struct tcx_huge_run run) {
  for (uint64_t huge = run.first; huge < tcx_huge_run_end(run); huge++) {
    uint64_t page = tcx_page_of_huge(huge);
    TCX_CHECK(tcx_filler_tracker_of(&hpaa->filler, page) == NULL);
    TCX_CHECK(tcx_hpaa_region_of(huge) == NULL);
  }
}

static void check_map(const struct tcx_hpaa *hpaa,
                      const struct tcx_huge_map *map) {
  tcx_huge_map_check(map);
  struct tcx_huge_run run = tcx_huge_map_next(map, 0);
  for (; run.count > 0; run = tcx_huge_map_next(map, tcx_huge_run_end(run)))
    check_free_run(hpaa, run);
}

static void check_regions(const struct tcx_hpaa *hpaa) {
  tcx_region_set_check(&hpaa->regions);
  for (unsigned b = 0; b < TCX_REGION_BUCKETS; b++) {
    const struct tcx_region *region = hpaa->regions.fit[b];
    for (; region != NULL; region = region->next[TCX_REGION_FIT]) {
      for (uint64_t i = 0; i < TCX_REGION_HUGE_PAGES; i++)
        TCX_CHECK(tcx_hpaa_region_of(region->first_huge + i) == region);
    }
  }
}

static void check_spares(const struct tcx_hpaa *hpaa) {
  tcx_head_stock_check(&hpaa->heads);
  uint32_t trackers = 0;
  for (const struct tcx_tracker *t = hpaa->trackers; t != NULL; t = t->next)
    trackers++;
  TCX_CHECK(trackers == hpaa->trackers_count);
}

static void hpaa_check(struct tcx_page_source *source) {
  struct tcx_hpaa *hpaa = tcx_hpaa_of(source);
  tcx_lock_acquire(&hpaa->lock);
  check_sums(hpaa);
  check_map(hpaa, &hpaa->unbacked);
  check_map(hpaa, &hpaa->cache.map);
  tcx_huge_cache_check(&hpaa->cache);
  tcx_huge_nodes_check(&hpaa->nodes);
  tcx_huge_source_check(&hpaa->fresh);
  check_regions(hpaa);
  tcx_filler_check(&hpaa->filler);
  check_spares(hpaa);
  tcx_lock_release(&hpaa->lock);
}

// -- Fork, table --------------------------------------------------------------

static size_t hpaa_maintain(struct tcx_page_source *source, uint64_t now_ms,
                            size_t bytes_max, bool may_grow) {
  return tcx_hpaa_maintain(tcx_hpaa_of(source), now_ms, bytes_max, may_grow);
}

static uint64_t hpaa_due_ms(struct tcx_page_source *source, uint64_t now_ms) {
  return tcx_hpaa_due_ms(tcx_hpaa_of(source), now_ms);
}

// The release lock is of a lower rank; it has hooks of its own.
static void hpaa_fork_prepare(struct tcx_page_source *source) {
  tcx_lock_acquire(&tcx_hpaa_of(source)->lock);
}

static void hpaa_fork_parent(struct tcx_page_source *source) {
  tcx_lock_release(&tcx_hpaa_of(source)->lock);
}

static void hpaa_fork_child(struct tcx_page_source *source) {
  tcx_hpaa_of(source)->advising = 0;
  tcx_lock_reset_in_child(&tcx_hpaa_of(source)->lock);
}

static const struct tcx_page_source_ops hpaa_ops = {
    .name = "hpaa",
    .allocate = tcx_hpaa_allocate,
    .deallocate = tcx_hpaa_deallocate,
    .resize = tcx_hpaa_resize,
    .moved = tcx_hpaa_moved,
    .release = tcx_hpaa_release,
    .maintain = hpaa_maintain,
    .due_ms = hpaa_due_ms,
    .release_part = tcx_hpaa_release_part,
    .stats = hpaa_stats,
    .fork_prepare = hpaa_fork_prepare,
    .fork_parent = hpaa_fork_parent,
    .fork_child = hpaa_fork_child,
    .check = hpaa_check,
};

struct tcx_page_source *tcx_hpaa_init(struct tcx_hpaa *self) {
  TCX_ASSERT(self->source.ops == NULL);
  self->source.ops = &hpaa_ops;
  tcx_lock_init(&self->lock, TCX_LOCK_RANK_PAGE_SOURCE);
  tcx_lock_init(&self->release_lock, TCX_LOCK_RANK_RELEASE);
  tcx_huge_nodes_init(&self->nodes);
  tcx_huge_map_init(&self->unbacked, &self->nodes);
  tcx_huge_cache_init(&self->cache, &self->nodes, tcx_clock_ms());
  tcx_huge_source_init(&self->fresh, tcx_system_allocate);
  tcx_region_set_init(&self->regions);
  struct tcx_huge_machine machine;
  tcx_huge_machine_read(&machine);
  tcx_huge_policy_init(&self->policy, &machine, tcx_knobs.hugepages);
  self->release_hooks = (struct tcx_fork_hooks){
      TCX_LOCK_RANK_RELEASE, &self->release_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&self->release_hooks);
  return &self->source;
}

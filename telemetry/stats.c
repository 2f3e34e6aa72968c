// stats.c -- collects the figures from the tiers. See stats.h.
#include "telemetry/stats.h"

#include <string.h>

#include "backend/metadata.h"
#include "backend/reclaimer.h"
#include "backend/system_allocator.h"
#include "base/config.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/os.h"
#include "frontend/frontend.h"
#include "pagemap/pagemap.h"
#include "size_classes/size_classes.h"
#include "telemetry/stats_internal.h"

const struct tcx_stats_field tcx_stats_fields[TCX_STATS_FIELDS] = {
#define TCX_STAT(kind, unit, name, text) {#name, #kind, #unit},
#include "telemetry/stats.def"
#undef TCX_STAT
};

struct tcx_stats_sources tcx_stats_from;

void tcx_stats_start(const struct tcx_stats_sources *sources) {
  tcx_stats_from = *sources;
  tcx_stats_report_start();
}

// The counters of a busy process are read one after the other: no difference
// of two is believed that cannot be.
static uint64_t less(uint64_t from, uint64_t what) {
  return from > what ? from - what : 0;
}

// Small objects. Returns the bytes that the middle has handed out.
static uint64_t read_middle(struct tcx_stats *out) {
  struct tcx_object_source *objects = tcx_stats_from.objects;
  uint64_t out_bytes = 0;
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    struct tcx_object_source_stats one;
    objects->ops->stats(objects, i, &one);
    uint64_t size = tcx_size_classes[i].size;
    out_bytes += one.out_objects * size;
    out->transfer_bytes += one.transfer_objects * size;
    // What was given back under free objects is in use for the page source.
    out->central_free_bytes +=
        less(one.central_objects * size,
             one.released_bytes - one.released_tail_bytes);
    out->span_tail_bytes += less(one.span_tail_bytes, one.released_tail_bytes);
    out->resident_bytes -= one.released_bytes;
    out->released_bytes += one.released_bytes;
    out->central_released_bytes += one.released_bytes;
    out->transfer_hits += one.transfer_hits;
    out->transfer_misses += one.transfer_misses;
    out->spans += one.spans;
    out->spans_total += one.spans_total;
  }
  return out_bytes;
}

// The caches, and all that is live.
static void read_frontend(struct tcx_stats *out) {
  struct tcx_frontend_stats front;
  tcx_frontend->stats(&front);
  out->metadata_bytes = front.mapped_bytes - front.untouched_bytes;
  out->released_bytes = front.untouched_bytes;
  out->mapped_bytes = front.mapped_bytes;
  out->caches = front.caches;
  out->caches_total = front.caches_total;
  out->thread_cache_bytes = front.cached_bytes;
  out->cpu_cache_bytes = front.cpu_cached_bytes;
  out->cpu_caches = front.cpu_caches;
  out->cpu_drains = front.cpu_drains;
  out->run_cache_bytes = front.run_cache_bytes;
  out->refills = front.refills;
  out->overflows = front.overflows;
  out->refilled_objects = front.removed_objects;
  out->spilled_objects = front.inserted_objects;
  out->run_blocks_made = front.run_spans;
  out->scavenges = front.scavenges;
  out->budget_steals = front.steals;
  out->run_bytes = less(front.run_out_bytes, front.run_cache_bytes);
  out->span_tail_bytes = front.run_tail_bytes;

  uint64_t small_bytes =
      less(read_middle(out), front.cached_bytes + front.cpu_cached_bytes);
  tcx_stats_from.large(&out->large_bytes, &out->large_allocations);
  out->allocated_bytes = small_bytes + out->run_bytes + out->large_bytes;
  out->served_objects =
      front.removed_objects + front.run_spans + out->large_allocations;
}

static void read_huge(const struct tcx_page_source_stats *back,
                      struct tcx_stats *out) {
  out->kept_bytes = back->kept_bytes;
  out->fragmented_bytes = back->fragmented_bytes;
  out->huge_in_use_bytes = back->huge_in_use_bytes;
  out->huge_advised_bytes = back->advised_bytes;
  out->huge_broken = back->broken_huge;
  out->huge_breaks = back->breaks;
  out->huge_breaks_refused = back->breaks_refused;
  out->huge_splits_failed = back->splits_failed;
  out->huge_mended = back->mended;
  out->huge_collapsed = back->collapsed;
}

static void read_backend(struct tcx_stats *out) {
  struct tcx_page_source *pages = tcx_stats_from.pages;
  struct tcx_page_source_stats back;
  pages->ops->stats(pages, &back);
  struct tcx_system_stats system;
  tcx_system_read_stats(&system);
  struct tcx_metadata_stats metadata;
  tcx_metadata_read_stats(&metadata);
  uint64_t pagemap_bytes = tcx_pagemap_bytes();

  out->page_free_bytes = back.free_bytes;
  out->page_spans_allocated = back.spans_allocated;
  out->page_spans_deallocated = back.spans_deallocated;
  read_huge(&back, out);
  out->metadata_bytes +=
      metadata.mapped_bytes - metadata.untouched_bytes + pagemap_bytes;
  out->mapped_bytes +=
      system.committed_bytes + metadata.mapped_bytes + pagemap_bytes;
  out->resident_bytes +=
      back.in_use_bytes + back.free_bytes + out->metadata_bytes;
  out->released_bytes += back.released_bytes + metadata.untouched_bytes;
  out->reserved_bytes = system.reserved_bytes;
  out->regions = system.regions;
}

static uint64_t limit_bytes(uint64_t limit) {
  return limit != UINT64_MAX ? limit : 0;
}

static void read_limits(struct tcx_stats *out) {
  if (tcx_stats_from.reclaimer == NULL)
    return;
  struct tcx_reclaimer_stats stats;
  tcx_stats_from.reclaimer(&stats);
  const struct tcx_limits_stats *limits = &stats.limits;
  out->release_rounds = stats.rounds;
  out->released_by_demand_bytes = stats.released_bytes;
  out->soft_limit_bytes = limit_bytes(limits->soft_bytes);
  out->hard_limit_bytes = limit_bytes(limits->hard_bytes);
  out->soft_limit_hits = limits->soft_hits;
  out->hard_limit_hits = limits->hard_hits;
  out->limit_released_bytes =
      limits->soft_released_bytes + limits->hard_released_bytes;
  out->limit_refused = limits->refused;
}

static void read_base(struct tcx_stats *out) {
  for (unsigned rank = 1; rank < TCX_LOCK_RANK_LIMIT; rank++)
    out->lock_waits += tcx_lock_waits((enum tcx_lock_rank)rank);
  struct tcx_os_counts counts;
  tcx_os_read_counts(&counts);
  for (unsigned i = 0; i < TCX_OS_CALL_KINDS; i++) {
    out->os_calls += counts.calls[i];
    out->os_failures += counts.failures[i];
  }
  out->forks = tcx_fork_count();
  if (tcx_stats_from.background != NULL) {
    tcx_stats_from.background(&out->background_threads,
                              &out->background_rounds);
  }
}

void tcx_stats_read(struct tcx_stats *out) {
  memset(out, 0, sizeof *out);
  if (tcx_stats_from.pages == NULL)
    return;
  read_frontend(out);
  read_backend(out);
  read_limits(out);
  read_base(out);
}

bool tcx_stats_read_class(unsigned size_class, struct tcx_stats_class *out) {
  memset(out, 0, sizeof *out);
  if (tcx_stats_from.pages == NULL)
    return false;
  struct tcx_frontend_class_stats front;
  tcx_frontend->class_stats(size_class, &front);
  out->cached_objects = front.cached_objects;
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    out->live_objects = less(front.run_blocks, front.cached_objects);
    return front.run_blocks_total > 0;
  }
  struct tcx_object_source *objects = tcx_stats_from.objects;
  struct tcx_object_source_stats middle;
  objects->ops->stats(objects, size_class, &middle);
  out->live_objects = less(middle.out_objects, front.cached_objects);
  out->transfer_objects = middle.transfer_objects;
  out->central_objects = middle.central_objects;
  out->central_free_bytes =
      less(middle.central_objects * tcx_size_classes[size_class].size,
           middle.released_bytes - middle.released_tail_bytes);
  out->spans = middle.spans;
  out->spans_total = middle.spans_total;
  out->transfer_hits = middle.transfer_hits;
  out->transfer_misses = middle.transfer_misses;
  return middle.spans_total > 0;
}

size_t tcx_served_objects(void) {
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  return stats.served_objects;
}

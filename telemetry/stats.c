// stats.c -- collects the figures from the tiers. See stats.h.
#include "telemetry/stats.h"

#include <string.h>

#include "backend/metadata.h"
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
    out->central_free_bytes += one.central_objects * size;
    out->span_tail_bytes += one.span_tail_bytes;
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
  out->metadata_bytes +=
      metadata.mapped_bytes - metadata.untouched_bytes + pagemap_bytes;
  out->mapped_bytes +=
      system.committed_bytes + metadata.mapped_bytes + pagemap_bytes;
  out->resident_bytes =
      back.in_use_bytes + back.free_bytes + out->metadata_bytes;
  out->released_bytes += back.released_bytes + metadata.untouched_bytes;
  out->reserved_bytes = system.reserved_bytes;
  out->regions = system.regions;
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
}

void tcx_stats_read(struct tcx_stats *out) {
  memset(out, 0, sizeof *out);
  if (tcx_stats_from.pages == NULL)
    return;
  read_frontend(out);
  read_backend(out);
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

// percpu_testing.h -- what the tests of the per-CPU front end share: the tiers
// below it, objects through its seam, and its accounts, counted anew.
#ifndef TCX_FRONTEND_PERCPU_TESTING_H_
#define TCX_FRONTEND_PERCPU_TESTING_H_

#include <gtest/gtest.h>

#include "backend/metadata.h"
#include "backend/page_heap.h"
#include "backend/system_allocator.h"
#include "base/fork.h"
#include "base/knobs.h"
#include "frontend/percpu_internal.h"
#include "frontend/selected.h"
#include "middle/transfer_source.h"
#include "pagemap/pagemap.h"

namespace percpu_testing {

inline tcx_object_source *objects;
inline tcx_page_source *pages;

// As libc/heap.c does: fork finds the locks of the tiers free.
inline void RegisterTiersForFork() {
  static const tcx_fork_hooks page_hooks = {
      TCX_LOCK_RANK_PAGE_SOURCE, nullptr,
      [](void *) { pages->ops->fork_prepare(pages); },
      [](void *) { pages->ops->fork_parent(pages); },
      [](void *) { pages->ops->fork_child(pages); }};
  static const tcx_fork_hooks object_hooks = {
      TCX_LOCK_RANK_TRANSFER_CACHE, nullptr,
      [](void *) { objects->ops->fork_prepare(objects); },
      [](void *) { objects->ops->fork_parent(objects); },
      [](void *) { objects->ops->fork_child(objects); }};
  tcx_fork_register(&page_hooks);
  tcx_fork_register(&object_hooks);
  tcx_fork_start();
}

// Once a process.
inline void StartTiers() {
  static tcx_page_heap heap;
  static tcx_transfer_source transfer;
  if (pages != nullptr)
    return;
  tcx_metadata_start();
  tcx_pagemap_start();
  tcx_system_start();
  pages = tcx_page_heap_init(&heap);
  objects = tcx_transfer_source_init(&transfer, pages);
  tcx_size_classes_init();
  tcx_frontend->start(objects, pages);
  RegisterTiersForFork();
}

inline void *Allocate(unsigned c) {
  void *object = tcx_frontend_pop(c << TCX_SIZE_CLASS_SHIFT);
  bool zeroed;
  return object != nullptr ? object : tcx_frontend->refill(c, &zeroed);
}

inline void Free(unsigned c, void *object) {
  if (!tcx_frontend_push(c << TCX_SIZE_CLASS_SHIFT, object))
    tcx_frontend->overflow(c, object);
}

// Objects of a class that the tiers below have handed out, as they count.
inline uint64_t OutObjects(unsigned c) {
  if (c >= TCX_RUN_CLASS_FIRST) {
    tcx_frontend_class_stats runs;
    tcx_frontend->class_stats(c, &runs);
    return runs.run_blocks;
  }
  tcx_object_source_stats stats;
  objects->ops->stats(objects, c, &stats);
  return stats.out_objects;
}

inline uint64_t CachedObjects(unsigned c) {
  tcx_frontend_class_stats stats;
  tcx_frontend->class_stats(c, &stats);
  return stats.cached_objects;
}

// Of the CPU whose slab this thread uses; negative: none.
inline int CpuId() {
  int id = tcx_thread.area->cpu_id;
  return id < TCX_PERCPU_MAX ? id : -1;
}

// Whether threads run on areas that the kernel keeps: sections are restarted,
// and the fence works.
inline bool HasSections() {
  Free(1, Allocate(1));
  return tcx_percpu_areas.support->is_usable && CpuId() >= 0;
}

// Bytes of room in the classes [first, limit) of a CPU.
inline uint64_t RoomBytes(const tcx_cpu &cpu, unsigned first, unsigned limit) {
  uint64_t bytes = 0;
  for (unsigned c = first; c < limit; c++)
    bytes += tcx_cpu_capacity(&cpu, c) * tcx_size_classes[c].size;
  return bytes;
}

// I3 of percpu.c, for small classes and for runs; nothing runs meanwhile.
inline void ExpectRoomIsPaidFor() {
  for (const tcx_cpu &cpu : tcx_cpus) {
    EXPECT_EQ(cpu.capacity_bytes, RoomBytes(cpu, 1, TCX_RUN_CLASS_FIRST))
        << "CPU " << &cpu - tcx_cpus;
    EXPECT_EQ(cpu.run_bytes,
              RoomBytes(cpu, TCX_RUN_CLASS_FIRST, TCX_SIZE_CLASS_COUNT))
        << "CPU " << &cpu - tcx_cpus;
  }
}

}  // namespace percpu_testing

#endif  // TCX_FRONTEND_PERCPU_TESTING_H_

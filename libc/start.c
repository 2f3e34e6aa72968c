// start.c -- wires the tiers, or steps aside. See start.h.
#include "libc/start.h"

#include "backend/metadata.h"
#include "backend/selected.h"
#include "backend/system_allocator.h"
#include "base/fork.h"
#include "base/knobs.h"
#include "base/lock.h"
#include "base/log.h"
#include "frontend/selected.h"
#include "libc/background.h"
#include "libc/foreign.h"
#include "libc/harden.h"
#include "libc/heap.h"
#include "libc/large.h"
#include "libc/stack.h"
#include "libc/upkeep.h"
#include "middle/central_source.h"
#include "middle/transfer_source.h"
#include "pagemap/pagemap.h"
#include "size_classes/size_classes.h"
#include "telemetry/stats.h"

struct tcx_start tcx_start;

static struct tcx_lock start_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_START);

// The tiers' tables have fork entries of their own types.
static void pages_prepare(void *self) {
  ((struct tcx_page_source *)self)->ops->fork_prepare(self);
}
static void pages_parent(void *self) {
  ((struct tcx_page_source *)self)->ops->fork_parent(self);
}
static void pages_child(void *self) {
  ((struct tcx_page_source *)self)->ops->fork_child(self);
}
static void objects_prepare(void *self) {
  ((struct tcx_object_source *)self)->ops->fork_prepare(self);
}
static void objects_parent(void *self) {
  ((struct tcx_object_source *)self)->ops->fork_parent(self);
}
static void objects_child(void *self) {
  ((struct tcx_object_source *)self)->ops->fork_child(self);
}

// The object source takes the locks of two ranks, one after the other.
static void register_tiers_for_fork(void) {
  static struct tcx_fork_hooks page_hooks = {TCX_LOCK_RANK_PAGE_SOURCE, NULL,
                                             pages_prepare, pages_parent,
                                             pages_child};
  static struct tcx_fork_hooks object_hooks = {TCX_LOCK_RANK_TRANSFER_CACHE,
                                               NULL, objects_prepare,
                                               objects_parent, objects_child};
  page_hooks.self = tcx_start.pages;
  object_hooks.self = tcx_start.objects;
  tcx_fork_register(&page_hooks);
  tcx_fork_register(&object_hooks);
}

static void read_background(uint64_t *made, uint64_t *rounds) {
  struct tcx_background_stats background;
  tcx_background_read_stats(&background);
  *made = background.made;
  *rounds = background.rounds;
}

static void wire_tiers(void) {
  static struct tcx_transfer_source transfer;
  static struct tcx_central_source central;
  static const struct tcx_fork_hooks start_hooks = {
      TCX_LOCK_RANK_START, &start_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&start_hooks);
  tcx_fatal_install(tcx_stack_print);
  tcx_metadata_start();
  tcx_pagemap_start();
  // Before there is a window: who finds a page in it uses the offset.
  tcx_pagemap_window.thread_offset = tcx_frontend_thread_offset();
  tcx_system_start();
  struct tcx_page_source *inner = tcx_page_source_start();
  struct tcx_page_source *pages = tcx_upkeep_start(inner);
  struct tcx_object_source *objects;
  if (tcx_harden_is_on()) {
    tcx_pagemap_hide_classes(true);
    objects = tcx_central_source_init(&central, pages);
  } else {
    objects = tcx_transfer_source_init(&transfer, pages);
  }
  tcx_start.pages = pages;
  tcx_start.objects = objects;
  register_tiers_for_fork();
  tcx_frontend->start(objects, pages);
  tcx_upkeep_serve(objects);
  tcx_stats_start(&(struct tcx_stats_sources){
      .objects = objects,
      .pages = inner,
      .large = tcx_large_read_stats,
      .reclaimer = tcx_upkeep_read_stats,
      .background = read_background,
  });
  // Last: with the first entry of its table, fast paths begin to succeed.
  tcx_size_classes_init();
}

// TCX_DISABLE. Then nothing is wired: the tables stay zero, so that all fast
// paths fail, and the slow ones go to the next allocator. Where there is none,
// the setting is taken back.
static bool steps_aside(void) {
  if (tcx_knobs.disable == 0)
    return false;
  if (tcx_foreign_calls() != NULL)
    return true;
  tcx_log("disable: not done, as this process has no other malloc");
  tcx_knobs.disable = 0;
  return false;
}

// A program's IFUNC resolver may allocate before the loader has filled the
// thread's block from its image (it does so after relocation). Until then the
// block is zero, and what is put there now does not stay.
void tcx_start_bridge_thread(void) {
  if (TCX_LIKELY(tcx_thread.slab != NULL))
    return;
  tcx_frontend_bridge_thread();
  tcx_thread.flags |= TCX_THREAD_STARTING;
}

TCX_COLD static bool start_first(void) {
  tcx_lock_acquire(&start_lock);
  bool is_first = tcx_start.state == TCX_NOT_STARTED;
  if (is_first) {
    tcx_knobs_load();
    bool is_aside = steps_aside();
    if (!is_aside)
      wire_tiers();
    // Pairs with the acquire in tcx_heap_start: the tiers are there.
    tcx_atomic_store_release(&tcx_start.state,
                             is_aside ? TCX_ASIDE : TCX_SERVING);
  }
  bool serves = tcx_start.state == TCX_SERVING;
  tcx_lock_release(&start_lock);
  // May allocate, so not under the lock.
  if (is_first && serves) {
    tcx_fork_start();
    if (tcx_knobs.foreign == TCX_FOREIGN_LIBC)
      (void)tcx_foreign_calls();
  }
  return serves;
}

bool tcx_start_slow(void) {
  tcx_start_bridge_thread();
  int now = tcx_atomic_load_acquire(&tcx_start.state);
  if (now == TCX_SERVING)
    return true;
  // The look-up of the next allocator, inside, may allocate.
  return now == TCX_NOT_STARTED && !tcx_foreign_is_looking() && start_first();
}

bool tcx_heap_start(void) {
  return tcx_start_is_serving();
}

const struct tcx_foreign_calls *tcx_heap_aside(void) {
  return tcx_heap_start() ? NULL : tcx_foreign_calls();
}

// A program that makes threads before it allocates, or forks at once, still
// finds everything set up. A tcx that is not the process's allocator (a second
// one is preloaded, or it was opened by hand) sleeps until it is called.
__attribute__((constructor)) static void start_early(void) {
  if (tcx_foreign_is_first() && tcx_heap_start())
    tcx_background_start_early();
}

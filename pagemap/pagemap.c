// pagemap.c -- growing and writing the pagemap; reads are in the header.
#include "pagemap/pagemap.h"

#include <sys/mman.h>

#include "base/bits.h"
#include "base/check.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/os.h"

#define LEAF_MASK (TCX_PAGEMAP_LEAF_PAGES - 1)
#define PAGE_LIMIT (UINT64_C(1) << (48 - TCX_PAGE_SHIFT))

static_assert(TCX_PAGEMAP_LEAF_SHIFT > TCX_PAGE_SHIFT, "a leaf has pages");
static_assert(TCX_PAGEMAP_WINDOW_SHIFT > TCX_PAGEMAP_LEAF_SHIFT,
              "the window has whole leaves, for its span pointers");

struct tcx_pagemap_window tcx_pagemap_window;
struct tcx_pagemap_leaf *tcx_pagemap_root[TCX_PAGEMAP_ROOT_ENTRIES];

static struct tcx_lock grow_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_PAGEMAP);
static bool classes_are_hidden;  // written once, at start
static uint64_t leaf_bytes;      // written under grow_lock
static uint64_t ensured_pages;   // atomic

void tcx_pagemap_set_window(uintptr_t address) {
  TCX_ASSERT(tcx_pagemap_window.pages == 0);
  tcx_pagemap_window.base = address >> TCX_PAGEMAP_WINDOW_SHIFT
                                           << TCX_PAGEMAP_WINDOW_SHIFT;
  tcx_atomic_store_release(&tcx_pagemap_window.pages,
                           (uint64_t)TCX_PAGEMAP_WINDOW_PAGES);
}

static struct tcx_pagemap_leaf *leaf_of_page(uint64_t page) {
  TCX_ASSERT(page < PAGE_LIMIT);
  return tcx_atomic_load_acquire(
      &tcx_pagemap_root[page >> (TCX_PAGEMAP_LEAF_SHIFT - TCX_PAGE_SHIFT)]);
}

// Where THP is "always", the first entry of a table would make 2 MiB resident.
// A refusal (no such pages) costs nothing.
static void keep_off_huge_pages(void *table, size_t bytes) {
  uintptr_t start = tcx_align_up((uintptr_t)table, tcx_os_page_size());
  uintptr_t end = tcx_align_down((uintptr_t)table + bytes, tcx_os_page_size());
  (void)tcx_os_advise((void *)start, end - start, MADV_NOHUGEPAGE);
}

static bool ensure_leaf(uintptr_t root_index) {
  if (tcx_atomic_load_acquire(&tcx_pagemap_root[root_index]) != NULL) {
    return true;
  }
  tcx_lock_acquire(&grow_lock);
  bool ok = tcx_pagemap_root[root_index] != NULL;
  if (!ok) {
    size_t bytes =
        tcx_align_up(sizeof(struct tcx_pagemap_leaf), tcx_os_page_size());
    void *leaf = tcx_os_map(bytes);
    if (leaf != NULL) {
      keep_off_huge_pages(leaf, bytes);
      leaf_bytes += bytes;
      // Pairs with the acquire of every reader: the zero pages are there.
      tcx_atomic_store_release(&tcx_pagemap_root[root_index],
                               (struct tcx_pagemap_leaf *)leaf);
      ok = true;
    }
  }
  tcx_lock_release(&grow_lock);
  return ok;
}

bool tcx_pagemap_ensure(uintptr_t address, size_t bytes) {
  TCX_ASSERT(bytes > 0);
  TCX_ASSERT((address + bytes - 1) >> TCX_ADDRESS_BITS == 0);
  uintptr_t last = (address + bytes - 1) >> TCX_PAGEMAP_LEAF_SHIFT;
  for (uintptr_t i = address >> TCX_PAGEMAP_LEAF_SHIFT; i <= last; i++) {
    if (!ensure_leaf(i))
      return false;
  }
  tcx_atomic_fetch_add_relaxed(&ensured_pages, bytes >> TCX_PAGE_SHIFT);
  return true;
}

void tcx_pagemap_set_span(uint64_t page, struct tcx_span *span) {
  struct tcx_pagemap_leaf *leaf = leaf_of_page(page);
  TCX_ASSERT(leaf != NULL);
  tcx_atomic_store_relaxed(&leaf->spans[page & LEAF_MASK], span);
}

void tcx_pagemap_set_ends(struct tcx_span *span) {
  tcx_pagemap_set_span(span->first_page, span);
  tcx_pagemap_set_span(span->first_page + span->pages - 1, span);
}

void tcx_pagemap_clear_ends(const struct tcx_span *span) {
  tcx_pagemap_set_span(span->first_page, NULL);
  tcx_pagemap_set_span(span->first_page + span->pages - 1, NULL);
}

// The array that free's fast path reads for this page.
static uint16_t *entry_of_page(uint64_t page) {
  uint64_t index = page - (tcx_pagemap_window.base >> TCX_PAGE_SHIFT);
  if (index < tcx_pagemap_window.pages)
    return &tcx_pagemap_window.entries[index];
  return &leaf_of_page(page)->entries[page & LEAF_MASK];
}

void tcx_pagemap_hide_classes(bool hide) {
  classes_are_hidden = hide;
}

bool tcx_pagemap_classes_are_hidden(void) {
  return classes_are_hidden;
}

void tcx_pagemap_register_class(struct tcx_span *span, unsigned size_class) {
  TCX_ASSERT(size_class > 0 && size_class < TCX_SIZE_CLASS_COUNT);
  for (uint32_t i = 0; i < span->pages; i++) {
    uint64_t page = span->first_page + i;
    unsigned index = i < 255 ? i : 255;
    tcx_pagemap_set_span(page, span);
    if (classes_are_hidden)
      continue;
    tcx_atomic_store_relaxed(entry_of_page(page),
                             (uint16_t)(2 * size_class + (index << 8)));
  }
}

void tcx_pagemap_unregister_class(struct tcx_span *span) {
  for (uint32_t i = 0; i < span->pages; i++) {
    uint64_t page = span->first_page + i;
    tcx_atomic_store_relaxed(entry_of_page(page), (uint16_t)0);
    if (i != 0 && i + 1 != span->pages)
      tcx_pagemap_set_span(page, NULL);
  }
}

struct tcx_span *tcx_pagemap_span_of_page(uint64_t page) {
  if (page >= PAGE_LIMIT)
    return NULL;
  struct tcx_pagemap_leaf *leaf = leaf_of_page(page);
  if (leaf == NULL)
    return NULL;
  return tcx_atomic_load_relaxed(&leaf->spans[page & LEAF_MASK]);
}

struct tcx_span *tcx_pagemap_span_of(const void *pointer) {
  return tcx_pagemap_span_of_page((uintptr_t)pointer >> TCX_PAGE_SHIFT);
}

static void **slot_of_huge_note(uint64_t huge) {
  unsigned shift = TCX_PAGEMAP_LEAF_SHIFT - TCX_HUGE_PAGE_SHIFT;
  struct tcx_pagemap_leaf *leaf =
      tcx_atomic_load_acquire(&tcx_pagemap_root[huge >> shift]);
  return leaf != NULL ? &leaf->huge_notes[huge % TCX_PAGEMAP_LEAF_HUGE] : NULL;
}

void *tcx_pagemap_huge_note(uint64_t huge) {
  void **slot = slot_of_huge_note(huge);
  return slot != NULL ? tcx_atomic_load_relaxed(slot) : NULL;
}

void tcx_pagemap_set_huge_note(uint64_t huge, void *note) {
  void **slot = slot_of_huge_note(huge);
  TCX_ASSERT(slot != NULL);
  tcx_atomic_store_relaxed(slot, note);
}

struct tcx_span *tcx_pagemap_span_around(const void *pointer) {
  // Memory that is free in a page source without heads of free spans.
  static struct tcx_span free_span = {.state = TCX_SPAN_FREE};
  uint64_t page = (uintptr_t)pointer >> TCX_PAGE_SHIFT;
  if (page >= PAGE_LIMIT)
    return NULL;
  // A span is registered by its first page at least, and never without leaves.
  for (uint64_t i = page; leaf_of_page(i) != NULL; i--) {
    struct tcx_span *span = tcx_pagemap_span_of_page(i);
    if (span != NULL && page - span->first_page < span->pages)
      return span;
    if (span != NULL || i == 0)
      break;
  }
  uint64_t huge = (uintptr_t)pointer >> TCX_HUGE_PAGE_SHIFT;
  return tcx_pagemap_huge_note(huge) != NULL ? &free_span : NULL;
}

uint64_t tcx_pagemap_leaf_bytes(void) {
  return tcx_atomic_load_relaxed(&leaf_bytes);
}

uint64_t tcx_pagemap_bytes(void) {
  return tcx_atomic_load_relaxed(&ensured_pages) *
         (sizeof(uint16_t) + sizeof(struct tcx_span *));
}

void tcx_pagemap_start(void) {
  static const struct tcx_fork_hooks hooks = {
      TCX_LOCK_RANK_PAGEMAP, &grow_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  tcx_fork_register(&hooks);
  keep_off_huge_pages(tcx_pagemap_window.entries,
                      sizeof tcx_pagemap_window.entries);
  keep_off_huge_pages(tcx_pagemap_root, sizeof tcx_pagemap_root);
}

// pagemap.h -- page -> size class and span.
//
// PLACE IN THE SYSTEM
//   free() asks for the class of a pointer's page, on its fast path; slow paths
//   ask for the span. The page source registers spans, the central free list
//   registers the class of the spans that it cuts up.
//
// TWO WAYS IN
//   The window: one aligned block of 2^23 pages (64 GiB of 8 KiB pages) in
//   which the system allocator puts its first regions. Its entries are a static
//   array: one subtraction, one compare and one dependent load.
//   The radix tree: a root of 2^18 entries, one per GiB, whose leaves are
//   mapped when memory there is first used. Two dependent loads. The tree also
//   holds the span pointers, of the window's pages too.
//
// ENTRY: u16 per page; low byte 2 x size class (doubled, so that the header of
//   the class is at slab + 8 x byte), high byte the index of the page in its
//   span, 255 for that and more. Class 0 means "not a small object of a live
//   span": foreign, wild, free, large and (later) sampled pointers all reach
//   free's slow path by that one test.
//   A block of a run class has class 0 too, and where it starts, the high byte
//   is its state, its class and whether a cache holds it: free's slow path
//   needs no more to tell a right pointer from a wrong one.
//
// INVARIANTS
//   I1. The low byte is non-zero only for pages of a SMALL span, and names its
//       class; in hardened mode it is zero for them too. Where it is zero, so
//       is the high byte, but for the first page of a LARGE span of a run
//       class.
//   I2. The span pointer is set for every page of a SMALL span, and for the
//       first and last page of any other; NULL elsewhere.
//   I3. A leaf, once there, stays for ever.
//
// LOCKING. Reads take no lock. An entry is written by the owner of its span
//   only, before any of its objects is handed out and after all have come
//   back; the program itself orders malloc before free. Leaves are published
//   with release order under the lock of rank PAGEMAP. Reading the span of an
//   arbitrary address races with its owner: the caller must know that the
//   pointer is live, or hold the page source's lock, or only compare.
#ifndef TCX_PAGEMAP_PAGEMAP_H_
#define TCX_PAGEMAP_PAGEMAP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/config.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

#define TCX_PAGEMAP_WINDOW_PAGES ((size_t)1 << 23)
#define TCX_PAGEMAP_WINDOW_SHIFT (23 + TCX_PAGE_SHIFT)
#define TCX_PAGEMAP_WINDOW_BYTES ((size_t)1 << TCX_PAGEMAP_WINDOW_SHIFT)

#define TCX_PAGEMAP_LEAF_SHIFT 30
#define TCX_PAGEMAP_LEAF_PAGES \
  ((size_t)1 << (TCX_PAGEMAP_LEAF_SHIFT - TCX_PAGE_SHIFT))
#define TCX_PAGEMAP_ROOT_ENTRIES ((size_t)1 << (48 - TCX_PAGEMAP_LEAF_SHIFT))
#define TCX_PAGEMAP_LEAF_HUGE \
  ((size_t)1 << (TCX_PAGEMAP_LEAF_SHIFT - TCX_HUGE_PAGE_SHIFT))

struct tcx_pagemap_leaf {
  uint16_t entries[TCX_PAGEMAP_LEAF_PAGES];
  struct tcx_span *spans[TCX_PAGEMAP_LEAF_PAGES];
  void *huge_notes[TCX_PAGEMAP_LEAF_HUGE];
};

// The first line is written once, at start: `pages` last, so that who finds a
// page inside finds the rest. Free's fast path reaches all of it from one
// address, which keeps its code within one cache line.
struct tcx_pagemap_window {
  uintptr_t base;  // address of the first page
  uint64_t pages;  // 0 until there is a window
  // For the front end, which finds the thread's state by it: &tcx_thread less
  // the thread pointer, in every thread.
  intptr_t thread_offset;
  TCX_CACHELINE_ALIGNED uint16_t entries[TCX_PAGEMAP_WINDOW_PAGES];
};

// (Hidden on the declaration too: else the fast path of a shared library would
// reach them through the GOT.)
extern TCX_HIDDEN struct tcx_pagemap_window tcx_pagemap_window;
static_assert(TCX_SIZE_CLASS_LIMIT <= 0x80, "a run's state: class and a bit");
extern TCX_HIDDEN struct tcx_pagemap_leaf
    *tcx_pagemap_root[TCX_PAGEMAP_ROOT_ENTRIES];

// Makes the block that holds `address` the window. Called once, before any
// page of it is registered.
void tcx_pagemap_set_window(uintptr_t address);

// Makes the leaves for a range. False: no memory. Takes the pagemap lock.
TCX_NODISCARD bool tcx_pagemap_ensure(uintptr_t address, size_t bytes);

// Span pointers of the first and last page := span (or NULL).
void tcx_pagemap_set_ends(struct tcx_span *span);
void tcx_pagemap_clear_ends(const struct tcx_span *span);
// Span pointer of one page, by page number.
void tcx_pagemap_set_span(uint64_t page, struct tcx_span *span);

// Every page of the span: span pointer and entry {size_class, page index}.
void tcx_pagemap_register_class(struct tcx_span *span, unsigned size_class);
// Every page: entry 0, and span pointer NULL but for the first and last page.
void tcx_pagemap_unregister_class(struct tcx_span *span);
// In the state of a block of a run class: a cache holds it.
#define TCX_PAGEMAP_RUN_CACHED 0x80u
// True: from now on no entry names a class, so that every free is slow. Called
// before any class is registered.
void tcx_pagemap_hide_classes(bool hide);
bool tcx_pagemap_classes_are_hidden(void);

// Span pointer of a page, by page number or address; NULL if there is none,
// also for addresses that can never be ours.
struct tcx_span *tcx_pagemap_span_of_page(uint64_t page);
struct tcx_span *tcx_pagemap_span_of(const void *pointer);
// The span that holds an address, be it in the middle of a large or free one.
// Slow: it walks down to the span's first page. Where there is none, but a note
// of the huge page, a span in state FREE of nothing else.
struct tcx_span *tcx_pagemap_span_around(const void *pointer);

// What the page source notes of a huge page, by its number (address >> 21);
// non-NULL from when it first hands out a part of it, for ever. Written under
// the page source's lock. pre (to set): its leaf is there.
void *tcx_pagemap_huge_note(uint64_t huge);
void tcx_pagemap_set_huge_note(uint64_t huge, void *note);

// Bytes of leaves mapped (address space, touched by use).
uint64_t tcx_pagemap_leaf_bytes(void);
// Bytes of the entries and span pointers of all pages that were ensured so far:
// what of the pagemap can have memory behind it.
uint64_t tcx_pagemap_bytes(void);

void tcx_pagemap_start(void);  // registers the fork hooks

// Number of the pointer's page, counted from the window's first; `pages` or
// more where it lies outside.
TCX_ALWAYS_INLINE uint64_t tcx_pagemap_window_page(
    const struct tcx_pagemap_window *window, const void *pointer) {
  return ((uintptr_t)pointer - window->base) >> TCX_PAGE_SHIFT;
}

TCX_ALWAYS_INLINE unsigned tcx_pagemap_window_class_byte(
    const struct tcx_pagemap_window *window, uint64_t page) {
  return ((const unsigned char *)window->entries)[2 * page];
}

// The entry's place outside the window, NULL where there is no leaf.
TCX_ALWAYS_INLINE uint16_t *tcx_pagemap_slot_outside(uintptr_t address) {
  if (TCX_UNLIKELY(address >> 48 != 0))
    return NULL;
  struct tcx_pagemap_leaf *leaf =
      tcx_atomic_load_acquire(&tcx_pagemap_root[address >> 30]);
  if (TCX_UNLIKELY(leaf == NULL))
    return NULL;
  return &leaf->entries[(address >> TCX_PAGE_SHIFT) &
                        (TCX_PAGEMAP_LEAF_PAGES - 1)];
}

// Entry outside the window: the fast path's second branch.
TCX_ALWAYS_INLINE unsigned tcx_pagemap_entry_outside(uintptr_t address) {
  const uint16_t *slot = tcx_pagemap_slot_outside(address);
  return TCX_LIKELY(slot != NULL) ? *slot : 0;
}

// 2 x size class of the page of any pointer, 0 if it is none of ours.
TCX_ALWAYS_INLINE unsigned tcx_pagemap_class_byte(const void *pointer) {
  const struct tcx_pagemap_window *window = &tcx_pagemap_window;
  uint64_t page = tcx_pagemap_window_page(window, pointer);
  if (TCX_LIKELY(page < window->pages))
    return tcx_pagemap_window_class_byte(window, page);
  return tcx_pagemap_entry_outside((uintptr_t)pointer) & 0xff;
}

// The whole entry of the page of any pointer.
TCX_ALWAYS_INLINE unsigned tcx_pagemap_entry(const void *pointer) {
  const struct tcx_pagemap_window *window = &tcx_pagemap_window;
  uint64_t page = tcx_pagemap_window_page(window, pointer);
  if (TCX_LIKELY(page < window->pages))
    return window->entries[page];
  return tcx_pagemap_entry_outside((uintptr_t)pointer);
}

// State of the block of a run class in whose first page the pointer lies; 0: it
// lies elsewhere.
TCX_ALWAYS_INLINE unsigned tcx_pagemap_run(const void *pointer) {
  unsigned entry = tcx_pagemap_entry(pointer);
  return (entry & 0xff) == 0 ? entry >> 8 : 0;
}

// Sets it for the block that starts at `block`; 0: none any more.
TCX_ALWAYS_INLINE void tcx_pagemap_set_run(const void *block, unsigned state) {
  struct tcx_pagemap_window *window = &tcx_pagemap_window;
  uint64_t page = tcx_pagemap_window_page(window, block);
  uint16_t *entry = &window->entries[page];
  if (TCX_UNLIKELY(page >= window->pages))
    entry = tcx_pagemap_slot_outside((uintptr_t)block);
  TCX_ASSERT((*entry & 0xff) == 0);
  tcx_atomic_store_relaxed(entry, (uint16_t)(state << 8));
}

TCX_END_DECLS

#endif  // TCX_PAGEMAP_PAGEMAP_H_

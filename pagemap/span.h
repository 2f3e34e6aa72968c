// span.h -- the head of a run of pages: one cache line.
//
// PLACE IN THE SYSTEM
//   The page source makes and destroys spans; the central free list cuts a
//   span into objects and keeps its free bits; free() finds it by the pagemap.
//
// WHO MAY WRITE. A span belongs to one module at a time, told by `state`:
//   FREE, RELEASED, BUSY  the page source, under its lock
//   SMALL                 the central free list of its class, under its lock
//   LARGE                 the thread that allocated it, until it frees it
// `state` itself is written by the page source's lock holder, but for the step
// LARGE -> SMALL, which the central free list makes before any object of the
// span is handed out. The page source never merges with a span in state SMALL,
// LARGE or BUSY, so a span that is being cut up is safe from coalescing.
//
// INVARIANTS (tcx_span_check)
//   I1. allocated == objects - (number of set bits in the bitmap), in SMALL.
//   I2. No bit at or past `objects` is ever set.
//   I3. The bitmap is inline exactly when 128 bits are enough.
// Its words are written under the owner's lock, with relaxed atomics, and may
// be read without it (tcx_span_is_free).
// A set bit means a free object. Free bits never sit in the objects, so a
// write after free cannot damage tcx.
#ifndef TCX_PAGEMAP_SPAN_H_
#define TCX_PAGEMAP_SPAN_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "size_classes/size_classes.h"

TCX_BEGIN_DECLS

enum tcx_span_state {
  TCX_SPAN_UNUSED = 0,  // the head lies in its pool
  TCX_SPAN_FREE,        // in the page source, memory behind it
  TCX_SPAN_RELEASED,    // in the page source, memory given back
  TCX_SPAN_BUSY,        // in the page source, being released right now
  TCX_SPAN_SMALL,       // cut into objects of size_class
  TCX_SPAN_LARGE,       // one object
};

enum tcx_span_flag {
  // Every byte reads as zero. Set only on memory fresh from the system or
  // released with success; and-ed when spans merge, cleared when handed out.
  TCX_SPAN_ZERO = 1u << 0,
  // Given back without memory behind it: its pages were moved away.
  TCX_SPAN_MOVED = 1u << 1,
  // SMALL, three bits of a number: for how long nothing was taken from it, in
  // looks of the central free list.
  TCX_SPAN_AGE = 1u << 2,
  // SMALL: whether the look with an odd number was the last at it.
  TCX_SPAN_LOOK_IS_ODD = 1u << 5,
};
#define TCX_SPAN_AGE_MAX 7u

#define TCX_SPAN_INLINE_WORDS 2

struct tcx_span {
  struct tcx_span *next;  // list of the owner
  struct tcx_span *prev;
  uint64_t first_page : 48;  // address >> TCX_PAGE_SHIFT
  uint8_t state;             // enum tcx_span_state
  uint8_t flags;             // enum tcx_span_flag
  uint32_t pages;
  uint16_t allocated;  // SMALL: objects not in the bitmap
  uint8_t size_class;  // SMALL, and LARGE of a run class; else 0
  uint8_t bucket;      // SMALL: list of the central free list it is on
  union {
    struct {             // SMALL
      uint64_t *bitmap;  // inline_words, or words from the metadata pools
      uint64_t inline_words[TCX_SPAN_INLINE_WORDS];
    };
    struct {  // FREE, RELEASED: node of the page heap's tree of large runs
      struct tcx_span *left;
      struct tcx_span *right;
      uint64_t priority;
    };
    struct {  // LARGE, and a move there failed: where nothing is mapped
      char *hole;
      size_t hole_bytes;
    };
  };
  uint64_t released_words;  // SMALL: parts without memory (span_parts.h); of
                            // others 0
};

static_assert(sizeof(struct tcx_span) == TCX_CACHELINE_BYTES,
              "one line per span: growing it is a decision, not an accident");

static inline char *tcx_span_start(const struct tcx_span *self) {
  return (char *)((uintptr_t)self->first_page << TCX_PAGE_SHIFT);
}

static inline size_t tcx_span_bytes(const struct tcx_span *self) {
  return (size_t)self->pages << TCX_PAGE_SHIFT;
}

static inline unsigned tcx_span_bitmap_words(unsigned objects) {
  return (objects + 63) / 64;
}

// Marks all `objects` free. `words` is memory for the bitmap, of
// tcx_span_bitmap_words() words, or NULL when it fits inline. The caller owns
// the span and frees the words after it is done with it.
void tcx_span_init_objects(struct tcx_span *self, unsigned size_class,
                           uint64_t *words);

// Takes up to `count` free objects, lowest address first, into `batch`.
// Returns how many. Caller holds the owner's lock.
unsigned tcx_span_take(struct tcx_span *self, void **batch, unsigned count);

// Takes one free object by chance; `random` is any number. NULL: none is free.
// Caller holds the owner's lock.
void *tcx_span_take_random(struct tcx_span *self, uint64_t random);

// Whether the object with this index is free. Without the owner's lock the
// answer holds only as long as nobody allocates or frees that object.
bool tcx_span_is_free(const struct tcx_span *self, unsigned index);

// Puts the object with this index back. False: it is free already, and
// nothing changed (a double free). Caller holds the owner's lock.
TCX_NODISCARD bool tcx_span_put(struct tcx_span *self, unsigned index);

// Stops the process where I1..I3 do not hold. Caller holds the owner's lock.
void tcx_span_check(const struct tcx_span *self);

// -- intrusive circular list with a head --------------------------------------
// The head is a span used for its links only.

static inline void tcx_span_list_init(struct tcx_span *head) {
  head->next = head;
  head->prev = head;
}

static inline bool tcx_span_list_is_empty(const struct tcx_span *head) {
  return head->next == head;
}

static inline void tcx_span_list_push(struct tcx_span *head,
                                      struct tcx_span *span) {
  span->next = head->next;
  span->prev = head;
  head->next->prev = span;
  head->next = span;
}

static inline void tcx_span_list_remove(struct tcx_span *span) {
  span->prev->next = span->next;
  span->next->prev = span->prev;
  span->next = NULL;
  span->prev = NULL;
}

TCX_END_DECLS

#endif  // TCX_PAGEMAP_SPAN_H_

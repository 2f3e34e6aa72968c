// metadata.c -- pools and buffers over the arena. See metadata.h.
//
// INVARIANTS (tcx_metadata_check)
//   I1. A pool has total - in_use free objects, on its lists by turns: of any
//       two the one that is first by turns has as many as the other, or one
//       more. So pop and push are LIFO over all of them.
//   I2. `pools` is in ascending order of addresses, the order in which locks of
//       one rank are taken.
//   I3. With assertions, a free object holds POISON from its second word on (up
//       to POISON_MAX_BYTES), so that a write after free is found.
#include "backend/metadata.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/arena.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"
#include "base/fork.h"
#include "base/os.h"

#define BUFFER_SHIFT_MIN 6
#define BUFFER_SHIFT_MAX 18
#define BUFFER_MAX_BYTES ((size_t)1 << BUFFER_SHIFT_MAX)
#define POISON 0xdd
#define POISON_MAX_BYTES ((size_t)256)

static_assert(BUFFER_MAX_BYTES <= TCX_ARENA_REQUEST_MAX_BYTES,
              "the arena serves every pooled buffer");

struct tcx_free_object {
  struct tcx_free_object *next;
};

// Rank SYSTEM: taken before a pool's lock, whatever their addresses are.
static struct tcx_lock pools_lock = TCX_LOCK_INIT(TCX_LOCK_RANK_SYSTEM);
static struct tcx_metadata_pool *pools;
static uint64_t direct_bytes;  // buffers with a mapping of their own

static struct tcx_metadata_pool span_pool =
    TCX_METADATA_POOL_INIT(sizeof(struct tcx_span), TCX_CACHELINE_BYTES);

#define BUFFER_POOL(shift) TCX_METADATA_POOL_INIT(1u << (shift), 64)
static struct tcx_metadata_pool buffer_pools[] = {
    BUFFER_POOL(6),  BUFFER_POOL(7),  BUFFER_POOL(8),  BUFFER_POOL(9),
    BUFFER_POOL(10), BUFFER_POOL(11), BUFFER_POOL(12), BUFFER_POOL(13),
    BUFFER_POOL(14), BUFFER_POOL(15), BUFFER_POOL(16), BUFFER_POOL(17),
    BUFFER_POOL(18)};
static_assert(sizeof(buffer_pools) / sizeof(buffer_pools[0]) ==
                  BUFFER_SHIFT_MAX - BUFFER_SHIFT_MIN + 1,
              "one pool per power of two");

// -- Pools --------------------------------------------------------------------

static void list_pool(struct tcx_metadata_pool *self) {
  // Fork gives back the locks that it took: the list must not grow meanwhile.
  // The pool is listed when it is next used.
  if (tcx_lock_is_forking())
    return;
  tcx_lock_acquire(&pools_lock);
  if (tcx_atomic_load_relaxed(&self->is_listed) == 0) {
    struct tcx_metadata_pool **link = &pools;
    while (*link != NULL && (uintptr_t)*link < (uintptr_t)self) {
      link = &(*link)->next;
    }
    self->next = *link;
    *link = self;
    tcx_atomic_store_release(&self->is_listed, 1u);
  }
  tcx_lock_release(&pools_lock);
}

static size_t poison_bytes(const struct tcx_metadata_pool *self) {
  return tcx_min_size(self->object_bytes, POISON_MAX_BYTES) -
         sizeof(struct tcx_free_object);
}

static void poison(const struct tcx_metadata_pool *self, void *object) {
#if TCX_ASSERTIONS
  memset((char *)object + sizeof(struct tcx_free_object), POISON,
         poison_bytes(self));
#else
  (void)self;
  (void)object;
#endif
}

static void check_poison(const struct tcx_metadata_pool *self,
                         const void *object) {
#if TCX_ASSERTIONS
  const unsigned char *bytes =
      (const unsigned char *)object + sizeof(struct tcx_free_object);
  for (size_t i = 0; i < poison_bytes(self); i++) {
    TCX_CHECK(bytes[i] == POISON);  // Else written to after it was freed.
  }
#else
  (void)self;
  (void)object;
  (void)poison_bytes;
#endif
}

// The list of the n-th free object, n from 0.
static struct tcx_free_object **list_of(struct tcx_metadata_pool *self,
                                        uint64_t n) {
  return &self->free[n % TCX_METADATA_LISTS];
}

static uint64_t free_count(const struct tcx_metadata_pool *self) {
  return self->total - self->in_use;
}

// NULL: there is none.
static struct tcx_free_object *pop(struct tcx_metadata_pool *self) {
  if (free_count(self) == 0)
    return NULL;
  struct tcx_free_object **list = list_of(self, free_count(self) - 1);
  struct tcx_free_object *object = *list;
  *list = object->next;
  __builtin_prefetch(object->next, 1);
  check_poison(self, object);
  return object;
}

// One more in use. NULL: no memory.
static struct tcx_free_object *take(struct tcx_metadata_pool *self) {
  struct tcx_free_object *object = pop(self);
  if (object == NULL) {
    object = (struct tcx_free_object *)tcx_arena_allocate(self->object_bytes,
                                                          self->align_bytes);
    if (object == NULL)
      return NULL;
    tcx_counter_add(&self->total, 1);
  }
  tcx_counter_add(&self->in_use, 1);
  return object;
}

// Up to `count`, linked.
static struct tcx_free_object *allocate(struct tcx_metadata_pool *self,
                                        unsigned count) {
  TCX_ASSERT(self->object_bytes >= 16 && self->object_bytes % 16 == 0);
  if (TCX_UNLIKELY(tcx_atomic_load_acquire(&self->is_listed) == 0)) {
    list_pool(self);
  }
  struct tcx_free_object *objects = NULL;
  tcx_lock_acquire(&self->lock);
  for (unsigned i = 0; i < count; i++) {
    struct tcx_free_object *object = take(self);
    if (object == NULL)
      break;
    object->next = objects;
    objects = object;
  }
  tcx_lock_release(&self->lock);
  return objects;
}

static void push(struct tcx_metadata_pool *self,
                 struct tcx_free_object *object) {
  TCX_ASSERT(self->in_use > 0);
  // The common double free.
  TCX_ASSERT(free_count(self) == 0 ||
             *list_of(self, free_count(self) - 1) != object);
  struct tcx_free_object **list = list_of(self, free_count(self));
  object->next = *list;
  *list = object;
  tcx_counter_add(&self->in_use, (uint64_t)-1);
}

// All that are linked.
static void deallocate(struct tcx_metadata_pool *self,
                       struct tcx_free_object *objects) {
  for (struct tcx_free_object *o = objects; o != NULL; o = o->next) {
    TCX_ASSERT(tcx_is_aligned((uintptr_t)o, self->align_bytes));
    poison(self, o);
  }
  tcx_lock_acquire(&self->lock);
  while (objects != NULL) {
    struct tcx_free_object *object = objects;
    objects = object->next;
    push(self, object);
  }
  tcx_lock_release(&self->lock);
}

void *tcx_metadata_pool_allocate(struct tcx_metadata_pool *self) {
  return allocate(self, 1);
}

void tcx_metadata_pool_free(struct tcx_metadata_pool *self, void *object) {
  TCX_ASSERT(object != NULL);
  struct tcx_free_object *free_object = (struct tcx_free_object *)object;
  free_object->next = NULL;
  deallocate(self, free_object);
}

// -- Heads of spans -----------------------------------------------------------

static_assert(offsetof(struct tcx_span, next) ==
                  offsetof(struct tcx_free_object, next),
              "a list of spans is one of free objects");

struct tcx_span *tcx_metadata_spans_allocate(unsigned count) {
  struct tcx_span *spans = (struct tcx_span *)allocate(&span_pool, count);
  for (struct tcx_span *span = spans; span != NULL; span = span->next)
    *span = (struct tcx_span){.next = span->next};
  return spans;
}

void tcx_metadata_spans_free(struct tcx_span *spans) {
  deallocate(&span_pool, (struct tcx_free_object *)spans);
}

struct tcx_span *tcx_metadata_span_allocate(void) {
  return tcx_metadata_spans_allocate(1);
}

void tcx_metadata_span_free(struct tcx_span *span) {
  tcx_metadata_pool_free(&span_pool, span);
}

// -- Buffers ------------------------------------------------------------------

static struct tcx_metadata_pool *buffer_pool(size_t bytes) {
  unsigned shift = BUFFER_SHIFT_MIN;
  if (bytes > (size_t)1 << BUFFER_SHIFT_MIN) {
    shift = tcx_highest_bit(bytes - 1) + 1;
  }
  return &buffer_pools[shift - BUFFER_SHIFT_MIN];
}

// 0: no address space has that much.
size_t tcx_metadata_buffer_bytes(size_t bytes) {
  if (bytes <= BUFFER_MAX_BYTES) {
    return buffer_pool(bytes)->object_bytes;
  }
  if (bytes > (size_t)1 << TCX_ADDRESS_BITS) {
    return 0;
  }
  return tcx_align_up(bytes, tcx_os_page_size());
}

void *tcx_metadata_allocate(size_t bytes) {
  if (bytes <= BUFFER_MAX_BYTES) {
    return tcx_metadata_pool_allocate(buffer_pool(bytes));
  }
  size_t mapped = tcx_metadata_buffer_bytes(bytes);
  void *buffer = mapped != 0 ? tcx_os_map(mapped) : NULL;
  if (buffer != NULL) {
    tcx_atomic_fetch_add_relaxed(&direct_bytes, mapped);
  }
  return buffer;
}

void tcx_metadata_free(void *buffer, size_t bytes) {
  if (bytes <= BUFFER_MAX_BYTES) {
    tcx_metadata_pool_free(buffer_pool(bytes), buffer);
    return;
  }
  size_t mapped = tcx_metadata_buffer_bytes(bytes);
  // Unmapping fails only where it would split a mapping in two and the system
  // allows no more of them. Then the address space stays, counted, and no more.
  if (tcx_os_unmap(buffer, mapped) == 0) {
    tcx_atomic_fetch_sub_relaxed(&direct_bytes, mapped);
  } else {
    (void)tcx_os_advise(buffer, mapped, MADV_DONTNEED);
  }
}

// -- Statistics, check, fork --------------------------------------------------

void tcx_metadata_read_stats(struct tcx_metadata_stats *out) {
  uint64_t direct = tcx_atomic_load_relaxed(&direct_bytes);
  struct tcx_arena_stats arena;
  tcx_arena_read_stats(&arena);
  out->mapped_bytes = arena.mapped_bytes + direct;
  out->untouched_bytes = arena.untouched_bytes;
  out->in_use_bytes = direct;
  tcx_lock_acquire(&pools_lock);
  for (struct tcx_metadata_pool *p = pools; p != NULL; p = p->next) {
    out->in_use_bytes += tcx_atomic_load_relaxed(&p->in_use) * p->object_bytes;
  }
  tcx_lock_release(&pools_lock);
}

static void check_pool(struct tcx_metadata_pool *self) {
  tcx_lock_acquire(&self->lock);
  for (uint64_t i = 0; i < TCX_METADATA_LISTS; i++) {
    // I1.
    uint64_t left =
        (free_count(self) + TCX_METADATA_LISTS - 1 - i) / TCX_METADATA_LISTS;
    const struct tcx_free_object *object = *list_of(self, i);
    for (; object != NULL; object = object->next) {
      check_poison(self, object);
      TCX_CHECK(left-- > 0);
    }
    TCX_CHECK(left == 0);
  }
  tcx_lock_release(&self->lock);
}

void tcx_metadata_check(void) {
  tcx_lock_acquire(&pools_lock);
  for (struct tcx_metadata_pool *p = pools; p != NULL; p = p->next) {
    TCX_CHECK(p->next == NULL || (uintptr_t)p < (uintptr_t)p->next);
    check_pool(p);
  }
  tcx_lock_release(&pools_lock);
  tcx_arena_check();
}

// pools_lock is held from before the first of these to after the last, so all
// three walk the same list.
static void for_each_lock(void (*step)(void *lock)) {
  for (struct tcx_metadata_pool *p = pools; p != NULL; p = p->next) {
    step(&p->lock);
  }
}

static void fork_prepare(void *self) {
  (void)self;
  for_each_lock(tcx_fork_lock_prepare);
}

static void fork_parent(void *self) {
  (void)self;
  for_each_lock(tcx_fork_lock_parent);
}

static void fork_child(void *self) {
  (void)self;
  for_each_lock(tcx_fork_lock_child);
}

void tcx_metadata_start(void) {
  static const struct tcx_fork_hooks list_hooks = {
      TCX_LOCK_RANK_SYSTEM, &pools_lock, tcx_fork_lock_prepare,
      tcx_fork_lock_parent, tcx_fork_lock_child};
  static const struct tcx_fork_hooks pool_hooks = {
      TCX_LOCK_RANK_METADATA, &pools, fork_prepare, fork_parent, fork_child};
  tcx_fork_register(&list_hooks);
  tcx_fork_register(&pool_hooks);
  tcx_arena_start();
}

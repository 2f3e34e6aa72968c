// slab.c -- refill, overflow and capacity of a slab. See slab.h.
#include "frontend/slab.h"

#include <string.h>

#include "backend/metadata.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/knobs.h"
#include "base/log.h"
#include "frontend/runs.h"
#include "frontend/slab_internal.h"

// A slab looks at the clock every so many slow calls, and scavenges when
// `scavenge_time` has gone by: what was not touched meanwhile is idle.
#define SCAVENGE_CALLS 64

static void *const shared_guard = TCX_SLAB_GUARD;
#define NO_ARRAY ((void **)(uintptr_t)&shared_guard)

const struct tcx_slab tcx_slab_dummy = {
    .headers = {[0 ... TCX_SIZE_CLASS_COUNT - 1] = {NO_ARRAY, NO_ARRAY}},
};

void tcx_slab_init(struct tcx_slab *self, struct tcx_slab_sources *sources,
                   uint64_t budget_bytes) {
  memset(self, 0, sizeof *self);
  for (unsigned i = 0; i < TCX_SIZE_CLASS_COUNT; i++) {
    self->headers[i].top = NO_ARRAY;
    self->headers[i].end = NO_ARRAY;
  }
  self->area.cpu_id = -1;
  self->area.mm_cid = -1;
  self->sources = sources;
  self->budget_bytes = budget_bytes;
  self->scavenged_ms = tcx_clock_ms();
}

// -- entering and leaving the slow path ---------------------------------------

static void slow_begin(struct tcx_slab *self) {
  if (TCX_UNLIKELY(self->busy != 0)) {
    tcx_fatal("malloc or free in a signal handler that interrupted tcx");
  }
  tcx_atomic_store_relaxed(&self->busy, 1u);
  tcx_compiler_fence();
}

static void slow_end(struct tcx_slab *self) {
  tcx_compiler_fence();
  tcx_atomic_store_relaxed(&self->busy, 0u);
}

static bool scavenge_time_is_over(const struct tcx_slab *self) {
  return tcx_clock_ms() - self->scavenged_ms >=
         tcx_atomic_load_relaxed(&tcx_knobs.scavenge_time);
}

static bool scavenge_is_due(struct tcx_slab *self) {
  return ++self->slow_calls % SCAVENGE_CALLS == 0 &&
         scavenge_time_is_over(self);
}

// -- arrays and capacity ------------------------------------------------------

// Moves the class to an array with room for at least `slots` objects, no fewer
// than it holds. False: no memory, nothing changed.
static bool array_resize(struct tcx_slab *self, unsigned size_class,
                         size_t slots) {
  struct tcx_slab_header *header = &self->headers[size_class];
  struct tcx_slab_row *row = &self->rows[size_class];
  TCX_ASSERT(row->wire == 0);
  size_t bytes = tcx_metadata_buffer_bytes((slots + 1) * sizeof(void *));
  size_t total = bytes / sizeof(void *) - 1;
  TCX_ASSERT(total <= TCX_SLAB_CAPACITY_MAX);
  void **array = (void **)tcx_metadata_allocate(bytes);
  if (array == NULL)
    return false;

  size_t count = row->begin != NULL ? tcx_slab_count(self, size_class) : 0;
  size_t capacity = tcx_slab_capacity(self, size_class);
  TCX_ASSERT(count <= total);
  void **begin = array + 1;
  begin[-1] = TCX_SLAB_GUARD;
  if (count > 0)
    memcpy(begin, row->begin, count * sizeof(void *));
  void **old = row->begin;
  size_t old_slots = row->slots;
  row->begin = begin;
  row->slots = (uint16_t)total;
  header->top = begin + count - 1;
  header->end = begin + tcx_min_size(capacity, total) - 1;
  if (old != NULL) {
    tcx_metadata_free(old - 1, (old_slots + 1) * sizeof(void *));
  }
  return true;
}

void tcx_slab_set_capacity(struct tcx_slab *self, unsigned size_class,
                           size_t capacity) {
  struct tcx_slab_header *header = &self->headers[size_class];
  struct tcx_slab_row *row = &self->rows[size_class];
  TCX_ASSERT(capacity <= row->slots);
  TCX_ASSERT(capacity >= tcx_slab_count(self, size_class));
  uint64_t size = tcx_size_classes[size_class].size;
  uint64_t change = size * (capacity - tcx_slab_capacity(self, size_class));
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    tcx_counter_add(&self->run_bytes, change);
    tcx_atomic_fetch_add_relaxed(&self->sources->run_bytes, change);
  } else {
    tcx_counter_add(&self->capacity_bytes, change);
  }
  header->end = row->begin + capacity - 1;
}

// Halves the unused room of every other small class; for a class that needs
// budget when there is no more.
static void room_reclaim(struct tcx_slab *self, unsigned except) {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    if (i == except || self->rows[i].begin == NULL)
      continue;
    size_t count = tcx_slab_count(self, i);
    size_t room = tcx_slab_capacity(self, i) - count;
    if (room > 0)
      tcx_slab_set_capacity(self, i, count + room / 2);
  }
}

// Gives the class up to `want` more slots, as far as array, memory and budget
// go. Returns how many.
static size_t capacity_grow(struct tcx_slab *self, unsigned size_class,
                            size_t want) {
  size_t capacity = tcx_slab_capacity(self, size_class);
  want = tcx_min_size(want, TCX_SLAB_CAPACITY_MAX - capacity);
  if (want == 0)
    return 0;
  size_t size = tcx_size_classes[size_class].size;
  if (!self->sources->budget_allows(self, want * size)) {
    room_reclaim(self, size_class);
    uint64_t budget = tcx_atomic_load_relaxed(&self->budget_bytes);
    if (budget <= self->capacity_bytes)
      return 0;
    want = tcx_min_size(want, (budget - self->capacity_bytes) / size);
    if (want == 0)
      return 0;
  }
  if (capacity + want > self->rows[size_class].slots &&
      !array_resize(self, size_class, capacity + want)) {
    return 0;
  }
  tcx_slab_set_capacity(self, size_class, capacity + want);
  return want;
}

bool tcx_slab_reserve_run(struct tcx_slab *self, unsigned size_class) {
  size_t capacity = tcx_slab_capacity(self, size_class);
  if (capacity >= TCX_SLAB_RUNS_MAX)
    return false;
  if (self->rows[size_class].slots == 0 &&
      !array_resize(self, size_class, TCX_SLAB_RUNS_MAX)) {
    return false;
  }
  tcx_slab_set_capacity(self, size_class, capacity + 1);
  return true;
}

// -- the wire -----------------------------------------------------------------

void tcx_slab_wire_plant(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_row *row = &self->rows[size_class];
  size_t count = tcx_slab_count(self, size_class);
  TCX_ASSERT(row->wire == 0);
  if (count == 0)
    return;
  size_t middle = (count - 1) / 2;
  row->begin[-1] = row->begin[middle];
  row->begin[middle] = TCX_SLAB_GUARD;
  row->wire = (uint16_t)(middle + 1);
}

void tcx_slab_wire_remove(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_row *row = &self->rows[size_class];
  if (row->wire == 0)
    return;
  row->begin[row->wire - 1] = row->begin[-1];
  row->begin[-1] = TCX_SLAB_GUARD;
  row->wire = 0;
}

// -- refill -------------------------------------------------------------------

static void *slot_pop(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_header *header = &self->headers[size_class];
  void *object = *header->top;
  TCX_ASSERT(((uintptr_t)object & 1) == 0);
  header->top--;
  return object;
}

// How many objects to ask for: from a quarter of a batch, doubling while the
// class only runs dry, so that a program that uses a class once pays little.
static size_t refill_count(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_row *row = &self->rows[size_class];
  size_t batch = tcx_size_classes[size_class].batch;
  size_t want = row->refill != 0 ? row->refill : tcx_max_size(1, batch / 4);
  size_t half = tcx_slab_capacity(self, size_class) / 2;
  size_t most = tcx_min_size(tcx_max_size(batch, half), TCX_BATCH_MAX);
  row->refill = (uint16_t)tcx_min_size(2 * want, most);
  return tcx_min_size(want, most);
}

static void *refill_small(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_row *row = &self->rows[size_class];
  size_t want = refill_count(self, size_class);
  size_t regret = tcx_min_size(row->spilled, want);
  if (regret > 0) {
    row->spilled = (uint16_t)(row->spilled - regret);
    capacity_grow(self, size_class, regret);
  }
  size_t capacity = tcx_slab_capacity(self, size_class);
  if (want > capacity + 1) {
    capacity += capacity_grow(self, size_class, want - 1 - capacity);
    want = tcx_min_size(want, capacity + 1);
  }

  void *batch[TCX_BATCH_MAX];
  unsigned got = tcx_object_source_remove_range(
      self->sources->objects, size_class, batch, (unsigned)want);
  if (got == 0)
    return NULL;
  tcx_counter_add(&self->counts.removed_objects, got);
  // Reversed, so that later pops go upwards in memory, as the batch does.
  void **top = self->headers[size_class].top;
  for (unsigned i = got - 1; i > 0; i--)
    *++top = batch[i];
  TCX_ASSERT(top <= self->headers[size_class].end);
  self->headers[size_class].top = top;
  return batch[0];
}

void *tcx_slab_refill(struct tcx_slab *self, unsigned size_class,
                      bool *zeroed) {
  TCX_ASSERT(size_class > 0 && size_class < TCX_SIZE_CLASS_COUNT);
  slow_begin(self);
  void *object;
  *zeroed = false;
  if (self->rows[size_class].wire != 0) {
    tcx_slab_wire_remove(self, size_class);
    object = slot_pop(self, size_class);
  } else if (size_class >= TCX_RUN_CLASS_FIRST) {
    object = tcx_run_allocate(self->sources->pages, size_class, zeroed);
    tcx_counter_add(&self->counts.run_spans, object != NULL);
  } else {
    tcx_counter_add(&self->counts.refills, 1);
    object = refill_small(self, size_class);
  }
  slow_end(self);
  if (scavenge_is_due(self))
    tcx_slab_scavenge(self);
  return object;
}

// -- overflow -----------------------------------------------------------------

void tcx_slab_give_down(struct tcx_slab *self, unsigned size_class,
                        void *const *objects, size_t count) {
  while (count > 0) {
    size_t n = tcx_min_size(count, TCX_BATCH_MAX);
    if (size_class >= TCX_RUN_CLASS_FIRST) {
      for (size_t i = 0; i < n; i++) {
        tcx_run_deallocate(self->sources->pages, objects[i]);
      }
    } else {
      tcx_object_source_insert_range(self->sources->objects, size_class,
                                     objects, (unsigned)n);
      tcx_counter_add(&self->counts.inserted_objects, n);
    }
    objects += n;
    count -= n;
  }
}

// Makes room in a full class: grows while it is below a batch, else gives half
// of its objects down, the top ones, which need no move.
static void room_make(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_row *row = &self->rows[size_class];
  size_t batch = tcx_size_classes[size_class].batch;
  size_t capacity = tcx_slab_capacity(self, size_class);
  if (capacity < batch) {
    size_t want = tcx_max_size(capacity, tcx_max_size(1, batch / 4));
    want = tcx_min_size(want, batch - capacity);
    if (capacity_grow(self, size_class, want) > 0)
      return;
  }
  size_t count = tcx_slab_count(self, size_class);
  if (count == 0)
    return;
  size_t spill = tcx_min_size((count + 1) / 2, TCX_BATCH_MAX);
  self->headers[size_class].top -= spill;
  tcx_slab_give_down(self, size_class, self->headers[size_class].top + 1,
                     spill);
  row->spilled = (uint16_t)tcx_min_size(row->spilled + spill, UINT16_MAX);
  if (row->refill > batch)
    row->refill = (uint16_t)batch;
  // Budget that another thread has taken away is made good here.
  if (self->capacity_bytes > tcx_atomic_load_relaxed(&self->budget_bytes)) {
    tcx_slab_set_capacity(self, size_class, capacity - spill / 2);
  }
}

void tcx_slab_overflow(struct tcx_slab *self, unsigned size_class,
                       void *object) {
  TCX_ASSERT(size_class > 0 && size_class < TCX_SIZE_CLASS_COUNT);
  slow_begin(self);
  tcx_counter_add(&self->counts.overflows, 1);
  tcx_slab_wire_remove(self, size_class);
  struct tcx_slab_header *header = &self->headers[size_class];
  if (size_class >= TCX_RUN_CLASS_FIRST) {
    tcx_slab_run_room(self, size_class);
  } else {
    room_make(self, size_class);
  }
  if (header->top < header->end) {
    *++header->top = object;
  } else {
    tcx_slab_give_down(self, size_class, &object, 1);
  }
  slow_end(self);
  if (scavenge_is_due(self))
    tcx_slab_scavenge(self);
}

// -- giving back --------------------------------------------------------------

// Gives the `count` lowest objects down, with their capacity.
static void bottom_give_down(struct tcx_slab *self, unsigned size_class,
                             size_t count) {
  struct tcx_slab_header *header = &self->headers[size_class];
  struct tcx_slab_row *row = &self->rows[size_class];
  size_t rest = tcx_slab_count(self, size_class) - count;
  tcx_slab_give_down(self, size_class, row->begin, count);
  memmove(row->begin, row->begin + count, rest * sizeof(void *));
  header->top -= count;
  tcx_slab_set_capacity(self, size_class,
                        tcx_slab_capacity(self, size_class) - count);
}

static void array_free(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_row *row = &self->rows[size_class];
  TCX_ASSERT(tcx_slab_count(self, size_class) == 0);
  tcx_slab_set_capacity(self, size_class, 0);
  tcx_metadata_free(row->begin - 1, (row->slots + 1u) * sizeof(void *));
  memset(row, 0, sizeof *row);
  self->headers[size_class].top = NO_ARRAY;
  self->headers[size_class].end = NO_ARRAY;
}

static void scavenge_class(struct tcx_slab *self, unsigned size_class) {
  struct tcx_slab_row *row = &self->rows[size_class];
  size_t idle = row->wire;
  tcx_slab_wire_remove(self, size_class);
  if (idle > 0) {
    bottom_give_down(self, size_class, idle);
    row->spilled = 0;
    row->refill = 0;
  }
  size_t capacity = tcx_slab_capacity(self, size_class);
  if (capacity * 4 < row->slots && row->slots > 63) {
    (void)array_resize(self, size_class, tcx_max_size(capacity, 7));
  }
  tcx_slab_wire_plant(self, size_class);
}

void tcx_slab_scavenge(struct tcx_slab *self) {
  slow_begin(self);
  tcx_counter_add(&self->counts.scavenges, 1);
  // Blocks of run classes first.
  for (unsigned i = TCX_SIZE_CLASS_COUNT - 1; i > 0; i--) {
    if (self->rows[i].begin != NULL)
      scavenge_class(self, i);
  }
  self->scavenged_ms = tcx_clock_ms();
  slow_end(self);
}

void tcx_slab_tick(struct tcx_slab *self) {
  if (scavenge_time_is_over(self))
    tcx_slab_scavenge(self);
}

void tcx_slab_flush(struct tcx_slab *self) {
  slow_begin(self);
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    if (self->rows[i].begin == NULL)
      continue;
    tcx_slab_wire_remove(self, i);
    bottom_give_down(self, i, tcx_slab_count(self, i));
    array_free(self, i);
  }
  TCX_ASSERT(self->capacity_bytes == 0);
  TCX_ASSERT(self->run_bytes == 0);
  slow_end(self);
}

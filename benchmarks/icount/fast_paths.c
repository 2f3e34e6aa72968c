// fast_paths.c -- runs each fast path a few times, warm, for callgrind.
//
// PLACE IN THE SYSTEM
//   fast_paths.py runs it under callgrind and compares the instructions with
//   golden.txt. Linked with a front end's product (malloc =), so that it sees
//   what no program sees: the thread's block and the slabs.
//
// WHAT IT DECIDES
//   callgrind has no rseq, and the per-CPU front end would fall back there. So
//   this thread points its area pointer at an area of its own that names CPU 0
//   for ever: the same machine code then runs on the slab of CPU 0. (Sound
//   while nothing aborts sections, hence for one thread.)
//
// INVARIANTS, checked after each count, or the program fails:
//   I1. The count was of the fast path of this front end: exactly as many
//       objects as operations left the slab of CPU 0 (of this thread), or came
//       into it, and no refill, no overflow.
//   I2. Per-CPU: the section armed itself (rseq_cs names a descriptor).

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

#include "frontend/selected.h"
#include "size_classes/size_classes.h"

#define REPEATS 4  // fast_paths.py divides by it
#define WARM_ROUNDS 16

void *_Znwm(size_t size);
void _ZdlPv(void *pointer);
void _ZdlPvm(void *pointer, size_t size);
void free_sized(void *pointer, size_t size);

static void *objects[REPEATS];

#ifdef TCX_FRONTEND_PERCPU
static struct tcx_rseq_area fake_area;

static void seam_open(void) {
  tcx_thread.area = &fake_area;
}

static const struct tcx_slab_header *headers(void) {
  return tcx_percpu.base[0 + 2];
}

static void area_forget(void) {
  fake_area.rseq_cs = 0;
}

static bool area_is_armed(void) {
  return fake_area.rseq_cs != 0;
}

static bool area_is_untouched(void) {
  return fake_area.cpu_id_start == 0 && fake_area.cpu_id == 0 &&
         fake_area.flags == 0 && fake_area.node_id == 0 &&
         fake_area.mm_cid == 0 && fake_area.reserved == 0;
}
#else
static void seam_open(void) {}

static const struct tcx_slab_header *headers(void) {
  return tcx_thread.slab->headers;
}

static void area_forget(void) {}

static bool area_is_armed(void) {
  return true;
}

static bool area_is_untouched(void) {
  return true;
}
#endif

#define EACH(i) for (int i = 0; i < REPEATS; i++)

#define ALLOCATION(name, expression) \
  static void name(size_t size) {    \
    EACH(i) objects[i] = expression; \
  }
#define FREE(name, statement)     \
  static void name(size_t size) { \
    (void)size;                   \
    EACH(i) statement;            \
  }

ALLOCATION(op_malloc, malloc(size))
ALLOCATION(op_new, _Znwm(size))
ALLOCATION(op_calloc, calloc(1, size))
FREE(op_free, free(objects[i]))
FREE(op_delete, _ZdlPv(objects[i]))
FREE(op_delete_sized, _ZdlPvm(objects[i], size))
FREE(op_free_sized, free_sized(objects[i], size))
ALLOCATION(op_realloc, realloc(objects[i], size - 1))

struct operation {
  const char *name;
  void (*run)(size_t size);
  size_t size;
  int moves;  // objects that each puts into the slab
};

static const struct operation operations[] = {
    {"malloc_64", op_malloc, 64, -1},
    {"free_64", op_free, 64, 1},
    {"malloc_32k", op_malloc, 32768, -1},
    {"free_32k", op_free, 32768, 1},
    {"free_sized_64", op_free_sized, 64, 1},
    {"new_64", op_new, 64, -1},
    {"delete_64", op_delete, 64, 1},
    {"delete_sized_64", op_delete_sized, 64, 1},
    {"calloc_64", op_calloc, 64, -1},
    {"realloc_in_place_64", op_realloc, 64, 0},
};

static uint64_t slow_calls(void) {
  struct tcx_frontend_stats stats;
  tcx_frontend->stats(&stats);
  return stats.refills + stats.overflows;
}

static void fail(const char *name, const char *what) {
  fprintf(stderr, "fast_paths: %s: %s\n", name, what);
  exit(1);
}

// The slab holds objects of the class, and has room for as many.
static void warm_up(const struct operation *op) {
  for (int i = 0; i < WARM_ROUNDS; i++) {
    op_malloc(op->size);
    op_free(op->size);
  }
  if (op->moves >= 0)
    op_malloc(op->size);
}

static void count(const struct operation *op) {
  warm_up(op);
  unsigned size_class = tcx_size_class_of(op->size);
  void **top = headers()[size_class].top;
  uint64_t slow = slow_calls();
  tcx_thread.visit_bytes = TCX_VISIT_BYTES_MAX;
  area_forget();
  CALLGRIND_ZERO_STATS;
  CALLGRIND_TOGGLE_COLLECT;
  op->run(op->size);
  CALLGRIND_TOGGLE_COLLECT;
  CALLGRIND_DUMP_STATS_AT(op->name);
  if (!area_is_armed() && op->moves != 0)
    fail(op->name, "no section ran");
  if (!area_is_untouched())
    fail(op->name, "a field of the area that is the kernel's was written");
  if (slow_calls() != slow)
    fail(op->name, "a slow path ran");
  if (headers()[size_class].top - top != op->moves * REPEATS)
    fail(op->name, "the objects did not pass through the slab");
  if (op->moves <= 0)
    op_free(op->size);
}

int main(void) {
  seam_open();
  for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
    count(&operations[i]);
  puts("ok");
  return 0;
}

// load.h -- objects that know what they are, and threads that trade them.
//
// Method: each object bears its address, size and a fill derived from both; who
//   frees it looks whether all of that still stands, and scratches it out. An
//   object that two hold at once, or that a cache's header points into, is
//   found by the first of them to let go. Threads leave every other object in a
//   shared box, so that most are freed by another thread than made them.
#ifndef TCX_TESTING_ENVIRONMENTS_LOAD_H_
#define TCX_TESTING_ENVIRONMENTS_LOAD_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/tcx/tcx.h"

#pragma weak tcx_statistics_get
#pragma weak tcx_release

struct object {
  uint64_t address;  // its own, times an odd number
  uint64_t size;
  unsigned char body[];
};

enum { BOX = 512, OBJECT_MIN = 16, WRONG = 3 };
#define MIX 0x9e3779b97f4a7c15u

static _Atomic(struct object *) load_box[BOX];
static atomic_ulong load_operations;
static atomic_bool load_ends;

// At once and without malloc: the heap may be broken, or this a vfork's child.
static inline void wrong(const char *what) {
  (void)!write(STDERR_FILENO, what, strlen(what));
  _exit(WRONG);
}

static inline unsigned load_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(*state >> 33);
}

static inline unsigned char object_fill(const struct object *object) {
  return (unsigned char)(object->address >> 24 | 1);
}

static inline struct object *object_make(size_t size) {
  struct object *object = (struct object *)malloc(size);
  if (object == NULL)
    wrong("WRONG: no memory\n");
  object->address = (uint64_t)(uintptr_t)object * MIX;
  object->size = size;
  memset(object->body, object_fill(object), size - sizeof *object);
  return object;
}

static inline void object_end(struct object *object) {
  if (object->address != (uint64_t)(uintptr_t)object * MIX)
    wrong("WRONG: not this object's address\n");
  size_t bytes = object->size - sizeof *object;
  for (size_t i = 0; i < bytes; i++) {
    if (object->body[i] != object_fill(object))
      wrong("WRONG: not this object's bytes\n");
  }
  object->address = 0;
  free(object);
}

// Mostly small, a few of a run class.
static inline size_t load_size(uint64_t *random) {
  unsigned number = load_random(random);
  if (number % 1024 == 0)
    return 300000;
  return OBJECT_MIN + number / 1024 % (number % 16 == 0 ? 5000 : 250);
}

// One object made, one of anybody's freed.
static inline void load_step(uint64_t *random) {
  struct object *object = object_make(load_size(random));
  struct object *old =
      atomic_exchange(&load_box[load_random(random) % BOX], object);
  if (old != NULL)
    object_end(old);
}

static inline void load_steps(uint64_t *random, unsigned steps) {
  for (unsigned i = 0; i < steps; i++)
    load_step(random);
  atomic_fetch_add(&load_operations, steps);
}

static inline void load_empty_box(void) {
  for (int i = 0; i < BOX; i++) {
    struct object *object = atomic_exchange(&load_box[i], NULL);
    if (object != NULL)
      object_end(object);
  }
}

// A thread's function: until `load_ends`.
static inline void *load_run(void *seed) {
  uint64_t random = (uintptr_t)seed * MIX;
  while (!atomic_load(&load_ends))
    load_steps(&random, 100);
  return NULL;
}

static inline void thread_start(pthread_t *thread, void *(*run)(void *),
                                uintptr_t arg) {
  if (pthread_create(thread, NULL, run, (void *)arg) != 0)
    wrong("WRONG: no thread\n");
}

// Bytes that the program holds now, by tcx; no other thread allocates.
static inline uint64_t load_allocated(void) {
  struct tcx_statistics statistics = {.struct_size = sizeof statistics};
  if (tcx_statistics_get == NULL || tcx_statistics_get(&statistics) != 0)
    wrong("WRONG: not on tcx\n");
  return statistics.allocated_bytes;
}

// All objects are freed, and as much is in use as `before`: nothing lost. (A
// little is libc's own: of threads, of stdio.)
static inline int load_report(const char *name, uint64_t before) {
  load_empty_box();
  int64_t more = (int64_t)(load_allocated() - before);
  printf("%s: %lu operations, %ld bytes more in use\n", name,
         atomic_load(&load_operations), (long)more);
  fflush(stdout);
  return more > 32 * 1024;
}

#endif  // TCX_TESTING_ENVIRONMENTS_LOAD_H_

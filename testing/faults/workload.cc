// workload.cc -- see workload.h.
#include "testing/faults/workload.h"

#include <malloc.h>
#include <pthread.h>

#include <initializer_list>

#include "base/config.h"
#include "libc/heap.h"
#include "size_classes/size_classes.h"
#include "testing/faults/machine.h"
#include "testing/faults/shadow.h"

namespace tcx {
namespace testing {
namespace {

Shadow shadow;

void SmallClasses() {
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    for (int n = 0; n < 6; n++) {
      size_t bytes = tcx_size_classes[i].size - static_cast<size_t>(n);
      (void)(n % 3 == 2 ? shadow.Calloc(bytes) : shadow.Malloc(bytes));
    }
  }
}

void RunClasses() {
  for (size_t bytes = 300 * TCX_KIB; bytes <= 4 * TCX_MIB; bytes += bytes / 4) {
    (void)shadow.Malloc(bytes);
    (void)shadow.Calloc(bytes);
    if (shadow.count() > 0)
      shadow.FreeLast();
    (void)shadow.Malloc(bytes);
  }
}

void LargeObjects() {
  for (size_t bytes : {5u, 7u, 20u}) {
    (void)shadow.Malloc(bytes * TCX_MIB + 1);
    (void)shadow.Calloc(bytes * TCX_MIB);
  }
  // Its pages have more than one leaf of the pagemap.
  (void)shadow.Malloc(TCX_GIB + 5 * TCX_MIB);
}

// From memory that was used and, as far as the system let go of it, released.
void ZeroedObjects() {
  for (size_t bytes = 16 * TCX_MIB; bytes >= 256 * TCX_KIB; bytes /= 2) {
    (void)shadow.Calloc(bytes);
    (void)shadow.Calloc(bytes);
  }
}

void AlignedObjects() {
  for (size_t align = 32; align <= 8 * TCX_MIB; align *= 2) {
    (void)shadow.Aligned(align, align / 2 + 24);
    (void)shadow.Aligned(align, 3 * align + 1);
    if (align > 64 * TCX_KIB && shadow.count() > 0)
      shadow.FreeAt(shadow.count() / 2);
  }
}

// Up and down across 256 KiB and 4 MiB; every other step with a neighbour that
// keeps the block from growing where it is, so that its pages move.
void Reallocation() {
  static Shadow neighbours;
  if (!shadow.Malloc(100))
    return;
  for (size_t bytes = 1000; bytes < 40 * TCX_MIB; bytes = bytes * 7 / 3) {
    (void)shadow.Realloc(bytes);
    (void)neighbours.Malloc(4 * TCX_MIB + bytes / 8);
  }
  neighbours.CheckNoOverlap();
  neighbours.FreeAll();
  for (size_t bytes = 30 * TCX_MIB; bytes > 100; bytes = bytes * 2 / 5)
    (void)shadow.Realloc(bytes);
}

// More than a slab, a transfer cache and one block of metadata hold.
void ManyObjects() {
  static Shadow many;
  for (size_t n = 0; n < Shadow::kMax; n++)
    (void)many.Malloc(n % 2 != 0 ? 48 : 3000);
  while (many.count() > 0)
    many.FreeAt(many.count() / 2);
}

// -- threads ------------------------------------------------------------------

struct Worker {
  pthread_t thread;
  bool is_running;
  Shadow shadow;
  alignas(64) char stack[256 << 10];
};

void *Work(void *argument) {
  Shadow *own = &static_cast<Worker *>(argument)->shadow;
  for (size_t n = 0; n < 1500; n++) {
    (void)own->Malloc(16 + n * 37 % 9000);
    if (n % 64 == 0)
      (void)own->Malloc(400 * TCX_KIB);
    if (n % 3 == 0 && own->count() > 0)
      own->FreeAt(n % own->count());
  }
  return nullptr;
}

// Their objects are freed here after they have ended. The stacks are ours, so
// that nothing of a thread stays behind.
void Threads() {
  static Worker workers[2];
  for (Worker &worker : workers) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, worker.stack, sizeof worker.stack);
    unsigned long injected = MachineInjectedHere();
    int error = pthread_create(&worker.thread, &attributes, Work, &worker);
    worker.is_running = error == 0;
    if (error != 0 && !Shadow::any_may_fail &&
        MachineInjectedHere() == injected)
      Fail("no thread without a fault", static_cast<unsigned long>(error));
    pthread_attr_destroy(&attributes);
  }
  for (Worker &worker : workers) {
    if (worker.is_running)
      pthread_join(worker.thread, nullptr);
    shadow.Take(&worker.shadow);
  }
}

}  // namespace

void RunWorkload() {
  SmallClasses();
  RunClasses();
  AlignedObjects();
  malloc_trim(0);
  Threads();
  shadow.CheckNoOverlap();
  for (size_t i = 0; i < shadow.count(); i++)
    shadow.FreeAt(i);
  LargeObjects();
  malloc_trim(0);
  Reallocation();
  ManyObjects();
  shadow.CheckNoOverlap();
  shadow.Check();
  tcx_heap_check();
  shadow.FreeAll();
  malloc_trim(0);
  ZeroedObjects();
  shadow.FreeAll();
}

}  // namespace testing
}  // namespace tcx

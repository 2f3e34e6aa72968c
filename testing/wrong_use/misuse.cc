// misuse.cc -- one misuse of malloc per run; wrong_use_test.py compares what
// tcx says with docs/wrong-use.md.
//
// usage: misuse CASE. Prints "P=0x... N=... M=..." just before the misuse: the
// pointer, the bytes of its object, and the other size in question; and
// "survived" if the program comes through.
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "testing/wrong_use/misuse.h"

void Announce(const void *pointer, size_t bytes, size_t other) {
  char line[128];
  int length =
      snprintf(line, sizeof line, "P=%p N=%zu M=%zu\n", pointer, bytes, other);
  if (write(STDOUT_FILENO, line, static_cast<size_t>(length)) != length)
    _exit(3);
}

namespace {

// An object that is announced with its size.
char *MakeAnnounced(size_t bytes, size_t other = 0) {
  char *object = Make(bytes);
  Announce(object, malloc_usable_size(object), other);
  return object;
}

// An address inside it is.
char *MakeAnnouncedAt(size_t bytes, size_t offset) {
  char *object = Make(bytes);
  Announce(object + offset, malloc_usable_size(object));
  return object + offset;
}

char *Map() {
  void *pages = mmap(nullptr, kMib, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Announce(pages, 0);
  return static_cast<char *>(pages);
}

alignas(16) char static_bytes[64];

char *Stack() {
  alignas(16) static thread_local char *address;
  alignas(16) char bytes[64];
  address = Opaque(bytes);
  Announce(address, 0);
  return address;
}

// Makes the caches give what they have down to the spans.
void ReachSpans() {
  malloc_trim(0);
}

// -- free ---------------------------------------------------------------------

void FreeMapped() {
  free(Opaque(Map()));
}

void FreeWild() {
  void *wild = reinterpret_cast<void *>(Opaque(0x4141414141414140));
  Announce(wild, 0);
  free(Opaque(wild));
}

void FreeSmallNumber() {
  void *wild = reinterpret_cast<void *>(Opaque(uintptr_t{48}));
  Announce(wild, 0);
  free(Opaque(wild));
}

void FreeStack() {
  free(Opaque(Stack()));
}

void FreeStatic() {
  Announce(static_bytes, 0);
  free(Opaque(static_bytes));
}

void FreeIntoFreeSpan() {
  char *object = Make(kLarge);
  free(object);
  Announce(object + kMib, 0);
  free(Opaque(object) + kMib);
}

void FreeTwiceLarge() {
  char *object = MakeAnnounced(kLarge);
  free(object);
  free(Opaque(object));
}

void FreeTwiceRun() {
  char *object = MakeAnnounced(kRun);
  char *other = Make(kRun);
  free(object);
  free(other);
  free(Opaque(object));
}

void FreeTwiceInARow() {
  char *object = MakeAnnounced(kSmall);
  free(object);
  free(Opaque(object));
}

void FreeTwiceLater() {
  char *other = Make(kSmall);
  char *third = Make(kSmall);
  char *object = MakeAnnounced(kSmall);
  free(object);
  free(other);
  free(Opaque(object));
  free(third);
  ReachSpans();
}

void *FreeIt(void *object) {
  free(object);
  return nullptr;
}

void FreeTwiceByThreads() {
  char *other = Make(kSmall);
  char *object = MakeAnnounced(kSmall);
  pthread_t thread;
  pthread_create(&thread, nullptr, FreeIt, object);
  pthread_join(thread, nullptr);
  free(Opaque(object));
  free(other);
  ReachSpans();
}

void FreeTwiceSpanGone() {
  char *object = Make(200 * 1024);
  free(object);
  ReachSpans();
  Announce(object, 0);
  free(Opaque(object));
}

// Room in the cache, so that free's fast path can push.
void MakeRoom() {
  for (int i = 0; i < 4; i++)
    Make(kSmall);
}

void FreeInsideSmall() {
  MakeRoom();
  free(Opaque(MakeAnnouncedAt(kSmall, 16)));
  ReachSpans();
}

void FreeInsideSmallOdd() {
  MakeRoom();
  free(Opaque(MakeAnnouncedAt(kSmall, 1)));
  ReachSpans();
}

void FreeInsideRun() {
  free(Opaque(MakeAnnouncedAt(kRun, 16)));
}

void FreeInsideRunFar() {
  free(Opaque(MakeAnnouncedAt(kRun, kRun / 2)));
}

void FreeInsideLarge() {
  free(Opaque(MakeAnnouncedAt(kLarge, 64)));
}

void FreeInsideLargeFar() {
  free(Opaque(MakeAnnouncedAt(kLarge, 5 * kMib)));
}

// -- sized and aligned forms --------------------------------------------------

void FreeSizedOther() {
  free_sized(Opaque(MakeAnnounced(kSmall, 1000)), Opaque(size_t{1000}));
}

void FreeSizedOtherRun() {
  free_sized(Opaque(MakeAnnounced(kRun, kSmall)), Opaque(kSmall));
}

void FreeSizedOtherLarge() {
  free_sized(Opaque(MakeAnnounced(kLarge, 2 * kLarge)), Opaque(2 * kLarge));
}

void FreeSizedStack() {
  free_sized(Opaque(Stack()), Opaque(kSmall));
}

void FreeSizedTwice() {
  char *object = MakeAnnounced(kSmall);
  free_sized(object, Opaque(kSmall));
  free_sized(Opaque(object), Opaque(kSmall));
}

void FreeAlignedSizedOther() {
  void *object = aligned_alloc(64, Opaque(kSmall));
  Announce(object, malloc_usable_size(object), 1000);
  free_aligned_sized(Opaque(object), 64, Opaque(size_t{1000}));
}

void FreeAlignedSizedNoAlignment() {
  void *object = aligned_alloc(64, Opaque(kSmall));
  Announce(object, malloc_usable_size(object), 63);
  free_aligned_sized(Opaque(object), Opaque(size_t{63}), Opaque(kSmall));
}

void FreeAlignedSizedStack() {
  free_aligned_sized(Opaque(Stack()), 64, Opaque(kSmall));
}

void SdallocxOther() {
  sdallocx(Opaque(MakeAnnounced(kSmall, 1000)), Opaque(size_t{1000}), 0);
}

// -- realloc and malloc_usable_size -------------------------------------------

void Realloc(void *object, size_t bytes) {
  Opaque(realloc(Opaque(object), Opaque(bytes)));
}

void ReallocStack() {
  Realloc(Stack(), kSmall);
}

void ReallocInside() {
  Realloc(MakeAnnouncedAt(kSmall, 16), 1000);
}

void ReallocInsideSameSize() {
  Realloc(MakeAnnouncedAt(kSmall, 16), kSmall);
}

void ReallocFreed() {
  char *object = MakeAnnounced(kSmall);
  free(object);
  Realloc(object, 1000);
}

void ReallocFreedSameSize() {
  char *object = MakeAnnounced(kSmall);
  free(object);
  Realloc(object, kSmall);
}

void ReallocFreedToNothing() {
  char *object = MakeAnnounced(kSmall);
  free(object);
  Realloc(object, 0);
}

void ReallocFreedRun() {
  char *object = MakeAnnounced(kRun);
  free(object);
  Realloc(object, 2 * kRun);
}

void ReallocarrayStack() {
  Opaque(reallocarray(Opaque(Stack()), Opaque(size_t{10}), 10));
}

void UsableSizeStack() {
  Opaque(malloc_usable_size(Opaque(Stack())));
}

void UsableSizeInside() {
  Opaque(malloc_usable_size(Opaque(MakeAnnouncedAt(kSmall, 16))));
}

void UsableSizeFreed() {
  char *object = MakeAnnounced(kSmall);
  free(object);
  Opaque(malloc_usable_size(Opaque(object)));
}

// -- delete -------------------------------------------------------------------

void DeleteStack() {
  operator delete(Opaque<void *>(Stack()));
}

void DeleteArrayStack() {
  operator delete[](Opaque<void *>(Stack()));
}

void DeleteTwice() {
  void *object = operator new(Opaque(kSmall));
  Announce(object, malloc_usable_size(object));
  operator delete(object);
  operator delete(Opaque(object));
}

void DeleteInside() {
  MakeRoom();
  operator delete(Opaque<void *>(MakeAnnouncedAt(kSmall, 16)));
  ReachSpans();
}

void DeleteSizedOther() {
  operator delete(Opaque<void *>(MakeAnnounced(kSmall, 1000)),
                  Opaque(size_t{1000}));
}

void DeleteArraySizedOther() {
  operator delete[](Opaque<void *>(MakeAnnounced(kSmall, 1000)),
                    Opaque(size_t{1000}));
}

void DeleteAlignedSizedOther() {
  constexpr std::align_val_t kAlign{64};
  void *object = operator new(Opaque(kSmall), kAlign);
  Announce(object, malloc_usable_size(object), 1000);
  operator delete(Opaque(object), Opaque(size_t{1000}), kAlign);
}

// -- writing to freed memory --------------------------------------------------

// Allocates until every object that was free has been handed out.
void UseUp(size_t bytes) {
  for (int i = 0; i < 50000; i++)
    Opaque(malloc(Opaque(bytes)));
}

void WriteAfterFree() {
  char *object = MakeAnnounced(kSmall);
  free(object);
  Opaque(object)[80] = 7;
  UseUp(kSmall);
}

void ZeroAfterFree() {
  char *object = MakeAnnounced(kSmall);
  free(object);
  memset(Opaque(object) + 8, 0, 8);
  UseUp(kSmall);
}

struct Case {
  const char *name;
  void (*run)();
};

const Case kCases[] = {
    {"free_mapped", FreeMapped},
    {"free_wild", FreeWild},
    {"free_small_number", FreeSmallNumber},
    {"free_stack", FreeStack},
    {"free_static", FreeStatic},
    {"free_into_free_span", FreeIntoFreeSpan},
    {"free_twice_large", FreeTwiceLarge},
    {"free_twice_run", FreeTwiceRun},
    {"free_twice_in_a_row", FreeTwiceInARow},
    {"free_twice_later", FreeTwiceLater},
    {"free_twice_by_threads", FreeTwiceByThreads},
    {"free_twice_span_gone", FreeTwiceSpanGone},
    {"free_inside_small", FreeInsideSmall},
    {"free_inside_small_odd", FreeInsideSmallOdd},
    {"free_inside_run", FreeInsideRun},
    {"free_inside_run_far", FreeInsideRunFar},
    {"free_inside_large", FreeInsideLarge},
    {"free_inside_large_far", FreeInsideLargeFar},
    {"free_sized_other", FreeSizedOther},
    {"free_sized_other_run", FreeSizedOtherRun},
    {"free_sized_other_large", FreeSizedOtherLarge},
    {"free_sized_stack", FreeSizedStack},
    {"free_sized_twice", FreeSizedTwice},
    {"free_aligned_sized_other", FreeAlignedSizedOther},
    {"free_aligned_sized_no_alignment", FreeAlignedSizedNoAlignment},
    {"free_aligned_sized_stack", FreeAlignedSizedStack},
    {"sdallocx_other", SdallocxOther},
    {"realloc_stack", ReallocStack},
    {"realloc_inside", ReallocInside},
    {"realloc_inside_same_size", ReallocInsideSameSize},
    {"realloc_freed", ReallocFreed},
    {"realloc_freed_same_size", ReallocFreedSameSize},
    {"realloc_freed_to_nothing", ReallocFreedToNothing},
    {"realloc_freed_run", ReallocFreedRun},
    {"reallocarray_stack", ReallocarrayStack},
    {"usable_size_stack", UsableSizeStack},
    {"usable_size_inside", UsableSizeInside},
    {"usable_size_freed", UsableSizeFreed},
    {"delete_stack", DeleteStack},
    {"delete_array_stack", DeleteArrayStack},
    {"delete_twice", DeleteTwice},
    {"delete_inside", DeleteInside},
    {"delete_sized_other", DeleteSizedOther},
    {"delete_array_sized_other", DeleteArraySizedOther},
    {"delete_aligned_sized_other", DeleteAlignedSizedOther},
    {"write_after_free", WriteAfterFree},
    {"zero_after_free", ZeroAfterFree},
    {"right_use", RightUse},
    {"right_use_at_random", RightUseAtRandom},
};

}  // namespace

// What the stack of a report must lead to.
extern "C" __attribute__((noinline)) void MisuseInner(void (*run)()) {
  run();
  asm volatile("");  // No tail call.
}

extern "C" __attribute__((noinline)) void MisuseOuter(void (*run)()) {
  MisuseInner(run);
  asm volatile("");
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (const Case &each : kCases)
      puts(each.name);
    return 0;
  }
  for (const Case &each : kCases) {
    if (argc == 2 && strcmp(argv[1], each.name) == 0) {
      MisuseOuter(each.run);
      if (write(STDOUT_FILENO, "survived\n", 9) != 9)
        return 3;
      return 0;
    }
  }
  fprintf(stderr, "usage: misuse CASE | --list\n");
  return 2;
}

// fault_child.cc -- one process on tcx under one plan; faults_test starts it.
//
//   fault_child do=WHAT [NAME=NUMBER ...]
//     do=work   the workload under faults or on a machine, then without faults
//     do=fill   memory until there is none, by a real or simulated limit
//     do=maps   the workload while the process has all the mappings it may have
//     do=limit  the workload under a limit that comes after tcx has started
//   The numbers: fields of Machine; as, data: limits in bytes, set before tcx
//   starts, or for do=limit after; leave: mappings that are left; keys:
//   thread-specific keys made before tcx starts.
//
// Exit status 0, and one line of what happened, or 2 and one line of what is
// wrong. Uses nothing that allocates but what it tests.
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <initializer_list>

#include "backend/metadata.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/knobs.h"
#include "libc/heap.h"
#include "pagemap/pagemap.h"
#include "telemetry/stats.h"
#include "testing/faults/machine.h"
#include "testing/faults/shadow.h"
#include "testing/faults/workload.h"

namespace tcx {
namespace testing {
namespace {

struct Options {
  const char *what;
  unsigned long as_bytes;
  unsigned long data_bytes;
  unsigned long leave;
  unsigned long keys;
} options;

void ParseOne(const char *text) {
  const struct {
    const char *name;
    unsigned long *value;
  } kNumbers[] = {
      {"kinds", &machine.kinds},     {"first", &machine.first},
      {"count", &machine.count},     {"error", &machine.error},
      {"unmaps", &machine.unmaps},   {"bits", &machine.address_bits},
      {"page", &machine.page_bytes}, {"commit", &machine.commit_bytes},
      {"as", &options.as_bytes},     {"data", &options.data_bytes},
      {"leave", &options.leave},     {"keys", &options.keys},
  };
  const char *equals = strchr(text, '=');
  if (equals == nullptr)
    Fail("an argument without =");
  size_t length = static_cast<size_t>(equals - text);
  if (length == 2 && memcmp(text, "do", 2) == 0) {
    options.what = equals + 1;
    return;
  }
  for (const auto &number : kNumbers) {
    if (strlen(number.name) == length &&
        memcmp(text, number.name, length) == 0) {
      *number.value = strtoul(equals + 1, nullptr, 0);
      return;
    }
  }
  Fail("an argument that is none");
}

// 0: none. The soft one alone, so that it can be lifted.
void SetLimit(__rlimit_resource resource, unsigned long bytes) {
  struct rlimit limit = {bytes != 0 ? bytes : RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(resource, &limit) != 0)
    Fail("setrlimit", static_cast<unsigned long>(errno));
}

void SetLimits(unsigned long as_bytes, unsigned long data_bytes) {
  SetLimit(RLIMIT_AS, as_bytes);
  SetLimit(RLIMIT_DATA, data_bytes);
}

bool HasBackgroundThread() {
  const char *env = getenv("TCX_BACKGROUND");
  return env != nullptr && strcmp(env, "on") == 0;
}

// Before the constructors of all libraries, and so before the first malloc.
void Prepare(int argc, char **argv, char **) {
  for (int i = 1; i < argc; i++)
    ParseOne(argv[i]);
  for (unsigned long i = 0; i < options.keys; i++) {
    pthread_key_t key;
    if (pthread_key_create(&key, nullptr) != 0)
      Fail("no key");
  }
  MachineInstall();
  if (!HasBackgroundThread())
    tcx_clock_install([] { return uint64_t{1} << 30; });
  if (strcmp(options.what, "limit") != 0)
    SetLimits(options.as_bytes, options.data_bytes);
}

__attribute__((section(".preinit_array"),
               used)) void (*const prepare)(int, char **, char **) = Prepare;

// -- what must be as before ---------------------------------------------------

struct Held {
  uint64_t allocated_bytes;
  uint64_t span_bytes;      // all spans that are handed out
  uint64_t metadata_bytes;  // in use
};

// What stays, and is not there before the work: spare heads and trackers; the
// nodes of the maps of huge pages, a block of 16 and one of 32 KiB; a leaf of
// the map of trackers for each GiB that the heap came to lie in, of which there
// are more where calls for memory failed.
constexpr uint64_t kMetadataSlack = (4 + 3 + 16 + 32 + 6 * 4) << 10;

void ReadStats(struct tcx_stats *stats) {
  malloc_trim(0);
  tcx_heap_check();
  tcx_stats_read(stats);
}

// Of spans, as far as they have memory.
uint64_t SpanBytes(const struct tcx_stats &stats) {
  return stats.allocated_bytes + stats.thread_cache_bytes +
         stats.cpu_cache_bytes + stats.run_cache_bytes + stats.transfer_bytes +
         stats.central_free_bytes + stats.span_tail_bytes;
}

// With what went back from under free objects.
uint64_t HandedOutBytes(const struct tcx_stats &stats) {
  return SpanBytes(stats) + stats.central_released_bytes;
}

uint64_t MetadataInUse() {
  struct tcx_metadata_stats stats;
  tcx_metadata_read_stats(&stats);
  return stats.in_use_bytes;
}

Held ReadHeld() {
  struct tcx_stats stats;
  ReadStats(&stats);
  return {stats.allocated_bytes, HandedOutBytes(stats), MetadataInUse()};
}

// What is not as before or does not add up, and by how much; NULL: all is well.
const char *FindLost(const Held &before, unsigned long *by) {
  struct tcx_stats after;
  ReadStats(&after);
  *by = after.allocated_bytes - before.allocated_bytes;
  if (*by != 0)
    return "allocated bytes differ";
  *by = HandedOutBytes(after) - before.span_bytes;
  if (*by != 0)
    return "bytes of spans differ";
  *by = MetadataInUse() - before.metadata_bytes;
  if (MetadataInUse() > before.metadata_bytes + kMetadataSlack)
    return "metadata lost";
  *by = after.mapped_bytes - after.resident_bytes - after.released_bytes;
  if (*by != 0)
    return "mapped, less resident and released";
  *by = after.resident_bytes - SpanBytes(after) - after.page_free_bytes -
        after.metadata_bytes;
  if (*by != 0)
    return "resident, less the sum of its terms";
  *by = after.page_free_bytes;
  if (machine.page_bytes <= TCX_PAGE_SIZE && *by != 0)
    return "not given back";
  return nullptr;
}

// tcx-bg may hold objects or a run in its hands while we look: then it is
// looked at again, for a second at most.
void CheckNothingLost(const Held &before) {
  unsigned long by;
  const char *what = FindLost(before, &by);
  for (int i = 0; i < 100 && what != nullptr && HasBackgroundThread(); i++) {
    usleep(10000);
    what = FindLost(before, &by);
  }
  if (what != nullptr)
    Fail(what, by);
}

// -- do=work ------------------------------------------------------------------

void Work() {
  Held before = ReadHeld();
  RunWorkload();
  tcx_heap_check();
  MachineStopFaults();
  unsigned long refused = Shadow::refused;
  RunWorkload();
  if (Shadow::refused != refused)
    Fail("refused after the faults", Shadow::refused - refused);
  if (tcx_pagemap_window.pages == 0)
    Fail("no window");
  struct tcx_stats stats;
  ReadStats(&stats);
  // Of a thread or of CPUs; the child may have been on all of those.
  if (stats.caches + stats.cpu_caches == 0 && tcx_knobs.harden == 0)
    Fail("no caches", stats.caches);
  // This thread's block of keys may have come late, and stays.
  if (options.keys == 0)
    CheckNothingLost(before);
}

// -- do=fill ------------------------------------------------------------------

size_t filled;  // the least of all sizes

// Blocks in a list through their first words.
struct Filler {
  Filler *next;
  uintptr_t self;
};

// Allocates until nothing is left. Returns the bytes.
size_t Fill(size_t bytes, Filler **list) {
  size_t total = 0;
  for (;;) {
    errno = 0;
    Filler *filler = static_cast<Filler *>(malloc(bytes));
    if (filler == nullptr)
      break;
    // The pages in between count as well.
    for (size_t at = 0; at < bytes; at += 4096)
      reinterpret_cast<char *>(filler)[at] = 1;
    filler->next = *list;
    filler->self = reinterpret_cast<uintptr_t>(filler) + bytes;
    *list = filler;
    total += bytes;
    if (total > 4 * TCX_GIB)
      Fail("the limit did not hold");
  }
  if (errno != ENOMEM)
    Fail("NULL without ENOMEM", static_cast<unsigned long>(errno));
  return total;
}

void Empty(size_t bytes, Filler **list) {
  while (*list != nullptr) {
    Filler *filler = *list;
    if (filler->self != reinterpret_cast<uintptr_t>(filler) + bytes)
      Fail("somebody wrote at", reinterpret_cast<uintptr_t>(filler));
    *list = filler->next;
    free(filler);
  }
}

// While nothing is left: what still must work, and what must fail cleanly.
void UseWhileFull(size_t bytes, Filler **list) {
  Filler *first = *list;
  *list = first->next;
  free(first);
  first = static_cast<Filler *>(malloc(bytes));
  if (first == nullptr)
    Fail("no memory for what was just freed", bytes);
  errno = 0;
  void *grown = realloc(first, 64 * TCX_GIB);
  if (grown != nullptr || errno != ENOMEM)
    Fail("realloc to 64 GiB");
  first->next = *list;
  first->self = reinterpret_cast<uintptr_t>(first) + bytes;
  *list = first;
  tcx_heap_check();
  malloc_trim(0);
}

void FillAll() {
  Held before = ReadHeld();
  size_t least = SIZE_MAX;
  for (size_t bytes : {64ul, 1024ul, 32768ul, 500000ul, 2000000ul, 6000000ul}) {
    Filler *list = nullptr;
    size_t total = Fill(bytes, &list);
    if (total == 0)
      Fail("nothing at all of bytes", bytes);
    UseWhileFull(bytes, &list);
    Empty(bytes, &list);
    if (total < least)
      least = total;
  }
  CheckNothingLost(before);
  filled = least;
}

// -- do=maps, do=limit --------------------------------------------------------

constexpr size_t kMappingsBytes = size_t{8} << 30;

// Takes mappings until no more are allowed: every other page of a reservation
// becomes readable. Then gives some back. Returns the reservation.
char *TakeAllMappings(size_t leave) {
  char *start = static_cast<char *>(
      mmap(nullptr, kMappingsBytes, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (start == MAP_FAILED)
    Fail("no reservation");
  size_t at = 4096;
  while (at < kMappingsBytes && mprotect(start + at, 4096, PROT_READ) == 0)
    at += 8192;
  if (errno != ENOMEM || at >= kMappingsBytes)
    Fail("the system has no bound on mappings", at);
  // Each joins three mappings to one.
  for (size_t i = 0; i < leave; i++) {
    at -= 8192;
    if (mprotect(start + at, 4096, PROT_NONE) != 0)
      Fail("a mapping cannot be joined");
  }
  return start;
}

void WorkLimited() {
  Held before = ReadHeld();
  char *mappings = nullptr;
  if (strcmp(options.what, "maps") == 0) {
    mappings = TakeAllMappings(options.leave);
  } else {
    SetLimits(options.as_bytes, options.data_bytes);
  }
  Shadow::any_may_fail = true;
  RunWorkload();
  tcx_heap_check();
  if (mappings != nullptr)
    munmap(mappings, kMappingsBytes);
  SetLimits(0, 0);
  Shadow::any_may_fail = false;
  RunWorkload();
  CheckNothingLost(before);
}

}  // namespace
}  // namespace testing
}  // namespace tcx

int main() {
  using namespace tcx::testing;
  if (strcmp(options.what, "work") == 0) {
    Work();
  } else if (strcmp(options.what, "fill") == 0) {
    FillAll();
  } else {
    WorkLimited();
  }
  printf("filled %zu injected %lu refused %lu calls", filled, MachineInjected(),
         Shadow::refused);
  for (int kind = 0; kind < kCalls; kind++)
    printf(" %lu", MachineCalls(static_cast<Call>(kind)));
  printf("\n");
  return 0;
}

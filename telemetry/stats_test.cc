// Method: the process runs on tcx. Random work under a model that adds up
// malloc_usable_size of its own live objects; after each step `allocated` must
// have grown by exactly that sum, and both lines of the identity must hold to
// the byte, as nothing else runs then. The kernel's RSS is the witness for
// `resident`.
#include "telemetry/stats.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "base/config.h"
#include "base/knobs.h"
#include "base/lock.h"
#include "frontend/frontend.h"
#include "size_classes/size_classes.h"

namespace {

constexpr size_t kKib = 1 << 10;
constexpr size_t kMib = 1 << 20;

tcx_stats Read() {
  tcx_stats stats;
  tcx_stats_read(&stats);
  return stats;
}

uint64_t SumOfTerms(const tcx_stats &s) {
  return s.allocated_bytes + s.thread_cache_bytes + s.cpu_cache_bytes +
         s.run_cache_bytes + s.transfer_bytes + s.central_free_bytes +
         s.span_tail_bytes + s.page_free_bytes + s.metadata_bytes;
}

void ExpectIdentity(const tcx_stats &s) {
  ASSERT_EQ(s.mapped_bytes, s.resident_bytes + s.released_bytes);
  ASSERT_EQ(s.resident_bytes, SumOfTerms(s));
}

// TCX_HARDEN=1: threads have no caches.
bool IsHardened() {
  return tcx_knobs.harden != 0;
}

// Else those of CPUs serve, or hardening has turned caches off.
bool HasThreadCaches() {
  tcx_frontend_use use;
  tcx_frontend->use(&use);
  return !IsHardened() && strcmp(use.serves, "perthread") == 0;
}

// Live objects of one thread. Allocates nothing beside them.
class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {}

  uint64_t bytes() const {
    return bytes_;
  }

  void Step() {
    Object *object = &objects_[Random(kObjects)];
    uint64_t action = Random(100);
    if (object->pointer == nullptr) {
      Put(object, Allocate(action));
    } else if (action < 15 || object->bytes > 4 * kMib) {
      // Large ones mostly change their size, in place or by a move.
      bool is_large = object->bytes > 4 * kMib && action < 80;
      size_t size = is_large ? object->bytes / 4 * (1 + Random(7)) : Size();
      Take(object);
      Put(object, realloc(object->pointer, size));
    } else {
      Take(object);
      free(object->pointer);
      object->pointer = nullptr;
    }
  }

  void FreeAll() {
    for (Object &object : objects_) {
      if (object.pointer == nullptr)
        continue;
      Take(&object);
      free(object.pointer);
      object.pointer = nullptr;
    }
  }

 private:
  static constexpr size_t kObjects = 2000;
  struct Object {
    void *pointer;
    size_t bytes;
  };

  uint64_t Random(uint64_t below) {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_ % below;
  }

  // Mostly small; some of each kind that tcx tells apart.
  size_t Size() {
    uint64_t kind = Random(1000);
    if (kind < 700)
      return 1 + Random(kKib);
    if (kind < 930)
      return 1 + Random(32 * kKib);
    if (kind < 980)
      return 1 + Random(256 * kKib);
    if (kind < 996)
      return 1 + Random(4 * kMib);
    return 1 + Random(12 * kMib);
  }

  void *Allocate(uint64_t action) {
    if (action < 10)
      return calloc(1, Size());
    if (action < 20)
      return memalign(size_t{16} << Random(16), 1 + Random(64 * kKib));
    return malloc(Size());
  }

  void Put(Object *object, void *pointer) {
    ASSERT_NE(pointer, nullptr);
    object->pointer = pointer;
    object->bytes = malloc_usable_size(pointer);
    bytes_ += object->bytes;
  }

  void Take(const Object *object) {
    bytes_ -= object->bytes;
  }

  Object objects_[kObjects] = {};
  uint64_t bytes_ = 0;
  uint64_t random_;
};

TEST(StatsTest, IdentityHoldsAfterEachStep) {
  static Model model(1);
  ExpectIdentity(Read());
  uint64_t before = Read().allocated_bytes;
  for (int i = 0; i < 30000; i++) {
    model.Step();
    if (i % 1000 == 999)
      malloc_trim(0);
    tcx_stats stats = Read();
    ASSERT_EQ(stats.allocated_bytes, before + model.bytes()) << "step " << i;
    ExpectIdentity(stats);
    if (HasFatalFailure())
      return;
  }
  tcx_stats full = Read();
  EXPECT_GT(full.large_bytes, 0u);
  EXPECT_GT(full.run_bytes, 0u);
  EXPECT_GT(full.metadata_bytes, 0u);
  model.FreeAll();
  EXPECT_EQ(Read().allocated_bytes, before);
  ExpectIdentity(Read());
  malloc_trim(0);
  EXPECT_EQ(Read().page_free_bytes, 0u);
  ExpectIdentity(Read());
}

// Threads that work in turns with a check of the sum over all of them.
class Crew {
 public:
  static constexpr int kThreads = 4;
  static constexpr int kRounds = 10;

  Crew() {
    pthread_barrier_init(&barrier_, nullptr, kThreads + 1);
    for (int i = 0; i < kThreads; i++) {
      models_[i] = new Model(i + 11);
      threads_[i] = std::thread(&Crew::Work, this, models_[i]);
    }
    Wait();
  }

  ~Crew() {
    for (Model *model : models_)
      delete model;
  }

  void Wait() {
    pthread_barrier_wait(&barrier_);
  }

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const Model *model : models_)
      sum += model->bytes();
    return sum;
  }

  void Join() {
    Wait();
    for (std::thread &thread : threads_)
      thread.join();
    for (Model *model : models_)
      model->FreeAll();
  }

 private:
  void Work(Model *model) {
    Wait();
    for (int round = 0; round < kRounds; round++) {
      Wait();
      for (int i = 0; i < 3000; i++)
        model->Step();
      Wait();
    }
    Wait();
  }

  pthread_barrier_t barrier_;
  Model *models_[kThreads];
  std::thread threads_[kThreads];
};

// In a child: what its parent's threads had is there, in caches of nobody.
void CheckInChild(uint64_t allocated) {
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    bool ok = Read().allocated_bytes == allocated;
    static Model model(5);
    for (int i = 0; i < 3000 && ok; i++) {
      model.Step();
      tcx_stats s = Read();
      ok = s.mapped_bytes == s.resident_bytes + s.released_bytes &&
           s.resident_bytes == SumOfTerms(s) &&
           s.allocated_bytes == allocated + model.bytes();
    }
    _exit(ok ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(StatsTest, IdentityHoldsWithThreads) {
  uint64_t forks = Read().forks;
  uint64_t threads = Read().caches_total;
  Crew crew;
  uint64_t before = Read().allocated_bytes;
  for (int round = 0; round < Crew::kRounds; round++) {
    crew.Wait();
    crew.Wait();
    tcx_stats stats = Read();
    EXPECT_EQ(stats.allocated_bytes, before + crew.bytes());
    ExpectIdentity(stats);
    if (round == Crew::kRounds / 2)
      CheckInChild(stats.allocated_bytes);
  }
  unsigned of_threads = HasThreadCaches() ? Crew::kThreads : 0;
  EXPECT_GE(Read().caches, of_threads + (HasThreadCaches() ? 1 : 0));
  crew.Join();
  ExpectIdentity(Read());
  EXPECT_EQ(Read().forks, forks + 1);
  EXPECT_GE(Read().caches_total, threads + of_threads);
  EXPECT_EQ(Read().caches, HasThreadCaches() ? 1u : 0u);
  bool has_cpu_caches = !HasThreadCaches() && !IsHardened();
  EXPECT_EQ(Read().cpu_caches > 0, has_cpu_caches);
}

// -- against the kernel -------------------------------------------------------

uint64_t KernelResidentBytes() {
  char text[128] = {};
  int fd = open("/proc/self/statm", O_RDONLY);
  EXPECT_GE(fd, 0);
  EXPECT_GT(read(fd, text, sizeof text - 1), 0);
  close(fd);
  char *end;
  strtoull(text, &end, 10);
  return strtoull(end, nullptr, 10) * static_cast<uint64_t>(getpagesize());
}

// Change of a figure since its first reading, as a signed number.
struct Change {
  explicit Change(uint64_t first) : first_(static_cast<int64_t>(first)) {}
  int64_t To(uint64_t now) const {
    return static_cast<int64_t>(now) - first_;
  }
  int64_t first_;
};

TEST(StatsTest, ResidentFollowsTheKernel) {
  constexpr size_t kObjects = 60000;
  static char *objects[kObjects];
  malloc_trim(0);
  Change resident(Read().resident_bytes);
  Change kernel(KernelResidentBytes());
  size_t bytes = 0;
  for (size_t i = 0; i < kObjects; i++) {
    size_t size = i % 100 == 0 ? 96 * kKib : 64 + i % 4000;
    objects[i] = static_cast<char *>(malloc(size));
    memset(objects[i], 1, size);
    bytes += size;
  }
  int64_t grown = resident.To(Read().resident_bytes);
  int64_t grown_kernel = kernel.To(KernelResidentBytes());
  EXPECT_GT(grown, static_cast<int64_t>(bytes));
  EXPECT_NEAR(static_cast<double>(grown), static_cast<double>(grown_kernel),
              0.05 * static_cast<double>(grown_kernel) + 2 * kMib);
  for (char *object : objects)
    free(object);
  malloc_trim(0);
  int64_t kept = resident.To(Read().resident_bytes);
  int64_t kept_kernel = kernel.To(KernelResidentBytes());
  EXPECT_LT(kept, grown / 10);
  EXPECT_NEAR(static_cast<double>(kept), static_cast<double>(kept_kernel),
              4.0 * kMib);
}

// -- the other figures --------------------------------------------------------

TEST(StatsTest, ClassesAddUpToAllocated) {
  static void *objects[1000];
  unsigned size_class = tcx_size_class_of(200);
  tcx_stats_class before;
  ASSERT_TRUE(tcx_stats_read_class(tcx_size_class_of(16), &before));
  tcx_stats_read_class(size_class, &before);
  for (void *&object : objects)
    object = malloc(200);
  tcx_stats_class after;
  EXPECT_TRUE(tcx_stats_read_class(size_class, &after));
  EXPECT_EQ(after.live_objects, before.live_objects + 1000);
  EXPECT_GT(after.spans, 0u);
  void *run = malloc(kMib);
  tcx_stats stats = Read();
  uint64_t sum = stats.large_bytes;
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    tcx_stats_class one;
    bool is_used = tcx_stats_read_class(i, &one);
    EXPECT_TRUE(is_used || one.live_objects == 0);
    sum += one.live_objects * tcx_size_classes[i].size;
  }
  EXPECT_EQ(sum, stats.allocated_bytes);
  free(run);
  for (void *object : objects)
    free(object);
}

TEST(StatsTest, CountersGrow) {
  tcx_stats before = Read();
  void *large = malloc(64 * kMib);
  tcx_stats after = Read();
  free(large);
  EXPECT_EQ(after.large_allocations, before.large_allocations + 1);
  EXPECT_EQ(after.large_bytes, before.large_bytes + 64 * kMib);
  EXPECT_EQ(after.served_objects, before.served_objects + 1);
  EXPECT_GT(after.page_spans_allocated, before.page_spans_allocated);
  EXPECT_GT(after.reserved_bytes, after.mapped_bytes - after.metadata_bytes);
  EXPECT_GT(after.regions, 0u);
  EXPECT_GT(after.os_calls, 0u);
  EXPECT_GT(after.refilled_objects, 0u);
  EXPECT_GT(after.spilled_objects, 0u);
  EXPECT_EQ(after.refills > 0, !IsHardened());
}

// A thread waits for a lock that is held until the statistics tell of it.
TEST(StatsTest, LockWaitsAreCountedByRank) {
  static tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_RELEASE);
  uint64_t all = Read().lock_waits;
  uint64_t own = tcx_lock_waits(TCX_LOCK_RANK_RELEASE);
  uint64_t other = tcx_lock_waits(TCX_LOCK_RANK_PAGEMAP);
  tcx_lock_acquire(&lock);
  std::thread waiter([] {
    tcx_lock_acquire(&lock);
    tcx_lock_release(&lock);
  });
  for (int i = 0; i < 10000; i++) {
    if (tcx_lock_waits(TCX_LOCK_RANK_RELEASE) != own)
      break;
    usleep(1000);
  }
  tcx_lock_release(&lock);
  waiter.join();
  EXPECT_EQ(tcx_lock_waits(TCX_LOCK_RANK_RELEASE), own + 1);
  EXPECT_EQ(tcx_lock_waits(TCX_LOCK_RANK_PAGEMAP), other);
  EXPECT_GT(Read().lock_waits, all);
  EXPECT_STREQ(tcx_lock_rank_name(TCX_LOCK_RANK_RELEASE), "release");
}

TEST(StatsTest, FieldsNameTheStruct) {
  tcx_stats stats = Read();
  const uint64_t *values = reinterpret_cast<const uint64_t *>(&stats);
  for (unsigned i = 0; i < TCX_STATS_FIELDS; i++) {
    const tcx_stats_field &field = tcx_stats_fields[i];
    std::string name = field.name;
    bool is_bytes = std::string(field.unit) == "bytes";
    EXPECT_EQ(is_bytes, name.size() > 6 &&
                            name.compare(name.size() - 6, 6, "_bytes") == 0)
        << name;
    if (name == "mapped_bytes") {
      EXPECT_EQ(values[i], stats.mapped_bytes);
    }
    if (name == "forks") {
      EXPECT_EQ(values[i], stats.forks);
    }
  }
}

}  // namespace

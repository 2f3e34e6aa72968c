// soak.cc -- everything at random, for as long as it is told.
//
//   soak [--seconds=N] [--seed=N] [--threads=N]
//
// Threads that come and go allocate, check, resize and free objects by every
// function of the malloc family and every operator of C++, hand objects to each
// other, free in threads that do nothing else and in destructors of threads,
// read figures, give memory back, and fork. Each object is under the shadow
// model of objects.h. A child checks and frees what it inherited and then lives
// as its parent does, for a while.
//
// The seed is printed first, and in each fault. It fixes what each thread does;
// how threads meet is the scheduler's. At the end nothing is live: on tcx the
// figure of allocated bytes must be what it was at the start.
//
// Runs on any malloc: linked with tcx, under LD_PRELOAD, and, to see that it
// asks for nothing that is not so, on glibc's.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "testing/soak/objects.h"

namespace soak {
namespace {

constexpr size_t kTableObjects = 2048;
constexpr size_t kSharedObjects = 1024;
constexpr size_t kThreadsMax = 64;
constexpr size_t kLiveBytesPerThread = 48 << 20;
constexpr uint64_t kForkMs = 400;
constexpr int kGenerationsMax = 2;
constexpr unsigned kChildSeconds = 120;

// Of one thread at a time.
struct Table {
  Object objects[kTableObjects];
};

struct Counts {
  std::atomic<uint64_t> steps, threads, forks, reports, trials;
};

// Not from malloc: the model must not depend on what it checks.
struct World {
  Table tables[kThreadsMax];
  Object shared[kSharedObjects];
  Counts counts;
  std::atomic<uint64_t> live_bytes;
  std::atomic<uint64_t> forked_ms;
  std::atomic<bool> stop;
};

World *world;
size_t thread_count = 8;
int generation;

uint64_t NowMs() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 +
         static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

// -- steps on one object; it is busy meanwhile --------------------------------

void MakeLive(Random *random, Object *object) {
  if (world->live_bytes < thread_count * kLiveBytesPerThread) {
    Make(random, RandomSize(random), object);
    world->live_bytes += object->usable;
    object->state = kLive;
  } else {
    object->state = kEmpty;
  }
}

void MakeEmpty(Random *random, Object *object) {
  world->live_bytes -= object->usable;
  Free(random, object);
  object->state = kEmpty;
}

void Toggle(Random *random, Object *object) {
  if (object->Claim(kEmpty)) {
    MakeLive(random, object);
  } else if (object->Claim(kLive)) {
    MakeEmpty(random, object);
  }
}

void ResizeLive(Random *random, Object *object) {
  if (!object->Claim(kLive))
    return;
  size_t size = RandomSize(random);
  // Often by a little, up or down.
  if (random->OneIn(2))
    size = object->size / 2 + random->Below(object->size + 64);
  world->live_bytes -= object->usable;
  Resize(random, size, object);
  world->live_bytes += object->usable;
  object->state = kLive;
}

void CheckLive(Object *object) {
  if (!object->Claim(kLive))
    return;
  Check(*object);
  object->state = kLive;
}

void MoveObject(Object *from, Object *to) {
  to->start = from->start;
  to->size = from->size;
  to->usable = from->usable;
  to->align = from->align;
  to->seed = from->seed;
}

// Leaves it for another thread, and takes what lay there.
void HandOver(Random *random, Object *object) {
  if (!object->Claim(kLive))
    return;
  Object *shared = &world->shared[random->Below(kSharedObjects)];
  if (shared->Claim(kEmpty)) {
    MoveObject(object, shared);
    shared->state = kLive;
    object->state = kEmpty;
    return;
  }
  if (shared->Claim(kLive)) {
    Object third;
    MoveObject(shared, &third);
    MoveObject(object, shared);
    MoveObject(&third, object);
    shared->state = kLive;
  }
  object->state = kLive;
}

// -- what threads do besides --------------------------------------------------

// Many of one size, freed in another order: batches through the middle.
void Burst(Random *random) {
  size_t size = random->Below(random->OneIn(4) ? 40000 : 600);
  size_t count = 50 + random->Below(random->OneIn(16) ? 2000 : 100);
  if (size * count > 16 << 20)
    count = (16 << 20) / size;
  std::vector<Object> burst(count);
  for (Object &object : burst)
    Make(random, size, &object);
  for (size_t i = count; i > 0; i--) {
    Object *last = &burst[i - 1];
    Object *other = &burst[random->Below(i)];
    Free(random, other);
    MoveObject(last, other);
  }
}

// A thread whose only use of the allocator is this free.
void FreeElsewhere(Random *random, Object *object) {
  if (!object->Claim(kLive))
    return;
  uint64_t seed = random->Next();
  std::thread([object, seed] {
    Random own(seed);
    MakeEmpty(&own, object);
  }).join();
  world->counts.threads++;
}

// Destructors of a thread run before, between and after those of tcx.
pthread_key_t late_key;

struct Late {
  Object object{};
  int rounds = 0;
};

void LateDestructor(void *value) {
  Late *late = static_cast<Late *>(value);
  Random random(late->object.seed);
  Free(&random, &late->object);
  if (++late->rounds < 4) {
    Make(&random, RandomSize(&random) % 100000, &late->object);
    if (pthread_setspecific(late_key, late) == 0)
      return;
    Free(&random, &late->object);
  }
  delete late;
}

void LeaveForTheEnd(Random *random) {
  if (pthread_getspecific(late_key) != nullptr)
    return;
  Late *late = new Late;
  Make(random, random->Below(5000), &late->object);
  if (pthread_setspecific(late_key, late) != 0)
    Fault("pthread_setspecific", nullptr);
}

void ForkNowAndThen(Random *random, size_t index);

void Step(Random *random, size_t index) {
  Object *object = &world->tables[index].objects[random->Below(kTableObjects)];
  uint64_t kind = random->Below(10000);
  if (kind < 7900) {
    Toggle(random, object);
  } else if (kind < 8500) {
    ResizeLive(random, object);
  } else if (kind < 9200) {
    CheckLive(object);
  } else if (kind < 9950) {
    HandOver(random, object);
  } else if (kind < 9955) {
    Burst(random);
  } else if (kind < 9980) {
    ReadFigures(random);
    world->counts.reports++;
  } else if (kind < 9985) {
    AskForTooMuch(random);
    world->counts.trials++;
  } else if (kind < 9990) {
    FreeElsewhere(random, object);
  } else if (kind < 9995) {
    LeaveForTheEnd(random);
  } else {
    ForkNowAndThen(random, index);
  }
  world->counts.steps.fetch_add(1, std::memory_order_relaxed);
}

void RunSteps(uint64_t seed, size_t index, uint64_t steps) {
  Random random(seed);
  for (uint64_t i = 0; i < steps && !world->stop; i++)
    Step(&random, index);
}

// -- processes ----------------------------------------------------------------

// An object that is busy belonged to a thread that is no more: left alone.
void FreeAll(Random *random) {
  auto free_one = [random](Object *object) {
    if (object->Claim(kLive))
      MakeEmpty(random, object);
  };
  for (size_t i = 0; i < thread_count; i++) {
    for (Object &object : world->tables[i].objects)
      free_one(&object);
  }
  for (Object &object : world->shared)
    free_one(&object);
}

// `world` must be the child's own: its memory is mapped private.
[[noreturn]] void LiveAsChild(uint64_t seed, size_t index) {
  alarm(kChildSeconds);
  generation++;
  Random random(seed);
  // Sometimes with all that was inherited.
  if (random.OneIn(2))
    FreeAll(&random);
  RunSteps(random.Next(), index, random.Below(2000));
  uint64_t other_seed = random.Next();
  size_t other = (index + 1) % thread_count;
  std::thread thread([=] { RunSteps(other_seed, other, 1000); });
  RunSteps(random.Next(), index, 1000);
  thread.join();
  FreeAll(&random);
  malloc_trim(0);
  _exit(0);
}

void ForkNowAndThen(Random *random, size_t index) {
  uint64_t now = NowMs();
  uint64_t last = world->forked_ms;
  if (now - last < kForkMs || generation >= kGenerationsMax ||
      !world->forked_ms.compare_exchange_strong(last, now)) {
    return;
  }
  uint64_t seed = random->Next();
  pid_t child = fork();
  if (child == 0)
    LiveAsChild(seed, index);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    fprintf(stderr, "soak: child %d ended with status %#x\n",
            static_cast<int>(child), static_cast<unsigned>(status));
    Fault("a child failed", nullptr);
  }
  world->counts.forks++;
}

// -- the run ------------------------------------------------------------------

struct Worker {
  std::thread thread;
  std::atomic<bool> done{true};
};

void StartWorker(Random *random, size_t index, Worker *worker) {
  uint64_t seed = random->Next();
  // Short lives and long ones.
  uint64_t steps =
      random->OneIn(3) ? random->Below(1000) : random->Below(100000);
  if (worker->thread.joinable())
    worker->thread.join();
  worker->done = false;
  world->counts.threads++;
  worker->thread = std::thread([=] {
    RunSteps(seed, index, steps);
    worker->done = true;
  });
}

void PrintCounts(const char *when, uint64_t begin_ms) {
  const Counts &counts = world->counts;
  auto number = [](const std::atomic<uint64_t> &count) {
    return static_cast<unsigned long long>(count.load());
  };
  printf(
      "soak: %s %llu s: %llu steps, %llu threads, %llu forks, %llu reports, "
      "%llu trials, %llu MiB live\n",
      when, static_cast<unsigned long long>((NowMs() - begin_ms) / 1000),
      number(counts.steps), number(counts.threads), number(counts.forks),
      number(counts.reports), number(counts.trials),
      number(world->live_bytes) >> 20);
  fflush(stdout);
}

void RunWorkers(uint64_t seconds) {
  Random random(program_seed);
  auto workers = std::make_unique<Worker[]>(thread_count);
  uint64_t begin = NowMs();
  uint64_t printed = begin;
  while (NowMs() - begin < seconds * 1000) {
    for (size_t i = 0; i < thread_count; i++) {
      if (workers[i].done)
        StartWorker(&random, i, &workers[i]);
    }
    usleep(2000);
    if (NowMs() - printed >= 60000) {
      printed = NowMs();
      PrintCounts("after", begin);
    }
  }
  world->stop = true;
  for (size_t i = 0; i < thread_count; i++) {
    if (workers[i].thread.joinable())
      workers[i].thread.join();
  }
  PrintCounts("end,", begin);
  FreeAll(&random);
}

// Nothing is live but what was before, and what libc keeps of ended threads.
void CheckEnd(size_t before) {
  if (world->live_bytes != 0)
    Fault("the model is not empty at the end", nullptr);
  malloc_trim(0);
  size_t after = mallinfo2().uordblks;
  if (RunsOnTcx() && after > before + (1 << 20)) {
    fprintf(stderr, "soak: allocated %zu bytes at the start, %zu at the end\n",
            before, after);
    Fault("memory was lost", nullptr);
  }
}

uint64_t RandomSeed() {
  uint32_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
    seed = static_cast<uint32_t>(NowMs());
  return seed;
}

// "--name=value": the value, or null.
const char *ValueOf(const char *argument, const char *name) {
  size_t length = strlen(name);
  return strncmp(argument, name, length) == 0 ? argument + length : nullptr;
}

int Main(int argc, char **argv) {
  uint64_t seconds = 10;
  program_seed = RandomSeed();
  for (int i = 1; i < argc; i++) {
    const char *value;
    if ((value = ValueOf(argv[i], "--seconds=")) != nullptr) {
      seconds = strtoull(value, nullptr, 0);
    } else if ((value = ValueOf(argv[i], "--seed=")) != nullptr) {
      program_seed = strtoull(value, nullptr, 0);
    } else if ((value = ValueOf(argv[i], "--threads=")) != nullptr) {
      thread_count = strtoull(value, nullptr, 0);
    } else {
      thread_count = 0;
    }
  }
  if (thread_count == 0 || thread_count > kThreadsMax) {
    fprintf(stderr, "soak [--seconds=N] [--seed=N] [--threads=1..64]\n");
    return 2;
  }
  void *memory = mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || pthread_key_create(&late_key, LateDestructor))
    return 2;
  world = new (memory) World();
  free(malloc(100));
  printf("soak: seed %llu, %zu threads, %llu s, on %s\n",
         static_cast<unsigned long long>(program_seed), thread_count,
         static_cast<unsigned long long>(seconds),
         RunsOnTcx() ? "tcx" : "another malloc");
  fflush(stdout);
  size_t before = mallinfo2().uordblks;
  RunWorkers(seconds);
  CheckEnd(before);
  puts("soak: no fault");
  return 0;
}

}  // namespace
}  // namespace soak

int main(int argc, char **argv) {
  return soak::Main(argc, argv);
}

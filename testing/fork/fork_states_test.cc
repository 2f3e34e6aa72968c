// fork_states_test.cc -- fork while another thread is at a known place in tcx.
//
// Method: the locks of debug builds have a watcher (base/lock.h). It parks one
//   thread, the victim, at a chosen step: where a lock of some rank is wanted,
//   is taken, was given back; the first, the second, ... time that the victim
//   comes there. Meanwhile another thread forks. If the victim holds a lock,
//   fork must wait: it sleeps on that lock, which counts its sleepers. The
//   victim goes on, and fork with it. If the victim holds none, fork must not
//   wait: the child lives and ends while the victim is still parked.
// Method: each child allocates from every class, small, run and large, makes a
//   thread and forks once more. Its alarm ends one that hangs.
// Method: every rank of the enum has a row; a rank that no row reaches fails.
#include <sched.h>
#include <stdio.h>

#include <atomic>
#include <thread>

#include "base/fork.h"
#include "base/lock.h"
#include "gtest/gtest.h"
#include "tcx/tcx.h"
#include "testing/fork/support.h"

#if !TCX_ASSERTIONS
#error "the watcher of locks is there in builds with assertions only"
#endif

namespace {

// -- where the victim stops ---------------------------------------------------

constexpr unsigned kHeldMax = 512;

struct {
  uint32_t rank;
  enum tcx_lock_event event;
  std::atomic<int> to_skip;
  std::atomic<bool> parked;
  std::atomic<bool> go;
  // Of the victim, when it is parked.
  unsigned held_count;
  const struct tcx_lock *held[kHeldMax];
} stop;

thread_local bool is_victim;
thread_local unsigned held_count;
thread_local const struct tcx_lock *held[kHeldMax];

void NoteHeld(enum tcx_lock_event event, const struct tcx_lock *lock) {
  if (event == TCX_LOCK_TAKEN && held_count < kHeldMax)
    held[held_count++] = lock;
  if (event != TCX_LOCK_GIVEN)
    return;
  for (unsigned i = 0; i < held_count; i++) {
    if (held[i] == lock) {
      held[i] = held[--held_count];
      return;
    }
  }
}

// Runs inside of tcx: no allocation, no googletest.
void Watch(enum tcx_lock_event event, const struct tcx_lock *lock,
           uint32_t rank) {
  if (!is_victim)
    return;
  NoteHeld(event, lock);
  if (event != stop.event || rank != stop.rank || stop.parked ||
      stop.to_skip-- > 0) {
    return;
  }
  stop.held_count = held_count;
  for (unsigned i = 0; i < held_count; i++)
    stop.held[i] = held[i];
  stop.parked = true;
  while (!stop.go)
    usleep(50);
}

// Sleepers so far on what the parked victim holds.
uint64_t SleepersOnHeld() {
  uint64_t sum = 0;
  for (unsigned i = 0; i < stop.held_count; i++)
    sum += __atomic_load_n(&stop.held[i]->waits, __ATOMIC_RELAXED);
  return sum;
}

// -- ways to each rank --------------------------------------------------------

// What the victim keeps until it is done, so that each round needs new memory.
struct Kept {
  std::vector<void *> blocks;
  void Keep(size_t size) {
    void *block = malloc(size);
    if (block != nullptr)
      blocks.push_back(block);
  }
  ~Kept() {
    for (void *block : blocks)
      free(block);
  }
};

// After the start only fork itself takes the lock of the start. (A process
// cannot have a second thread before its first allocation: pthread_create
// allocates.)
void ForkOnce(Kept *) {
  pid_t child = fork();
  if (child == 0)
    _exit(0);
  (void)WaitFor(child);
}

void RegisterHooks(Kept *) {
  static const struct tcx_fork_hooks hooks = {TCX_LOCK_RANK_ARENA, nullptr,
                                              nullptr, nullptr, nullptr};
  tcx_fork_register(&hooks);
}

void GiveBack(Kept *kept) {
  kept->Keep(100000);
  malloc_trim(0);
}

void ReadFigures(Kept *) {
  (void)mallinfo2();
}

void Churn(Kept *) {
  std::vector<void *> objects;
  for (size_t size : {16, 200, 1500, 20000}) {
    for (int i = 0; i < 300; i++)
      objects.push_back(malloc(size));
  }
  for (void *object : objects)
    free(object);
}

// A cache that is half way given back holds objects that the middle has
// already.
void Flush(Kept *kept) {
  is_victim = false;
  Churn(kept);
  is_victim = true;
  malloc_trim(0);
}

// A span head each, from the pools and, when those are dry, from the arena.
void KeepBlocks(Kept *kept) {
  for (int i = 0; i < 100; i++)
    kept->Keep(300000);
}

void KeepBlocksWithinALimit(Kept *kept) {
  (void)tcx_set("hard_limit", "512G");
  KeepBlocks(kept);
  (void)tcx_set("hard_limit", "0");
}

// Never freed: the next round must not find them again. Nobody touches them.
void Grow(size_t size) {
  static std::atomic<void *> forgotten;
  forgotten = malloc(size);
}

void GrowByMegabytes(Kept *) {
  Grow(64 << 20);
}

// A leaf of the pagemap covers 1 GiB of addresses.
void GrowByGigabyte(Kept *) {
  Grow(size_t{1100} << 20);
}

struct Way {
  enum tcx_lock_rank rank;
  const char *name;
  void (*act)(Kept *kept);
  int rounds;  // until it counts as never reached
};

const Way kWays[] = {
    {TCX_LOCK_RANK_START, "Start", ForkOnce, 10},
    {TCX_LOCK_RANK_FORK, "Fork", RegisterHooks, 10},
    {TCX_LOCK_RANK_RELEASE, "Release", GiveBack, 20},
    {TCX_LOCK_RANK_THREADS, "Threads", ReadFigures, 20},
#ifdef TCX_FRONTEND_PERCPU
    {TCX_LOCK_RANK_PERCPU, "Percpu", GiveBack, 20},
#endif
    {TCX_LOCK_RANK_TRANSFER_CACHE, "TransferCache", Churn, 100},
    {TCX_LOCK_RANK_CENTRAL_FREELIST, "CentralFreelist", Churn, 100},
    {TCX_LOCK_RANK_TRANSFER_CACHE, "FlushToTransferCache", Flush, 20},
    {TCX_LOCK_RANK_CENTRAL_FREELIST, "FlushToCentralFreelist", Flush, 20},
    {TCX_LOCK_RANK_ADMISSION, "Admission", KeepBlocksWithinALimit, 20},
    {TCX_LOCK_RANK_PAGE_SOURCE, "PageSource", KeepBlocks, 20},
    {TCX_LOCK_RANK_PAGEMAP, "Pagemap", GrowByGigabyte, 6},
    {TCX_LOCK_RANK_SYSTEM, "System", GrowByMegabytes, 20},
    {TCX_LOCK_RANK_SYSTEM, "ListOfPools", ReadFigures, 20},
    {TCX_LOCK_RANK_METADATA, "Metadata", KeepBlocks, 20},
    {TCX_LOCK_RANK_ARENA, "Arena", KeepBlocks, 100},
};

// -- one state ----------------------------------------------------------------

struct Outcome {
  bool reached = false;
  bool held = false;        // the victim had a lock
  bool fork_waited = true;  // where it had to
  int status = -1;          // of the child
};

// The thread that forks exists before the victim stops, and has its cache: to
// make it could need a lock that the victim holds.
class Forker {
 public:
  explicit Forker(const std::vector<size_t> &sizes)
      : thread_([this, &sizes] {
          free(malloc(Opaque(100)));
          ready_ = true;
          while (!begin_)
            usleep(20);
          if (cancelled_)
            return;
          pid_t child = fork();
          if (child == 0)
            LiveAsChild(sizes);
          returned_ = true;
          status_ = WaitFor(child);
          ended_ = true;
        }) {
    while (!ready_)
      sched_yield();
  }
  void Begin() {
    begin_ = true;
  }
  void Cancel() {
    cancelled_ = true;
    begin_ = true;
  }
  bool returned() const {
    return returned_;
  }
  bool ended() const {
    return ended_;
  }
  int Join() {
    thread_.join();
    return status_;
  }

 private:
  std::atomic<bool> ready_{false}, begin_{false}, cancelled_{false};
  std::atomic<bool> returned_{false}, ended_{false};
  int status_ = -1;
  std::thread thread_;
};

Outcome ForkWhileParked(const Way &way, enum tcx_lock_event event, int skip,
                        const std::vector<size_t> &sizes) {
  Outcome outcome;
  stop.rank = way.rank;
  stop.event = event;
  stop.to_skip = skip;
  stop.parked = false;
  stop.go = false;
  std::atomic<bool> ended{false};
  Forker forker(sizes);
  std::thread victim([&way, &ended] {
    {
      Kept kept;
      kept.blocks.reserve(20000);
      is_victim = true;
      for (int i = 0; i < way.rounds && !stop.parked; i++)
        way.act(&kept);
      is_victim = false;
    }
    ended = true;
  });
  while (!stop.parked && !ended)
    usleep(20);
  outcome.reached = stop.parked;
  if (!outcome.reached) {
    forker.Cancel();
  } else if (stop.held_count > 0) {
    outcome.held = true;
    uint64_t sleepers = SleepersOnHeld();
    forker.Begin();
    while (!forker.returned() && SleepersOnHeld() == sleepers)
      usleep(20);
    outcome.fork_waited = !forker.returned();
  } else {
    forker.Begin();
    while (!forker.ended())
      usleep(20);
  }
  stop.go = true;
  outcome.status = forker.Join();
  victim.join();
  return outcome;
}

class ForkStatesTest : public ::testing::TestWithParam<Way> {};

struct Totals {
  int states = 0, waited = 0, passed = 0;
} totals;

// How many times the same step is left out before the victim stops there.
constexpr int kSkips[] = {0, 1, 2, 5};

TEST_P(ForkStatesTest, ForkWaitsForALockAndTheChildAllocates) {
  const char *const kEvents[] = {"wanted", "taken", "given"};
  const std::vector<size_t> sizes = ClassSizes();
  const Way &way = GetParam();
  alarm(240);  // fork that waits for ever
  tcx_lock_install_watcher(Watch);
  for (auto event : {TCX_LOCK_WANTED, TCX_LOCK_TAKEN, TCX_LOCK_GIVEN}) {
    for (int skip : kSkips) {
      SCOPED_TRACE(testing::Message() << kEvents[event] << ", skip " << skip);
      Outcome outcome = ForkWhileParked(way, event, skip, sizes);
      ASSERT_TRUE(outcome.reached || skip > 0) << "no way to this rank";
      if (!outcome.reached)
        continue;
      EXPECT_TRUE(outcome.held || event != TCX_LOCK_TAKEN);
      EXPECT_TRUE(outcome.fork_waited);
      ASSERT_EQ(outcome.status, 0);
      totals.states++;
      outcome.held ? totals.waited++ : totals.passed++;
    }
  }
  tcx_lock_install_watcher(nullptr);
  alarm(0);
  printf("fork states: %d so far; fork waited in %d, did not need to in %d\n",
         totals.states, totals.waited, totals.passed);
}

INSTANTIATE_TEST_SUITE_P(Rank, ForkStatesTest, ::testing::ValuesIn(kWays),
                         [](const ::testing::TestParamInfo<Way> &row) {
                           return std::string(row.param.name);
                         });

// A new rank needs a row.
TEST(ForkStatesTest, EveryRankHasAWay) {
  int rows[TCX_LOCK_RANK_LIMIT] = {};
  for (const Way &way : kWays)
    rows[way.rank]++;
#ifndef TCX_FRONTEND_PERCPU
  rows[TCX_LOCK_RANK_PERCPU] = 1;  // No such lock in this build.
#endif
  for (int rank = TCX_LOCK_RANK_NONE + 1; rank < TCX_LOCK_RANK_LIMIT; rank++)
    EXPECT_GT(rows[rank], 0) << tcx_lock_rank_name(tcx_lock_rank(rank));
}

}  // namespace

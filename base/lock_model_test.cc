// lock_model_test.cc -- lock.c under every interleaving of its steps.
//
// Method: lock.c is compiled here with the atomics and the futex of a model.
// Its
//   threads are coroutines, and each access to the lock's word is a point where
//   another thread may go on. A depth-first search runs all schedules with at
//   most so many preemptions, in which also a sleeper may wake for no reason
//   once. A schedule that ends with a thread asleep is a lost wake-up.
// Method: the same search must find fault with locks that are broken on
// purpose. Limit: memory is sequentially consistent, as it is on x86 for what
// lock.c does.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <cstdint>
#include <string>
#include <vector>

// The checks of debug builds are about real threads.
#undef NDEBUG
#define NDEBUG
#include "base/check.h"
#undef TCX_ASSERT
#define TCX_ASSERT(c) ((c) ? (void)0 : model.Fail("assertion " #c))

namespace {

enum class Mutant {
  kNone,
  kReleaseInTwoSteps,  // a load and a store in place of the exchange
  kWakesNobody,
  kSleepsWithoutLooking,  // futex does not compare
  kForgetsTheMark,        // who was woken takes the lock as if it were alone
  kTakesInTwoSteps,
};

struct Scenario {
  int threads;
  int rounds;
  int preemptions;
  Mutant mutant = Mutant::kNone;
};

constexpr int kThreadsMax = 3;
constexpr int kStepsMax = 2000;

class Model {
 public:
  // Runs all schedules, or all up to the first with a fault.
  void Search(const Scenario &scenario);
  uint64_t schedules() const {
    return schedules_;
  }
  const std::string &fault() const {
    return fault_;
  }

  // What lock.c calls in place of atomic.h and syscall.h.
  uint32_t Load(const uint32_t *word);
  uint64_t Load(const uint64_t *figure) {
    return *figure;
  }
  void Store(uint32_t *word, uint32_t value);
  uint32_t ExchangeAcquire(uint32_t *word, uint32_t value);
  uint32_t ExchangeRelease(uint32_t *word, uint32_t value);
  bool Cas(uint32_t *word, uint32_t *expected, uint32_t value);
  intptr_t Wait(const uint32_t *word, uint32_t expected);
  intptr_t Wake();
  void Fail(const char *what);

 private:
  enum State { kReady, kAsleep, kDone };
  struct Choice {
    int taken;
    int options;
  };

  void RunOneSchedule();
  bool NextSchedule();
  int Choose(int options);
  int NextThread();
  void Point();
  void MakeThread(int thread);
  void Live(int thread);
  static void Start(int thread);

  Scenario scenario_{};
  std::vector<Choice> path_;
  size_t depth_ = 0;
  int preemptions_left_ = 0;
  int wakes_for_no_reason_left_ = 0;
  int current_ = 0;
  int inside_ = 0;
  State states_[kThreadsMax]{};
  ucontext_t scheduler_{};
  ucontext_t contexts_[kThreadsMax]{};
  alignas(64) char stacks_[kThreadsMax][64 << 10]{};
  uint64_t schedules_ = 0;
  std::string fault_;
};

Model model;

}  // namespace

#define TCX_LOCK_SPINS_MAX 1
#define TCX_BASE_ATOMIC_H_
#define TCX_BASE_SYSCALL_H_
#define tcx_compiler_fence() ((void)0)
#define tcx_atomic_load_relaxed(p) model.Load(p)
#define tcx_atomic_store_release(p, v) model.Store((p), (v))
#define tcx_atomic_exchange_acquire(p, v) model.ExchangeAcquire((p), (v))
#define tcx_atomic_exchange_release(p, v) model.ExchangeRelease((p), (v))
#define tcx_atomic_cas_acquire(p, e, v) model.Cas((p), (e), (v))
#define tcx_atomic_fetch_add_relaxed(p, v) (*(p) += (v))
#define tcx_syscall4(number, word, operation, value, timeout) \
  model.Wait(reinterpret_cast<const uint32_t *>(word), (value))
#define tcx_syscall3(number, word, operation, count) model.Wake()
// Signals are not in the model.
uint32_t no_ranks;
#define TCX_LOCK_THREAD_RANKS (no_ranks = 0, no_ranks)

#include "base/lock.c"

namespace {

struct tcx_lock lock;

// -- what lock.c calls --------------------------------------------------------

// Another thread may go on here, before what this one does next.
void Model::Point() {
  if (scenario_.threads > 0)
    swapcontext(&contexts_[current_], &scheduler_);
}

uint32_t Model::Load(const uint32_t *word) {
  Point();
  return *word;
}

void Model::Store(uint32_t *word, uint32_t value) {
  Point();
  *word = value;
}

uint32_t Model::ExchangeAcquire(uint32_t *word, uint32_t value) {
  Point();
  uint32_t before = *word;
  if (scenario_.mutant == Mutant::kForgetsTheMark && before == FREE)
    value = HELD;
  *word = value;
  return before;
}

uint32_t Model::ExchangeRelease(uint32_t *word, uint32_t value) {
  Point();
  uint32_t before = *word;
  if (scenario_.mutant == Mutant::kReleaseInTwoSteps)
    Point();
  *word = value;
  return before;
}

bool Model::Cas(uint32_t *word, uint32_t *expected, uint32_t value) {
  Point();
  uint32_t before = *word;
  if (scenario_.mutant == Mutant::kTakesInTwoSteps)
    Point();
  if (before != *expected) {
    *expected = before;
    return false;
  }
  *word = value;
  return true;
}

intptr_t Model::Wait(const uint32_t *word, uint32_t expected) {
  Point();
  if (*word != expected && scenario_.mutant != Mutant::kSleepsWithoutLooking)
    return -EAGAIN;
  states_[current_] = kAsleep;
  Point();
  return 0;
}

// The kernel may choose any of the sleepers.
intptr_t Model::Wake() {
  Point();
  if (scenario_.mutant == Mutant::kWakesNobody)
    return 0;
  int sleepers[kThreadsMax];
  int count = 0;
  for (int i = 0; i < scenario_.threads; i++) {
    if (states_[i] == kAsleep)
      sleepers[count++] = i;
  }
  if (count > 0)
    states_[sleepers[Choose(count)]] = kReady;
  return count > 0;
}

void Model::Fail(const char *what) {
  if (fault_.empty())
    fault_ = what;
}

// -- threads ------------------------------------------------------------------

void Model::Live(int thread) {
  for (int i = 0; i < scenario_.rounds; i++) {
    // The last round of the last thread takes the lock only if it is free.
    if (thread > 0 && thread == scenario_.threads - 1 && i > 0) {
      if (!tcx_lock_try_acquire(&lock))
        continue;
    } else {
      tcx_lock_acquire(&lock);
    }
    if (inside_++ != 0)
      Fail("two threads are inside");
    Point();
    inside_--;
    tcx_lock_release(&lock);
  }
  states_[thread] = kDone;
}

void Model::Start(int thread) {
  model.Live(thread);
}

// -- schedules ----------------------------------------------------------------

int Model::Choose(int options) {
  if (depth_ == path_.size())
    path_.push_back(Choice{0, options});
  return path_[depth_++].taken;
}

// -1: none can go on. Option 0 is the thread that ran last, where it can.
int Model::NextThread() {
  int options[2 * kThreadsMax];
  int count = 0;
  bool can_stay = states_[current_] == kReady;
  if (can_stay)
    options[count++] = current_;
  for (int i = 0; i < scenario_.threads; i++) {
    if (i != current_ && states_[i] == kReady &&
        (!can_stay || preemptions_left_ > 0)) {
      options[count++] = i;
    }
  }
  if (count == 0)
    return -1;
  for (int i = 0; i < scenario_.threads && wakes_for_no_reason_left_ > 0; i++) {
    if (states_[i] == kAsleep)
      options[count++] = i;
  }
  int next = options[count > 1 ? Choose(count) : 0];
  if (states_[next] == kAsleep) {
    wakes_for_no_reason_left_--;
    states_[next] = kReady;
  } else if (can_stay && next != current_) {
    preemptions_left_--;
  }
  return next;
}

void Model::MakeThread(int thread) {
  states_[thread] = kReady;
  ucontext_t *context = &contexts_[thread];
  getcontext(context);
  context->uc_stack.ss_sp = stacks_[thread];
  context->uc_stack.ss_size = sizeof stacks_[thread];
  context->uc_link = &scheduler_;
  makecontext(context, reinterpret_cast<void (*)()>(Start), 1, thread);
}

void Model::RunOneSchedule() {
  tcx_lock_init(&lock, TCX_LOCK_RANK_ARENA);
  depth_ = 0;
  current_ = 0;
  inside_ = 0;
  preemptions_left_ = scenario_.preemptions;
  wakes_for_no_reason_left_ = 1;
  for (int i = 0; i < scenario_.threads; i++)
    MakeThread(i);
  for (int step = 0; fault_.empty(); step++) {
    int next = NextThread();
    if (next < 0)
      break;
    if (step == kStepsMax)
      Fail("the threads run for ever");
    current_ = next;
    swapcontext(&scheduler_, &contexts_[next]);
  }
  for (int i = 0; i < scenario_.threads; i++) {
    if (states_[i] != kDone)
      Fail("a thread sleeps for ever");
  }
  if (lock.word != FREE)
    Fail("the lock is not free at the end");
}

bool Model::NextSchedule() {
  while (!path_.empty() && path_.back().taken + 1 == path_.back().options)
    path_.pop_back();
  if (path_.empty())
    return false;
  path_.back().taken++;
  return true;
}

void Model::Search(const Scenario &scenario) {
  scenario_ = scenario;
  path_.clear();
  schedules_ = 0;
  fault_.clear();
  do {
    RunOneSchedule();
    schedules_++;
  } while (fault_.empty() && NextSchedule());
}

// -- tests --------------------------------------------------------------------

class LockModelTest : public ::testing::TestWithParam<Scenario> {};

TEST_P(LockModelTest, NoScheduleLosesAWakeUp) {
  model.Search(GetParam());
  EXPECT_EQ(model.fault(), "") << "schedule " << model.schedules();
  printf("lock model: %d threads, %d rounds, %d preemptions: %llu schedules\n",
         GetParam().threads, GetParam().rounds, GetParam().preemptions,
         static_cast<unsigned long long>(model.schedules()));
  EXPECT_GT(model.schedules(), 500u);
}

// 99: more than there are steps, so all schedules.
INSTANTIATE_TEST_SUITE_P(Threads, LockModelTest,
                         ::testing::Values(Scenario{2, 1, 99},
                                           Scenario{2, 3, 4}, Scenario{3, 1, 4},
                                           Scenario{3, 2, 3}));

// The search sees what it is for.
TEST(LockModelMutantTest, EachBrokenLockIsFound) {
  const struct {
    Mutant mutant;
    const char *fault;
  } cases[] = {
      {Mutant::kReleaseInTwoSteps, "a thread sleeps for ever"},
      {Mutant::kWakesNobody, "a thread sleeps for ever"},
      {Mutant::kSleepsWithoutLooking, "a thread sleeps for ever"},
      {Mutant::kForgetsTheMark, "a thread sleeps for ever"},
      {Mutant::kTakesInTwoSteps, "assertion before != FREE"},
  };
  for (const auto &one : cases) {
    model.Search(Scenario{3, 1, 3, one.mutant});
    EXPECT_EQ(model.fault(), one.fault) << static_cast<int>(one.mutant);
  }
}

}  // namespace

// Stress of the per-CPU front end: everything at once.
//
// Method: threads that stay on one CPU, that migrate all the time and that come
//   and go allocate and free, also what other threads allocated. Meanwhile
//   10 000 signals a second hit each of them, other threads drain all CPUs,
//   change the limit of each (so that classes take room from each other) and
//   give down what is idle, and a process forks. Every object holds the token
//   of who has it, zero while it is free: one that is handed out twice is seen.
//   Each child of fork walks the slabs: no object in two, none with a token,
//   room paid for. After each round of a second all is counted back, by class.
//   The same stress without the fence must fail: then it sees what it is for.
//
// By hand, longer or otherwise: TCX_STRESS_SECONDS, TCX_STRESS_SEED,
//   TCX_STRESS_SIGNAL_US (from one signal to the next; emulators want more),
//   TCX_STRESS_FENCE=none or =plain (a barrier that restarts no section).
#include <errno.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

// Long sections: a missing fence is found soon even on a loaded machine.
#ifdef TCX_STRESS_LONG_SECTIONS
#define TCX_RSEQ_TEST_WINDOW \
  "movl $100, %%r11d\n"      \
  ".Ltcx_pause%=:\n\t"       \
  "pause\n\t"                \
  "decl %%r11d\n\t"          \
  "jne .Ltcx_pause%=\n\t"
#endif
#include "frontend/percpu_testing.h"

// Old headers of libc have only the member.
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace {

using percpu_testing::Allocate;
using percpu_testing::CachedObjects;
using percpu_testing::ExpectRoomIsPaidFor;
using percpu_testing::Free;
using percpu_testing::OutObjects;
using percpu_testing::RoomBytes;
using std::chrono::steady_clock;

using Fence = int (*)();
using Token = std::atomic<uint64_t>;

constexpr uint64_t kMailed = 1;  // tokens of threads are greater
constexpr size_t kWorkers = 6;
constexpr size_t kWalkMax = 1 << 20;
constexpr uint64_t kLimitMax = 3 << 20;

std::atomic<uint64_t> signals;  // outside, for the handler

struct Held {
  unsigned c;
  Token *object;
};

// What a thread of the stress does now and then.
enum class Place { kPinned, kMigrating, kFree };

class Stress {
 public:
  Stress(uint64_t seed, bool forks) : seed_(seed), forks_wanted_(forks) {
    CPU_ZERO(&allowed_);
    sched_getaffinity(0, sizeof allowed_, &allowed_);
    for (int id = 0; id < CPU_SETSIZE; id++) {
      if (CPU_ISSET(id, &allowed_))
        cpus_.push_back(id);
    }
    void *memory =
        mmap(nullptr, kWalkMax * sizeof(void *), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    walked_ = static_cast<void **>(memory);
  }

  // True if nothing was handed out twice and nothing was lost.
  bool Run(std::chrono::milliseconds time);

 private:
  void Round(std::chrono::milliseconds time);
  void Work(uint64_t token, Place place, uint64_t operations_max);
  void Take(uint64_t token, std::mt19937_64 *random, std::vector<Held> *held);
  void Give(uint64_t token, std::mt19937_64 *random, Held one);
  void Return(Held one, uint64_t token);
  void Move(std::mt19937_64 *random);
  void Disturb(uint64_t token);
  void Fork(uint64_t token);
  void ComeAndGo(uint64_t token);
  int WalkInChild();
  void CountBack();
  uint64_t Lost();

  const uint64_t seed_;
  const bool forks_wanted_;
  cpu_set_t allowed_;
  std::vector<int> cpus_;
  void **walked_;
  uint64_t next_token_ = kMailed + 1;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> wrong_{0};
  std::atomic<uint64_t> operations_{0};
  std::atomic<uint64_t> migrations_{0};
  std::atomic<uint64_t> drains_{0};
  std::atomic<uint64_t> limits_{0};
  std::atomic<uint64_t> forks_{0};
  std::atomic<uint64_t> threads_{0};
  // Objects on their way to another thread.
  struct Mailbox {
    std::atomic<Token *> object{nullptr};
  };
  Mailbox mail_[TCX_SIZE_CLASS_COUNT];
};

// -- workers ------------------------------------------------------------------

// Mostly few classes, so that they are full and empty in turn.
unsigned AnyClass(std::mt19937_64 *random) {
  uint64_t dice = (*random)() % 1000;
  if (dice < 2) {
    return TCX_RUN_CLASS_FIRST +
           (*random)() % (TCX_SIZE_CLASS_COUNT - TCX_RUN_CLASS_FIRST);
  }
  if (dice < 50)
    return 1 + (*random)() % (TCX_RUN_CLASS_FIRST - 1);
  return 1 + (*random)() % 8;
}

void Stress::Take(uint64_t token, std::mt19937_64 *random,
                  std::vector<Held> *held) {
  unsigned c = AnyClass(random);
  auto *object = static_cast<Token *>(Allocate(c));
  if (object == nullptr)
    return;
  if (object->exchange(token) != 0)
    wrong_++;
  held->push_back({c, object});
}

void Stress::Return(Held one, uint64_t token) {
  if (one.object->exchange(0) != token)
    wrong_++;
  Free(one.c, one.object);
}

// Frees it, or lets another thread do that.
void Stress::Give(uint64_t token, std::mt19937_64 *random, Held one) {
  if ((*random)() % 4 != 0) {
    Return(one, token);
    return;
  }
  if (one.object->exchange(kMailed) != token)
    wrong_++;
  one.object = mail_[one.c].object.exchange(one.object);
  if (one.object != nullptr)
    Return(one, kMailed);
}

void Stress::Move(std::mt19937_64 *random) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpus_[(*random)() % cpus_.size()], &set);
  sched_setaffinity(0, sizeof set, &set);
  migrations_.fetch_add(1, std::memory_order_relaxed);
}

uint64_t Environment(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 0) : otherwise;
}

// 10 000 signals a second to the calling thread, until it is gone.
timer_t StartSignals() {
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGUSR1;
  event.sigev_notify_thread_id = static_cast<int>(syscall(SYS_gettid));
  timer_t timer;
  EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  auto period = static_cast<long>(Environment("TCX_STRESS_SIGNAL_US", 100));
  itimerspec every = {{0, period * 1000}, {0, period * 1000}};
  timer_settime(timer, 0, &every, nullptr);
  return timer;
}

void Stress::Work(uint64_t token, Place place, uint64_t operations_max) {
  std::mt19937_64 random(seed_ + token);
  std::vector<Held> held;
  uint64_t operations = 0;
  size_t target = 0;
  timer_t timer = StartSignals();
  if (place == Place::kPinned)
    Move(&random);
  while (!stop_ && operations < operations_max) {
    // Bursts make classes grow and shrink.
    if (operations % 2048 == 0)
      target = 10 + random() % 500;
    if (place == Place::kMigrating && random() % 2048 == 0)
      Move(&random);
    bool takes = held.empty() || random() % 16 < (held.size() < target ? 9 : 6);
    if (takes) {
      Take(token, &random, &held);
    } else {
      std::swap(held[random() % held.size()], held.back());
      Give(token, &random, held.back());
      held.pop_back();
    }
    operations++;
  }
  timer_delete(timer);
  for (Held one : held)
    Return(one, token);
  operations_ += operations;
  threads_++;
}

void Stress::ComeAndGo(uint64_t token) {
  for (; !stop_; token += 1 << 16) {
    std::thread guest(&Stress::Work, this, token, Place::kMigrating, 3000);
    guest.join();
  }
}

// -- what disturbs them -------------------------------------------------------

void Stress::Disturb(uint64_t token) {
  std::mt19937_64 random(seed_ + token);
  while (!stop_ && wrong_ == 0) {
    switch (random() % 16) {
      case 0:
        tcx_frontend->flush();
        break;
      case 1:
        tcx_frontend->tick();
        break;
      case 2:
        tcx_cpus_drain(false);
        break;
      case 3:
        percpu_testing::objects->ops->trim(percpu_testing::objects, true);
        break;
      case 4: {
        uint64_t limit = kLimitMax >> random() % 6;
        tcx_atomic_store_relaxed(&tcx_knobs.cpu_cache, limit);
        limits_++;
        break;
      }
      case 5:
        // Now and then the slabs become full.
        usleep(static_cast<useconds_t>(random() % 20000));
        break;
      default:
        tcx_cpus_drain(true);
        drains_++;
        break;
    }
  }
}

// Exit code: 0 if all is whole.
int Stress::WalkInChild() {
  alarm(60);
  size_t count = 0;
  for (const tcx_cpu &cpu : tcx_cpus) {
    if (cpu.slab == nullptr)
      continue;
    // Who was between claiming bytes and taking them is no more.
    if (cpu.capacity_bytes < RoomBytes(cpu, 1, TCX_RUN_CLASS_FIRST))
      return 2;
    if (cpu.run_bytes <
        RoomBytes(cpu, TCX_RUN_CLASS_FIRST, TCX_SIZE_CLASS_COUNT)) {
      return 4;
    }
    for (unsigned c = 1; c < TCX_SIZE_CLASS_COUNT; c++) {
      auto *begin = reinterpret_cast<void **>(
          reinterpret_cast<char *>(cpu.slab) + tcx_cpu_array_offset(c));
      for (void **slot = begin; slot <= cpu.slab[c].top; slot++) {
        if (static_cast<Token *>(*slot)->load() != 0)
          return 3;
        if (count < kWalkMax)
          walked_[count++] = *slot;
      }
    }
  }
  std::sort(walked_, walked_ + count);
  if (std::adjacent_find(walked_, walked_ + count) != walked_ + count)
    return 5;
  // It can go on, and what it gives down is not down already.
  std::mt19937_64 random(seed_ + forks_);
  for (int i = 0; i < 1000; i++) {
    unsigned c = AnyClass(&random);
    void *object = Allocate(c);
    if (object == nullptr || static_cast<Token *>(object)->load() != 0)
      return 6;
    Free(c, object);
  }
  tcx_frontend->check();
  tcx_frontend->flush();
  percpu_testing::objects->ops->trim(percpu_testing::objects, true);
  return 0;
}

void Stress::Fork(uint64_t token) {
  std::mt19937_64 random(seed_ + token);
  while (!stop_ && wrong_ == 0) {
    pid_t child = fork();
    if (child == 0)
      _exit(WalkInChild());
    int status = -1;
    if (child > 0 && waitpid(child, &status, 0) == child && status != 0) {
      printf("a child of fork found the heap damaged: status %#x\n", status);
      wrong_++;
    }
    forks_ += child > 0;
    usleep(static_cast<useconds_t>(random() % 2000));
  }
}

// -- rounds -------------------------------------------------------------------

void Stress::Round(std::chrono::milliseconds time) {
  auto end = steady_clock::now() + time;
  std::vector<std::thread> threads;
  stop_ = false;
  for (size_t i = 0; i < kWorkers; i++) {
    threads.emplace_back(&Stress::Work, this, next_token_++,
                         static_cast<Place>(i % 3), UINT64_MAX);
  }
  threads.emplace_back(&Stress::Disturb, this, next_token_++);
  threads.emplace_back(&Stress::Disturb, this, next_token_++);
  threads.emplace_back(&Stress::ComeAndGo, this, next_token_++ + (1 << 16));
  if (forks_wanted_)
    threads.emplace_back(&Stress::Fork, this, next_token_++);
  while (steady_clock::now() < end && wrong_ == 0)
    usleep(10000);
  stop_ = true;
  for (std::thread &thread : threads)
    thread.join();
  for (unsigned c = 1; c < TCX_SIZE_CLASS_COUNT; c++) {
    if (Token *object = mail_[c].object.exchange(nullptr))
      Return({c, object}, kMailed);
  }
}

// Objects that are neither cached nor below.
uint64_t Stress::Lost() {
  uint64_t lost = 0;
  for (unsigned c = 1; c < TCX_SIZE_CLASS_COUNT; c++)
    lost += OutObjects(c) != CachedObjects(c);
  return lost;
}

void Stress::CountBack() {
  EXPECT_EQ(Lost(), 0u) << "classes";
  ExpectRoomIsPaidFor();
  for (const tcx_cpu &cpu : tcx_cpus)
    EXPECT_LE(cpu.capacity_bytes, kLimitMax);
  tcx_frontend->check();
  tcx_frontend->flush();
  // Where the kernel refuses the fence, all stays where it is.
  for (unsigned c = 1; tcx_rseq_fence() == 0 && c < TCX_SIZE_CLASS_COUNT; c++)
    EXPECT_EQ(OutObjects(c), 0u) << "class " << c;
  EXPECT_EQ(Lost(), 0u) << "classes";
  percpu_testing::objects->ops->check(percpu_testing::objects);
  percpu_testing::pages->ops->check(percpu_testing::pages);
}

bool Stress::Run(std::chrono::milliseconds time) {
  signal(SIGUSR1, [](int) { signals++; });
  tcx_knobs.scavenge_time = 1;
  tcx_knobs.trim_time = 10;
  auto end = steady_clock::now() + time;
  uint64_t rounds = 0;
  while (steady_clock::now() < end && wrong_ == 0 &&
         !::testing::Test::HasFailure()) {
    Round(std::min(time, std::chrono::milliseconds(1000)));
    CountBack();
    rounds++;
  }
  printf(
      "seed %lu: %lu rounds, %lu operations, %lu signals, %lu drains of all "
      "CPUs, %lu limits, %lu migrations, %lu threads, %lu forks; %lu wrong\n",
      seed_, rounds, operations_.load(), signals.load(), drains_.load(),
      limits_.load(), migrations_.load(), threads_.load(), forks_.load(),
      wrong_.load());
  return wrong_ == 0 && !::testing::Test::HasFailure();
}

// -- the tests ----------------------------------------------------------------

int NoFence() {
  return 0;
}

int RefusedFence() {
  return EPERM;
}

// Orders memory, but restarts no section.
int PlainFence() {
  constexpr int kPrivateExpedited = 1 << 3;
  constexpr int kRegister = 1 << 4;
  static bool registered = syscall(SYS_membarrier, kRegister, 0, 0) == 0;
  return registered ? static_cast<int>(
                          syscall(SYS_membarrier, kPrivateExpedited, 0, 0))
                    : EPERM;
}

Fence FenceByName(const std::string &name) {
  return name == "none" ? NoFence : name == "plain" ? PlainFence : nullptr;
}

// In a child, because a damaged heap may end the process, or hang it.
int StressInAChild(uint64_t seconds, uint64_t seed, Fence fence) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    alarm(static_cast<unsigned>(4 * seconds + 60));
    bool is_broken = fence != nullptr && fence != RefusedFence;
    if (is_broken)
      fclose(stderr);  // Only the broken one may say so.
    tcx_rseq_fence_install(fence);
    bool ok = Stress(seed, !is_broken).Run(std::chrono::seconds(seconds));
    fflush(stdout);
    _exit(ok ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

class PercpuStressTest : public ::testing::Test {
 protected:
  void SetUp() override {
    percpu_testing::StartTiers();
    if (!percpu_testing::HasSections()) {
      tcx_frontend_use use;
      tcx_frontend->use(&use);
      GTEST_SKIP() << "no restartable sequences here: " << use.reason;
    }
    seed_ = Environment("TCX_STRESS_SEED", std::random_device()());
  }
  uint64_t seed_ = 0;
};

TEST_F(PercpuStressTest, NothingIsDoubledOrLost) {
  const char *fence = getenv("TCX_STRESS_FENCE");
  uint64_t seconds = Environment("TCX_STRESS_SECONDS", 6);
  EXPECT_EQ(StressInAChild(seconds, seed_,
                           FenceByName(fence != nullptr ? fence : "")),
            0);
}

// What cannot be stopped stays as it is.
TEST_F(PercpuStressTest, NothingIsDoubledWhereTheFenceIsRefused) {
  EXPECT_EQ(StressInAChild(2, seed_, RefusedFence), 0);
}

TEST_F(PercpuStressTest, FailsWithoutTheFence) {
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof allowed, &allowed);
  if (CPU_COUNT(&allowed) < 2)
    GTEST_SKIP() << "one CPU: what drains has taken it from every section";
  int status = 0;
  for (int i = 0; i < 3 && status == 0; i++)
    status = StressInAChild(10, seed_ + i, NoFence);
  EXPECT_NE(status, 0) << "the stress does not see a missing fence";
  EXPECT_FALSE(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
}

}  // namespace

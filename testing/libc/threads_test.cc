// threads_test.cc -- threads that come and go, and frees at odd moments.
//
// Method: every object carries a tag that tells its owner and size; whoever
//   frees it checks the tag first, so an object handed out twice is seen.
// Method: before main and after it, constructors, atexit handlers and
//   destructors use the allocator; a fault there fails the whole program.
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "testing/libc/support.h"

namespace {

// -- objects with a tag -------------------------------------------------------

struct Object {
  unsigned char *bytes = nullptr;
  size_t size = 0;
  unsigned char tag = 0;
};

void Require(bool holds, const char *what) {
  if (holds)
    return;
  fprintf(stderr, "threads_test: %s\n", what);
  abort();
}

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t Next() {
    state_ = state_ * 1664525 + 1013904223;
    return state_ >> 8;
  }
  // Mostly small, sometimes up to 1 MiB.
  size_t Size() {
    uint32_t kind = Next() % 256;
    if (kind == 0)
      return Next() % (1 << 20);
    if (kind < 16)
      return Next() % (64 << 10);
    return Next() % 1024;
  }

 private:
  uint32_t state_;
};

Object Make(Random *random) {
  Object object;
  object.size = random->Size();
  object.tag = static_cast<unsigned char>(random->Next());
  object.bytes = static_cast<unsigned char *>(malloc(object.size));
  Require(object.bytes != nullptr, "no memory");
  Fill(object.bytes, object.size, object.tag);
  return object;
}

void Check(const Object &object) {
  Require(IsFilled(object.bytes, object.size, object.tag), "tag overwritten");
}

void Destroy(const Object &object, uint32_t how) {
  if (object.bytes == nullptr)
    return;
  Check(object);
  if (how % 2 == 0) {
    free(object.bytes);
  } else {
    free_sized(object.bytes, object.size);
  }
}

// A place where threads leave objects for others.
class Exchange {
 public:
  Object Swap(size_t at, Object object) {
    std::lock_guard<std::mutex> guard(mutex_);
    std::swap(slots_[at % slots_.size()], object);
    return object;
  }
  void Clear() {
    for (Object &slot : slots_) {
      Destroy(slot, 0);
      slot = Object();
    }
  }

 private:
  std::mutex mutex_;
  std::array<Object, 4096> slots_;
};

Exchange exchange;

// -- threads that come and go -------------------------------------------------

void ShortLife(uint32_t seed) {
  Random random(seed);
  std::vector<Object> own;
  for (int i = 0; i < 200; i++) {
    own.push_back(Make(&random));
    if (i % 3 == 0) {
      Destroy(exchange.Swap(random.Next(), own.back()), random.Next());
      own.pop_back();
    }
  }
  for (const Object &object : own)
    Destroy(object, random.Next());
}

void RunWave(uint32_t seed, int threads) {
  std::vector<std::thread> wave;
  for (int i = 0; i < threads; i++) {
    wave.emplace_back(ShortLife, seed + static_cast<uint32_t>(i));
  }
  for (std::thread &thread : wave)
    thread.join();
}

TEST(ThreadsTest, ComeAndGoByTheThousand) {
  constexpr int kWaves = 500, kThreads = 8;
  size_t early = 0;
  for (int wave = 0; wave < kWaves; wave++) {
    RunWave(static_cast<uint32_t>(wave * kThreads), kThreads);
    if (wave == kWaves / 5)
      early = mallinfo2().arena;
  }
  // Nothing is lost when a thread ends: 3200 threads later the heap has not
  // grown by what 3200 caches would be.
  EXPECT_LT(mallinfo2().arena, early + early / 2 + (16u << 20));
  exchange.Clear();
}

TEST(ThreadsTest, ManyAtOnce) {
  RunWave(1u << 20, 200);
  exchange.Clear();
}

// -- the end of a thread ------------------------------------------------------

pthread_key_t late_key;
std::atomic<int> late_rounds;

// Runs after tcx's own destructor in every round but perhaps the first.
void LateDestructor(void *value) {
  Require(IsFilled(value, 1000, 7), "value of a late destructor");
  free(value);
  void *mine = malloc(Opaque(5000));
  Fill(mine, 5000, 9);
  Require(IsFilled(mine, 5000, 9), "object of a late destructor");
  free(mine);
  void *again = malloc(Opaque(1000));
  Fill(again, 1000, 7);
  if (late_rounds++ % PTHREAD_DESTRUCTOR_ITERATIONS ==
          PTHREAD_DESTRUCTOR_ITERATIONS - 1 ||
      pthread_setspecific(late_key, again) != 0) {
    free(again);  // The last round.
  }
}

TEST(ThreadsTest, LateThreadSpecificDestructors) {
  ASSERT_EQ(pthread_key_create(&late_key, LateDestructor), 0);
  constexpr int kThreads = 300;
  for (int i = 0; i < kThreads; i++) {
    late_rounds = 0;
    std::thread([] {
      void *value = malloc(Opaque(1000));
      Fill(value, 1000, 7);
      pthread_setspecific(late_key, value);
    }).join();
    ASSERT_EQ(late_rounds, PTHREAD_DESTRUCTOR_ITERATIONS);
  }
  pthread_key_delete(late_key);
}

struct ThreadLocalOwner {
  std::vector<int> *values = new std::vector<int>(1000, 3);
  ~ThreadLocalOwner() {
    Require((*values)[999] == 3, "object of a thread_local");
    delete values;
    std::vector<char> temporary(70000, 'x');
    Require(temporary[69999] == 'x', "object made in a destructor");
  }
};

thread_local ThreadLocalOwner owner;

TEST(ThreadsTest, ThreadLocalDestructors) {
  for (int i = 0; i < 300; i++) {
    std::thread([] { ASSERT_EQ((*owner.values)[0], 3); }).join();
  }
}

// A thread whose only use of the allocator is one free.
TEST(ThreadsTest, FirstCallOfAThreadIsFree) {
  for (size_t size :
       {size_t{8}, size_t{100000}, size_t{1} << 20, size_t{6} << 20}) {
    for (int i = 0; i < 50; i++) {
      void *object = malloc(Opaque(size));
      pthread_t thread;
      ASSERT_EQ(pthread_create(
                    &thread, nullptr,
                    [](void *pointer) -> void * {
                      free(pointer);
                      return nullptr;
                    },
                    object),
                0);
      pthread_join(thread, nullptr);
    }
  }
}

TEST(ThreadsTest, DetachedAndExiting) {
  std::atomic<int> done{0};
  for (int i = 0; i < 500; i++) {
    std::thread([&done] {
      Destroy(Object{static_cast<unsigned char *>(malloc(0)), 0, 0}, 0);
      done++;
      pthread_exit(nullptr);
    }).detach();
  }
  while (done != 500)
    sched_yield();
}

// -- producers and consumers --------------------------------------------------

class Queue {
 public:
  void Push(std::vector<Object> batch) {
    std::unique_lock<std::mutex> guard(mutex_);
    changed_.wait(guard, [&] { return batches_.size() < 16; });
    batches_.push_back(std::move(batch));
    changed_.notify_all();
  }
  std::vector<Object> Pop() {
    std::unique_lock<std::mutex> guard(mutex_);
    changed_.wait(guard, [&] { return !batches_.empty(); });
    std::vector<Object> batch = std::move(batches_.front());
    batches_.pop_front();
    changed_.notify_all();
    return batch;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<Object>> batches_;
};

TEST(ThreadsTest, ProducersAndConsumers) {
  constexpr int kPairs = 3, kBatches = 400, kBatch = 200;
  Queue queue;
  std::vector<std::thread> threads;
  for (int pair = 0; pair < kPairs; pair++) {
    threads.emplace_back([&queue, pair] {
      Random random(static_cast<uint32_t>(pair));
      for (int i = 0; i < kBatches; i++) {
        std::vector<Object> batch;
        for (int j = 0; j < kBatch; j++)
          batch.push_back(Make(&random));
        queue.Push(std::move(batch));
      }
    });
    threads.emplace_back([&queue] {
      for (int i = 0; i < kBatches; i++) {
        for (const Object &object : queue.Pop()) {
          Destroy(object, static_cast<uint32_t>(i));
        }
      }
    });
  }
  for (std::thread &thread : threads)
    thread.join();
}

// -- before main and after it -------------------------------------------------

void *early_object;

__attribute__((constructor(101))) void BeforeMain() {
  early_object = malloc(Opaque(777));
  Fill(early_object, 777, 5);
  // A thread before main.
  std::thread([] { free(malloc(Opaque(100000))); }).join();
  atexit([] {
    void *object = malloc(Opaque(3000));
    Fill(object, 3000, 1);
    free(object);
  });
}

__attribute__((destructor(101))) void AfterMain() {
  Require(IsFilled(early_object, 777, 5), "object from before main");
  free(early_object);
  void *object = calloc(10, Opaque(1000));
  Require(IsFilled(object, 10000, 0), "calloc after main");
  free(object);
}

struct Global {
  std::vector<int> values = std::vector<int>(5000, 4);
  ~Global() {
    Require(values[4999] == 4, "object of a global");
  }
};

Global global;

TEST(ThreadsTest, ObjectsFromBeforeMainAreLive) {
  EXPECT_TRUE(IsFilled(early_object, 777, 5));
  EXPECT_EQ(global.values[0], 4);
}

}  // namespace

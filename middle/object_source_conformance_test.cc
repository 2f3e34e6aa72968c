// Tests of middle/object_source.h: what every object source keeps to.
//
// Method: each test runs on the transfer source, on the central source and on
// the fake one, the first two over a page source that counts and fails on
// demand. Objects are checked to be distinct, aligned and writable; in the
// threaded tests each carries a tag of its owner, so that an object that is
// handed out twice shows. After each test all is given back and the invariants
// are walked.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "backend/fake_page_source.h"
#include "middle/central_source.h"
#include "middle/fake_object_source.h"
#include "middle/transfer_source.h"

namespace {

// An object source over the C implementation `Source`.
template <typename Source,
          tcx_object_source *(*kInit)(Source *, tcx_page_source *)>
class OverPages {
 public:
  OverPages()
      : source_(new Source()), base_(kInit(source_.get(), pages_.get())) {}
  tcx_object_source *get() {
    return base_;
  }
  void Fail() {
    pages_.FailAfter(0);
  }
  void NeverFail() {
    pages_.NeverFail();
  }
  // Whether all memory has gone back.
  bool is_empty() const {
    return pages_.live_spans() == 0;
  }

 private:
  tcx::testing::FakePageSource pages_;
  std::unique_ptr<Source> source_;
  tcx_object_source *base_;
};

class Fake {
 public:
  tcx_object_source *get() {
    return source_.get();
  }
  void Fail() {
    source_.FailAfter(0);
  }
  void NeverFail() {
    source_.NeverFail();
  }
  bool is_empty() const {
    return source_.out_objects() == 0;
  }

 private:
  tcx::testing::FakeObjectSource source_;
};

using Transfer = OverPages<tcx_transfer_source, tcx_transfer_source_init>;
using Central = OverPages<tcx_central_source, tcx_central_source_init>;

constexpr unsigned kLastClass = TCX_RUN_CLASS_FIRST - 1;

template <typename Maker>
class ObjectSourceConformanceTest : public ::testing::Test {
 protected:
  ObjectSourceConformanceTest() {
    tcx_size_classes_init();
  }
  ~ObjectSourceConformanceTest() override {
    if (::testing::Test::HasFatalFailure()) {
      return;
    }
    source()->ops->trim(source(), true);
    source()->ops->check(source());
    for (unsigned id = 1; id <= kLastClass; id++) {
      EXPECT_EQ(Stats(id).out_objects, 0u) << "class " << id;
    }
    EXPECT_TRUE(maker_.is_empty());
  }

  tcx_object_source *source() {
    return maker_.get();
  }
  tcx_object_source_stats Stats(unsigned id) {
    tcx_object_source_stats stats = {};
    source()->ops->stats(source(), id, &stats);
    return stats;
  }
  std::vector<void *> Remove(unsigned id, unsigned count) {
    std::vector<void *> batch(count);
    batch.resize(
        tcx_object_source_remove_range(source(), id, batch.data(), count));
    return batch;
  }
  void Insert(unsigned id, const std::vector<void *> &batch) {
    for (size_t i = 0; i < batch.size(); i += TCX_BATCH_MAX) {
      size_t count = std::min<size_t>(TCX_BATCH_MAX, batch.size() - i);
      tcx_object_source_insert_range(source(), id, batch.data() + i,
                                     static_cast<unsigned>(count));
    }
  }

  Maker maker_;
};

class MakerNames {
 public:
  template <typename T>
  static std::string GetName(int i) {
    static const char *const kNames[] = {"Transfer", "Central", "Fake"};
    return kNames[i];
  }
};

using Makers = ::testing::Types<Transfer, Central, Fake>;
TYPED_TEST_SUITE(ObjectSourceConformanceTest, Makers, MakerNames);

TYPED_TEST(ObjectSourceConformanceTest, HasName) {
  EXPECT_NE(std::string(this->source()->ops->name), "");
}

TYPED_TEST(ObjectSourceConformanceTest, EveryClassGivesDistinctAlignedObjects) {
  for (unsigned id = 1; id <= kLastClass; id++) {
    const size_t size = tcx_size_classes[id].size;
    std::vector<void *> all;
    for (unsigned count : {1u, unsigned{tcx_size_classes[id].batch}, 3u}) {
      std::vector<void *> batch = this->Remove(id, count);
      ASSERT_EQ(batch.size(), count) << "class " << id;
      all.insert(all.end(), batch.begin(), batch.end());
    }
    std::set<uintptr_t> starts;
    for (void *object : all) {
      uintptr_t start = reinterpret_cast<uintptr_t>(object);
      EXPECT_EQ(start % TCX_ALIGNMENT, 0u);
      starts.insert(start);
      memset(object, 0x5a, size);
    }
    ASSERT_EQ(starts.size(), all.size()) << "class " << id;
    uintptr_t end = 0;
    for (uintptr_t start : starts) {
      EXPECT_GE(start, end) << "objects overlap, class " << id;
      end = start + size;
    }
    EXPECT_EQ(this->Stats(id).out_objects, all.size());
    this->Insert(id, all);
    EXPECT_EQ(this->Stats(id).out_objects, 0u);
  }
}

TYPED_TEST(ObjectSourceConformanceTest, LargestBatch) {
  std::vector<void *> batch = this->Remove(1, TCX_BATCH_MAX);
  EXPECT_EQ(batch.size(), size_t{TCX_BATCH_MAX});
  this->Insert(1, batch);
}

TYPED_TEST(ObjectSourceConformanceTest, StatsCountEachObjectOnce) {
  std::vector<void *> batch = this->Remove(4, 20);
  this->Insert(4, {batch.begin(), batch.begin() + 13});
  tcx_object_source_stats stats = this->Stats(4);
  EXPECT_EQ(stats.out_objects, 7u);
  EXPECT_GE(stats.spans_total, stats.spans);
  EXPECT_GE(stats.transfer_objects + stats.central_objects, 13u);
  this->Insert(4, {batch.begin() + 13, batch.end()});
}

TYPED_TEST(ObjectSourceConformanceTest, WithoutMemoryNothingIsLost) {
  for (unsigned id : {1u, 10u, 40u, kLastClass}) {
    std::vector<void *> held = this->Remove(id, 5);
    ASSERT_EQ(held.size(), 5u);
    this->maker_.Fail();
    std::vector<void *> more;
    for (;;) {
      std::vector<void *> batch = this->Remove(id, 7);
      more.insert(more.end(), batch.begin(), batch.end());
      if (batch.size() < 7) {
        break;
      }
    }
    EXPECT_TRUE(this->Remove(id, 1).empty());
    EXPECT_EQ(this->Stats(id).out_objects, held.size() + more.size());
    this->maker_.NeverFail();
    this->Insert(id, more);
    EXPECT_EQ(this->Stats(id).out_objects, held.size());
    std::vector<void *> again = this->Remove(id, 9);
    EXPECT_EQ(again.size(), 9u);
    this->Insert(id, again);
    this->Insert(id, held);
  }
}

TYPED_TEST(ObjectSourceConformanceTest, TrimOfAllLeavesNothing) {
  for (unsigned id = 1; id <= kLastClass; id++) {
    this->Insert(id, this->Remove(id, 10));
  }
  this->source()->ops->trim(this->source(), true);
  EXPECT_TRUE(this->maker_.is_empty());
  for (unsigned id = 1; id <= kLastClass; id++) {
    tcx_object_source_stats stats = this->Stats(id);
    EXPECT_EQ(stats.spans, 0u);
    EXPECT_EQ(stats.transfer_objects + stats.central_objects, 0u);
    EXPECT_EQ(stats.span_tail_bytes, 0u);
  }
}

TYPED_TEST(ObjectSourceConformanceTest, DecayKeepsWhatIsOut) {
  std::vector<void *> batch = this->Remove(3, 40);
  for (void *object : batch) {
    memset(object, 0x77, tcx_size_classes[3].size);
  }
  for (int i = 0; i < 4; i++) {
    this->source()->ops->trim(this->source(), false);
  }
  for (void *object : batch) {
    EXPECT_EQ(*static_cast<unsigned char *>(object), 0x77);
  }
  this->Insert(3, batch);
}

TYPED_TEST(ObjectSourceConformanceTest, WorksInTheChildOfFork) {
  std::vector<void *> batch = this->Remove(2, 8);
  tcx_object_source *source = this->source();
  source->ops->fork_prepare(source);
  pid_t pid = fork();
  if (pid == 0) {
    source->ops->fork_child(source);
    bool ok = this->Remove(2, 8).size() == 8 && this->Remove(9, 1).size() == 1;
    this->Insert(2, batch);
    source->ops->check(source);
    _exit(ok ? 0 : 1);
  }
  source->ops->fork_parent(source);
  ASSERT_GT(pid, 0);
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  this->Insert(2, batch);
}

TYPED_TEST(ObjectSourceConformanceTest, ReleaseKeepsWhatIsOut) {
  tcx_object_source *source = this->source();
  unsigned id = tcx_size_class_of(4096);
  std::vector<void *> batch = this->Remove(id, 64);
  for (void *object : batch)
    memset(object, 0x77, tcx_size_classes[id].size);
  // Every other object is free, in its span.
  std::vector<void *> back;
  for (size_t i = batch.size(); i-- > 0;) {
    if (i % 2 == 0) {
      back.push_back(batch[i]);
      batch.erase(batch.begin() + static_cast<long>(i));
    }
  }
  this->Insert(id, back);
  source->ops->trim(source, true);
  size_t released = source->ops->release(source, 1000000, SIZE_MAX, true);
  tcx_object_source_stats stats = this->Stats(id);
  EXPECT_EQ(stats.released_bytes, released);
  EXPECT_EQ(source->ops->released_bytes(source), released);
  EXPECT_LE(stats.released_tail_bytes, stats.span_tail_bytes);
  EXPECT_LE(stats.released_bytes - stats.released_tail_bytes,
            stats.central_objects * tcx_size_classes[id].size);
  for (void *object : batch) {
    const char *bytes = static_cast<char *>(object);
    for (size_t i = 0; i < tcx_size_classes[id].size; i++)
      ASSERT_EQ(bytes[i], 0x77);
  }
  EXPECT_EQ(source->ops->release(source, 1000000, SIZE_MAX, true), 0u);
  // Nobody took anything: nothing to wait for after a while.
  uint64_t now_ms = 1000000;
  for (int i = 0; i < 20; i++, now_ms += 5000)
    (void)source->ops->release(source, now_ms, SIZE_MAX, false);
  EXPECT_EQ(source->ops->release_due_ms(source, now_ms), UINT64_MAX);
  this->Insert(id, batch);
  source->ops->trim(source, true);
  EXPECT_EQ(this->Stats(id).released_bytes, 0u);
  EXPECT_EQ(source->ops->released_bytes(source), 0u);
}

// -- wrong use ----------------------------------------------------------------

TYPED_TEST(ObjectSourceConformanceTest, DoubleFreeEndsTheProcess) {
  std::vector<void *> batch = this->Remove(5, 4);
  EXPECT_DEATH(
      {
        this->Insert(5, {batch[1]});
        this->Insert(5, {batch[1]});
        this->source()->ops->trim(this->source(), true);
      },
      "tcx: free\\(\\): (double free of|invalid pointer) 0x");
  this->Insert(5, batch);
}

TYPED_TEST(ObjectSourceConformanceTest, InteriorPointerEndsTheProcess) {
  std::vector<void *> batch = this->Remove(5, 1);
  EXPECT_DEATH(
      {
        this->Insert(5, {static_cast<char *>(batch[0]) + 16});
        this->source()->ops->trim(this->source(), true);
      },
      "tcx: free\\(\\): invalid pointer 0x");
  this->Insert(5, batch);
}

TYPED_TEST(ObjectSourceConformanceTest, WrongClassEndsTheProcess) {
  std::vector<void *> batch = this->Remove(5, 1);
  EXPECT_DEATH(
      {
        this->Insert(6, batch);
        this->source()->ops->trim(this->source(), true);
      },
      "tcx: free\\(\\): invalid pointer 0x");
  this->Insert(5, batch);
}

// -- threads ------------------------------------------------------------------

struct Held {
  unsigned id;
  uint64_t tag;
  uint64_t *object;
};

// Objects on their way from one thread to another.
class Exchange {
 public:
  void Put(std::vector<Held> *from, size_t count) {
    std::lock_guard<std::mutex> hold(mutex_);
    for (; count > 0 && !from->empty(); count--) {
      held_.push_back(from->back());
      from->pop_back();
    }
  }
  void Take(std::vector<Held> *to, size_t count) {
    std::lock_guard<std::mutex> hold(mutex_);
    for (; count > 0 && !held_.empty(); count--) {
      to->push_back(held_.back());
      held_.pop_back();
    }
  }

 private:
  std::mutex mutex_;
  std::vector<Held> held_;
};

class Worker {
 public:
  Worker(tcx_object_source *source, Exchange *exchange, unsigned seed)
      : source_(source),
        exchange_(exchange),
        random_(seed),
        next_tag_(uint64_t{seed} << 32) {}

  void Run(int steps) {
    for (int i = 0; i < steps; i++) {
      unsigned choice = random_() % 16;
      if (choice < 7) {
        Remove(RandomClass());
      } else if (choice < 14) {
        Insert(1 + random_() % 64);
      } else if (choice == 14) {
        exchange_->Put(&held_, 40);
        exchange_->Take(&held_, 40);
      } else if (random_() % 4 != 0) {
        source_->ops->trim(source_, random_() % 4 == 0);
      } else {
        now_ms_ += 5000;
        (void)source_->ops->release(source_, now_ms_, 1 << 20,
                                    random_() % 2 == 0);
      }
    }
  }
  void Finish() {
    exchange_->Take(&held_, SIZE_MAX);
    while (!held_.empty()) {
      Insert(64);
    }
  }

 private:
  // Few classes, so that threads meet; a large one now and then.
  unsigned RandomClass() {
    return random_() % 50 == 0 ? kLastClass - random_() % 4
                               : 1 + 6 * (random_() % 7);
  }
  void Remove(unsigned id) {
    void *batch[32];
    unsigned count =
        std::min<unsigned>(1 + random_() % 32, tcx_size_classes[id].batch);
    unsigned got = tcx_object_source_remove_range(source_, id, batch, count);
    for (unsigned i = 0; i < got; i++) {
      Held held = {id, ++next_tag_, static_cast<uint64_t *>(batch[i])};
      held.object[0] = held.tag;
      held.object[1] = ~held.tag;
      held_.push_back(held);
    }
  }
  // Of the class of a random held object, as many as there are.
  void Insert(size_t count) {
    if (held_.empty()) {
      return;
    }
    const unsigned id = held_[random_() % held_.size()].id;
    std::vector<void *> batch;
    for (size_t i = held_.size(); i > 0 && batch.size() < count; i--) {
      Held held = held_[i - 1];
      if (held.id != id) {
        continue;
      }
      EXPECT_EQ(held.object[0], held.tag);
      EXPECT_EQ(held.object[1], ~held.tag);
      batch.push_back(held.object);
      held_[i - 1] = held_.back();
      held_.pop_back();
    }
    tcx_object_source_insert_range(source_, id, batch.data(),
                                   static_cast<unsigned>(batch.size()));
  }

  tcx_object_source *source_;
  Exchange *exchange_;
  std::mt19937 random_;
  uint64_t next_tag_;
  uint64_t now_ms_ = 1000000;
  std::vector<Held> held_;
};

TYPED_TEST(ObjectSourceConformanceTest, ThreadsNeverGetTheSameObject) {
  Exchange exchange;
  std::vector<std::unique_ptr<Worker>> workers;
  for (unsigned i = 0; i < 4; i++) {
    workers.push_back(
        std::make_unique<Worker>(this->source(), &exchange, i + 1));
  }
  std::vector<std::thread> threads;
  for (auto &worker : workers) {
    threads.emplace_back([&worker] { worker->Run(4000); });
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
  this->source()->ops->check(this->source());
  for (auto &worker : workers) {
    worker->Finish();
  }
}

TYPED_TEST(ObjectSourceConformanceTest, ThreadsSurviveFailingMemory) {
  Exchange exchange;
  std::vector<std::unique_ptr<Worker>> workers;
  for (unsigned i = 0; i < 3; i++) {
    workers.push_back(
        std::make_unique<Worker>(this->source(), &exchange, i + 11));
  }
  std::vector<std::thread> threads;
  for (auto &worker : workers) {
    threads.emplace_back([&worker] { worker->Run(1500); });
  }
  for (int i = 0; i < 50; i++) {
    this->maker_.Fail();
    std::this_thread::yield();
    this->maker_.NeverFail();
    std::this_thread::yield();
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
  for (auto &worker : workers) {
    worker->Finish();
  }
}

}  // namespace

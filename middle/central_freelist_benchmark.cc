// Benchmarks of the middle: what a batch costs in each tier.
//
// Method: batches of a class's own length over a page source that costs little.
// "Ordered" gives objects back as they came, one span after the other;
// "Shuffled" in random order, so that each object of a batch lies in another
// span. Items are objects, out and back.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "backend/fake_page_source.h"
#include "middle/central_source.h"
#include "middle/transfer_source.h"

namespace {

template <typename Source,
          tcx_object_source *(*kInit)(Source *, tcx_page_source *)>
class Tiers {
 public:
  Tiers() : source_(new Source()), base_(kInit(source_.get(), pages_.get())) {}
  tcx_object_source *get() {
    return base_;
  }

 private:
  tcx::testing::FakePageSource pages_;
  std::unique_ptr<Source> source_;
  tcx_object_source *base_;
};

using Transfer = Tiers<tcx_transfer_source, tcx_transfer_source_init>;
using Central = Tiers<tcx_central_source, tcx_central_source_init>;

constexpr size_t kObjects = 20000;

std::vector<void *> RemoveMany(tcx_object_source *source, unsigned id,
                               size_t count) {
  std::vector<void *> all(count);
  const unsigned batch = tcx_size_classes[id].batch;
  for (size_t i = 0; i < count; i += batch) {
    unsigned wanted = static_cast<unsigned>(std::min<size_t>(batch, count - i));
    if (tcx_object_source_remove_range(source, id, &all[i], wanted) < wanted) {
      std::abort();
    }
  }
  return all;
}

void InsertMany(tcx_object_source *source, unsigned id,
                const std::vector<void *> &all) {
  const unsigned batch = tcx_size_classes[id].batch;
  for (size_t i = 0; i < all.size(); i += batch) {
    tcx_object_source_insert_range(
        source, id, &all[i],
        static_cast<unsigned>(std::min<size_t>(batch, all.size() - i)));
  }
}

unsigned ClassOf(const benchmark::State &state) {
  tcx_size_classes_init();
  return tcx_size_class_of(static_cast<size_t>(state.range(0)));
}

// Takes many and gives all but every fourth back, so that what follows is
// served from spans that are never emptied: the page source is no part of it.
// Returns those that stay out.
std::vector<void *> Pin(tcx_object_source *source, unsigned id) {
  std::vector<void *> pinned;
  std::vector<void *> rest;
  for (void *object : RemoveMany(source, id, kObjects)) {
    (pinned.size() * 3 <= rest.size() ? pinned : rest).push_back(object);
  }
  InsertMany(source, id, rest);
  return pinned;
}

// A batch out and back in again.
template <typename T>
void BatchPair(benchmark::State &state) {
  const unsigned id = ClassOf(state);
  const unsigned count = tcx_size_classes[id].batch;
  T tiers;
  std::vector<void *> pinned = Pin(tiers.get(), id);
  void *batch[TCX_BATCH_MAX];
  for (auto _ : state) {
    unsigned got =
        tcx_object_source_remove_range(tiers.get(), id, batch, count);
    benchmark::DoNotOptimize(batch);
    tcx_object_source_insert_range(tiers.get(), id, batch, got);
  }
  state.SetItemsProcessed(state.iterations() * count);
  InsertMany(tiers.get(), id, pinned);
}

// Half of the objects out and all back in.
template <typename T>
void ManyOutAndBack(benchmark::State &state, bool shuffled) {
  const unsigned id = ClassOf(state);
  T tiers;
  std::vector<void *> pinned = Pin(tiers.get(), id);
  std::mt19937 random(1);
  for (auto _ : state) {
    std::vector<void *> all = RemoveMany(tiers.get(), id, kObjects / 2);
    if (shuffled) {
      state.PauseTiming();
      std::shuffle(all.begin(), all.end(), random);
      state.ResumeTiming();
    }
    InsertMany(tiers.get(), id, all);
  }
  state.SetItemsProcessed(state.iterations() * kObjects / 2);
  InsertMany(tiers.get(), id, pinned);
}

void TransferBatch(benchmark::State &state) {
  BatchPair<Transfer>(state);
}
void CentralBatch(benchmark::State &state) {
  BatchPair<Central>(state);
}
void CentralOrdered(benchmark::State &state) {
  ManyOutAndBack<Central>(state, false);
}
void CentralShuffled(benchmark::State &state) {
  ManyOutAndBack<Central>(state, true);
}

BENCHMARK(TransferBatch)->Arg(16)->Arg(64)->Arg(1024);
BENCHMARK(CentralBatch)->Arg(16)->Arg(64)->Arg(1024);
BENCHMARK(CentralOrdered)->Arg(16)->Arg(64)->Arg(1024);
BENCHMARK(CentralShuffled)->Arg(16)->Arg(64)->Arg(1024);

}  // namespace

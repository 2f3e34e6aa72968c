// Threads beside middle/central_release.c.
//
// Method: threads allocate and free tagged objects of a few classes while two
// others give back what is free; the page source yields inside each call, so
// that objects of the busy span come back meanwhile. Has been seen to fail when
// the span stays on its list, when the last object destroys it or relists it,
// and when taken objects leave their parts marked.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "middle/central_release_testing.h"
#include "middle/central_source.h"
#include "size_classes/size_classes.h"

namespace {

using tcx::testing::HasTag;
using tcx::testing::HookedPages;
using tcx::testing::Tag;

constexpr size_t kCalls = 100;  // of release_part, before the threads end

TEST(CentralReleaseThreadsTest, ReleaseBesideAllocationAndFree) {
  tcx_size_classes_init();
  HookedPages pages;
  pages.hook = [](const tcx_span *) { std::this_thread::yield(); };
  auto source = std::make_unique<tcx_central_source>();
  tcx_object_source *objects =
      tcx_central_source_init(source.get(), pages.pages_.get());
  const std::vector<unsigned> ids = {tcx_size_class_of(2048),
                                     tcx_size_class_of(8192),
                                     tcx_size_class_of(20480)};
  std::atomic<bool> is_over{false};
  auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::pair<unsigned, void *>> held;
    auto goes_on = [&pages](int i) {
      return i < 6000 || (pages.calls < kCalls && i < 1000000);
    };
    for (int i = 0; goes_on(i) || !held.empty(); i++) {
      bool takes = goes_on(i) && held.size() < 120 && random() % 2 == 0;
      if (takes) {
        unsigned id = ids[random() % ids.size()];
        void *batch[8];
        unsigned got = tcx_object_source_remove_range(objects, id, batch,
                                                      1 + random() % 8);
        for (unsigned k = 0; k < got; k++) {
          Tag(batch[k], tcx_size_classes[id].size);
          held.push_back({id, batch[k]});
        }
      } else if (!held.empty()) {
        std::swap(held[random() % held.size()], held.back());
        auto [id, object] = held.back();
        held.pop_back();
        ASSERT_TRUE(HasTag(object, tcx_size_classes[id].size));
        tcx_object_source_insert_range(objects, id, &object, 1);
      }
    }
  };
  auto release = [&] {
    uint64_t now_ms = 1000000;
    while (!is_over) {
      now_ms += 3000;
      (void)objects->ops->release(objects, now_ms, 1 << 20, now_ms % 2000 == 0);
      (void)objects->ops->release_due_ms(objects, now_ms);
    }
  };
  std::vector<std::thread> releasers;
  releasers.emplace_back(release);
  releasers.emplace_back(release);
  std::vector<std::thread> workers;
  for (unsigned seed = 1; seed <= 3; seed++)
    workers.emplace_back(work, seed);
  for (int i = 0; i < 20; i++) {
    objects->ops->check(objects);
    std::this_thread::yield();
  }
  for (std::thread &worker : workers)
    worker.join();
  is_over = true;
  for (std::thread &releaser : releasers)
    releaser.join();
  EXPECT_GT(pages.calls, 0u);
  objects->ops->check(objects);
  EXPECT_EQ(pages.pages_.live_spans(), 0u);
}

}  // namespace

// metadata_test.cc -- pools, buffers and the arena beneath them.
//
// Method: random allocation against a record of what is live; a system without
// memory; fork; damage that the check must find.
#include "backend/metadata.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "backend/arena.h"
#include "base/check.h"
#include "base/fork.h"
#include "base/os.h"

namespace {

tcx_metadata_stats Stats() {
  tcx_metadata_stats stats;
  tcx_metadata_read_stats(&stats);
  return stats;
}

TEST(MetadataTest, PoolIsLifoAndCounts) {
  static tcx_metadata_pool pool = TCX_METADATA_POOL_INIT(48, 16);
  uint64_t before = Stats().in_use_bytes;
  void *a = tcx_metadata_pool_allocate(&pool);
  void *b = tcx_metadata_pool_allocate(&pool);
  ASSERT_NE(a, nullptr);
  ASSERT_NE(b, nullptr);
  EXPECT_NE(a, b);
  EXPECT_EQ(Stats().in_use_bytes, before + 96);
  tcx_metadata_pool_free(&pool, a);
  EXPECT_EQ(tcx_metadata_pool_allocate(&pool), a);
  tcx_metadata_pool_free(&pool, a);
  tcx_metadata_pool_free(&pool, b);
  EXPECT_EQ(pool.in_use, 0u);
  EXPECT_EQ(pool.total, 2u);
  EXPECT_EQ(Stats().in_use_bytes, before);
  tcx_metadata_check();
}

TEST(MetadataTest, PoolAligns) {
  static tcx_metadata_pool pool = TCX_METADATA_POOL_INIT(80, 4096);
  for (int i = 0; i < 5; i++) {
    auto at = reinterpret_cast<uintptr_t>(tcx_metadata_pool_allocate(&pool));
    ASSERT_NE(at, 0u);
    EXPECT_EQ(at % 4096, 0u);
  }
  tcx_metadata_check();
}

TEST(MetadataTest, SpansAreZeroedLines) {
  tcx_span *span = tcx_metadata_span_allocate();
  ASSERT_NE(span, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(span) % 64, 0u);
  memset(span, 0x5a, sizeof(*span));
  tcx_metadata_span_free(span);
  span = tcx_metadata_span_allocate();
  static const tcx_span zero = {};
  EXPECT_EQ(memcmp(span, &zero, sizeof(zero)), 0);
  tcx_metadata_span_free(span);
}

TEST(MetadataTest, BufferSizes) {
  EXPECT_EQ(tcx_metadata_buffer_bytes(0), 64u);
  EXPECT_EQ(tcx_metadata_buffer_bytes(1), 64u);
  EXPECT_EQ(tcx_metadata_buffer_bytes(64), 64u);
  EXPECT_EQ(tcx_metadata_buffer_bytes(65), 128u);
  EXPECT_EQ(tcx_metadata_buffer_bytes(100000), 131072u);
  EXPECT_EQ(tcx_metadata_buffer_bytes(256 << 10), size_t{256} << 10);
  size_t page = tcx_os_page_size();
  EXPECT_EQ(tcx_metadata_buffer_bytes((256 << 10) + 1), (256 << 10) + page);
  EXPECT_EQ(tcx_metadata_allocate(SIZE_MAX), nullptr);
  EXPECT_EQ(tcx_metadata_allocate(SIZE_MAX / 2), nullptr);
}

TEST(MetadataTest, LargeBuffersGoBackToTheSystem) {
  tcx_metadata_stats before = Stats();
  size_t bytes = 1000000;
  char *buffer = static_cast<char *>(tcx_metadata_allocate(bytes));
  ASSERT_NE(buffer, nullptr);
  memset(buffer, 1, tcx_metadata_buffer_bytes(bytes));
  EXPECT_EQ(Stats().mapped_bytes - before.mapped_bytes,
            tcx_metadata_buffer_bytes(bytes));
  tcx_metadata_free(buffer, bytes);
  EXPECT_EQ(Stats().mapped_bytes, before.mapped_bytes);
  EXPECT_EQ(Stats().in_use_bytes, before.in_use_bytes);
}

TEST(MetadataTest, RandomBuffersDoNotOverlap) {
  std::mt19937 random(3);
  struct Live {
    size_t bytes;
    unsigned char mark;
  };
  std::map<char *, Live> live;
  uint64_t before = Stats().in_use_bytes;
  for (int step = 0; step < 5000; step++) {
    if (live.size() < 40 && random() % 2 == 0) {
      size_t bytes = random() % (size_t{64} << random() % 13);
      char *buffer = static_cast<char *>(tcx_metadata_allocate(bytes));
      ASSERT_NE(buffer, nullptr);
      size_t usable = tcx_metadata_buffer_bytes(bytes);
      auto after = live.lower_bound(buffer);
      ASSERT_TRUE(after == live.end() || buffer + usable <= after->first);
      auto mark = static_cast<unsigned char>(random());
      memset(buffer, mark, usable);
      live[buffer] = {bytes, mark};
    } else if (!live.empty()) {
      auto it = live.lower_bound(live.begin()->first + random() % (1 << 20));
      if (it == live.end()) {
        it = live.begin();
      }
      size_t usable = tcx_metadata_buffer_bytes(it->second.bytes);
      auto mark = static_cast<char>(it->second.mark);
      ASSERT_EQ(it->first[0], mark);
      ASSERT_EQ(it->first[usable / 2], mark);
      ASSERT_EQ(it->first[usable - 1], mark);
      tcx_metadata_free(it->first, it->second.bytes);
      live.erase(it);
    }
    if (step % 100 == 0) {
      tcx_metadata_check();
    }
  }
  for (auto &entry : live) {
    tcx_metadata_free(entry.first, entry.second.bytes);
  }
  EXPECT_EQ(Stats().in_use_bytes, before);
  tcx_metadata_check();
}

TEST(MetadataTest, LeftoversOfBlocksAreUsed) {
  // Buffers of 96 KiB would waste a quarter of each block of 128 KiB.
  uint64_t before = tcx_arena_mapped_bytes();
  uint64_t used = 0;
  for (int i = 0; i < 40; i++) {
    ASSERT_NE(tcx_arena_allocate(96 << 10, 64), nullptr);
    used += 96 << 10;
  }
  uint64_t mapped = tcx_arena_mapped_bytes();
  while (used + (160 << 10) < mapped - before) {
    ASSERT_NE(tcx_arena_allocate(1024, 16), nullptr);
    used += 1024;
  }
  EXPECT_EQ(tcx_arena_mapped_bytes(), mapped);
  tcx_arena_check();
}

TEST(MetadataTest, UntouchedIsWhatNobodyHasGot) {
  tcx_metadata_stats before = Stats();
  tcx_metadata_stats after = before;
  while (after.mapped_bytes == before.mapped_bytes) {
    ASSERT_NE(tcx_arena_allocate(4096, 4096), nullptr);
    after = Stats();
  }
  // A fresh block, and one page of it in use.
  uint64_t block = after.mapped_bytes - before.mapped_bytes;
  EXPECT_EQ(after.untouched_bytes, block - 4096);
}

TEST(MetadataTest, ArenaMemoryIsZero) {
  std::mt19937 random(11);
  for (int i = 0; i < 500; i++) {
    size_t bytes = 16 * (1 + random() % 2000);
    auto *words = static_cast<uint64_t *>(tcx_arena_allocate(bytes, 16));
    ASSERT_NE(words, nullptr);
    for (size_t j = 0; j < bytes / 8; j++) {
      ASSERT_EQ(words[j], 0u);
    }
    memset(words, 0xff, bytes);
  }
}

TEST(MetadataTest, NoMemoryIsNullAndNothingIsLost) {
  static tcx_os_calls calls = tcx_os_linux;
  calls.mmap = [](void *, size_t, int, int) -> intptr_t { return -12; };
  static tcx_metadata_pool pool = TCX_METADATA_POOL_INIT(64, 64);
  tcx_os_install(&calls);
  std::vector<void *> objects;
  for (void *o; (o = tcx_metadata_pool_allocate(&pool)) != nullptr;) {
    objects.push_back(o);
    ASSERT_LT(objects.size(), 1000000u);
  }
  EXPECT_EQ(tcx_metadata_allocate(1 << 20), nullptr);
  EXPECT_EQ(pool.in_use, objects.size());
  tcx_os_install(&tcx_os_linux);
  void *object = tcx_metadata_pool_allocate(&pool);
  EXPECT_NE(object, nullptr);
  tcx_metadata_pool_free(&pool, object);
  for (void *o : objects) {
    tcx_metadata_pool_free(&pool, o);
  }
  tcx_metadata_check();
}

// Near a limit of the process a block as large as usual may not fit any more.
TEST(MetadataTest, SmallerBlockWhereTheUsualOneIsRefused) {
  const size_t kBytes = 64 << 10;
  std::vector<void *> buffers;
  auto allocate = [&] {
    buffers.push_back(tcx_metadata_allocate(kBytes));
    return buffers.back() != nullptr;
  };
  while (tcx_arena_mapped_bytes() < 64 * TCX_ARENA_BLOCK_MIN_BYTES) {
    ASSERT_TRUE(allocate());
  }
  static tcx_os_calls calls = tcx_os_linux;
  calls.mmap = [](void *hint, size_t bytes, int protection,
                  int flags) -> intptr_t {
    if (bytes > kBytes)
      return -12;
    return tcx_os_linux.mmap(hint, bytes, protection, flags);
  };
  tcx_os_install(&calls);
  for (int i = 0; i < 100; i++) {
    EXPECT_TRUE(allocate()) << i;
  }
  tcx_os_install(&tcx_os_linux);
  for (void *buffer : buffers) {
    if (buffer != nullptr)
      tcx_metadata_free(buffer, kBytes);
  }
  tcx_metadata_check();
}

TEST(MetadataTest, ThreadsAndFork) {
  tcx_metadata_start();
  std::vector<std::thread> threads;
  std::vector<void *> seen[3];
  for (auto &mine : seen) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 2000; i++) {
        void *span = tcx_metadata_span_allocate();
        void *buffer = tcx_metadata_allocate(200);
        mine.push_back(span);
        tcx_metadata_free(buffer, 200);
      }
    });
  }
  for (int i = 0; i < 10; i++) {
    tcx_fork_prepare();
    pid_t child = fork();
    if (child == 0) {
      tcx_fork_child();
      tcx_metadata_check();
      _exit(tcx_metadata_span_allocate() != nullptr ? 0 : 1);
    }
    tcx_fork_parent();
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  for (auto &thread : threads) {
    thread.join();
  }
  std::set<void *> all;
  for (auto &mine : seen) {
    all.insert(mine.begin(), mine.end());
  }
  EXPECT_EQ(all.size(), 6000u);
  for (void *span : all) {
    tcx_metadata_span_free(static_cast<tcx_span *>(span));
  }
  tcx_metadata_check();
}

TEST(MetadataTest, SpansComeAndGoByTheList) {
  uint64_t before = Stats().in_use_bytes;
  tcx_span *spans = tcx_metadata_spans_allocate(20);
  std::set<tcx_span *> seen;
  for (tcx_span *span = spans; span != nullptr; span = span->next) {
    EXPECT_TRUE(seen.insert(span).second);
    tcx_span zero = {};
    zero.next = span->next;
    EXPECT_EQ(memcmp(span, &zero, sizeof zero), 0);
    span->pages = 1;
  }
  EXPECT_EQ(seen.size(), 20u);
  EXPECT_EQ(Stats().in_use_bytes, before + 20 * sizeof(tcx_span));
  tcx_metadata_spans_free(spans);
  EXPECT_EQ(Stats().in_use_bytes, before);
  tcx_metadata_check();
}

TEST(MetadataTest, AListEndsWhereMemoryDoes) {
  static tcx_os_calls calls = tcx_os_linux;
  calls.mmap = [](void *, size_t, int, int) -> intptr_t { return -12; };
  const unsigned kWanted = 1u << 20;
  tcx_os_install(&calls);
  tcx_span *spans = tcx_metadata_spans_allocate(kWanted);
  EXPECT_EQ(tcx_metadata_spans_allocate(1), nullptr);
  tcx_os_install(&tcx_os_linux);
  unsigned count = 0;
  for (tcx_span *span = spans; span != nullptr; span = span->next)
    count++;
  EXPECT_LT(count, kWanted);
  tcx_metadata_spans_free(spans);
  tcx_metadata_check();
}

#if TCX_ASSERTIONS
TEST(MetadataDeathTest, WriteAfterFreeIsFound) {
  EXPECT_DEATH(
      {
        tcx_span *span = tcx_metadata_span_allocate();
        tcx_metadata_span_free(span);
        span->released_words = 1;
        tcx_metadata_check();
      },
      "POISON");
}

TEST(MetadataDeathTest, DoubleFreeIsFound) {
  EXPECT_DEATH(
      {
        tcx_span *span = tcx_metadata_span_allocate();
        tcx_metadata_span_free(span);
        tcx_metadata_span_free(span);
      },
      "check failed");
}
#endif

}  // namespace

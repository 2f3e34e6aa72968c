// What tcx does to an rseq area, at run time.
//
// Method: the thread's area is a fake one between guard bytes, every field of
// it
//   a pattern but the ids, which name slabs. Millions of operations, slow paths
//   among them, must change rseq_cs and nothing else. Then the same on the area
//   that the kernel knows, with the thread tied to its CPU, so that the kernel
//   has no cause to change its fields either. (area_stores.py proves it for all
//   of the machine code.)

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "base/rseq.h"
#include "frontend/percpu.h"
#include "frontend/thread.h"

// Of include/tcx/tcx.h, where a function has the name of a struct.
extern "C" void tcx_tick(void);

namespace {

constexpr int kTurns = 200;
constexpr int kTurnOperations = 10000;

// Sizes of all kinds: mostly small, some of run classes, a few large.
size_t RandomSize(std::mt19937_64 &random) {
  switch (random() % 64) {
    case 0:
      return random() % (6u << 20);
    case 1:
      return random() % (256u << 10);
    default:
      return random() % 2048;
  }
}

void *RandomAllocation(std::mt19937_64 &random) {
  size_t size = RandomSize(random);
  void *pointer = nullptr;
  switch (random() % 8) {
    case 0:
      return calloc(1, size % 4096);
    case 1:
      return posix_memalign(&pointer, 64, size) == 0 ? pointer : nullptr;
    case 2:
      return ::operator new(size);
    case 3:
      return realloc(malloc(size / 2 + 1), size + 1);
    default:
      return malloc(size);
  }
}

// Fills and empties by turns, so that classes run dry, overflow and grow.
void Turn(std::mt19937_64 &random, std::vector<void *> &objects) {
  for (int i = 0; i < kTurnOperations; i++) {
    bool fill = (i / 1000) % 2 == 0;
    if (objects.size() < 20000 && random() % 4 < (fill ? 3 : 1)) {
      objects.push_back(RandomAllocation(random));
    } else if (!objects.empty()) {
      std::swap(objects[random() % objects.size()], objects.back());
      free(objects.back());
      objects.pop_back();
    }
  }
}

void Empty(std::vector<void *> &objects) {
  for (void *object : objects)
    free(object);
  objects.clear();
}

struct Guarded {
  unsigned char below[64];
  tcx_rseq_area area;
  unsigned char above[64];
};

Guarded MakeGuarded(int id) {
  Guarded guarded;
  auto *bytes = reinterpret_cast<unsigned char *>(&guarded);
  for (size_t i = 0; i < sizeof guarded; i++)
    bytes[i] = static_cast<unsigned char>(0xA5 ^ i);
  guarded.area.cpu_id = id;
  guarded.area.mm_cid = id;
  return guarded;
}

TEST(AreaTest, OnlyRseqCsOfAFakeAreaChanges) {
  free(malloc(1));  // The thread has an area from here on.
  tcx_rseq_area *real = tcx_thread.area;
  static Guarded fake;
  std::mt19937_64 random(1);
  std::vector<void *> objects;
  objects.reserve(20000);
  for (int i = 0; i < kTurns; i++) {
    // No other thread uses the slab of that id, but this one does.
    fake = MakeGuarded(900 + i % 3);
    Guarded expected = fake;
    tcx_thread.area = &fake.area;
    Turn(random, objects);
    if (i % 16 == 0)
      tcx_tick();
    tcx_thread.area = real;
    ASSERT_NE(fake.area.rseq_cs, expected.area.rseq_cs) << "no section ran";
    expected.area.rseq_cs = fake.area.rseq_cs;
    ASSERT_EQ(memcmp(&fake, &expected, sizeof fake), 0) << "after turn " << i;
  }
  Empty(objects);
}

// The kernel may keep more behind the 32 bytes; tcx does not look there.
TEST(AreaTest, OnlyRseqCsOfTheKernelsAreaChanges) {
  free(malloc(1));
  tcx_rseq_area *area = tcx_thread.area;
  if (area->cpu_id < 0)
    GTEST_SKIP() << "this machine registers no area";
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  int cpu = sched_getcpu();
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0)
    GTEST_SKIP() << "the thread cannot be tied to a CPU";
  tcx_rseq_area expected = *area;
  EXPECT_EQ(expected.cpu_id, cpu);
  EXPECT_EQ(expected.cpu_id_start, static_cast<uint32_t>(cpu));
  std::mt19937_64 random(2);
  std::vector<void *> objects;
  objects.reserve(20000);
  bool ran = false;
  for (int i = 0; i < kTurns / 2; i++) {
    Turn(random, objects);
    tcx_rseq_area now = *area;
    ran |= now.rseq_cs != 0;
    expected.rseq_cs = now.rseq_cs;
    // The kernel may give the thread another one at any time.
    EXPECT_GE(now.mm_cid, 0);
    EXPECT_LT(now.mm_cid, TCX_PERCPU_MAX);
    expected.mm_cid = now.mm_cid;
    ASSERT_EQ(memcmp(&now, &expected, sizeof now), 0) << "after turn " << i;
  }
  EXPECT_TRUE(ran);
  Empty(objects);
  EXPECT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

}  // namespace

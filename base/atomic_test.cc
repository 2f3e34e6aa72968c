// atomic_test.cc -- the macros keep type and value, and are atomic.
//
// Method: values; then two threads that add to one word.
#include "base/atomic.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <thread>
#include <type_traits>

namespace {

TEST(AtomicTest, LoadKeepsTheType) {
  uint16_t small = 7;
  const uint64_t *pointer = nullptr;
  static_assert(
      std::is_same<decltype(tcx_atomic_load_relaxed(&small)), uint16_t>::value,
      "uint16_t stays uint16_t");
  EXPECT_EQ(tcx_atomic_load_acquire(&small), 7);
  EXPECT_EQ(tcx_atomic_load_relaxed(&pointer), nullptr);
}

TEST(AtomicTest, ExchangeReturnsTheOldValue) {
  uint32_t word = 1;
  EXPECT_EQ(tcx_atomic_exchange_acquire(&word, 2u), 1u);
  EXPECT_EQ(tcx_atomic_exchange_release(&word, 3u), 2u);
  EXPECT_EQ(tcx_atomic_exchange_relaxed(&word, 4u), 3u);
  EXPECT_EQ(word, 4u);
}

TEST(AtomicTest, CasTellsWhatItFound) {
  uint32_t word = 5;
  uint32_t expected = 4;
  EXPECT_FALSE(tcx_atomic_cas_acquire(&word, &expected, 6u));
  EXPECT_EQ(expected, 5u);
  EXPECT_TRUE(tcx_atomic_cas_relaxed(&word, &expected, 6u));
  EXPECT_EQ(word, 6u);
}

TEST(AtomicTest, CounterAdds) {
  uint64_t counter = 40;
  tcx_counter_add(&counter, 2);
  EXPECT_EQ(counter, 42u);
}

TEST(AtomicTest, FetchAddLosesNothing) {
  uint64_t sum = 0;
  const int kRounds = 100000;
  auto add = [&sum] {
    for (int i = 0; i < kRounds; i++) {
      tcx_atomic_fetch_add_relaxed(&sum, uint64_t{3});
      tcx_atomic_fetch_sub_relaxed(&sum, uint64_t{2});
    }
  };
  std::thread a(add);
  std::thread b(add);
  a.join();
  b.join();
  EXPECT_EQ(sum, uint64_t{2 * kRounds});
}

}  // namespace

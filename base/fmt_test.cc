// fmt_test.cc -- formatting agrees with snprintf.
//
// Method: the same format and value to both, for chosen and for random values,
// widths and buffer sizes.
#include "base/fmt.h"

#include <gtest/gtest.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <random>
#include <string>

namespace {

template <typename... Args>
std::string Ours(size_t capacity, const char *format, Args... args) {
  char buffer[256];
  EXPECT_LE(capacity + 1, sizeof(buffer));
  buffer[capacity] = '#';
  struct tcx_fmt out;
  tcx_fmt_init(&out, buffer, capacity);
  tcx_fmt_add(&out, format, args...);
  EXPECT_EQ(buffer[capacity], '#') << "wrote past the end";
  if (capacity == 0)
    return "";
  EXPECT_EQ(out.bytes, strlen(buffer));
  return buffer;
}

template <typename... Args>
std::string Theirs(size_t capacity, const char *format, Args... args) {
  char buffer[256] = "";
  snprintf(buffer, capacity, format, args...);
  return buffer;
}

#define EXPECT_SAME(capacity, ...) \
  EXPECT_EQ(Ours(capacity, __VA_ARGS__), Theirs(capacity, __VA_ARGS__))

TEST(FmtTest, EdgeValues) {
  EXPECT_SAME(200, "%d|%d|%d|%d", 0, -1, INT_MAX, INT_MIN);
  EXPECT_SAME(200, "%u|%u|%x", 0u, UINT_MAX, UINT_MAX);
  EXPECT_SAME(200, "%ld|%ld|%lu|%lx", LONG_MIN, LONG_MAX, ULONG_MAX, 10ul);
  EXPECT_SAME(200, "%lld|%llu|%llx", LLONG_MIN, ULLONG_MAX, ULLONG_MAX);
  EXPECT_SAME(200, "%zu|%zx", SIZE_MAX, SIZE_MAX);
  int local = 0;
  EXPECT_SAME(200, "%p|%20p|%-20p|", (void *)&local, (void *)&local,
              (void *)&local);
  EXPECT_SAME(200, "100%%|%s|%10s|%-10s|%c%3c", "text", "right", "left", 'x',
              'y');
  EXPECT_EQ(Ours(200, "%p", (void *)nullptr), "0x0");
  EXPECT_EQ(Ours(200, "%s", (const char *)nullptr), "(null)");
}

TEST(FmtTest, RandomValuesAndWidths) {
  std::mt19937_64 random(1);
  const char *const kLengths[] = {"", "l", "ll"};
  for (int i = 0; i < 20000; i++) {
    std::string format = "<%";
    format += std::string(random() % 3 == 0 ? "0" : "");
    format += std::string(random() % 5 == 0 ? "-" : "");
    if (random() % 2)
      format += std::to_string(1 + random() % 30);
    unsigned longs = random() % 3;
    format += kLengths[longs];
    format += "dux"[random() % 3];
    format += ">";
    uint64_t value = random() >> (random() % 64);
    if (random() % 2)
      value = 0 - value;
    size_t capacity = random() % 8 ? 200 : random() % 40;
    if (longs == 0) {
      EXPECT_SAME(capacity, format.c_str(), static_cast<unsigned>(value));
    } else {
      EXPECT_SAME(capacity, format.c_str(), value);
    }
  }
}

TEST(FmtTest, CutsOffAndStaysTerminated) {
  for (size_t capacity = 0; capacity < 20; capacity++) {
    EXPECT_SAME(capacity, "abc%5dxyz%s", -42, "tail");
  }
}

TEST(FmtTest, HugeWidthEnds) {
  EXPECT_EQ(Ours(10, "%999999999d", 1), "         ");
}

TEST(FmtTest, AddsAtTheEnd) {
  char buffer[16];
  struct tcx_fmt out;
  tcx_fmt_init(&out, buffer, sizeof(buffer));
  EXPECT_STREQ(buffer, "");
  tcx_fmt_add(&out, "a=%d", 1);
  tcx_fmt_add(&out, " b=%d", 2);
  EXPECT_STREQ(buffer, "a=1 b=2");
  EXPECT_EQ(out.bytes, 7u);
}

}  // namespace

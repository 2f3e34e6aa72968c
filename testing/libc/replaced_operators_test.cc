// replaced_operators_test.cc -- a program replaces some operators only.
//
// Method: plain new and delete are this file's; they keep a header before each
//   object, so any default form that did not go through them would crash tcx or
//   break the count. The forms that the standard defines by the plain ones are
//   all called.
#include <stdlib.h>

#include <new>

#include "gtest/gtest.h"
#include "testing/libc/support.h"

// What it warns of is the point of the test.
#pragma GCC diagnostic ignored "-Wsized-deallocation"

namespace {
constexpr size_t kHeader = 32;
long live;
long calls;
}  // namespace

void *operator new(size_t size) {
  char *block = static_cast<char *>(malloc(size + kHeader));
  if (block == nullptr)
    throw std::bad_alloc();
  live++;
  calls++;
  return block + kHeader;
}

void operator delete(void *pointer) noexcept {
  if (pointer == nullptr)
    return;
  live--;
  free(static_cast<char *>(pointer) - kHeader);
}

namespace {

TEST(ReplacedOperatorsTest, DefaultsGoThroughTheReplacement) {
  for (size_t size :
       {size_t{1}, size_t{64}, size_t{1000}, size_t{300000}, size_t{5} << 20}) {
    long live_before = live;
    long calls_before = calls;
    void *objects[] = {::operator new(size),
                       ::operator new[](size),
                       ::operator new(size, std::nothrow),
                       ::operator new[](size, std::nothrow),
                       ::operator new(size),
                       ::operator new[](size)};
    EXPECT_EQ(calls, calls_before + 6);
    for (void *object : objects)
      Fill(object, size, 0x99);
    ::operator delete(objects[0], size);
    ::operator delete[](objects[1]);
    ::operator delete(objects[2], std::nothrow);
    ::operator delete[](objects[3], std::nothrow);
    ::operator delete(objects[4]);
    ::operator delete[](objects[5], size);
    EXPECT_EQ(live, live_before);
  }
}

TEST(ReplacedOperatorsTest, AlignedFormsStayOurs) {
  long calls_before = calls;
  const auto align = std::align_val_t{64};
  ::operator delete(Keep(::operator new(100, align)), align);
  ::operator delete[](Keep(::operator new[](100, align)), 100, align);
  EXPECT_EQ(calls, calls_before);
}

}  // namespace

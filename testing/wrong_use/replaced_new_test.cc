// replaced_new_test.cc -- a program whose operator new makes more than it is
// asked for, and which leaves every delete to tcx: a sized delete must not take
// the size for wrong.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <new>

namespace {
long calls;
}  // namespace

void *operator new(size_t size) {
  calls++;
  void *object = malloc(2 * size + 100);
  if (object == nullptr)
    throw std::bad_alloc();
  return object;
}

void *operator new(size_t size, std::align_val_t align) {
  calls++;
  size_t unit = static_cast<size_t>(align);
  void *object = aligned_alloc(unit, (2 * size + unit) / unit * unit);
  if (object == nullptr)
    throw std::bad_alloc();
  return object;
}

namespace {

TEST(ReplacedNewTest, SizedDeleteBelievesThePage) {
  constexpr std::align_val_t kAlign{64};
  for (size_t size = 1; size < (16 << 20); size += size / 2 + 1) {
    long before = calls;
    operator delete(operator new(size), size);
    operator delete[](operator new[](size), size);
    operator delete(operator new(size, kAlign), size, kAlign);
    operator delete[](operator new[](size, kAlign), size, kAlign);
    EXPECT_EQ(calls, before + 4);
  }
}

}  // namespace

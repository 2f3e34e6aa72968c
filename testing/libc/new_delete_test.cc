// new_delete_test.cc -- every operator new and delete of C++17.
//
// Method: all forms are called by name at all kinds of sizes and alignments;
//   a new_handler counts its calls, frees memory, throws or goes away.
// Method: failure is a size that no machine has, so no limit is needed.
#include <malloc.h>
#include <stdlib.h>

#include <new>
#include <vector>

#include "gtest/gtest.h"
#include "testing/libc/support.h"

namespace {

constexpr size_t kSizes[] = {0,      1,      16,      100,     4096,
                             100000, 262144, 1 << 20, 4 << 20, 6 << 20};
constexpr size_t kTooLarge = size_t{1} << 60;

void *Use(void *object, size_t size) {
  EXPECT_NE(object, nullptr);
  EXPECT_TRUE(IsAligned(object, 16));
  EXPECT_GE(malloc_usable_size(object), size);
  Fill(object, size, 0x3c);
  return Keep(object);
}

TEST(NewDeleteTest, PlainAndArray) {
  for (size_t size : kSizes) {
    ::operator delete(Use(::operator new(Opaque(size)), size));
    ::operator delete(Use(::operator new(Opaque(size)), size), size);
    ::operator delete(Use(::operator new(Opaque(size)), size), std::nothrow);
    ::operator delete[](Use(::operator new[](Opaque(size)), size));
    ::operator delete[](Use(::operator new[](Opaque(size)), size), size);
    ::operator delete[](Use(::operator new[](Opaque(size)), size),
                        std::nothrow);
    ::operator delete(Use(::operator new(Opaque(size), std::nothrow), size));
    ::operator delete[](
        Use(::operator new[](Opaque(size), std::nothrow), size));
  }
  ::operator delete(nullptr);
  ::operator delete[](nullptr);
  ::operator delete (nullptr, size_t{8});
  ::operator delete[](nullptr, size_t{1} << 20);
}

TEST(NewDeleteTest, Aligned) {
  for (size_t align = 1; align <= (1 << 21); align *= 2) {
    const auto al = static_cast<std::align_val_t>(align);
    for (size_t size : kSizes) {
      const auto check = [&](void *object) {
        EXPECT_TRUE(IsAligned(object, align)) << align << " " << size;
        return Use(object, size);
      };
      ::operator delete(check(::operator new(Opaque(size), al)), al);
      ::operator delete(check(::operator new(Opaque(size), al)), size, al);
      ::operator delete(check(::operator new(Opaque(size), al)), al,
                        std::nothrow);
      ::operator delete[](check(::operator new[](Opaque(size), al)), al);
      ::operator delete[](check(::operator new[](Opaque(size), al)), size, al);
      ::operator delete[](check(::operator new[](Opaque(size), al)), al,
                          std::nothrow);
      ::operator delete(check(::operator new(Opaque(size), al, std::nothrow)),
                        al);
      ::operator delete[](
          check(::operator new[](Opaque(size), al, std::nothrow)), al);
    }
  }
  ::operator delete (nullptr, std::align_val_t{64});
  ::operator delete (nullptr, size_t{64}, std::align_val_t{64});
}

struct alignas(128) Wide {
  char bytes[200];
};

TEST(NewDeleteTest, Expressions) {
  for (int i = 0; i < 1000; i++) {
    std::vector<Wide> wide(3);
    auto *one = new Wide;
    auto *many = new Wide[5];
    EXPECT_TRUE(IsAligned(one, 128));
    EXPECT_TRUE(IsAligned(many, 128));
    delete one;
    delete[] many;
  }
}

TEST(NewDeleteTest, MallocAndNewAreOne) {
  free(Keep(::operator new(100)));
  ::operator delete(Keep(malloc(100)));
}

// All that can throw, and all that return nullptr instead.
void *Throwing(int form) {
  size_t size = Opaque(kTooLarge);
  const auto align = std::align_val_t{64};
  switch (form) {
    case 0:
      return ::operator new(size);
    case 1:
      return ::operator new[](size);
    case 2:
      return ::operator new(size, align);
    default:
      return ::operator new[](size, align);
  }
}

void *Nothrow(int form) {
  size_t size = Opaque(kTooLarge);
  const auto align = std::align_val_t{64};
  switch (form) {
    case 0:
      return ::operator new(size, std::nothrow);
    case 1:
      return ::operator new[](size, std::nothrow);
    case 2:
      return ::operator new(size, align, std::nothrow);
    default:
      return ::operator new[](size, align, std::nothrow);
  }
}

TEST(NewHandlerTest, NoneIsBadAllocOrNull) {
  ASSERT_EQ(std::get_new_handler(), nullptr);
  for (int form = 0; form < 4; form++) {
    EXPECT_THROW(Throwing(form), std::bad_alloc) << form;
    EXPECT_EQ(Nothrow(form), nullptr) << form;
  }
  EXPECT_THROW(Keep(::operator new(Opaque(SIZE_MAX))), std::bad_alloc);
  EXPECT_THROW(Keep(::operator new (Opaque(SIZE_MAX), std::align_val_t{4096})),
               std::bad_alloc);
}

TEST(NewHandlerTest, NoAlignmentIsBadAlloc) {
  for (size_t align : {size_t{0}, size_t{3}, size_t{96}}) {
    const auto al = static_cast<std::align_val_t>(Opaque(align));
    EXPECT_THROW(Keep(::operator new(8, al)), std::bad_alloc);
    EXPECT_EQ(::operator new(8, al, std::nothrow), nullptr);
  }
}

int handler_calls;

void CountThenGoAway() {
  if (++handler_calls == 5)
    std::set_new_handler(nullptr);
}

TEST(NewHandlerTest, IsCalledUntilThereIsNone) {
  for (int form = 0; form < 4; form++) {
    handler_calls = 0;
    std::set_new_handler(CountThenGoAway);
    EXPECT_THROW(Throwing(form), std::bad_alloc);
    EXPECT_EQ(handler_calls, 5);
    handler_calls = 0;
    std::set_new_handler(CountThenGoAway);
    EXPECT_EQ(Nothrow(form), nullptr);
    EXPECT_EQ(handler_calls, 5);
  }
}

struct FromHandler : std::bad_alloc {};

void Throw() {
  throw FromHandler();
}

TEST(NewHandlerTest, MayThrow) {
  std::set_new_handler(Throw);
  for (int form = 0; form < 4; form++) {
    EXPECT_THROW(Throwing(form), FromHandler);
  }
  std::set_new_handler(nullptr);
  // Nothing is left locked.
  ::operator delete(::operator new(8 << 20));
}

TEST(NewHandlerTest, MallocDoesNotCallIt) {
  handler_calls = 0;
  std::set_new_handler(CountThenGoAway);
  EXPECT_EQ(malloc(Opaque(kTooLarge)), nullptr);
  EXPECT_EQ(handler_calls, 0);
  std::set_new_handler(nullptr);
}

}  // namespace

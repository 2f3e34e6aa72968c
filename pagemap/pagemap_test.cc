// Tests of pagemap/pagemap.c.
//
// Method: spans at addresses inside and outside the window, none of which is
// mapped: the pagemap never touches what it describes. One process-wide map, so
// each test uses address blocks of its own.

#include "pagemap/pagemap.h"

#include <gtest/gtest.h>

#include "base/bits.h"
#include "base/os.h"

namespace {

constexpr uintptr_t kWindow = UINT64_C(5) << TCX_PAGEMAP_WINDOW_SHIFT;
constexpr uintptr_t kOutside = UINT64_C(9) << TCX_PAGEMAP_WINDOW_SHIFT;

class PagemapTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    tcx_pagemap_set_window(kWindow);
  }

  static tcx_span SpanAt(uintptr_t address, uint32_t pages) {
    EXPECT_TRUE(tcx_pagemap_ensure(address, pages * TCX_PAGE_SIZE));
    tcx_span span = tcx_span();
    span.first_page = address >> TCX_PAGE_SHIFT;
    span.pages = pages;
    return span;
  }
  static void *At(uintptr_t address) {
    return reinterpret_cast<void *>(address);
  }
};

TEST_F(PagemapTest, UnknownAddressesHaveNoClassAndNoSpan) {
  const uintptr_t addresses[] = {0,
                                 1,
                                 kWindow + 12345,
                                 kOutside + (TCX_GIB << 3),
                                 UINT64_C(1) << 47,
                                 UINT64_C(1) << 48,
                                 ~UINT64_C(0)};
  for (uintptr_t a : addresses) {
    EXPECT_EQ(tcx_pagemap_class_byte(At(a)), 0u) << a;
    EXPECT_EQ(tcx_pagemap_span_of(At(a)), nullptr) << a;
  }
}

TEST_F(PagemapTest, RegisteredClassIsFoundOnEveryByteInAndOutsideTheWindow) {
  for (uintptr_t base : {kWindow + TCX_GIB, kOutside + TCX_GIB}) {
    tcx_span span = SpanAt(base, 5);
    tcx_pagemap_set_ends(&span);
    tcx_pagemap_register_class(&span, 7);
    for (uintptr_t p = base; p < base + 5 * TCX_PAGE_SIZE; p += 1000) {
      ASSERT_EQ(tcx_pagemap_class_byte(At(p)), 14u);
      ASSERT_EQ(tcx_pagemap_span_of(At(p)), &span);
    }
    EXPECT_EQ(tcx_pagemap_class_byte(At(base - 1)), 0u);
    EXPECT_EQ(tcx_pagemap_class_byte(At(base + 5 * TCX_PAGE_SIZE)), 0u);

    tcx_pagemap_unregister_class(&span);
    EXPECT_EQ(tcx_pagemap_class_byte(At(base)), 0u);
    EXPECT_EQ(tcx_pagemap_span_of(At(base)), &span);
    EXPECT_EQ(tcx_pagemap_span_of(At(base + 2 * TCX_PAGE_SIZE)), nullptr);
    EXPECT_EQ(tcx_pagemap_span_of(At(base + 4 * TCX_PAGE_SIZE)), &span);
    tcx_pagemap_clear_ends(&span);
    EXPECT_EQ(tcx_pagemap_span_of(At(base)), nullptr);
  }
}

TEST_F(PagemapTest, RunStateIsKnownWhereTheBlockStartsAndIsNoClass) {
  for (uintptr_t base : {kWindow + 3 * TCX_GIB, kOutside + 3 * TCX_GIB}) {
    tcx_span span = SpanAt(base, 3);
    unsigned state = TCX_RUN_CLASS_FIRST | TCX_PAGEMAP_RUN_CACHED;
    tcx_pagemap_set_run(At(base), state);
    EXPECT_EQ(tcx_pagemap_run(At(base)), state);
    EXPECT_EQ(tcx_pagemap_class_byte(At(base)), 0u);
    EXPECT_EQ(tcx_pagemap_run(At(base + TCX_PAGE_SIZE)), 0u);
    tcx_pagemap_set_run(At(base), 0);
    EXPECT_EQ(tcx_pagemap_run(At(base)), 0u);
    // The page index of a small object's page is no state.
    tcx_pagemap_register_class(&span, 7);
    EXPECT_EQ(tcx_pagemap_run(At(base + TCX_PAGE_SIZE)), 0u);
    tcx_pagemap_unregister_class(&span);
  }
  EXPECT_EQ(tcx_pagemap_run(nullptr), 0u);
  EXPECT_EQ(tcx_pagemap_run(At(~UINT64_C(0))), 0u);
}

TEST_F(PagemapTest, HiddenClassesHaveSpansButNoEntries) {
  tcx_pagemap_hide_classes(true);
  for (uintptr_t base : {kWindow + 2 * TCX_GIB, kOutside + 2 * TCX_GIB}) {
    tcx_span span = SpanAt(base, 3);
    tcx_pagemap_register_class(&span, 7);
    for (uintptr_t p = base; p < base + 3 * TCX_PAGE_SIZE; p += 1000) {
      ASSERT_EQ(tcx_pagemap_class_byte(At(p)), 0u);
      ASSERT_EQ(tcx_pagemap_span_of(At(p)), &span);
    }
    tcx_pagemap_unregister_class(&span);
    EXPECT_EQ(tcx_pagemap_span_of(At(base + TCX_PAGE_SIZE)), nullptr);
  }
  tcx_pagemap_hide_classes(false);
}

TEST_F(PagemapTest, SpanAcrossTwoLeavesIsFoundInBoth) {
  uintptr_t base = kOutside + 5 * TCX_GIB - 2 * TCX_PAGE_SIZE;
  tcx_span span = SpanAt(base, 4);
  tcx_pagemap_register_class(&span, 3);
  EXPECT_EQ(tcx_pagemap_class_byte(At(base)), 6u);
  EXPECT_EQ(tcx_pagemap_class_byte(At(base + 3 * TCX_PAGE_SIZE)), 6u);
  EXPECT_EQ(tcx_pagemap_span_of(At(base + 3 * TCX_PAGE_SIZE)), &span);
  tcx_pagemap_unregister_class(&span);
}

intptr_t NoMemory(void *, size_t, int, int) {
  return -12;
}

TEST_F(PagemapTest, SpanAroundFindsTheMiddleOfASpanKnownByItsEnds) {
  for (uintptr_t base : {kWindow + 8 * TCX_GIB, kOutside + 10 * TCX_GIB}) {
    const uint32_t pages = 1000;
    const uintptr_t end = base + pages * TCX_PAGE_SIZE;
    tcx_span span = SpanAt(base, pages);
    tcx_pagemap_set_ends(&span);
    for (uintptr_t p : {base, base + 5 * TCX_PAGE_SIZE, end - 1}) {
      EXPECT_EQ(tcx_pagemap_span_around(At(p)), &span);
    }
    // Its neighbour above, and what has no leaf below.
    EXPECT_EQ(tcx_pagemap_span_around(At(end)), nullptr);
    EXPECT_EQ(tcx_pagemap_span_around(At(base - 1)), nullptr);
    tcx_pagemap_clear_ends(&span);
    EXPECT_EQ(tcx_pagemap_span_around(At(end - 1)), nullptr);
  }
  EXPECT_EQ(tcx_pagemap_span_around(nullptr), nullptr);
  EXPECT_EQ(tcx_pagemap_span_around(At(~UINT64_C(0))), nullptr);
}

TEST_F(PagemapTest, NotedHugePageIsFreeMemoryWhereThereIsNoSpan) {
  for (uintptr_t base : {kWindow + 12 * TCX_GIB, kOutside + 14 * TCX_GIB}) {
    const uintptr_t middle = base + 7 * TCX_HUGE_PAGE_SIZE / 2;
    const uint64_t huge = middle >> TCX_HUGE_PAGE_SHIFT;
    EXPECT_EQ(tcx_pagemap_huge_note(huge), nullptr);
    // No leaf yet; then one.
    ASSERT_TRUE(tcx_pagemap_ensure(base, TCX_GIB));
    EXPECT_EQ(tcx_pagemap_span_around(At(middle)), nullptr);
    char note;
    tcx_pagemap_set_huge_note(huge, &note);
    EXPECT_EQ(tcx_pagemap_huge_note(huge), &note);
    EXPECT_EQ(tcx_pagemap_huge_note(huge + 1), nullptr);
    const tcx_span *found = tcx_pagemap_span_around(At(middle));
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->state, TCX_SPAN_FREE);
    // Where there is one, it is found all the same.
    tcx_span span = SpanAt(tcx_align_down(middle, TCX_PAGE_SIZE), 1);
    tcx_pagemap_set_ends(&span);
    EXPECT_EQ(tcx_pagemap_span_around(At(middle)), &span);
    tcx_pagemap_clear_ends(&span);
    tcx_pagemap_set_huge_note(huge, nullptr);
  }
}

TEST_F(PagemapTest, EnsureWithoutMemoryFailsAndLaterSucceeds) {
  tcx_os_calls broken = tcx_os_linux;
  broken.mmap = NoMemory;
  uintptr_t base = kOutside + 40 * TCX_GIB;
  tcx_os_install(&broken);
  EXPECT_FALSE(tcx_pagemap_ensure(base, TCX_PAGE_SIZE));
  tcx_os_install(&tcx_os_linux);
  EXPECT_TRUE(tcx_pagemap_ensure(base, TCX_PAGE_SIZE));
}

}  // namespace

// system_allocator_test.cc -- where memory comes from, on systems of all kinds.
//
// Method: each case in a child process of its own, because the window is
// chosen once; tables of system calls that fail or have limits; a model of the
// pieces that were handed out.
#include "backend/system_allocator.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>

#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

namespace {

// Runs `body` in a child; TCX_CHECK in it stops the child.
void InChild(void (*body)()) {
  EXPECT_EXIT(
      {
        body();
        tcx_system_check();
        _exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

tcx_system_stats Stats() {
  tcx_system_stats stats;
  tcx_system_read_stats(&stats);
  return stats;
}

bool IsInWindow(const void *at) {
  return tcx_pagemap_window_page(&tcx_pagemap_window, at) <
         tcx_pagemap_window.pages;
}

// Pieces never overlap, are aligned, zero and writable.
void Take(size_t bytes, std::map<char *, size_t> *model) {
  tcx_system_piece piece = tcx_system_allocate(bytes);
  TCX_CHECK(piece.start != nullptr);
  TCX_CHECK(piece.bytes >= bytes);
  TCX_CHECK(piece.bytes % TCX_PAGE_SIZE == 0);
  TCX_CHECK(reinterpret_cast<uintptr_t>(piece.start) % TCX_PAGE_SIZE == 0);
  auto after = model->lower_bound(piece.start);
  TCX_CHECK(after == model->end() || piece.start + piece.bytes <= after->first);
  if (after != model->begin()) {
    --after;
    TCX_CHECK(after->first + after->second <= piece.start);
  }
  TCX_CHECK(piece.start[0] == 0 && piece.start[piece.bytes - 1] == 0);
  piece.start[0] = 1;
  piece.start[piece.bytes - 1] = 1;
  (*model)[piece.start] = piece.bytes;
}

// -- The normal case ----------------------------------------------------------

TEST(SystemAllocatorTest, WindowIsReservedAndPiecesAreNeighbours) {
  InChild([] {
    tcx_system_start();
    TCX_CHECK(Stats().reserved_bytes == TCX_PAGEMAP_WINDOW_BYTES);
    TCX_CHECK(Stats().committed_bytes == 0);
    char *end = nullptr;
    for (int i = 0; i < 20; i++) {
      tcx_system_piece piece = tcx_system_allocate(3 * TCX_PAGE_SIZE);
      TCX_CHECK(IsInWindow(piece.start));
      TCX_CHECK(end == nullptr || piece.start == end);
      TCX_CHECK(piece.bytes >= TCX_MIB);
      end = piece.start + piece.bytes;
    }
    TCX_CHECK(Stats().regions == 1);
  });
}

TEST(SystemAllocatorTest, StepsGrowWithTheHeapToALimit) {
  InChild([] {
    tcx_system_start();
    size_t last = 0;
    for (int i = 0; i < 120; i++) {
      size_t bytes = tcx_system_allocate(TCX_PAGE_SIZE).bytes;
      TCX_CHECK(bytes >= last);
      last = bytes;
    }
    TCX_CHECK(last == 32 * TCX_MIB);
  });
}

TEST(SystemAllocatorTest, RandomPiecesDoNotOverlap) {
  InChild([] {
    tcx_system_start();
    std::mt19937 random(5);
    std::map<char *, size_t> model;
    uint64_t sum = 0;
    for (int i = 0; i < 200; i++) {
      Take(1 + random() % (size_t{1} << (10 + random() % 15)), &model);
    }
    for (auto &piece : model) {
      sum += piece.second;
    }
    TCX_CHECK(sum == Stats().committed_bytes);
  });
}

TEST(SystemAllocatorTest, AbsurdRequestsGiveNull) {
  InChild([] {
    tcx_system_start();
    errno = 4711;
    for (size_t bytes :
         {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 47, (size_t{1} << 46) + 1}) {
      TCX_CHECK(tcx_system_allocate(bytes).start == nullptr);
    }
    TCX_CHECK(errno == 4711);
    TCX_CHECK(tcx_system_allocate(1).start != nullptr);
  });
}

// -- Systems that refuse ------------------------------------------------------

size_t largest_mapping;
size_t largest_commit;
size_t address_space_limit;
size_t mapped;

intptr_t LimitedMmap(void *at, size_t bytes, int protection, int flags) {
  if (bytes > largest_mapping) {
    return -ENOMEM;
  }
  return tcx_os_linux.mmap(at, bytes, protection, flags);
}

intptr_t LimitedMprotect(void *at, size_t bytes, int protection) {
  if (bytes > largest_commit) {
    return -ENOMEM;
  }
  return tcx_os_linux.mprotect(at, bytes, protection);
}

tcx_os_calls limited = tcx_os_linux;

TEST(SystemAllocatorTest, WindowIsHalvedWhileTheSystemRefuses) {
  InChild([] {
    limited.mmap = LimitedMmap;
    largest_mapping = TCX_PAGEMAP_WINDOW_BYTES / 4;
    tcx_os_install(&limited);
    tcx_system_start();
    TCX_CHECK(Stats().reserved_bytes == TCX_PAGEMAP_WINDOW_BYTES / 8);
    TCX_CHECK(IsInWindow(tcx_system_allocate(1).start));
  });
}

TEST(SystemAllocatorTest, NoReservationAtAll) {
  InChild([] {
    limited.mmap = LimitedMmap;
    largest_mapping = 8 * TCX_MIB;
    tcx_os_install(&limited);
    tcx_system_start();
    TCX_CHECK(Stats().reserved_bytes == 0);
    std::map<char *, size_t> model;
    for (int i = 0; i < 40; i++) {
      Take(TCX_MIB, &model);
      TCX_CHECK(IsInWindow(model.begin()->first));
    }
    TCX_CHECK(Stats().reserved_bytes - Stats().committed_bytes <= 4 * TCX_MIB);
    // As address space is had in pieces, only a part of it is one region.
    TCX_CHECK(tcx_system_allocate(100 * TCX_MIB).start == nullptr);
    Take(5 * TCX_MIB, &model);
  });
}

TEST(SystemAllocatorTest, NoMappingsAtAll) {
  InChild([] {
    limited.mmap = LimitedMmap;
    largest_mapping = 0;
    tcx_os_install(&limited);
    tcx_system_start();
    TCX_CHECK(tcx_system_allocate(1).start == nullptr);
    tcx_os_install(&tcx_os_linux);
    TCX_CHECK(tcx_system_allocate(1).start != nullptr);
  });
}

TEST(SystemAllocatorTest, CommitFallsBackToTheExactSize) {
  InChild([] {
    tcx_system_start();
    limited.mprotect = LimitedMprotect;
    largest_commit = TCX_PAGE_SIZE;
    tcx_os_install(&limited);
    TCX_CHECK(tcx_system_allocate(TCX_PAGE_SIZE).bytes == TCX_PAGE_SIZE);
    TCX_CHECK(tcx_system_allocate(TCX_PAGE_SIZE + 1).start == nullptr);
    TCX_CHECK(Stats().committed_bytes == TCX_PAGE_SIZE);
    largest_commit = SIZE_MAX;
    TCX_CHECK(tcx_system_allocate(TCX_PAGE_SIZE + 1).bytes >= TCX_MIB);
  });
}

TEST(SystemAllocatorTest, FiniteLimitReservesNothingAhead) {
  InChild([] {
    limited.mmap = [](void *at, size_t bytes, int protection,
                      int flags) -> intptr_t {
      if (mapped + bytes > address_space_limit) {
        return -ENOMEM;
      }
      mapped += bytes;
      return tcx_os_linux.mmap(at, bytes, protection, flags);
    };
    limited.munmap = [](void *at, size_t bytes) -> intptr_t {
      mapped -= bytes;
      return tcx_os_linux.munmap(at, bytes);
    };
    limited.address_space_limit = [] { return address_space_limit; };
    address_space_limit = 256 * TCX_MIB;
    tcx_os_install(&limited);
    tcx_system_start();
    TCX_CHECK(mapped == 0);
    std::map<char *, size_t> model;
    Take(1, &model);
    TCX_CHECK(mapped == 2 * TCX_MIB);
    TCX_CHECK(IsInWindow(model.begin()->first));
    for (int i = 0; i < 100; i++) {
      Take(TCX_MIB, &model);
    }
    // By hint upwards: one region, all in the window, nothing wasted.
    TCX_CHECK(Stats().regions == 1);
    TCX_CHECK(IsInWindow(model.rbegin()->first));
    TCX_CHECK(mapped - Stats().committed_bytes <= 4 * TCX_MIB);
    // To the last of the limit, then NULL.
    size_t total = 0;
    while (tcx_system_allocate(TCX_PAGE_SIZE).start != nullptr) {
      total++;
    }
    TCX_CHECK(Stats().committed_bytes >= 250 * TCX_MIB);
    TCX_CHECK(mapped <= address_space_limit);
  });
}

TEST(SystemAllocatorTest, RealLimit) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's shadow exceeds any limit";
#endif
  InChild([] {
    rlimit limit = {512 * TCX_MIB, 512 * TCX_MIB};
    TCX_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    tcx_system_start();
    std::map<char *, size_t> model;
    for (int i = 0; i < 100; i++) {
      Take(TCX_MIB, &model);
    }
    TCX_CHECK(tcx_system_allocate(TCX_GIB).start == nullptr);
    Take(100 * TCX_MIB, &model);
  });
}

// -- Beyond the window, other page sizes --------------------------------------

TEST(SystemAllocatorTest, RegionsBeyondASmallWindow) {
  InChild([] {
    limited.mmap = LimitedMmap;
    largest_mapping = 160 * TCX_MIB;  // for a window of 64 MiB
    tcx_os_install(&limited);
    tcx_system_start();
    TCX_CHECK(Stats().reserved_bytes == 64 * TCX_MIB);
    largest_mapping = SIZE_MAX;
    std::map<char *, size_t> model;
    for (int i = 0; i < 40; i++) {
      Take(TCX_MIB, &model);
    }
    uint64_t reserved = Stats().reserved_bytes;
    TCX_CHECK(reserved == 64 * TCX_MIB + TCX_GIB);
    Take(3 * TCX_GIB, &model);
    Take(TCX_MIB, &model);
  });
}

TEST(SystemAllocatorTest, LargePagesOfTheSystem) {
  InChild([] {
    limited.page_size = [] { return size_t{65536}; };
    tcx_os_install(&limited);
    tcx_system_start();
    for (int i = 0; i < 10; i++) {
      tcx_system_piece piece = tcx_system_allocate(1);
      TCX_CHECK(piece.bytes % 65536 == 0);
      TCX_CHECK(reinterpret_cast<uintptr_t>(piece.start) % 65536 == 0);
    }
  });
}

}  // namespace

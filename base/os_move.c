// os_move.c -- moves the pages of one range to another, and where the kernel
// stops half-way, copies what is left.
//
// PLACE IN THE SYSTEM
//   libc/large.c (realloc) -> os_move.c -> os.h, one call at a time.
//
// WHAT THE KERNEL DOES
//   mremap (MREMAP_FIXED, MREMAP_DONTUNMAP) unmaps the target, moves the page
//   tables there and leaves the source mapped and empty. It may fail before all
//   that, or with the target unmapped already. Over several mappings:
//     before 6.17  it unmaps the target, and then says EFAULT;
//     from 6.17    it moves them one after another. Where one fails (ENOMEM
//                  near vm.max_map_count), those before it stay moved, its own
//                  target is a hole, the targets of the rest are as before.
//
// WHAT IS DONE ABOUT IT
//   tcx changes the advice of whole huge pages only. So the range is moved huge
//   page by huge page: each piece is one mapping, unless the program split it
//   (mlock, MADV_DONTDUMP on a part of its block).
//   The target is emptied before. After a piece has failed, each page of it is
//     untouched   source: data  target: zero
//     a hole      source: data  target: nothing, filled with a zero page now
//     moved       source: zero  target: data.
//   The kernel does not say which, and nobody need know: where the source is
//   not zero, it is copied. What follows that piece is copied too. Reading the
//   source may give zero pages memory; it goes back piece by piece, so that a
//   copy takes 2 MiB at a time more than a move.
//   Where a hole cannot be filled, the same works from the target to the
//   source; the target has a hole then until its owner can fill it.
//
// INVARIANTS
//   I1. Of each page at most one of source and target is not zero, until it is
//       copied; the first to be cleared is never the only one with the data.
//   I2. What was found to be a hole and could not be filled is neither read,
//       written nor unmapped: another thread's mapping may lie there by now.
//       (One that took the hole before it was looked at, between two system
//       calls, nothing can tell from ours.)
//
// Swapped pages move as they are. Locked ones stay locked if they are moved,
// not if they are copied. Should memory end while copying, the kernel does what
// it does to whoever writes to a page.
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/check.h"
#include "base/config.h"
#include "base/os.h"
#include "base/syscall.h"

// The smallest page of any system gives the most of them in a huge page.
#define PIECE_PAGES_MAX (TCX_HUGE_PAGE_SIZE / 4096)

typedef uint64_t word __attribute__((may_alias));

// Up to the next huge page.
static size_t piece_at(const char *start, size_t bytes) {
  size_t offset = (uintptr_t)start & (TCX_HUGE_PAGE_SIZE - 1);
  return tcx_min_size(TCX_HUGE_PAGE_SIZE - offset, bytes);
}

static bool is_zero(const char *page, size_t bytes) {
  const word *words = (const word *)(const void *)page;
  for (size_t i = 0; i < bytes / sizeof(word); i += 8) {
    word any = 0;
    for (size_t j = 0; j < 8; j++)
      any |= words[i + j];
    if (any != 0)
      return false;
  }
  return true;
}

// Zero pages are left out: what is there instead may be data that was moved.
static void copy_nonzero(char *to, const char *from, size_t bytes) {
  size_t page = tcx_os_page_size();
  for (size_t at = 0; at < bytes; at += page) {
    if (!is_zero(from + at, page))
      memcpy(to + at, from + at, page);
  }
}

// Not by trying to map there: where a process has all the mappings it may have,
// that fails the same whether something is there or not.
static bool is_unmapped(const char *page) {
  unsigned char is_resident;
  intptr_t result;
  do {
    result =
        tcx_syscall3(SYS_mincore, (intptr_t)page, 1, (intptr_t)&is_resident);
  } while (result == -EAGAIN);
  return result == -ENOMEM;
}

// Maps what is missing of a piece. False: what `is_hole` still names is.
static bool fill_holes(char *start, size_t pages, bool *is_hole) {
  size_t page = tcx_os_page_size();
  for (size_t i = 0; i < pages; i++)
    is_hole[i] = is_unmapped(start + i * page);
  size_t end;
  for (size_t i = 0; i < pages; i = end) {
    end = i + 1;
    if (!is_hole[i])
      continue;
    while (end < pages && is_hole[end])
      end++;
    if (tcx_os_restore(start + i * page, (end - i) * page) != 0)
      return false;
    memset(is_hole + i, 0, (end - i) * sizeof(*is_hole));
  }
  return true;
}

// Back to the source, as far as the target has it, and no memory behind that.
static void move_back(char *from, char *to, size_t bytes) {
  if (bytes == 0)
    return;
  copy_nonzero(from, to, bytes);
  (void)tcx_os_advise(to, bytes, MADV_DONTNEED);
}

// The same for the piece that failed. What is ours between two holes becomes a
// part of one, which is all that is missing of the target.
static void undo_piece(char *from, char *to, size_t pages, const bool *is_hole,
                       struct tcx_os_hole *lost) {
  size_t page = tcx_os_page_size();
  size_t first = pages;
  size_t end = 0;
  for (size_t i = 0; i < pages; i++) {
    if (is_hole[i]) {
      first = tcx_min_size(first, i);
      end = i + 1;
    } else {
      move_back(from + i * page, to + i * page, page);
    }
  }
  for (size_t i = first; i < end; i++) {
    if (!is_hole[i])
      (void)tcx_os_unmap(to + i * page, page);
  }
  *lost = (struct tcx_os_hole){to + first * page, (end - first) * page};
}

// All data back to the source. `done` bytes were moved, and of the piece behind
// them what nobody knows.
static void undo(char *from, char *to, size_t bytes, size_t done,
                 const bool *is_hole, struct tcx_os_hole *lost) {
  size_t piece;
  for (size_t at = 0; at < done; at += piece) {
    piece = piece_at(from + at, done - at);
    move_back(from + at, to + at, piece);
  }
  piece = piece_at(from + done, bytes - done);
  undo_piece(from + done, to + done, piece / tcx_os_page_size(), is_hole, lost);
}

// The piece behind `done` bytes could not be moved, or not all of it.
static TCX_NOINLINE int copy_rest(char *from, char *to, size_t bytes,
                                  size_t done, struct tcx_os_hole *lost) {
  bool is_hole[PIECE_PAGES_MAX] = {false};
  size_t piece = piece_at(from + done, bytes - done);
  size_t pages = piece / tcx_os_page_size();
  TCX_ASSERT(pages <= PIECE_PAGES_MAX);
  if (!fill_holes(to + done, pages, is_hole)) {
    undo(from, to, bytes, done, is_hole, lost);
    return TCX_OS_TARGET_LOST;
  }
  int result = 0;
  for (; done < bytes; done += piece) {
    piece = piece_at(from + done, bytes - done);
    copy_nonzero(to + done, from + done, piece);
    if (tcx_os_release(from + done, piece) != 0) {
      memset(from + done, 0, piece);
      result = TCX_OS_COPIED;
    }
  }
  return result;
}

int tcx_os_move(void *source, void *target, size_t bytes,
                struct tcx_os_hole *lost) {
  char *from = (char *)source;
  char *to = (char *)target;
  TCX_ASSERT(tcx_is_aligned(bytes, tcx_os_page_size()));
  TCX_ASSERT(
      tcx_is_aligned((uintptr_t)from - (uintptr_t)to, TCX_HUGE_PAGE_SIZE));
  int error = tcx_os_release(to, bytes);
  if (error != 0)
    return error;
  size_t piece;
  for (size_t done = 0; done < bytes; done += piece) {
    piece = piece_at(from + done, bytes - done);
    if (TCX_UNLIKELY(tcx_os_remap(from + done, to + done, piece) != 0))
      return copy_rest(from, to, bytes, done, lost);
  }
  return 0;
}

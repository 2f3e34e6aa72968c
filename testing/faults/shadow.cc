// shadow.cc -- see shadow.h.
#include "testing/faults/shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "testing/faults/machine.h"

namespace tcx {
namespace testing {

bool Shadow::any_may_fail;
unsigned long Shadow::refused;

namespace {

uint64_t next_stamp = 1;

// Blocks above this are stamped here and there only: memory is slow to get.
constexpr size_t kKib = 1 << 10;
constexpr size_t kMib = 1 << 20;
constexpr size_t kWholeBytes = kKib;

uint64_t Word(const Block &block, size_t offset) {
  return (block.stamp << 24 ^ offset) * 0x9e3779b97f4a7c15u;
}

size_t StrideOf(size_t bytes) {
  if (bytes <= kWholeBytes)
    return 8;
  if (bytes <= 16 * kKib)
    return 256;
  return bytes <= 16 * kMib ? 64 * kKib : kMib;
}

// Calls `visit` for the offsets of the words that hold a stamp.
template <typename Visit>
void ForEachWord(size_t bytes, Visit visit) {
  if (bytes < 8)
    return;
  size_t stride = StrideOf(bytes);
  for (size_t at = 0; at + 8 <= bytes; at += stride)
    visit(at);
  visit(bytes - 8);
}

void StampWord(const Block &block, size_t at) {
  // The last word may overlap the one before, and wins.
  uint64_t word = Word(block, at);
  __builtin_memcpy(block.start + at, &word, 8);
}

void Stamp(const Block &block) {
  if (block.bytes < 8)
    memset(block.start, static_cast<int>(block.stamp), block.bytes);
  ForEachWord(block.bytes, [&](size_t at) { StampWord(block, at); });
}

// The first `bytes` of the block; the end of it alone if it is all there.
void CheckStamps(const Block &block, size_t bytes, const char *what) {
  if (block.bytes < 8) {
    for (size_t i = 0; i < bytes; i++) {
      if (block.start[i] != static_cast<unsigned char>(block.stamp))
        Fail(what, reinterpret_cast<uintptr_t>(block.start));
    }
    return;
  }
  size_t last = block.bytes - 8;
  ForEachWord(block.bytes, [&](size_t at) {
    bool is_overwritten = at != last && at + 8 > last;
    if (is_overwritten || at + 8 > bytes)
      return;
    uint64_t word;
    __builtin_memcpy(&word, block.start + at, 8);
    if (word != Word(block, at))
      Fail(what, reinterpret_cast<uintptr_t>(block.start) + at);
  });
}

void CheckZero(const unsigned char *start, size_t bytes) {
  size_t stride = bytes <= kWholeBytes ? 1 : 512;
  for (size_t i = 0; i < bytes; i += stride) {
    if (start[i] != 0)
      Fail("calloc is not zero at", reinterpret_cast<uintptr_t>(start) + i);
  }
}

}  // namespace

bool Shadow::Add(void *pointer, size_t bytes, int error,
                 unsigned long injected) {
  if (pointer == nullptr) {
    __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
    if (error != ENOMEM)
      Fail("NULL without ENOMEM, but", static_cast<unsigned long>(error));
    if (!any_may_fail && MachineInjectedHere() == injected)
      Fail("NULL without a fault, for bytes", bytes);
    return false;
  }
  if (count_ == kMax)
    Fail("the shadow is full");
  uint64_t stamp = __atomic_fetch_add(&next_stamp, 1, __ATOMIC_RELAXED);
  blocks_[count_] = {static_cast<unsigned char *>(pointer), bytes, stamp};
  Stamp(blocks_[count_]);
  count_++;
  return true;
}

bool Shadow::Malloc(size_t bytes) {
  unsigned long injected = MachineInjectedHere();
  errno = 0;
  void *pointer = malloc(bytes);
  return Add(pointer, bytes, errno, injected);
}

bool Shadow::Calloc(size_t bytes) {
  unsigned long injected = MachineInjectedHere();
  errno = 0;
  void *pointer = calloc(1, bytes);
  if (pointer != nullptr)
    CheckZero(static_cast<unsigned char *>(pointer), bytes);
  return Add(pointer, bytes, errno, injected);
}

bool Shadow::Aligned(size_t align, size_t bytes) {
  unsigned long injected = MachineInjectedHere();
  errno = 4711;
  void *pointer = nullptr;
  int error = posix_memalign(&pointer, align, bytes);
  if (errno != 4711)
    Fail("posix_memalign changed errno");
  if ((error == 0) != (pointer != nullptr))
    Fail("posix_memalign: error and pointer");
  if ((reinterpret_cast<uintptr_t>(pointer) & (align - 1)) != 0)
    Fail("not aligned", reinterpret_cast<uintptr_t>(pointer));
  return Add(pointer, bytes, error, injected);
}

bool Shadow::Realloc(size_t bytes) {
  Block old = blocks_[--count_];
  unsigned long injected = MachineInjectedHere();
  errno = 0;
  void *pointer = realloc(old.start, bytes);
  int error = errno;
  if (pointer == nullptr) {
    CheckStamps(old, old.bytes, "a failed realloc changed");
    (void)Add(nullptr, bytes, error, injected);
    count_++;
    return false;
  }
  old.start = static_cast<unsigned char *>(pointer);
  CheckStamps(old, std::min(old.bytes, bytes), "realloc lost");
  return Add(pointer, bytes, error, injected);
}

void Shadow::FreeAt(size_t index) {
  Block block = blocks_[index];
  blocks_[index] = blocks_[--count_];
  CheckStamps(block, block.bytes, "somebody wrote at");
  errno = 4711;
  free(block.start);
  if (errno != 4711)
    Fail("free changed errno");
}

void Shadow::FreeAll() {
  while (count_ > 0)
    FreeLast();
}

void Shadow::Take(Shadow *other) {
  for (size_t i = 0; i < other->count_; i++) {
    if (count_ == kMax)
      Fail("the shadow is full");
    blocks_[count_++] = other->blocks_[i];
  }
  other->count_ = 0;
}

void Shadow::Check() const {
  for (size_t i = 0; i < count_; i++)
    CheckStamps(blocks_[i], blocks_[i].bytes, "somebody wrote at");
}

void Shadow::CheckNoOverlap() {
  std::sort(blocks_, blocks_ + count_,
            [](const Block &a, const Block &b) { return a.start < b.start; });
  for (size_t i = 1; i < count_; i++) {
    if (blocks_[i - 1].start + blocks_[i - 1].bytes > blocks_[i].start)
      Fail("handed out twice", reinterpret_cast<uintptr_t>(blocks_[i].start));
  }
}

}  // namespace testing
}  // namespace tcx

// shadow.h -- what a program believes it owns: blocks, their contents.
//
// Every block is stamped with bytes of its own, and checked before it goes. Two
// owners of one byte are found by the stamps, and by CheckNoOverlap. The table
// lies in static memory: the shadow never asks the allocator for anything.
//
// A request may fail only while a fault was injected into it (in the calling
// thread), or where the process has a real limit; then with ENOMEM.
#ifndef TCX_TESTING_FAULTS_SHADOW_H_
#define TCX_TESTING_FAULTS_SHADOW_H_

#include <cstddef>
#include <cstdint>

namespace tcx {
namespace testing {

struct Block {
  unsigned char *start;
  size_t bytes;
  uint64_t stamp;
};

class Shadow {
 public:
  static constexpr size_t kMax = 6000;

  // With a real limit any request may fail.
  static bool any_may_fail;
  static unsigned long refused;  // requests, of all shadows

  // Each true if there is a new block, the last one.
  bool Malloc(size_t bytes);
  bool Calloc(size_t bytes);
  bool Aligned(size_t align, size_t bytes);
  // Changes the last block, or leaves it as it is.
  bool Realloc(size_t bytes);

  // Checks and frees.
  void FreeAt(size_t index);
  void FreeLast() {
    FreeAt(count_ - 1);
  }
  void FreeAll();

  // Takes over all blocks of another shadow.
  void Take(Shadow *other);

  void Check() const;
  // Reorders the blocks.
  void CheckNoOverlap();

  size_t count() const {
    return count_;
  }

 private:
  bool Add(void *pointer, size_t bytes, int error, unsigned long injected);

  size_t count_ = 0;
  Block blocks_[kMax];
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_TESTING_FAULTS_SHADOW_H_

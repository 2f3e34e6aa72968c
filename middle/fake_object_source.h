// fake_object_source.h -- an object source for tests of front ends: plain
// memory, everything counted, fails on demand, finds every wrong object.
//
// Objects are 16-aligned blocks of the C++ runtime, one each, in no span and
// not in the pagemap. An object that comes back is handed out again, the newest
// first. Thread safe.
#ifndef TCX_MIDDLE_FAKE_OBJECT_SOURCE_H_
#define TCX_MIDDLE_FAKE_OBJECT_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "middle/object_source.h"

namespace tcx {
namespace testing {

class FakeObjectSource {
 public:
  FakeObjectSource();
  ~FakeObjectSource();
  FakeObjectSource(const FakeObjectSource &) = delete;
  FakeObjectSource &operator=(const FakeObjectSource &) = delete;

  tcx_object_source *get() {
    return &base_.source;
  }

  // Hands out `objects` more, then none until told otherwise.
  void FailAfter(size_t objects);
  void NeverFail();

  // Calls since the start.
  size_t removes() const;
  size_t inserts() const;
  size_t trims() const;
  size_t releases() const;
  // Objects handed out and not back, of a class and of all.
  size_t out_objects(unsigned size_class) const;
  size_t out_objects() const;

 private:
  // The C struct and the way back from it.
  struct Base {
    tcx_object_source source;
    FakeObjectSource *self;
  };
  struct Class {
    std::vector<void *> free;
    std::unordered_set<void *> out;
    uint64_t misses = 0;
  };
  struct Ops;

  unsigned Remove(unsigned size_class, void **batch, unsigned count);
  void Insert(unsigned size_class, void *const *batch, unsigned count);
  void Trim(bool all);
  size_t Release();
  void Stats(unsigned size_class, tcx_object_source_stats *out) const;
  void Check() const;

  Base base_;
  mutable std::mutex mutex_;
  Class classes_[TCX_RUN_CLASS_FIRST];
  size_t left_;
  size_t removes_ = 0;
  size_t inserts_ = 0;
  size_t trims_ = 0;
  size_t releases_ = 0;
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_MIDDLE_FAKE_OBJECT_SOURCE_H_

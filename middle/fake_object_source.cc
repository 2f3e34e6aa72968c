// fake_object_source.cc -- see fake_object_source.h.
#include "middle/fake_object_source.h"

#include <cstdlib>

#include "base/check.h"
#include "base/config.h"
#include "base/log.h"

namespace tcx {
namespace testing {

// The functions of the table: from the C struct to the object.
struct FakeObjectSource::Ops {
  static FakeObjectSource *Self(tcx_object_source *source) {
    return reinterpret_cast<Base *>(source)->self;
  }
  static unsigned Remove(tcx_object_source *source, unsigned size_class,
                         void **batch, unsigned count) {
    return Self(source)->Remove(size_class, batch, count);
  }
  static void Insert(tcx_object_source *source, unsigned size_class,
                     void *const *batch, unsigned count) {
    Self(source)->Insert(size_class, batch, count);
  }
  static void Trim(tcx_object_source *source, bool all) {
    Self(source)->Trim(all);
  }
  static size_t Release(tcx_object_source *source, uint64_t, size_t, bool) {
    return Self(source)->Release();
  }
  static uint64_t ReleaseDueMs(tcx_object_source *, uint64_t) {
    return UINT64_MAX;
  }
  static uint64_t ReleasedBytes(tcx_object_source *) {
    return 0;
  }
  static void Stats(tcx_object_source *source, unsigned size_class,
                    tcx_object_source_stats *out) {
    Self(source)->Stats(size_class, out);
  }
  static void ForkPrepare(tcx_object_source *source) {
    Self(source)->mutex_.lock();
  }
  static void ForkDone(tcx_object_source *source) {
    Self(source)->mutex_.unlock();
  }
  static void Check(tcx_object_source *source) {
    Self(source)->Check();
  }
  static const tcx_object_source_ops kTable;
};

const tcx_object_source_ops FakeObjectSource::Ops::kTable = {
    "fake",        Remove, Insert,      Trim,     Release,  ReleaseDueMs,
    ReleasedBytes, Stats,  ForkPrepare, ForkDone, ForkDone, Check,
};

FakeObjectSource::FakeObjectSource()
    : base_{{&Ops::kTable}, this}, left_(SIZE_MAX) {}

FakeObjectSource::~FakeObjectSource() {
  for (Class &c : classes_) {
    for (void *object : c.free) {
      std::free(object);
    }
    for (void *object : c.out) {
      std::free(object);
    }
  }
}

void FakeObjectSource::FailAfter(size_t objects) {
  std::lock_guard<std::mutex> hold(mutex_);
  left_ = objects;
}

void FakeObjectSource::NeverFail() {
  FailAfter(SIZE_MAX);
}

size_t FakeObjectSource::removes() const {
  std::lock_guard<std::mutex> hold(mutex_);
  return removes_;
}

size_t FakeObjectSource::inserts() const {
  std::lock_guard<std::mutex> hold(mutex_);
  return inserts_;
}

size_t FakeObjectSource::trims() const {
  std::lock_guard<std::mutex> hold(mutex_);
  return trims_;
}

size_t FakeObjectSource::releases() const {
  std::lock_guard<std::mutex> hold(mutex_);
  return releases_;
}

size_t FakeObjectSource::out_objects(unsigned size_class) const {
  std::lock_guard<std::mutex> hold(mutex_);
  return classes_[size_class].out.size();
}

size_t FakeObjectSource::out_objects() const {
  std::lock_guard<std::mutex> hold(mutex_);
  size_t sum = 0;
  for (const Class &c : classes_) {
    sum += c.out.size();
  }
  return sum;
}

unsigned FakeObjectSource::Remove(unsigned size_class, void **batch,
                                  unsigned count) {
  std::lock_guard<std::mutex> hold(mutex_);
  Class &c = classes_[size_class];
  removes_++;
  unsigned moved = 0;
  while (moved < count && left_ > 0) {
    void *object;
    if (c.free.empty()) {
      object =
          std::aligned_alloc(TCX_ALIGNMENT, tcx_size_classes[size_class].size);
      TCX_CHECK(object != nullptr);
      c.misses++;
    } else {
      object = c.free.back();
      c.free.pop_back();
    }
    TCX_CHECK(c.out.insert(object).second);
    batch[moved++] = object;
    left_ -= left_ != SIZE_MAX;
  }
  return moved;
}

void FakeObjectSource::Insert(unsigned size_class, void *const *batch,
                              unsigned count) {
  std::lock_guard<std::mutex> hold(mutex_);
  Class &c = classes_[size_class];
  inserts_++;
  for (unsigned i = 0; i < count; i++) {
    if (c.out.erase(batch[i]) == 0) {
      tcx_fatal("free(): invalid pointer %p (not out, of class %u)", batch[i],
                size_class);
    }
    c.free.push_back(batch[i]);
  }
}

void FakeObjectSource::Trim(bool all) {
  std::lock_guard<std::mutex> hold(mutex_);
  trims_++;
  if (!all) {
    return;
  }
  for (Class &c : classes_) {
    for (void *object : c.free) {
      std::free(object);
    }
    c.free.clear();
  }
}

// Objects of the C++ runtime: nothing to give back of a part of them.
size_t FakeObjectSource::Release() {
  std::lock_guard<std::mutex> hold(mutex_);
  releases_++;
  return 0;
}

void FakeObjectSource::Stats(unsigned size_class,
                             tcx_object_source_stats *out) const {
  std::lock_guard<std::mutex> hold(mutex_);
  const Class &c = classes_[size_class];
  *out = {};
  out->spans = c.out.size() + c.free.size();
  out->spans_total = c.misses;
  out->out_objects = c.out.size();
  out->central_objects = c.free.size();
}

void FakeObjectSource::Check() const {
  std::lock_guard<std::mutex> hold(mutex_);
  for (const Class &c : classes_) {
    for (void *object : c.free) {
      TCX_CHECK(c.out.count(object) == 0);
    }
  }
}

}  // namespace testing
}  // namespace tcx

// Fuzz target of the functions that a program calls: malloc and its family, and
// those of tcx.h.
//
// libFuzzer and AddressSanitizer keep their own malloc, so the functions of
// malloc.c and memalign.c have other names here (BUILD.bazel renames them when
// it compiles them); everything below them is the library as it is.
//
// Model: the live objects with their bytes. Objects do not overlap, lie where
// they were asked to, keep their contents, and calloc's are zero; statistics
// count exactly them. NULL comes with ENOMEM, and only for a size that nothing
// can serve or while system calls fail; then nothing has changed. The
// invariants of all tiers hold, and with the last object all memory is free.
#include <errno.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "base/check.h"
#include "base/config.h"
#include "base/log.h"
#include "libc/heap.h"
#include "size_classes/size_classes.h"
#include "tcx/tcx.h"
#include "testing/fuzz_input.h"
#include "testing/fuzz_system.h"

extern "C" {
void *fuzzed_malloc(size_t size);
void *fuzzed_calloc(size_t count, size_t size);
void *fuzzed_realloc(void *pointer, size_t size);
void *fuzzed_reallocarray(void *pointer, size_t count, size_t size);
void *fuzzed_memalign(size_t align, size_t size);
void *fuzzed_aligned_alloc(size_t align, size_t size);
int fuzzed_posix_memalign(void **out, size_t align, size_t size);
void *fuzzed_valloc(size_t size);
void *fuzzed_pvalloc(size_t size);
size_t fuzzed_malloc_usable_size(void *pointer);
size_t fuzzed_nallocx(size_t size, int flags);
void fuzzed_free(void *pointer);
void fuzzed_free_sized(void *pointer, size_t size);
void fuzzed_free_aligned_sized(void *pointer, size_t align, size_t size);
void fuzzed_sdallocx(void *pointer, size_t size, int flags);
}

namespace {

using tcx::testing::FailingSystem;
using tcx::testing::FuzzInput;

constexpr size_t kLiveBytesMax = 64 * TCX_MIB;
constexpr size_t kLiveObjectsMax = 512;
// Of larger objects only so much at the start is written, and at the end.
constexpr size_t kStartBytes = 16 * TCX_KIB;
constexpr size_t kEndBytes = TCX_KIB;
constexpr int kErrno = 4711;

struct Object {
  char *start;
  size_t size;
  size_t align;  // 1: none was asked for
  size_t usable;
  char tag;
  bool has_pages;  // may have whole pages, though it is small
};

size_t StartOf(size_t size) {
  return std::min(size, kStartBytes);
}
size_t EndFrom(size_t size) {
  return std::max(StartOf(size), size - std::min(size, kEndBytes));
}

void Fill(const Object &object) {
  memset(object.start, object.tag, StartOf(object.size));
  size_t end = EndFrom(object.size);
  memset(object.start + end, object.tag, object.size - end);
}

bool IsAll(const char *from, const char *to, char value) {
  return std::all_of(from, to, [value](char byte) { return byte == value; });
}

// What Fill wrote into an object of `written` bytes, as far as `size`.
void CheckFilled(const char *start, size_t written, size_t size, char tag) {
  TCX_CHECK(IsAll(start, start + std::min(StartOf(written), size), tag));
  if (EndFrom(written) < size) {
    TCX_CHECK(
        IsAll(start + EndFrom(written), start + std::min(written, size), tag));
  }
}

void CheckZero(const char *start, size_t size) {
  TCX_CHECK(IsAll(start, start + StartOf(size), 0));
  for (size_t i = StartOf(size); i < size; i += 512)
    TCX_CHECK(start[i] == 0);
  TCX_CHECK(IsAll(start + EndFrom(size), start + size, 0));
}

FailingSystem *the_system;

class Model {
 public:
  // A call has returned `pointer` for this request. `has_pages`: it may be a
  // small object in whole pages.
  void Add(void *pointer, size_t size, size_t align, bool is_zero,
           bool has_pages = false) {
    if (pointer == nullptr) {
      CheckRefused(size, align);
      return;
    }
    Object object = {
        static_cast<char *>(pointer),      size, align, 0, NextTag(),
        has_pages || align > TCX_PAGE_SIZE};
    CheckPlace(&object);
    if (is_zero)
      CheckZero(object.start, size);
    Fill(object);
    by_start_[object.start] = object.usable;
    objects_.push_back(object);
    live_bytes_ += object.usable;
  }

  void Free(FuzzInput *input) {
    Object object = Take(input->Below(objects_.size()));
    errno = kErrno;
    unsigned choice = input->Byte() % 8;
    // The size that was asked for, or any other of the same class.
    size_t size = choice % 2 == 0 ? object.size : object.usable;
    if (object.align != 1 && choice < 4) {
      fuzzed_free_aligned_sized(object.start, object.align, object.size);
    } else if (choice < 2) {
      fuzzed_free_sized(object.start, size);
    } else if (choice < 4) {
      fuzzed_sdallocx(object.start, size, 0);
    } else {
      fuzzed_free(object.start);
    }
    TCX_CHECK(errno == kErrno);
  }

  void Reallocate(FuzzInput *input, size_t size) {
    size_t index = input->Below(objects_.size());
    Object old = objects_[index];
    if (live_bytes_ - old.usable + size > kLiveBytesMax)
      return;
    BeforeCall();
    void *pointer = input->OneIn(2) ? fuzzed_realloc(old.start, size)
                                    : fuzzed_reallocarray(old.start, size, 1);
    if (pointer == nullptr && size > 0) {
      CheckRefused(size, 1);
      CheckFilled(old.start, old.size, old.size, old.tag);
      return;
    }
    Forget(index);
    if (size == 0) {
      TCX_CHECK(pointer == nullptr);
      return;
    }
    CheckFilled(static_cast<char *>(pointer), old.size, size, old.tag);
    // Shrunk in place, it keeps the pages that its alignment needed.
    Add(pointer, size, 1, false, old.has_pages && pointer == old.start);
  }

  // Every object is what its owner made it, nothing else is counted, and the
  // figures of all tiers add up.
  void Check() const {
    for (const Object &object : objects_) {
      CheckFilled(object.start, object.size, object.size, object.tag);
      TCX_CHECK(fuzzed_malloc_usable_size(object.start) == object.usable);
    }
    tcx_heap_check();
    tcx_statistics stats = {};
    stats.struct_size = sizeof stats;
    TCX_CHECK(tcx_statistics_get(&stats) == 0);
    TCX_CHECK(stats.allocated_bytes == live_bytes_);
    TCX_CHECK(stats.mapped_bytes ==
              stats.resident_bytes + stats.released_bytes);
    TCX_CHECK(stats.resident_bytes ==
              stats.allocated_bytes + stats.thread_cache_bytes +
                  stats.cpu_cache_bytes + stats.run_cache_bytes +
                  stats.transfer_bytes + stats.central_free_bytes +
                  stats.span_tail_bytes + stats.page_free_bytes +
                  stats.metadata_bytes);
  }

  // After the last object and a release, all memory went back.
  void CheckNothingIsHeld() const {
    tcx_statistics stats = {};
    stats.struct_size = sizeof stats;
    TCX_CHECK(tcx_statistics_get(&stats) == 0);
    TCX_CHECK(stats.resident_bytes == stats.metadata_bytes);
  }

  void BeforeCall() {
    errno = 0;
    may_fail_ = the_system->may_fail();
  }
  bool HasRoomFor(size_t size) const {
    return objects_.size() < kLiveObjectsMax &&
           live_bytes_ + size <= kLiveBytesMax;
  }
  bool is_empty() const {
    return objects_.empty();
  }

 private:
  char NextTag() {
    return static_cast<char>(1 + last_tag_++ % 127);
  }

  void CheckRefused(size_t size, size_t align) const {
    TCX_CHECK(may_fail_ || size > TCX_REQUEST_MAX - align);
    TCX_CHECK(errno == ENOMEM);
  }

  void CheckPlace(Object *object) const {
    uintptr_t address = reinterpret_cast<uintptr_t>(object->start);
    TCX_CHECK(address % std::max(object->align, TCX_ALIGNMENT) == 0);
    object->usable = fuzzed_malloc_usable_size(object->start);
    TCX_CHECK(object->usable >= object->size);
    if (object->align == 1)
      TCX_CHECK(fuzzed_nallocx(object->size, 0) == object->usable);
    CheckAnswers(*object);
    auto after = by_start_.lower_bound(object->start);
    TCX_CHECK(after == by_start_.end() ||
              object->start + object->usable <= after->first);
    TCX_CHECK(after == by_start_.begin() ||
              (--after)->first + after->second <= object->start);
  }

  static void CheckAnswers(const Object &object) {
    TCX_CHECK(tcx_owns(object.start) == 1);
    TCX_CHECK(tcx_owns(object.start + 1) == 0 && tcx_owns(&object) == 0);
    TCX_CHECK(object.usable == 16 || tcx_owns(object.start + 16) == 0);
    TCX_CHECK(tcx_size_of(object.start) == object.usable);
    unsigned size_class = tcx_size_class(object.start);
    TCX_CHECK(size_class != 0 || object.usable > TCX_MAX_RUN_SIZE ||
              object.has_pages);
    TCX_CHECK(size_class == 0 ||
              tcx_size_classes[size_class].size == object.usable);
    TCX_CHECK(tcx_good_size(object.usable) >= object.usable);
  }

  void Forget(size_t index) {
    live_bytes_ -= objects_[index].usable;
    by_start_.erase(objects_[index].start);
    objects_[index] = objects_.back();
    objects_.pop_back();
  }
  Object Take(size_t index) {
    Object object = objects_[index];
    CheckFilled(object.start, object.size, object.size, object.tag);
    Forget(index);
    return object;
  }

  std::vector<Object> objects_;
  std::map<char *, size_t> by_start_;
  size_t live_bytes_ = 0;
  unsigned last_tag_ = 0;
  bool may_fail_ = false;
};

void AllocateAligned(Model *model, FuzzInput *input, size_t size) {
  size_t align = size_t{1} << input->Below(24);
  unsigned choice = input->Byte() % 8;
  if (!model->HasRoomFor(size + align))
    return;
  void *pointer = nullptr;
  model->BeforeCall();
  if (choice < 3) {
    pointer = fuzzed_memalign(align, size);
  } else if (choice < 5) {
    pointer = fuzzed_aligned_alloc(align, size);
  } else if (choice < 6) {
    align = std::max(align, sizeof(void *));
    int error = fuzzed_posix_memalign(&pointer, align, size);
    TCX_CHECK((error == 0) == (pointer != nullptr) && errno == 0);
    errno = error;
  } else {
    align = 4096;
    pointer = choice == 6 ? fuzzed_valloc(size) : fuzzed_pvalloc(size);
  }
  model->Add(pointer, size, align, false);
}

// Sizes that no machine can serve.
void AskForTooMuch(Model *model, FuzzInput *input) {
  size_t size = SIZE_MAX - input->Size(62);
  model->BeforeCall();
  void *pointer =
      input->OneIn(2) ? fuzzed_malloc(size) : fuzzed_calloc(size / 8, 16);
  TCX_CHECK(pointer == nullptr && errno == ENOMEM);
}

void Allocate(Model *model, FuzzInput *input, unsigned choice) {
  size_t size = input->Size(choice % 2 == 0 ? 10 : 24);
  if (!model->HasRoomFor(size))
    return;
  if (choice < 6) {
    model->BeforeCall();
    model->Add(fuzzed_malloc(size), size, 1, false);
  } else if (choice < 9) {
    size_t count = 1 + input->Below(4);
    model->BeforeCall();
    model->Add(fuzzed_calloc(count, size / count), size / count * count, 1,
               true);
  } else {
    AllocateAligned(model, input, size);
  }
}

void Step(Model *model, FuzzInput *input) {
  unsigned choice = input->Byte() % 32;
  if (choice < 13) {
    Allocate(model, input, choice);
  } else if (choice < 22) {
    if (!model->is_empty())
      model->Free(input);
  } else if (choice < 26) {
    if (!model->is_empty())
      model->Reallocate(input, input->Size(choice % 2 == 0 ? 12 : 25));
  } else if (choice < 27) {
    AskForTooMuch(model, input);
  } else if (choice < 28) {
    tcx_release(input->Size(24));
  } else if (choice < 29) {
    static const char *const kTimes[] = {"1", "100", "1h", "2s"};
    static const char *const kCaches[] = {"1M", "32M", "4k", "64M"};
    tcx_set("scavenge_time", kTimes[input->Below(4)]);
    tcx_set("thread_cache", kCaches[input->Below(4)]);
    tcx_tick();
  } else if (choice < 30) {
    the_system->FailSome(input);
  } else if (choice < 31) {
    the_system->FailAll(0);
  } else {
    model->Check();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  if (the_system == nullptr) {
    tcx_heap_start();
    // In the place of the report of the stack: libFuzzer keeps the input.
    tcx_fatal_install([] { abort(); });
    the_system = new FailingSystem;
  }
  FuzzInput input(data, bytes);
  Model model;
  while (!input.empty())
    Step(&model, &input);
  the_system->FailAll(0);
  model.Check();
  while (!model.is_empty())
    model.Free(&input);
  tcx_release(SIZE_MAX);
  model.Check();
  model.CheckNothingIsHeld();
  return 0;
}

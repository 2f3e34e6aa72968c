// objects.cc -- see objects.h.
#include "testing/soak/objects.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <new>

extern "C" {
__attribute__((weak)) void free_sized(void *pointer, size_t size);
__attribute__((weak)) void free_aligned_sized(void *pointer, size_t align,
                                              size_t size);
__attribute__((weak)) void sdallocx(void *pointer, size_t size, int flags);
__attribute__((weak)) size_t nallocx(size_t size, int flags);
__attribute__((weak)) void cfree(void *pointer);
__attribute__((weak)) size_t tcx_served_objects(void);
}

namespace soak {

uint64_t program_seed;

bool RunsOnTcx() {
  return tcx_served_objects != nullptr && tcx_served_objects() != 0;
}

// The heap may be damaged: nothing here allocates.
void Fault(const char *what, const Object *object) {
  char text[400];
  int length =
      snprintf(text, sizeof text, "soak: FAULT: %s (seed %llu, pid %d)\n", what,
               static_cast<unsigned long long>(program_seed),
               static_cast<int>(getpid()));
  if (object != nullptr) {
    length = snprintf(text, sizeof text,
                      "soak: FAULT: %s (object %p, size %zu, usable %zu, align "
                      "%zu; seed %llu, pid %d)\n",
                      what, static_cast<const void *>(object->start),
                      object->size, object->usable, object->align,
                      static_cast<unsigned long long>(program_seed),
                      static_cast<int>(getpid()));
  }
  (void)!write(STDERR_FILENO, text, static_cast<size_t>(length));
  abort();
}

namespace {

void Require(bool holds, const char *what, const Object *object) {
  if (!holds)
    Fault(what, object);
}

// The compiler knows malloc, and would leave calls out.
template <typename T>
T Opaque(T value) {
  __asm__ volatile("" : "+r"(value) : : "memory");
  return value;
}

// -- patterns -----------------------------------------------------------------

constexpr size_t kDenseBytes = 32 << 10;
constexpr size_t kHeadBytes = 1024;
// Of large objects, so that most of their pages need no memory.
constexpr size_t kStride = 4 << 10;
constexpr size_t kLongStride = 64 << 10;
constexpr size_t kLongBytes = 512 << 10;

// Calls visit(offset, bytes) for each word of the pattern of `size` bytes: all
// of a small object; the head, some words and the last of a large one.
template <typename Visit>
void EachWord(size_t size, Visit visit) {
  size_t dense = size <= kDenseBytes ? size : kHeadBytes;
  for (size_t at = 0; at < dense; at += 8)
    visit(at, std::min<size_t>(8, size - at));
  if (dense == size)
    return;
  size_t stride = size < kLongBytes ? kStride : kLongStride;
  for (size_t at = stride; at + 8 <= size; at += stride)
    visit(at, size_t{8});
  size_t last = (size - 1) / 8 * 8;
  visit(last, size - last);
}

uint64_t WordAt(uint64_t seed, size_t at) {
  return (seed + at) * 0x9e3779b97f4a7c15;
}

void WritePattern(const Object &object) {
  EachWord(object.usable, [&](size_t at, size_t bytes) {
    uint64_t word = WordAt(object.seed, at);
    memcpy(object.start + at, &word, bytes);
  });
}

// The part of the pattern that lies in the first `limit` bytes.
bool HasPattern(const Object &object, size_t limit) {
  bool good = true;
  EachWord(object.usable, [&](size_t at, size_t bytes) {
    uint64_t word = WordAt(object.seed, at);
    if (at + bytes <= limit)
      good &= memcmp(object.start + at, &word, bytes) == 0;
  });
  return good;
}

bool IsZero(const unsigned char *bytes, size_t size) {
  bool good = true;
  EachWord(size, [&](size_t at, size_t count) {
    static const unsigned char zero[8] = {};
    good &= memcmp(bytes + at, zero, count) == 0;
  });
  return good;
}

// -- the functions that allocate ----------------------------------------------

using Maker = void *(*)(size_t size, size_t align);

void *ByPosixMemalign(size_t size, size_t align) {
  void *out = nullptr;
  align = std::max(align, sizeof(void *));
  return posix_memalign(&out, align, size) == 0 ? out : nullptr;
}

const Maker kPlain[] = {
    [](size_t size, size_t) { return malloc(size); },
    [](size_t size, size_t) { return malloc(size); },
    [](size_t size, size_t) { return realloc(nullptr, size); },
    [](size_t size, size_t) { return reallocarray(nullptr, 1, size); },
    [](size_t size, size_t) { return operator new(size); },
    [](size_t size, size_t) { return operator new[](size); },
    [](size_t size, size_t) { return operator new(size, std::nothrow); },
    [](size_t size, size_t) { return operator new[](size, std::nothrow); },
};

const Maker kZero[] = {
    [](size_t size, size_t) { return calloc(1, size); },
    [](size_t size, size_t) { return calloc((size + 7) / 8, 8); },
};

const Maker kAligned[] = {
    [](size_t size, size_t align) { return memalign(align, size); },
    [](size_t size, size_t align) { return aligned_alloc(align, size); },
    ByPosixMemalign,
    [](size_t size, size_t align) {
      return operator new(size, std::align_val_t(align));
    },
    [](size_t size, size_t align) {
      return operator new[](size, std::align_val_t(align));
    },
    [](size_t size, size_t align) {
      return operator new(size, std::align_val_t(align), std::nothrow);
    },
    [](size_t size, size_t align) {
      return operator new[](size, std::align_val_t(align), std::nothrow);
    },
};

template <size_t kCount>
void *Call(Random *random, const Maker (&makers)[kCount], size_t size,
           size_t align) {
  return Opaque(makers[random->Below(kCount)](Opaque(size), align));
}

void *CallAny(Random *random, Object *object) {
  uint64_t kind = random->Below(16);
  if (kind < 10)
    return Call(random, kPlain, object->size, 0);
  if (kind < 13) {
    void *start = Call(random, kZero, object->size, 0);
    Require(start == nullptr ||
                IsZero(static_cast<unsigned char *>(start), object->size),
            "calloc gave memory that is not zero", object);
    return start;
  }
  if (kind == 13 && random->OneIn(8)) {
    object->align = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return random->OneIn(2) ? valloc(object->size) : pvalloc(object->size);
  }
  // Small ones as a rule; up to 2 MiB.
  uint64_t shift = random->OneIn(64) ? random->Below(22) : random->Below(13);
  object->align = size_t{1} << std::max<uint64_t>(shift, 3);
  return Call(random, kAligned, object->size, object->align);
}

// -- the functions that free --------------------------------------------------

// Any size of the object's class is right for a sized free.
size_t SizeOfClass(Random *random, const Object &object) {
  if (nallocx == nullptr)
    return object.size;
  if (random->OneIn(4))
    return object.usable;
  size_t size = object.usable - random->Below(object.usable / 4 + 1);
  if (nallocx(size, 0) == object.usable)
    return size;
  return nallocx(object.size, 0) == object.usable ? object.size : object.usable;
}

void FreePlain(Random *random, void *start) {
  switch (random->Below(8)) {
    case 0:
      return operator delete(start);
    case 1:
      return operator delete[](start);
    case 2:
      return operator delete(start, std::nothrow);
    case 3:
      if (cfree != nullptr)
        return cfree(start);
      return free(start);
    case 4:
      Require(realloc(start, 0) == nullptr, "realloc to 0", nullptr);
      return;
    default:
      return free(start);
  }
}

void FreeSized(Random *random, void *start, size_t size) {
  switch (random->Below(4)) {
    case 0:
      return operator delete(start, size);
    case 1:
      return operator delete[](start, size);
    case 2:
      return sdallocx != nullptr ? sdallocx(start, size, 0) : free(start);
    default:
      return free_sized != nullptr ? free_sized(start, size) : free(start);
  }
}

void FreeAligned(Random *random, void *start, size_t size, size_t align) {
  auto val = std::align_val_t(align);
  switch (random->Below(6)) {
    case 0:
      return operator delete(start, val);
    case 1:
      return operator delete[](start, val);
    case 2:
      return operator delete(start, size, val);
    case 3:
      return operator delete[](start, size, val);
    case 4:
      if (sdallocx != nullptr)
        return sdallocx(start, size, __builtin_ctzl(align));
      return free(start);
    default:
      if (free_aligned_sized != nullptr)
        return free_aligned_sized(start, align, size);
      return free(start);
  }
}

// -- steps --------------------------------------------------------------------

void NoteMemory(Random *random, void *start, Object *object) {
  object->start = static_cast<unsigned char *>(start);
  object->usable = malloc_usable_size(start);
  object->seed = random->Next();
  size_t align = std::max<size_t>(object->align, 16);
  Require(reinterpret_cast<uintptr_t>(start) % align == 0, "not aligned",
          object);
  Require(object->usable >= object->size, "smaller than asked for", object);
  WritePattern(*object);
}

}  // namespace

size_t RandomSize(Random *random) {
  uint64_t kind = random->Below(2048);
  if (kind < 1500)
    return random->Below(513);
  if (kind < 1900)
    return random->Below(8 << 10);
  if (kind < 2030)
    return random->Below(128 << 10);
  if (kind < 2047)
    return random->Below(5 << 20);
  return random->Below(48 << 20);
}

void Make(Random *random, size_t size, Object *object) {
  object->size = size;
  object->usable = 0;
  object->align = 0;
  object->start = nullptr;
  void *start = CallAny(random, object);
  Require(start != nullptr, "no memory", object);
  bool is_plain = object->align == 0 && nallocx != nullptr;
  NoteMemory(random, start, object);
  // calloc may have rounded up.
  Require(!is_plain || object->usable == nallocx(size, 0) ||
              object->usable == nallocx((size + 7) / 8 * 8, 0),
          "not the size that nallocx says", object);
}

void Check(const Object &object) {
  if (object.start == nullptr)
    return;
  Require(malloc_usable_size(object.start) == object.usable,
          "another usable size than before", &object);
  Require(HasPattern(object, object.usable), "bytes have changed", &object);
}

void Resize(Random *random, size_t size, Object *object) {
  if (object->start == nullptr || size == 0)
    return;
  Check(*object);
  void *start = random->OneIn(4) ? reallocarray(object->start, size, 1)
                                 : realloc(object->start, size);
  object->size = size;
  object->align = 0;
  Require(start != nullptr, "no memory to resize", object);
  object->start = static_cast<unsigned char *>(Opaque(start));
  Require(HasPattern(*object, std::min(object->usable, size)),
          "realloc lost bytes", object);
  NoteMemory(random, start, object);
}

void Free(Random *random, Object *object) {
  if (object->start == nullptr)
    return;
  Check(*object);
  void *start = Opaque(object->start);
  errno = 4711;
  if (object->align > 16 && random->OneIn(2)) {
    FreeAligned(random, start, object->size, object->align);
  } else if (object->align == 0 && random->OneIn(2)) {
    FreeSized(random, start, SizeOfClass(random, *object));
  } else {
    FreePlain(random, start);
  }
  Require(errno == 4711, "free changed errno", object);
  object->start = nullptr;
}

void AskForTooMuch(Random *random) {
  size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, PTRDIFF_MAX, size_t{1} << 62};
  size_t size = Opaque(sizes[random->Below(4)]);
  errno = 0;
  void *out = nullptr;
  Require(malloc(size) == nullptr && errno == ENOMEM, "malloc", nullptr);
  Require(calloc(size, 16) == nullptr, "calloc", nullptr);
  Require(aligned_alloc(64, size) == nullptr, "aligned_alloc", nullptr);
  Require(posix_memalign(&out, 64, size) == ENOMEM, "posix_memalign", nullptr);
  Require(operator new(size, std::nothrow) == nullptr, "nothrow", nullptr);
  void *kept = malloc(Opaque(size_t{100}));
  memset(kept, 0x55, 100);
  Require(realloc(kept, size) == nullptr, "realloc", nullptr);
  Require(static_cast<unsigned char *>(kept)[99] == 0x55, "kept", nullptr);
  free(kept);
  bool thrown = false;
  try {
    operator delete(operator new(size));
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  Require(thrown, "operator new did not throw", nullptr);
}

void ReadFigures(Random *random) {
  uint64_t kind = random->Below(8);
  if (kind == 0) {
    malloc_trim(0);
  } else if (kind == 1) {
    char *text = nullptr;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    Require(stream != nullptr && malloc_info(0, stream) == 0, "malloc_info",
            nullptr);
    fclose(stream);
    Require(bytes > 100 && strstr(text, "</malloc>") != nullptr,
            "text of malloc_info", nullptr);
    free(text);
  } else if (kind < 4) {
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
  } else {
    struct mallinfo2 info = mallinfo2();
    Require(info.uordblks + info.fordblks == info.arena || !RunsOnTcx(),
            "the figures of mallinfo2 do not add up", nullptr);
  }
}

}  // namespace soak

// right_use.cc -- cases of misuse.cc in which nothing is wrong, and tcx must
// say nothing, hardened or not.
#include <malloc.h>
#include <unistd.h>

#include <new>

#include "testing/wrong_use/misuse.h"

namespace {

// Every form with every size that maps to the class, usable sizes included.
void RightUseOf(size_t bytes) {
  char *object = Make(bytes);
  size_t usable = malloc_usable_size(object);
  memset(object, 2, usable);
  free_sized(object, Opaque(usable));
  object = Make(bytes);
  sdallocx(object, bytes, 0);
  object = static_cast<char *>(realloc(Make(bytes), Opaque(2 * bytes)));
  free_sized(object, 2 * bytes);
  object = static_cast<char *>(realloc(Make(2 * bytes), Opaque(bytes)));
  operator delete(object, bytes);
  for (size_t align = 16; align <= 4 * kMib; align *= 8) {
    void *aligned = aligned_alloc(align, bytes);
    free_aligned_sized(aligned, align, bytes);
    std::align_val_t value{align};
    aligned = operator new(bytes, value);
    operator delete(aligned, bytes, value);
    aligned = operator new[](bytes, value);
    operator delete[](aligned, malloc_usable_size(aligned), value);
  }
  object = static_cast<char *>(calloc(1, Opaque(bytes)));
  for (size_t i = 0; i < bytes; i++) {
    if (object[i] != 0)
      _exit(4);
  }
  memset(object, 3, bytes);
  operator delete[](object, bytes);
}

}  // namespace

void RightUse() {
  Announce(nullptr, 0);
  for (size_t bytes = 1; bytes < 3 * kLarge; bytes += bytes / 3 + 1)
    RightUseOf(bytes);
  free(nullptr);
  free_sized(nullptr, 100);
  free(malloc(0));
  operator delete (operator new(0), size_t{0});
  free(realloc(malloc(0), 0));
}

// Each object is checked when it goes out: a random history of them.
void RightUseAtRandom() {
  Announce(nullptr, 0);
  static char *objects[2000];
  static size_t sizes[2000];
  unsigned random = 1;
  for (int i = 0; i < 400000; i++) {
    random = random * 1664525 + 1013904223;
    unsigned slot = (random >> 8) % 2000;
    free(objects[slot]);
    sizes[slot] = (random >> 20) % (random % 64 == 0 ? 300000 : 600);
    objects[slot] = Make(sizes[slot]);
  }
}

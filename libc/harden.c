// harden.c -- fills free objects and checks them. See harden.h.
#include "libc/harden.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "base/os.h"
#include "size_classes/size_classes.h"

#define HEAD_WORDS_MAX 4u

static unsigned head_words(unsigned size) {
  return size / 8 < HEAD_WORDS_MAX ? size / 8 : HEAD_WORDS_MAX;
}

static TCX_COLD TCX_NORETURN void written(const void *object, unsigned size,
                                          const uint64_t *word) {
  size_t offset = (size_t)((const char *)word - (const char *)object);
  tcx_fatal("malloc(): write after free at %p (object of %u bytes, byte %zu)",
            object, size, offset);
}

// The first word from `begin` on that is not `expected`, or `end`.
static const uint64_t *find_other(const uint64_t *begin, const uint64_t *end,
                                  uint64_t expected) {
  while (begin != end && *begin == expected)
    begin++;
  return begin;
}

typedef uint64_t two_words __attribute__((vector_size(16), may_alias));

// The same for zero, by pairs of lines of the cache: an object may have 256
// KiB.
static const uint64_t *find_nonzero(const uint64_t *begin,
                                    const uint64_t *end) {
  for (; end - begin >= 16; begin += 16) {
    const two_words *pair = (const two_words *)(const void *)begin;
    two_words any = pair[0];
    for (int i = 1; i < 8; i++)
      any |= pair[i];
    if ((any[0] | any[1]) != 0)
      break;
  }
  return find_other(begin, end, 0);
}

void tcx_harden_object_out(void *object, unsigned size_class) {
  unsigned size = tcx_size_classes[size_class].size;
  uint64_t *words = (uint64_t *)object;
  const uint64_t *end = words + size / 8;
  const uint64_t *head_end = words + head_words(size);
  // A head that was never in use is zero.
  uint64_t expected = words[0] == 0 ? 0 : TCX_HARDEN_POISON;
  const uint64_t *wrong = find_other(words, head_end, expected);
  if (wrong == head_end)
    wrong = find_nonzero(head_end, end);
  if (TCX_UNLIKELY(wrong != end))
    written(object, size, wrong);
  memset(words, 0, (size_t)((const char *)head_end - (const char *)words));
}

void tcx_harden_object_in(void *object, unsigned size_class) {
  unsigned size = tcx_size_classes[size_class].size;
  uint64_t *words = (uint64_t *)object;
  unsigned head = head_words(size);
  for (unsigned i = 0; i < head; i++)
    words[i] = TCX_HARDEN_POISON;
  memset(words + head, 0, size - 8 * head);
}

void tcx_harden_span_in(struct tcx_span *span) {
  char *start = tcx_span_start(span);
  size_t bytes = tcx_span_bytes(span);
  // Pages of the system may be larger than ours.
  size_t unit = tcx_os_page_size();
  if (tcx_is_aligned((uintptr_t)start, unit) && tcx_is_aligned(bytes, unit) &&
      tcx_os_release(start, bytes) == 0) {
    span->flags |= TCX_SPAN_MOVED;
    return;
  }
  memset(start, 0, bytes);
}

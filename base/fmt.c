// fmt.c -- text into a fixed buffer, without malloc, locale or stdio.
//
// INVARIANTS
//   I1. text[bytes] is 0 and bytes < capacity, unless the capacity is 0.
#include "base/fmt.h"

#include <stdbool.h>

#include "base/check.h"

// One conversion, as the format string describes it.
struct spec {
  bool left;  // '-'
  bool zero;  // '0'
  size_t width;
  int longs;        // 0: int, 1: long or size_t, 2: long long
  char conversion;  // 0 at the end of the string
};

void tcx_fmt_init(struct tcx_fmt *self, char *buffer, size_t capacity) {
  self->text = buffer;
  self->bytes = 0;
  self->capacity = capacity;
  if (capacity > 0)
    buffer[0] = 0;
}

static void add_char(struct tcx_fmt *self, char c) {
  if (self->bytes + 1 >= self->capacity)
    return;
  self->text[self->bytes++] = c;
}

static void add_repeated(struct tcx_fmt *self, char c, size_t times) {
  for (size_t i = 0; i < times && self->bytes + 1 < self->capacity; i++) {
    add_char(self, c);
  }
}

static void add_chars(struct tcx_fmt *self, const char *chars, size_t count) {
  for (size_t i = 0; i < count; i++)
    add_char(self, chars[i]);
}

static const char *read_spec(const char *p, struct spec *spec) {
  spec->left = false;
  spec->zero = false;
  spec->width = 0;
  spec->longs = 0;
  for (; *p == '-' || *p == '0'; p++) {
    if (*p == '-')
      spec->left = true;
    if (*p == '0')
      spec->zero = true;
  }
  for (; *p >= '0' && *p <= '9'; p++) {
    spec->width = spec->width * 10 + (size_t)(*p - '0');
  }
  if (*p == 'z') {
    spec->longs = 1;
    p++;
  }
  for (; *p == 'l'; p++)
    spec->longs++;
  spec->conversion = *p;
  return *p ? p + 1 : p;
}

// A text of `count` characters, padded to the width. `prefix` ("-", "0x") goes
// before padding zeros and after padding blanks.
static void add_padded(struct tcx_fmt *self, const struct spec *spec,
                       const char *prefix, const char *chars, size_t count) {
  size_t prefix_count = 0;
  while (prefix[prefix_count])
    prefix_count++;
  size_t all = prefix_count + count;
  size_t padding = spec->width > all ? spec->width - all : 0;
  bool zeros = spec->zero && !spec->left;
  if (!spec->left && !zeros)
    add_repeated(self, ' ', padding);
  add_chars(self, prefix, prefix_count);
  if (zeros)
    add_repeated(self, '0', padding);
  add_chars(self, chars, count);
  if (spec->left)
    add_repeated(self, ' ', padding);
}

static void add_number(struct tcx_fmt *self, const struct spec *spec,
                       const char *prefix, uint64_t value, unsigned radix) {
  char digits[20];  // 2^64 has 20 decimal digits.
  size_t start = sizeof(digits);
  do {
    digits[--start] = "0123456789abcdef"[value % radix];
    value /= radix;
  } while (value != 0);
  add_padded(self, spec, prefix, digits + start, sizeof(digits) - start);
}

static void add_string(struct tcx_fmt *self, const struct spec *spec,
                       const char *text) {
  if (text == NULL)
    text = "(null)";
  size_t count = 0;
  while (text[count])
    count++;
  struct spec blanks = *spec;
  blanks.zero = false;
  add_padded(self, &blanks, "", text, count);
}

static_assert(sizeof(long) == sizeof(size_t), "%zu is read as %lu");

// A macro, because a va_list that is passed on has an undefined value after.
#define READ_INTEGER(args, longs, type)     \
  ((longs) == 0   ? va_arg(args, type)      \
   : (longs) == 1 ? va_arg(args, type long) \
                  : va_arg(args, type long long))

void tcx_fmt_addv(struct tcx_fmt *self, const char *format, va_list args) {
  const char *p = format;
  while (*p) {
    if (*p != '%') {
      add_char(self, *p++);
      continue;
    }
    struct spec spec;
    p = read_spec(p + 1, &spec);
    switch (spec.conversion) {
      case 'd': {
        int64_t value = READ_INTEGER(args, spec.longs, signed);
        uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
        add_number(self, &spec, value < 0 ? "-" : "", size, 10);
        break;
      }
      case 'u':
        add_number(self, &spec, "", READ_INTEGER(args, spec.longs, unsigned),
                   10);
        break;
      case 'x':
        add_number(self, &spec, "", READ_INTEGER(args, spec.longs, unsigned),
                   16);
        break;
      case 'p':
        add_number(self, &spec, "0x", (uintptr_t)va_arg(args, void *), 16);
        break;
      case 's':
        add_string(self, &spec, va_arg(args, const char *));
        break;
      case 'c': {
        char c = (char)va_arg(args, int);
        add_padded(self, &spec, "", &c, 1);
        break;
      }
      case '%':
        add_char(self, '%');
        break;
      default:
        // Not one of ours: the compiler warned of it where it is wrong.
        add_char(self, '%');
        break;
    }
  }
  if (self->capacity > 0) {
    TCX_ASSERT(self->bytes < self->capacity);
    self->text[self->bytes] = 0;
  }
}

void tcx_fmt_add(struct tcx_fmt *self, const char *format, ...) {
  va_list args;
  va_start(args, format);
  tcx_fmt_addv(self, format, args);
  va_end(args);
}

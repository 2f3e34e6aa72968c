// knobs.c -- names, kinds, ranges and values of the settings. See knobs.h.
#include "base/knobs.h"

#include <errno.h>
#include <string.h>

#include "base/atomic.h"
#include "base/check.h"
#include "base/fmt.h"
#include "base/log.h"

enum kind { FLAG, BYTES, TIME, COUNT, LIMIT, CHOICE, TEXT };

struct knob {
  const char *name;
  const char *text;
  uint64_t least;
  uint64_t most;
  uint16_t offset;  // of the field in tcx_knobs
  uint8_t kind;
  bool live;
};

struct tcx_knobs tcx_knobs = {
#define TCX_KNOB(kind, name, initial, least, most, live, text) (initial),
#define TCX_KNOB_TEXT(name, text) "",
#include "base/knobs.def"
#undef TCX_KNOB
#undef TCX_KNOB_TEXT
};

static const struct knob knobs[] = {
#define TCX_KNOB(kind, name, initial, least, most, live, text) \
  {#name, text, least, most, offsetof(struct tcx_knobs, name), kind, live},
#define TCX_KNOB_TEXT(name, text)                                             \
  {#name, text, 0, TCX_KNOB_TEXT_BYTES - 1, offsetof(struct tcx_knobs, name), \
   TEXT,  false},
#include "base/knobs.def"
#undef TCX_KNOB
#undef TCX_KNOB_TEXT
};

#define KNOBS (sizeof knobs / sizeof knobs[0])

#define TCX_KNOB(kind, name, initial, least, most, live, text) \
  static_assert((least) <= (initial) && (initial) <= (most), #name);
#define TCX_KNOB_TEXT(name, text)
#include "base/knobs.def"
#undef TCX_KNOB
#undef TCX_KNOB_TEXT

static uint8_t sources[KNOBS];  // enum tcx_knob_source

static const char *const source_names[] = {
    "default", "tcx_conf", "file", "TCX_CONF", "environment", "tcx_set"};
static const char *const kind_names[] = {"flag",  "bytes",  "time", "count",
                                         "limit", "choice", "text"};

static bool is_word(const char *word, const char *text, size_t bytes) {
  return strlen(word) == bytes && memcmp(word, text, bytes) == 0;
}

static const struct knob *find(const char *name, size_t bytes) {
  for (size_t i = 0; i < KNOBS; i++) {
    if (is_word(knobs[i].name, name, bytes))
      return &knobs[i];
  }
  return NULL;
}

static uint64_t *number_of(const struct knob *knob) {
  return (uint64_t *)(void *)((char *)&tcx_knobs + knob->offset);
}

// -- reading values -----------------------------------------------------------

// Factor of a unit, 0 if the kind has no such unit.
static uint64_t unit_factor(enum kind kind, const char *unit, size_t bytes) {
  if (bytes == 0)
    return 1;
  if (kind == TIME) {
    return is_word("ms", unit, bytes)  ? 1
           : is_word("s", unit, bytes) ? 1000
           : is_word("m", unit, bytes) ? 60 * 1000
                                       : 0;
  }
  if ((kind != BYTES && kind != LIMIT) || bytes != 1)
    return 0;
  switch (*unit) {
    case 'k':
    case 'K':
      return UINT64_C(1) << 10;
    case 'm':
    case 'M':
      return UINT64_C(1) << 20;
    case 'g':
    case 'G':
      return UINT64_C(1) << 30;
    case 't':
    case 'T':
      return UINT64_C(1) << 40;
    default:
      return 0;
  }
}

// Digits and a unit. 0, EINVAL, or ERANGE where 64 bits are too few.
static int read_number(enum kind kind, const char *text, size_t bytes,
                       uint64_t *out) {
  uint64_t value = 0;
  size_t i = 0;
  for (; i < bytes && text[i] >= '0' && text[i] <= '9'; i++) {
    if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
        __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) {
      return ERANGE;
    }
  }
  if (i == 0)
    return EINVAL;
  uint64_t factor = unit_factor(kind, text + i, bytes - i);
  if (factor == 0)
    return EINVAL;
  return __builtin_mul_overflow(value, factor, out) ? ERANGE : 0;
}

static int read_flag(const char *text, size_t bytes, uint64_t *out) {
  static const char *const words[] = {"0", "1", "false", "true", "off", "on"};
  for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (is_word(words[i], text, bytes)) {
      *out = i % 2;
      return 0;
    }
  }
  return EINVAL;
}

// The words of a choice stand at the start of its text: "a|b|c: ...".
static size_t word_bytes(const char *words) {
  return strcspn(words, "|:");
}

static int read_choice(const struct knob *knob, const char *text, size_t bytes,
                       uint64_t *out) {
  const char *word = knob->text;
  for (uint64_t i = 0; i <= knob->most; i++) {
    if (word_bytes(word) == bytes && memcmp(word, text, bytes) == 0) {
      *out = i;
      return 0;
    }
    word += word_bytes(word) + 1;
  }
  return EINVAL;
}

static int set_text(const struct knob *knob, const char *text, size_t bytes) {
  if (bytes > knob->most)
    return ERANGE;
  char *field = (char *)&tcx_knobs + knob->offset;
  memcpy(field, text, bytes);
  field[bytes] = 0;
  return 0;
}

static int set_value(const struct knob *knob, const char *text, size_t bytes) {
  if (knob->kind == TEXT)
    return set_text(knob, text, bytes);
  uint64_t value = 0;
  int error;
  if (knob->kind == FLAG) {
    error = read_flag(text, bytes, &value);
  } else if (knob->kind == CHOICE) {
    error = read_choice(knob, text, bytes, &value);
  } else if (knob->kind == LIMIT && is_word("auto", text, bytes)) {
    value = knob->most;
    error = 0;
  } else {
    error = read_number((enum kind)knob->kind, text, bytes, &value);
  }
  if (error == 0 && (value < knob->least || value > knob->most))
    error = ERANGE;
  if (error == 0)
    tcx_atomic_store_relaxed(number_of(knob), value);
  return error;
}

int tcx_knob_set(const char *name, size_t name_bytes, const char *value,
                 size_t value_bytes, enum tcx_knob_source source) {
  const struct knob *knob = find(name, name_bytes);
  if (knob == NULL)
    return ENOENT;
  if (source == TCX_KNOB_API && !knob->live)
    return EPERM;
  int error = set_value(knob, value, value_bytes);
  if (error == 0)
    sources[knob - knobs] = (uint8_t)source;
  return error;
}

// -- showing values -----------------------------------------------------------

static void add_value(struct tcx_fmt *out, const struct knob *knob) {
  if (knob->kind == TEXT) {
    tcx_fmt_add(out, "%s", (const char *)&tcx_knobs + knob->offset);
    return;
  }
  uint64_t value = tcx_atomic_load_relaxed(number_of(knob));
  if (knob->kind == LIMIT && value == knob->most) {
    tcx_fmt_add(out, "auto");
    return;
  }
  if (knob->kind != CHOICE) {
    tcx_fmt_add(out, "%lu", value);
    return;
  }
  const char *word = knob->text;
  while (value-- > 0)
    word += word_bytes(word) + 1;
  for (size_t i = 0; i < word_bytes(word); i++)
    tcx_fmt_add(out, "%c", word[i]);
}

int tcx_knob_get(const char *name, char *buffer, size_t capacity) {
  const struct knob *knob = find(name, strlen(name));
  if (knob == NULL)
    return ENOENT;
  char text[TCX_KNOB_TEXT_BYTES];
  struct tcx_fmt out;
  tcx_fmt_init(&out, text, sizeof text);
  add_value(&out, knob);
  if (out.bytes >= capacity)
    return ERANGE;
  memcpy(buffer, text, out.bytes + 1);
  return 0;
}

void tcx_knobs_each(void (*visit)(const struct tcx_knob_info *info, void *arg),
                    void *arg) {
  for (size_t i = 0; i < KNOBS; i++) {
    const struct knob *knob = &knobs[i];
    struct tcx_knob_info info = {
        .name = knob->name,
        .kind = kind_names[knob->kind],
        .text = knob->text,
        .source = source_names[sources[i]],
        .least = knob->least,
        .most = knob->most,
        .live = knob->live,
    };
    struct tcx_fmt out;
    tcx_fmt_init(&out, info.value, sizeof info.value);
    add_value(&out, knob);
    visit(&info, arg);
  }
}

// -- settings in a text -------------------------------------------------------

#define LONGEST_SHOWN 64

// The start of a text, fit for a message of one line.
static void copy_shown(char *out, const char *text, size_t bytes) {
  bytes = bytes < LONGEST_SHOWN ? bytes : LONGEST_SHOWN;
  for (size_t i = 0; i < bytes; i++)
    out[i] = (unsigned char)text[i] < ' ' || text[i] == 127 ? '?' : text[i];
  out[bytes] = 0;
}

static void bad_setting(const char *where, const char *name, size_t name_bytes,
                        const char *value, size_t value_bytes, int error) {
  char shown_name[LONGEST_SHOWN + 1];
  char shown_value[LONGEST_SHOWN + 1];
  copy_shown(shown_name, name, name_bytes);
  copy_shown(shown_value, value, value_bytes);
  const struct knob *knob = find(name, name_bytes);
  void (*say)(const char *format, ...) =
      tcx_knobs.abort_on_bad_config != 0 ? tcx_fatal : tcx_log;
  if (knob == NULL) {
    say("%s: unknown setting '%s'", where, shown_name);
  } else if (knob->kind == CHOICE || knob->kind == FLAG) {
    say("%s: %s cannot be '%s': %s", where, knob->name, shown_value,
        knob->kind == FLAG ? "it is 0 or 1" : knob->text);
  } else if (knob->kind == TEXT) {
    say("%s: %s is longer than %lu bytes", where, knob->name, knob->most);
  } else {
    say("%s: %s cannot be '%s': %s between %lu and %lu", where, knob->name,
        shown_value,
        error == ERANGE       ? "it lies"
        : knob->kind == TIME  ? "a time (ms, s, m)"
        : knob->kind == COUNT ? "a number"
        : knob->kind == LIMIT ? "auto or a number of bytes (k, M, G)"
                              : "a number of bytes (k, M, G)",
        knob->least, knob->most);
  }
}

void tcx_knob_set_or_complain(const char *name, size_t name_bytes,
                              const char *value, size_t value_bytes,
                              const char *where, enum tcx_knob_source source) {
  int error = tcx_knob_set(name, name_bytes, value, value_bytes, source);
  if (error != 0)
    bad_setting(where, name, name_bytes, value, value_bytes, error);
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

static void trim(const char **text, size_t *bytes) {
  while (*bytes > 0 && is_blank(**text)) {
    (*text)++;
    (*bytes)--;
  }
  while (*bytes > 0 && is_blank((*text)[*bytes - 1]))
    (*bytes)--;
}

// One "name SEPARATOR value"; an empty one is nothing.
static void parse_one(const char *text, size_t bytes, char separator,
                      const char *where, enum tcx_knob_source source) {
  trim(&text, &bytes);
  if (bytes == 0)
    return;
  const char *middle = (const char *)memchr(text, separator, bytes);
  size_t name_bytes = middle != NULL ? (size_t)(middle - text) : bytes;
  const char *value = middle != NULL ? middle + 1 : text + bytes;
  size_t value_bytes = (size_t)(text + bytes - value);
  trim(&text, &name_bytes);
  trim(&value, &value_bytes);
  tcx_knob_set_or_complain(text, name_bytes, value, value_bytes, where, source);
}

static void parse_all(const char *text, size_t bytes, char end, char comment,
                      char separator, const char *where,
                      enum tcx_knob_source source) {
  while (bytes > 0) {
    const char *stop = (const char *)memchr(text, end, bytes);
    size_t length = stop != NULL ? (size_t)(stop - text) : bytes;
    const char *hash =
        comment != 0 ? (const char *)memchr(text, comment, length) : NULL;
    size_t used = hash != NULL ? (size_t)(hash - text) : length;
    parse_one(text, used, separator, where, source);
    length += stop != NULL;
    text += length;
    bytes -= length;
  }
}

void tcx_knobs_parse_pairs(const char *text, size_t bytes, const char *where,
                           enum tcx_knob_source source) {
  parse_all(text, bytes, ',', 0, ':', where, source);
}

void tcx_knobs_parse_lines(const char *text, size_t bytes, const char *where,
                           enum tcx_knob_source source) {
  parse_all(text, bytes, '\n', '#', '=', where, source);
}

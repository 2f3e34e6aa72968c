// coverage.c -- reads /proc/self/smaps. See coverage.h.
//
// THE TEXT, for each mapping:
//   7f5d1a200000-7f5d1a400000 rw-p 00000000 00:00 0           [name]
//   Rss:                2048 kB
//   AnonHugePages:      2048 kB
//   and other lines, that begin with a capital letter too
#include "telemetry/coverage.h"

#include <string.h>

#include "base/config.h"
#include "base/os.h"
#include "base/os_files.h"
#include "pagemap/pagemap.h"

// On the stack of whoever allocates when a signal has asked for the report.
#define PIECE_BYTES 2048

// -- Lines --------------------------------------------------------------------

static int digit_of(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The number at *at, up to `end`. False: there is none, or it is too large.
static bool parse_address(const char **at, const char *end, uintptr_t *out) {
  const char *start = *at;
  uintptr_t value = 0;
  for (; *at < end && digit_of(**at) >= 0; (*at)++) {
    if (value >> (8 * sizeof value - 4) != 0)
      return false;
    value = value << 4 | (uintptr_t)digit_of(**at);
  }
  *out = value;
  return *at > start;
}

static bool skip_char(const char **at, const char *end, char c) {
  if (*at == end || **at != c)
    return false;
  (*at)++;
  return true;
}

// "start-end perms ...". False: it is another line.
static bool parse_range(const char *at, const char *end, uintptr_t *from,
                        uintptr_t *to) {
  return parse_address(&at, end, from) && skip_char(&at, end, '-') &&
         parse_address(&at, end, to) && skip_char(&at, end, ' ') && *from < *to;
}

// "Name:   123 kB"
static bool parse_field(const char *at, const char *end, const char *name,
                        uint64_t *bytes) {
  size_t length = strlen(name);
  if ((size_t)(end - at) < length || memcmp(at, name, length) != 0)
    return false;
  at += length;
  while (at < end && *at == ' ')
    at++;
  uint64_t kib;
  if (!tcx_os_parse_number(at, (size_t)(end - at), &kib) ||
      kib > UINT64_MAX / TCX_KIB) {
    return false;
  }
  *bytes = kib * TCX_KIB;
  return true;
}

// -- Mappings -----------------------------------------------------------------

// All lines of a mapping were seen. Most have nothing behind them: the others
// alone are looked up.
static void end_mapping(struct tcx_coverage_reader *self) {
  if (self->resident_bytes > 0 && self->start < self->end &&
      self->is_heap(self->start, self->end)) {
    self->sum.resident_bytes += self->resident_bytes;
    self->sum.huge_bytes += self->huge_bytes;
    self->sum.mappings++;
  }
  self->resident_bytes = 0;
  self->huge_bytes = 0;
}

static void end_line(struct tcx_coverage_reader *self) {
  const char *end = self->line + self->line_bytes;
  uintptr_t start;
  uintptr_t stop;
  if (parse_range(self->line, end, &start, &stop)) {
    end_mapping(self);
    self->start = start;
    self->end = stop;
  } else if (!parse_field(self->line, end, "Rss:", &self->resident_bytes)) {
    (void)parse_field(self->line, end, "AnonHugePages:", &self->huge_bytes);
  }
  self->line_bytes = 0;
}

void tcx_coverage_begin(struct tcx_coverage_reader *self,
                        bool (*is_heap)(uintptr_t start, uintptr_t end)) {
  memset(self, 0, sizeof *self);
  self->is_heap = is_heap;
}

void tcx_coverage_add(struct tcx_coverage_reader *self, const char *text,
                      size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    if (text[i] == '\n') {
      end_line(self);
    } else if (self->line_bytes < sizeof self->line) {
      self->line[self->line_bytes++] = text[i];
    }
  }
}

void tcx_coverage_end(struct tcx_coverage_reader *self) {
  end_line(self);
  end_mapping(self);
}

// -- The process --------------------------------------------------------------

// A page source without notes knows a span for each of its pages; one with
// notes has one for each huge page of which anything was ever in use.
static bool is_heap(uintptr_t start, uintptr_t end) {
  if ((end - 1) >> 48 != 0)
    return false;  // Beyond what the page map knows.
  if (tcx_pagemap_span_around((const void *)start) != NULL)
    return true;
  uint64_t last = (end - 1) >> TCX_HUGE_PAGE_SHIFT;
  for (uint64_t huge = start >> TCX_HUGE_PAGE_SHIFT; huge <= last; huge++) {
    if (tcx_pagemap_huge_note(huge) != NULL)
      return true;
  }
  return false;
}

int tcx_coverage_read(struct tcx_coverage *out) {
  *out = (struct tcx_coverage){0, 0, 0};
  int fd = tcx_os_open_read("/proc/self/smaps");
  if (fd < 0)
    return -fd;
  struct tcx_coverage_reader reader;
  tcx_coverage_begin(&reader, is_heap);
  char piece[PIECE_BYTES];
  intptr_t got;
  while ((got = tcx_os_read(fd, piece, sizeof piece)) > 0)
    tcx_coverage_add(&reader, piece, (size_t)got);
  tcx_os_close(fd);
  if (got < 0)
    return (int)-got;
  tcx_coverage_end(&reader);
  *out = reader.sum;
  return 0;
}

// mallinfo.c -- what glibc offers beside malloc: figures, reports, trimming.
//
// WHAT IT DECIDES
//   How the figures of tcx fill glibc's structures. `arena` is what the heap
//   holds of the system's memory, `uordblks` what the program has of it and
//   `fordblks` the rest, so the three add up; of the rest, `fsmblks` lies in
//   caches and `keepcost` is what malloc_trim could give back at once. tcx has
//   no blocks of mmap apart, so the other figures are 0. mallinfo's int fields
//   stop at INT_MAX instead of wrapping.
//   malloc_info has glibc's elements, filled the same way, as readers of its
//   XML expect them, and then tcx's own under <tcx>.
//   mallopt accepts every parameter and ignores it: programs that tune glibc
//   must not fail on tcx.
//   Under TCX_DISABLE each of them is that of the next allocator.
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/compiler.h"
#include "base/fmt.h"
#include "base/os.h"
#include "libc/foreign.h"
#include "libc/heap.h"
#include "libc/libc.h"
#include "size_classes/size_classes.h"
#include "tcx/tcx.h"
#include "telemetry/stats.h"

static uint64_t in_caches(const struct tcx_stats *stats) {
  return stats->thread_cache_bytes + stats->cpu_cache_bytes +
         stats->run_cache_bytes + stats->transfer_bytes;
}

TCX_EXPORT struct mallinfo2 mallinfo2(void) {
  const struct tcx_foreign_calls *aside = tcx_heap_aside();
  if (aside != NULL && aside->call_mallinfo2 != NULL)
    return aside->call_mallinfo2();
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  struct mallinfo2 info = {0};
  info.arena = stats.resident_bytes;
  // The counters are read one after the other while other threads run.
  info.uordblks = tcx_min_size(stats.allocated_bytes, info.arena);
  info.fordblks = info.arena - info.uordblks;
  info.fsmblks = tcx_min_size(in_caches(&stats), info.fordblks);
  info.keepcost = tcx_min_size(stats.page_free_bytes, info.fordblks);
  return info;
}

static int clamp(size_t value) {
  return value > INT_MAX ? INT_MAX : (int)value;
}

// Its declaration says "deprecated"; defining it is fine.
TCX_EXPORT struct mallinfo mallinfo(void) {
  struct mallinfo2 wide = mallinfo2();
  struct mallinfo info = {0};
  info.arena = clamp(wide.arena);
  info.uordblks = clamp(wide.uordblks);
  info.fordblks = clamp(wide.fordblks);
  info.fsmblks = clamp(wide.fsmblks);
  info.keepcost = clamp(wide.keepcost);
  return info;
}

TCX_EXPORT int mallopt(int parameter, int value) {
  const struct tcx_foreign_calls *aside = tcx_heap_aside();
  if (aside != NULL && aside->call_mallopt != NULL)
    return aside->call_mallopt(parameter, value);
  (void)parameter;
  (void)value;
  return 1;
}

TCX_EXPORT int malloc_trim(size_t pad_bytes) {
  const struct tcx_foreign_calls *aside = tcx_heap_aside();
  if (aside != NULL && aside->call_malloc_trim != NULL)
    return aside->call_malloc_trim(pad_bytes);
  (void)pad_bytes;
  return tcx_heap_release(SIZE_MAX) != 0;
}

static void write_stderr(const char *text, size_t bytes, void *arg) {
  (void)arg;
  tcx_os_write(STDERR_FILENO, text, bytes);
}

TCX_EXPORT void malloc_stats(void) {
  const struct tcx_foreign_calls *aside = tcx_heap_aside();
  if (aside != NULL && aside->call_malloc_stats != NULL) {
    aside->call_malloc_stats();
    return;
  }
  tcx_stats_write(write_stderr, NULL);
}

// -- malloc_info --------------------------------------------------------------

static void put(FILE *stream, const char *format, ...) TCX_PRINTF(2, 3);

// One element. What cannot be written shows in ferror.
static void put(FILE *stream, const char *format, ...) {
  char line[512];
  struct tcx_fmt text;
  tcx_fmt_init(&text, line, sizeof line);
  va_list args;
  va_start(args, format);
  tcx_fmt_addv(&text, format, args);
  va_end(args);
  fputs(line, stream);
}

// glibc's <sizes>: the free objects, by size.
static void put_sizes(FILE *stream) {
  put(stream, "<sizes>\n");
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    struct tcx_stats_class one;
    if (!tcx_stats_read_class(i, &one))
      continue;
    uint64_t size = tcx_size_classes[i].size;
    uint64_t count =
        one.cached_objects + one.transfer_objects + one.central_objects;
    put(stream, "<size from=\"%u\" to=\"%lu\" total=\"%lu\" count=\"%lu\"/>\n",
        (unsigned)tcx_size_classes[i - 1].size + 1, size, count * size, count);
  }
  put(stream, "</sizes>\n");
}

// glibc's totals, which stand in each heap and once more behind them.
static void put_totals(FILE *stream, const struct tcx_stats *stats) {
  uint64_t fast = in_caches(stats);
  uint64_t rest = stats->central_free_bytes + stats->page_free_bytes;
  put(stream, "<total type=\"fast\" count=\"0\" size=\"%lu\"/>\n", fast);
  put(stream, "<total type=\"rest\" count=\"0\" size=\"%lu\"/>\n", rest);
  put(stream, "<system type=\"current\" size=\"%lu\"/>\n",
      stats->resident_bytes);
  put(stream, "<system type=\"max\" size=\"%lu\"/>\n", stats->mapped_bytes);
  put(stream, "<aspace type=\"total\" size=\"%lu\"/>\n", stats->mapped_bytes);
  put(stream, "<aspace type=\"mprotect\" size=\"%lu\"/>\n",
      stats->mapped_bytes);
}

static void put_own(FILE *stream, const struct tcx_stats *stats) {
  const uint64_t *value = (const uint64_t *)(const void *)stats;
  put(stream, "<tcx page_size=\"%zu\">\n", TCX_PAGE_SIZE);
  for (unsigned i = 0; i < TCX_STATS_FIELDS; i++) {
    const struct tcx_stats_field *field = &tcx_stats_fields[i];
    put(stream, "<figure name=\"%s\" kind=\"%s\" unit=\"%s\" value=\"%lu\"/>\n",
        field->name, field->kind, field->unit, value[i]);
  }
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    struct tcx_stats_class one;
    if (!tcx_stats_read_class(i, &one))
      continue;
    put(stream,
        "<class size=\"%u\" live=\"%lu\" cached=\"%lu\" transfer=\"%lu\" "
        "central=\"%lu\" spans=\"%lu\"/>\n",
        (unsigned)tcx_size_classes[i].size, one.live_objects,
        one.cached_objects, one.transfer_objects, one.central_objects,
        one.spans);
  }
  put(stream, "</tcx>\n");
}

TCX_EXPORT int malloc_info(int options, FILE *stream) {
  const struct tcx_foreign_calls *aside = tcx_heap_aside();
  if (aside != NULL && aside->call_malloc_info != NULL)
    return aside->call_malloc_info(options, stream);
  if (options != 0)
    return EINVAL;
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  flockfile(stream);
  int before = ferror(stream);
  put(stream, "<malloc version=\"tcx-%d.%d.%d\">\n<heap nr=\"0\">\n",
      TCX_VERSION_MAJOR, TCX_VERSION_MINOR, TCX_VERSION_PATCH);
  put_sizes(stream);
  put_totals(stream, &stats);
  put(stream, "</heap>\n");
  put_totals(stream, &stats);
  put_own(stream, &stats);
  put(stream, "</malloc>\n");
  int error = ferror(stream) != before ? EIO : 0;
  funlockfile(stream);
  return error;
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
TCX_LIBC_ALIAS(__libc_mallinfo, mallinfo);
TCX_LIBC_ALIAS(__mallinfo, mallinfo);
TCX_LIBC_ALIAS(__libc_mallinfo2, mallinfo2);
TCX_LIBC_ALIAS(__mallinfo2, mallinfo2);
TCX_LIBC_ALIAS(__libc_mallopt, mallopt);
TCX_LIBC_ALIAS(__mallopt, mallopt);
TCX_LIBC_ALIAS(__malloc_trim, malloc_trim);
TCX_LIBC_ALIAS(__malloc_stats, malloc_stats);
TCX_LIBC_ALIAS(__malloc_info, malloc_info);

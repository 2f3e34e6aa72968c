// mallinfo.c -- what glibc offers beside malloc: figures, reports, trimming.
//
// WHAT IT DECIDES
//   How the figures of tcx fill glibc's structures. `arena` is what the heap
//   holds of the system's memory, `uordblks` what the program has of it and
//   `fordblks` the rest, so the three add up; `keepcost` is what malloc_trim
//   could give back at once. tcx has no arenas, no fast bins and no blocks of
//   mmap apart, so the other figures are 0. mallinfo's int fields stop at
//   INT_MAX instead of wrapping.
//   mallopt accepts every parameter and ignores it: programs that tune glibc
//   must not fail on tcx.
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/fmt.h"
#include "base/os.h"
#include "libc/heap.h"
#include "libc/libc.h"
#include "telemetry/stats.h"

// Enough for malloc_info's text with every figure at its widest.
#define XML_BYTES 2048

TCX_EXPORT struct mallinfo2 mallinfo2(void) {
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  struct mallinfo2 info = {0};
  info.arena = stats.resident_bytes;
  info.uordblks = stats.allocated_bytes;
  // The counters are read one after the other while other threads run.
  if (info.uordblks > info.arena)
    info.uordblks = info.arena;
  info.fordblks = info.arena - info.uordblks;
  info.keepcost = stats.page_free_bytes;
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
  info.keepcost = clamp(wide.keepcost);
  return info;
}

TCX_EXPORT int mallopt(int parameter, int value) {
  (void)parameter;
  (void)value;
  return 1;
}

TCX_EXPORT int malloc_trim(size_t pad_bytes) {
  (void)pad_bytes;
  return tcx_heap_trim() != 0;
}

static void write_stderr(const char *text, size_t bytes, void *arg) {
  (void)arg;
  tcx_os_write(STDERR_FILENO, text, bytes);
}

TCX_EXPORT void malloc_stats(void) {
  tcx_stats_write(write_stderr, NULL);
}

static void add_figure(struct tcx_fmt *xml, const char *name, uint64_t bytes) {
  tcx_fmt_add(xml, "<size type=\"%s\" bytes=\"%llu\"/>\n", name,
              (unsigned long long)bytes);
}

TCX_EXPORT int malloc_info(int options, FILE *stream) {
  if (options != 0)
    return EINVAL;
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  char buffer[XML_BYTES];
  struct tcx_fmt xml;
  tcx_fmt_init(&xml, buffer, sizeof buffer);
  tcx_fmt_add(&xml, "<malloc version=\"tcx\">\n");
  // The two names that readers of glibc's text look for.
  tcx_fmt_add(&xml, "<system type=\"current\" size=\"%llu\"/>\n",
              (unsigned long long)stats.resident_bytes);
  tcx_fmt_add(&xml, "<system type=\"mapped\" size=\"%llu\"/>\n",
              (unsigned long long)stats.mapped_bytes);
  add_figure(&xml, "allocated", stats.allocated_bytes);
  add_figure(&xml, "thread_cache", stats.thread_cache_bytes);
  add_figure(&xml, "run_cache", stats.run_cache_bytes);
  add_figure(&xml, "transfer", stats.transfer_bytes);
  add_figure(&xml, "central_free", stats.central_free_bytes);
  add_figure(&xml, "span_tail", stats.span_tail_bytes);
  add_figure(&xml, "page_free", stats.page_free_bytes);
  add_figure(&xml, "metadata", stats.metadata_bytes);
  add_figure(&xml, "released", stats.released_bytes);
  tcx_fmt_add(&xml, "</malloc>\n");
  return fputs(buffer, stream) < 0 ? errno : 0;
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

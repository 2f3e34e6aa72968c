// stats.c -- collects and prints the statistics. See stats.h.
#include "telemetry/stats.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "backend/metadata.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/os.h"
#include "size_classes/size_classes.h"

#define PATH_BYTES 512

static struct tcx_object_source *objects;
static struct tcx_page_source *pages;
static int report_at_exit;
static char report_path[PATH_BYTES];

// The environment is read now: some programs overwrite it with their title.
void tcx_stats_start(struct tcx_object_source *object_source,
                     struct tcx_page_source *page_source) {
  objects = object_source;
  pages = page_source;
  const char *when = tcx_os_getenv("TCX_STATS");
  report_at_exit = when != NULL && strcmp(when, "exit") == 0;
  const char *path = tcx_os_getenv("TCX_STATS_FILE");
  if (path != NULL && strlen(path) < PATH_BYTES)
    memcpy(report_path, path, strlen(path) + 1);
}

// Small objects: returns the bytes of their spans.
static uint64_t add_classes(struct tcx_stats *out) {
  uint64_t span_bytes = 0;
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    struct tcx_object_source_stats one;
    objects->ops->stats(objects, i, &one);
    uint64_t size = tcx_size_classes[i].size;
    out->spans += one.spans;
    out->allocated_bytes += one.out_objects * size;
    out->transfer_bytes += one.transfer_objects * size;
    out->central_free_bytes += one.central_objects * size;
    out->span_tail_bytes += one.span_tail_bytes;
    out->transfer_hits += one.transfer_hits;
    out->transfer_misses += one.transfer_misses;
    out->lock_waits += one.lock_waits;
    span_bytes += one.spans * tcx_size_classes[i].pages * TCX_PAGE_SIZE;
  }
  return span_bytes;
}

static uint64_t less(uint64_t from, uint64_t what) {
  return from > what ? from - what : 0;
}

void tcx_stats_read(struct tcx_stats *out) {
  memset(out, 0, sizeof *out);
  if (pages == NULL)
    return;
  tcx_frontend->stats(&out->frontend);
  out->thread_cache_bytes = out->frontend.cached_bytes;
  out->run_cache_bytes = out->frontend.run_cache_bytes;
  out->served_objects = out->frontend.removed_objects + out->frontend.run_spans;

  uint64_t small_span_bytes = add_classes(out);
  pages->ops->stats(pages, &out->pages);
  // What the middle has handed out is live or in a cache of a thread; what is
  // in use and no span of the middle is a live or cached block.
  out->allocated_bytes += less(out->pages.in_use_bytes, small_span_bytes);
  out->allocated_bytes = less(out->allocated_bytes,
                              out->thread_cache_bytes + out->run_cache_bytes);
  out->page_free_bytes = out->pages.free_bytes;
  out->released_bytes = out->pages.released_bytes;
  out->lock_waits += out->pages.lock_waits;

  struct tcx_metadata_stats metadata;
  tcx_metadata_read_stats(&metadata);
  out->metadata_bytes = metadata.mapped_bytes;
  out->mapped_bytes = out->pages.mapped_bytes + out->metadata_bytes;
  out->resident_bytes = out->allocated_bytes + out->thread_cache_bytes +
                        out->run_cache_bytes + out->transfer_bytes +
                        out->central_free_bytes + out->span_tail_bytes +
                        out->page_free_bytes + out->metadata_bytes;
}

size_t tcx_served_objects(void) {
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  return stats.served_objects;
}

// -- the report ---------------------------------------------------------------

static void add_values(struct tcx_fmt *text, const struct tcx_stats *s) {
  const struct {
    const char *name;
    uint64_t value;
  } rows[] = {
      {"served_objects", s->served_objects},
      {"mapped_bytes", s->mapped_bytes},
      {"resident_bytes", s->resident_bytes},
      {"released_bytes", s->released_bytes},
      {"allocated_bytes", s->allocated_bytes},
      {"thread_cache_bytes", s->thread_cache_bytes},
      {"run_cache_bytes", s->run_cache_bytes},
      {"transfer_bytes", s->transfer_bytes},
      {"central_free_bytes", s->central_free_bytes},
      {"span_tail_bytes", s->span_tail_bytes},
      {"page_free_bytes", s->page_free_bytes},
      {"metadata_bytes", s->metadata_bytes},
      {"spans", s->spans},
      {"caches", s->frontend.caches},
      {"refills", s->frontend.refills},
      {"overflows", s->frontend.overflows},
      {"scavenges", s->frontend.scavenges},
      {"budget_steals", s->frontend.steals},
      {"transfer_hits", s->transfer_hits},
      {"transfer_misses", s->transfer_misses},
      {"page_spans_allocated", s->pages.spans_allocated},
      {"lock_waits", s->lock_waits},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    tcx_fmt_add(text, "tcx: %s %llu\n", rows[i].name,
                (unsigned long long)rows[i].value);
  }
}

void tcx_stats_write(void (*write)(const char *text, size_t bytes, void *arg),
                     void *arg) {
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  char buffer[4096];
  struct tcx_fmt text;
  tcx_fmt_init(&text, buffer, sizeof buffer);
  tcx_fmt_add(&text, "tcx: statistics of pid %d\n", (int)getpid());
  if (pages != NULL) {
    tcx_fmt_add(&text, "tcx: front end %s, middle %s, back end %s, ",
                tcx_frontend->name, objects->ops->name, pages->ops->name);
    tcx_fmt_add(&text, "page size %zu\n", TCX_PAGE_SIZE);
  }
  add_values(&text, &stats);
  write(text.text, text.bytes, arg);
}

static void write_to_fd(const char *text, size_t bytes, void *fd) {
  tcx_os_write(*(const int *)fd, text, bytes);
}

__attribute__((destructor)) static void report_exit(void) {
  if (!report_at_exit)
    return;
  int fd = STDERR_FILENO;
  if (report_path[0] != '\0') {
    fd = open(report_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
      return;
  }
  tcx_stats_write(write_to_fd, &fd);
  if (fd != STDERR_FILENO)
    close(fd);
}

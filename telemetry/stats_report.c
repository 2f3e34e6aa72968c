// stats_report.c -- writes the statistics as text: when asked, at the end of
// the process, or after a signal. See stats.h.
//
// WHAT IT DECIDES
//   A report is built in memory of its own, mapped for it, and written at once:
//   reports of several processes into one file do not mix, and a report changes
//   no figure of the heap. Without memory for it, line by line.
//   Where it goes: standard error, or the file of `stats_file`, appended.
//
// LOCKING: none. Nothing here allocates or calls what a cancelled thread could
//   leave half done, because malloc may have called it.
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/config.h"
#include "base/fmt.h"
#include "base/knobs.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/os.h"
#include "frontend/frontend.h"
#include "size_classes/size_classes.h"
#include "tcx/tcx.h"
#include "telemetry/coverage.h"
#include "telemetry/held.h"
#include "telemetry/stats_internal.h"

#define REPORT_BYTES (64 * TCX_KIB)
// The longest line: a setting with a text.
#define LINE_BYTES (TCX_KNOB_TEXT_BYTES + 128)

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#define VERSION             \
  STRING(TCX_VERSION_MAJOR) \
  "." STRING(TCX_VERSION_MINOR) "." STRING(TCX_VERSION_PATCH)

int tcx_stats_requested;

struct report {
  struct tcx_fmt text;
  void (*write)(const char *text, size_t bytes, void *arg);
  void *arg;
};

static void flush(struct report *self) {
  if (self->text.bytes > 0)
    self->write(self->text.text, self->text.bytes, self->arg);
  tcx_fmt_init(&self->text, self->text.text, self->text.capacity);
}

static void add(struct report *self, const char *format, ...) TCX_PRINTF(2, 3);

// A line, or a part of one that is not the last.
static void add(struct report *self, const char *format, ...) {
  va_list args;
  va_start(args, format);
  tcx_fmt_addv(&self->text, format, args);
  va_end(args);
}

static void end_line(struct report *self) {
  add(self, "\n");
  if (self->text.capacity - self->text.bytes < LINE_BYTES)
    flush(self);
}

// -- the parts of a report ----------------------------------------------------

static void add_head(struct report *self) {
  add(self, "tcx: statistics of pid %d", (int)getpid());
  end_line(self);
  add(self, "tcx: version %s, front end %s, middle %s, ", VERSION,
      tcx_frontend->name, tcx_stats_from.objects->ops->name);
  add(self, "back end %s, page size %zu", tcx_stats_from.pages->ops->name,
      TCX_PAGE_SIZE);
  end_line(self);
}

static void add_figures(struct report *self, const struct tcx_stats *stats) {
  const uint64_t *value = (const uint64_t *)(const void *)stats;
  for (unsigned i = 0; i < TCX_STATS_FIELDS; i++) {
    add(self, "tcx: %s %lu", tcx_stats_fields[i].name, value[i]);
    end_line(self);
  }
}

static void add_percent(struct report *self, uint64_t part, uint64_t whole) {
  uint64_t tenths = whole > 0 ? (part * 1000 + whole / 2) / whole : 0;
  add(self, " percent %lu.%lu", tenths / 10, tenths % 10);
}

static void add_held(struct report *self, const struct tcx_stats *stats) {
  struct tcx_held_row rows[TCX_HELD_ROWS_MAX];
  unsigned count = tcx_held_read(stats, rows);
  for (unsigned i = 0; i < count; i++) {
    const struct tcx_held_row *row = &rows[i];
    add(self, "tcx: held %s", row->name);
    if (row->size_class != 0) {
      add(self, " %u size %u", row->size_class,
          (unsigned)tcx_size_classes[row->size_class].size);
    }
    add(self, " bytes %lu", row->bytes);
    add_percent(self, row->bytes, stats->resident_bytes);
    add(self, ", %s", row->why);
    if (row->size_class != 0)
      add(self, " %lu objects of %lu spans", row->objects, row->spans);
    end_line(self);
  }
}

static void add_coverage(struct report *self) {
  struct tcx_coverage coverage;
  int error = tcx_coverage_read(&coverage);
  if (error != 0) {
    add(self, "tcx: coverage not known, error %d", error);
  } else {
    add(self, "tcx: coverage huge_covered_bytes %lu of_resident_bytes %lu",
        coverage.huge_bytes, coverage.resident_bytes);
    add_percent(self, coverage.huge_bytes, coverage.resident_bytes);
    add(self, " mappings %lu", coverage.mappings);
  }
  end_line(self);
}

static void add_cpus(struct report *self) {
  struct tcx_frontend_use use;
  tcx_frontend->use(&use);
  add(self, "tcx: front end in use %s, rseq area %s, ids %s, reason %s",
      use.serves, use.area, use.ids, use.reason);
  end_line(self);
  for (unsigned i = 0; i < TCX_FRONTEND_CPUS; i++) {
    struct tcx_frontend_cpu_stats one;
    if (tcx_frontend->cpu_stats == NULL || !tcx_frontend->cpu_stats(i, &one))
      continue;
    add(self,
        "tcx: cpu %u cached_bytes %lu capacity_bytes %lu budget_bytes %lu", i,
        one.cached_bytes, one.capacity_bytes, one.budget_bytes);
    add(self, " refills %lu overflows %lu steals %lu drains %lu", one.refills,
        one.overflows, one.steals, one.drains);
    end_line(self);
  }
}

static void add_classes(struct report *self) {
  for (unsigned i = 1; i < TCX_SIZE_CLASS_COUNT; i++) {
    struct tcx_stats_class one;
    if (!tcx_stats_read_class(i, &one))
      continue;
    add(self, "tcx: class %2u size %7u live %lu cached %lu", i,
        (unsigned)tcx_size_classes[i].size, one.live_objects,
        one.cached_objects);
    if (i < TCX_RUN_CLASS_FIRST) {
      add(self, " transfer %lu central %lu spans %lu spans_total %lu",
          one.transfer_objects, one.central_objects, one.spans,
          one.spans_total);
      add(self, " transfer_hits %lu transfer_misses %lu", one.transfer_hits,
          one.transfer_misses);
    }
    end_line(self);
  }
}

static void add_base(struct report *self) {
  for (unsigned i = 1; i < TCX_LOCK_RANK_LIMIT; i++) {
    enum tcx_lock_rank rank = (enum tcx_lock_rank)i;
    add(self, "tcx: lock %s waits %lu", tcx_lock_rank_name(rank),
        tcx_lock_waits(rank));
    end_line(self);
  }
  struct tcx_os_counts counts;
  tcx_os_read_counts(&counts);
  for (unsigned i = 0; i < TCX_OS_CALL_KINDS; i++) {
    add(self, "tcx: os %s calls %lu failures %lu", tcx_os_call_names[i],
        counts.calls[i], counts.failures[i]);
    end_line(self);
  }
}

static void add_setting(const struct tcx_knob_info *info, void *report) {
  struct report *self = (struct report *)report;
  add(self, "tcx: setting %s %s (%s)", info->name, info->value, info->source);
  end_line(self);
}

void tcx_stats_write(void (*write)(const char *text, size_t bytes, void *arg),
                     void *arg) {
  if (tcx_stats_from.pages == NULL)
    return;
  char line[2 * LINE_BYTES];
  char *buffer = (char *)tcx_os_map(REPORT_BYTES);
  struct report report = {{NULL, 0, 0}, write, arg};
  if (buffer != NULL) {
    tcx_fmt_init(&report.text, buffer, REPORT_BYTES);
  } else {
    tcx_fmt_init(&report.text, line, sizeof line);
  }
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  add_head(&report);
  add_figures(&report, &stats);
  add_held(&report, &stats);
  add_coverage(&report);
  add_cpus(&report);
  add_classes(&report);
  add_base(&report);
  tcx_knobs_each(add_setting, &report);
  add(&report, "tcx: end of statistics of pid %d", (int)getpid());
  end_line(&report);
  flush(&report);
  if (buffer != NULL)
    (void)tcx_os_unmap(buffer, REPORT_BYTES);
}

// -- where and when -----------------------------------------------------------

static void write_to_fd(const char *text, size_t bytes, void *fd) {
  tcx_os_write(*(const int *)fd, text, bytes);
}

static void report_now(void) {
  int fd = STDERR_FILENO;
  if (tcx_knobs.stats_file[0] != 0) {
    fd = tcx_os_open_append(tcx_knobs.stats_file);
    if (fd < 0) {
      tcx_log("cannot open %s: error %d", tcx_knobs.stats_file, -fd);
      return;
    }
  }
  tcx_stats_write(write_to_fd, &fd);
  if (fd != STDERR_FILENO)
    tcx_os_close(fd);
}

void tcx_stats_serve(void) {
  if (tcx_atomic_exchange_relaxed(&tcx_stats_requested, 0) != 0)
    report_now();
}

static void on_signal(int number) {
  (void)number;
  tcx_atomic_store_relaxed(&tcx_stats_requested, 1);
}

// A handler that the program set before is its own business.
static void install_handler(int number) {
  int saved = errno;
  struct sigaction old;
  struct sigaction ours;
  memset(&ours, 0, sizeof ours);
  ours.sa_handler = on_signal;
  ours.sa_flags = SA_RESTART;
  sigemptyset(&ours.sa_mask);
  bool ok = sigaction(number, NULL, &old) == 0;
  bool is_taken = ok && (old.sa_flags & SA_SIGINFO) != 0;
  is_taken |= ok && old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN;
  if (!ok || is_taken || sigaction(number, &ours, NULL) != 0)
    tcx_log("stats_signal: signal %d cannot be had", number);
  errno = saved;
}

void tcx_stats_report_start(void) {
  if (tcx_knobs.stats_signal != 0)
    install_handler((int)tcx_knobs.stats_signal);
}

__attribute__((destructor)) static void report_exit(void) {
  bool is_wanted = tcx_knobs.stats == TCX_STATS_EXIT;
  is_wanted |= tcx_atomic_exchange_relaxed(&tcx_stats_requested, 0) != 0;
  if (is_wanted && tcx_stats_from.pages != NULL)
    report_now();
}

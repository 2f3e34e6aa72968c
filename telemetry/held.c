// held.c -- the table of what is held, and why. See held.h.
#include "telemetry/held.h"

#include "base/check.h"
#include "size_classes/size_classes.h"

struct table {
  struct tcx_held_row *rows;
  unsigned count;
};

static struct tcx_held_row *add(struct table *table, const char *name,
                                const char *why, uint64_t bytes) {
  TCX_ASSERT(table->count < TCX_HELD_ROWS_MAX);
  struct tcx_held_row *row = &table->rows[table->count++];
  *row = (struct tcx_held_row){.name = name, .why = why, .bytes = bytes};
  return row;
}

// Figures of different moments: nothing is less than nothing.
static uint64_t less(uint64_t from, uint64_t what) {
  return from > what ? from - what : 0;
}

static void add_caches(struct table *table, const struct tcx_stats *stats) {
  add(table, "in_use", "the program has not freed it", stats->allocated_bytes);
  add(table, "cpu_caches", "for what CPUs allocate next",
      stats->cpu_cache_bytes);
  add(table, "thread_caches", "for what threads allocate next",
      stats->thread_cache_bytes);
  add(table, "run_caches", "for blocks of 256 KiB to 4 MiB",
      stats->run_cache_bytes);
  add(table, "transfer_caches", "for caches that run empty",
      stats->transfer_bytes);
}

// -- Free objects in spans ----------------------------------------------------

// Keeps the rows from `first` on in order, and of them the largest alone.
static void insert_class(struct table *table, unsigned first,
                         const struct tcx_held_row *row) {
  unsigned at = table->count;
  while (at > first && table->rows[at - 1].bytes < row->bytes)
    at--;
  if (at == first + TCX_HELD_CLASSES)
    return;
  if (table->count < first + TCX_HELD_CLASSES)
    table->count++;
  for (unsigned i = table->count - 1; i > at; i--)
    table->rows[i] = table->rows[i - 1];
  table->rows[at] = *row;
}

static void add_spans(struct table *table, const struct tcx_stats *stats) {
  unsigned first = table->count;
  for (unsigned i = 1; i < TCX_RUN_CLASS_FIRST; i++) {
    struct tcx_stats_class one;
    (void)tcx_stats_read_class(i, &one);
    struct tcx_held_row row = {
        .name = "class",
        .why = "waiting for",
        .bytes = one.central_free_bytes,
        .size_class = i,
        .objects = one.live_objects + one.cached_objects + one.transfer_objects,
        .spans = one.spans,
    };
    if (row.bytes > 0)
      insert_class(table, first, &row);
  }
  uint64_t others = stats->central_free_bytes;
  for (unsigned i = first; i < table->count; i++)
    others = less(others, table->rows[i].bytes);
  add(table, "other_classes", "waiting for other objects of their spans",
      others);
  add(table, "span_tails", "no object fits there", stats->span_tail_bytes);
}

// -- Pages --------------------------------------------------------------------

static void add_pages(struct table *table, const struct tcx_stats *stats) {
  uint64_t known = stats->kept_bytes + stats->fragmented_bytes;
  add(table, "kept_huge_pages", "for demand as in the last 2 seconds",
      stats->kept_bytes);
  add(table, "parts_of_huge_pages",
      "waiting for the rest of them or for 30 seconds without need",
      stats->fragmented_bytes);
  add(table, "other_free_pages", "for spans that are needed next",
      less(stats->page_free_bytes, known));
  add(table, "metadata", "tcx itself needs it", stats->metadata_bytes);
}

unsigned tcx_held_read(const struct tcx_stats *stats,
                       struct tcx_held_row rows[TCX_HELD_ROWS_MAX]) {
  struct table table = {rows, 0};
  add_caches(&table, stats);
  add_spans(&table, stats);
  add_pages(&table, stats);
  return table.count;
}

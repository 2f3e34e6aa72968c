// statistics_page.c -- prints docs/statistics.md from telemetry/stats.def.
#include <stdio.h>

static void print_row(const char *kind, const char *unit, const char *name,
                      const char *text) {
  printf("| `%s` | %s | %s | %s |\n", name, kind, unit, text);
}

static const char head[] =
    "# Statistics\n"
    "\n"
    "Made by `bazel run //tools:statistics_page` from `telemetry/stats.def`; a "
    "test\n"
    "compares.\n"
    "\n"
    "## How to get them\n"
    "\n"
    "| how | what |\n"
    "|---|---|\n"
    "| `TCX_STATS=exit` | the report when the process ends |\n"
    "| `TCX_STATS_SIGNAL=12` | the report after signal 12 (`SIGUSR2`), without "
    "ending the process |\n"
    "| `malloc_stats()`, `tcx_statistics_print(fd)` | the report now |\n"
    "| `tcx_statistics_get()` | the terms of the identity as a struct |\n"
    "| `mallinfo2()`, `mallinfo()` | `arena` = `resident_bytes`, `uordblks` = "
    "`allocated_bytes`, `fordblks` = the rest, of it `fsmblks` in caches and "
    "`keepcost` = `page_free_bytes` |\n"
    "| `malloc_info(0, file)` | XML: glibc's elements, then all figures and "
    "size classes under `<tcx>` |\n"
    "\n"
    "Reports go to standard error or, with `TCX_STATS_FILE=PATH`, to the end "
    "of that file,\n"
    "each by one `write`. After a signal the report is written by the next "
    "slow path of\n"
    "`malloc` in any thread, at the latest when one has allocated another MiB, "
    "by\n"
    "`tcx_tick()`, or by the end of the process: the handler itself only sets "
    "a flag, so\n"
    "that a signal may come in anywhere.\n"
    "\n"
    "## The identity\n"
    "\n"
    "```\n"
    "mapped   = resident + released\n"
    "resident = allocated + thread_cache + run_cache + transfer + "
    "central_free\n"
    "         + span_tail + page_free + metadata\n"
    "```\n"
    "\n"
    "Each term is counted by the tier that holds the bytes, and no term is "
    "worked out from\n"
    "the others: `mapped` by the system allocator, `resident` and `released` "
    "by the page\n"
    "source, the rest by caches, middle, page source and arena. One is not "
    "counted as it\n"
    "changes: the fast paths count nothing, so `allocated` is what the tiers "
    "have handed out\n"
    "less what lies in the caches of threads. A test sums up its own live "
    "objects beside it\n"
    "and checks both lines after each step. While other threads run, the "
    "figures are of\n"
    "slightly different moments, and the lines hold up to what changed "
    "meanwhile.\n"
    "\n"
    "`resident` is by tcx's own books. The kernel's RSS of the process also "
    "has the program,\n"
    "its stacks and libraries, and tcx's static tables; it lacks pages of live "
    "objects that\n"
    "nobody has written to yet.\n"
    "\n"
    "A child of `fork` begins with its parent's counters.\n"
    "\n"
    "## Figures\n"
    "\n"
    "A gauge says what is now, a counter what has happened since start.\n"
    "\n"
    "| figure | kind | unit | what |\n"
    "|---|---|---|---|\n";

static const char tail[] =
    "\n"
    "## Tables of the report\n"
    "\n"
    "| line | what |\n"
    "|---|---|\n"
    "| `class N size B live .. cached ..` | objects of size class N: in use, "
    "in "
    "the caches of threads; then, up to 256 KiB, in the transfer cache and in "
    "spans, spans now and ever, batches that the transfer cache served and "
    "missed. Classes that were never used have no line |\n"
    "| `lock NAME waits N` | acquisitions that had to sleep, by the lock's "
    "rank "
    "|\n"
    "| `os CALL calls N failures M` | system calls for memory |\n"
    "| `setting NAME VALUE (SOURCE)` | the settings in use, and where each "
    "came "
    "from |\n";

int main(void) {
  fputs(head, stdout);
#define TCX_STAT(kind, unit, name, text) print_row(#kind, #unit, #name, text);
#include "telemetry/stats.def"
#undef TCX_STAT
  fputs(tail, stdout);
  return 0;
}

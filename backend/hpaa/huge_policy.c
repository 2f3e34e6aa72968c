// huge_policy.c -- advice, breaking and mending. See huge_policy.h.
#include "backend/hpaa/huge_policy.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/os.h"
#include "base/os_files.h"

// Of Linux 5.4 and 6.1; libc's headers may be older.
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define THP_FOLDER "/sys/kernel/mm/transparent_hugepage/"
#define MAPPINGS_DEFAULT 65530
#define BROKEN_PART 4  // of the mappings

#define WORTH_BYTES ((uint64_t)32 << 20)
#define WORTH_ALWAYS_BYTES ((uint64_t)4 << 20)

#define BREAK_WAIT_MS 10000
#define COLLAPSE_WAIT_MIN_MS 1000
#define COLLAPSE_WAIT_MAX_MS 128000

// -- The machine --------------------------------------------------------------

// In the order of enum tcx_huge_thp.
static const char *const thp_words[] = {"[never]", "[madvise]", "[always]"};
static_assert(TCX_HUGE_THP_ALWAYS == 2, "a word for each");

enum tcx_huge_thp tcx_huge_parse_enabled(const char *text, size_t bytes,
                                         enum tcx_huge_thp otherwise) {
  for (unsigned i = 0; i < sizeof thp_words / sizeof thp_words[0]; i++) {
    size_t length = strlen(thp_words[i]);
    if (memmem(text, bytes, thp_words[i], length) != NULL)
      return (enum tcx_huge_thp)i;
  }
  return otherwise;
}

static enum tcx_huge_thp read_enabled(const char *path,
                                      enum tcx_huge_thp otherwise) {
  char text[128];
  intptr_t bytes = tcx_os_read_file(path, 0, text, sizeof text);
  return bytes > 0 ? tcx_huge_parse_enabled(text, (size_t)bytes, otherwise)
                   : otherwise;
}

// Since Linux 6.8 each size has a file of its own, which as a rule says
// "inherit": then that of all sizes counts.
static enum tcx_huge_thp read_thp(void) {
  uint64_t bytes;
  if (tcx_os_read_number(THP_FOLDER "hpage_pmd_size", &bytes) &&
      bytes != TCX_HUGE_BYTES) {
    return TCX_HUGE_THP_NEVER;  // arm64 with larger pages
  }
  enum tcx_huge_thp thp =
      read_enabled(THP_FOLDER "enabled", TCX_HUGE_THP_NEVER);
  thp = read_enabled(THP_FOLDER "hugepages-2048kB/enabled", thp);
  intptr_t disable = tcx_os_thp_disable();
  if (disable <= 0)
    return thp;
  bool is_by_advice = (disable & TCX_OS_THP_EXCEPT_ADVISED) != 0;
  if (!is_by_advice || thp == TCX_HUGE_THP_NEVER)
    return TCX_HUGE_THP_NEVER;
  return TCX_HUGE_THP_MADVISE;
}

void tcx_huge_machine_read(struct tcx_huge_machine *out) {
  out->thp = read_thp();
  if (!tcx_os_read_number("/proc/sys/vm/max_map_count", &out->mappings_max))
    out->mappings_max = MAPPINGS_DEFAULT;
}

// -- The policy ---------------------------------------------------------------

void tcx_huge_policy_init(struct tcx_huge_policy *self,
                          const struct tcx_huge_machine *machine,
                          uint64_t choice) {
  *self = (struct tcx_huge_policy){
      .machine = *machine,
      .worth_bytes = UINT64_MAX,
      .broken_max = machine->mappings_max / BROKEN_PART,
      .collapse_wait_ms = COLLAPSE_WAIT_MIN_MS,
  };
  if (machine->thp == TCX_HUGE_THP_NEVER)
    return;
  bool gives_anyway = machine->thp == TCX_HUGE_THP_ALWAYS;
  if (gives_anyway)
    self->advice_below = MADV_NOHUGEPAGE;
  if (choice == TCX_HUGEPAGES_NEVER)
    return;
  self->advice = MADV_HUGEPAGE;
  self->worth_bytes = choice == TCX_HUGEPAGES_ALWAYS ? 0
                      : gives_anyway                 ? WORTH_ALWAYS_BYTES
                                                     : WORTH_BYTES;
  self->has_huge_pages = true;
  self->can_collapse = true;
}

void tcx_huge_policy_advise(struct tcx_huge_policy *self,
                            struct tcx_huge_run run, uint64_t heap_bytes) {
  TCX_ASSERT(run.count > 0);
  bool is_worth = tcx_huge_policy_is_worth(self, heap_bytes);
  int advice = is_worth ? self->advice : self->advice_below;
  if (advice == 0)
    return;
  uint64_t bytes = tcx_huge_run_bytes(run);
  if (tcx_os_advise(tcx_huge_run_start(run), bytes, advice) != 0) {
    tcx_atomic_fetch_add_relaxed(&self->stats.advise_failures, 1);
  } else if (is_worth) {
    tcx_atomic_fetch_add_relaxed(&self->stats.advised_bytes, bytes);
  }
}

static int advise_one(uint64_t huge, int advice) {
  struct tcx_huge_run run = {huge, 1};
  return tcx_os_advise(tcx_huge_run_start(run), TCX_HUGE_BYTES, advice);
}

// -- Breaking -----------------------------------------------------------------

static bool refuse(struct tcx_huge_policy *self) {
  tcx_counter_add(&self->stats.breaks_refused, 1);
  return false;
}

bool tcx_huge_policy_break_begin(struct tcx_huge_policy *self, uint64_t huge,
                                 void *free_page, uint64_t now_ms) {
  size_t page_bytes = tcx_os_page_size();
  TCX_ASSERT((uintptr_t)free_page >> TCX_HUGE_SHIFT == huge);
  TCX_ASSERT(tcx_is_aligned((uintptr_t)free_page, page_bytes));
  if (!self->has_huge_pages)
    return true;
  if (self->stats.broken >= self->broken_max || now_ms < self->break_again_ms)
    return refuse(self);
  if (advise_one(huge, MADV_NOHUGEPAGE) != 0) {
    // Others have used up the mappings. They may unmap some.
    self->break_again_ms = now_ms + BREAK_WAIT_MS;
    return refuse(self);
  }
  tcx_counter_add(&self->stats.breaks, 1);
  tcx_counter_add(&self->stats.broken, 1);
  // Kernels before 5.4, and memory that is shared with a child.
  if (tcx_os_advise(free_page, page_bytes, MADV_COLD) != 0)
    tcx_counter_add(&self->stats.splits_failed, 1);
  return true;
}

void tcx_huge_policy_keep_out(struct tcx_huge_policy *self, uint64_t huge) {
  if (advise_one(huge, MADV_NOHUGEPAGE) != 0)
    tcx_atomic_fetch_add_relaxed(&self->stats.advise_failures, 1);
}

// The huge page is as others again: a part of its neighbours' mapping.
static bool unbreak(struct tcx_huge_policy *self, uint64_t huge) {
  TCX_ASSERT(self->stats.broken > 0);
  if (advise_one(huge, MADV_HUGEPAGE) != 0) {
    tcx_counter_add(&self->stats.mend_failures, 1);
    return false;
  }
  tcx_counter_add(&self->stats.broken, -(uint64_t)1);
  tcx_counter_add(&self->stats.mended, 1);
  return true;
}

bool tcx_huge_policy_break_end(struct tcx_huge_policy *self, uint64_t huge,
                               bool has_released) {
  if (!self->has_huge_pages)
    return has_released;
  return has_released || !unbreak(self, huge);
}

bool tcx_huge_policy_release(struct tcx_huge_policy *self, void *start,
                             size_t bytes) {
  TCX_ASSERT(tcx_is_aligned((uintptr_t)start | bytes, tcx_os_page_size()));
  if (tcx_os_release(start, bytes) != 0) {
    tcx_counter_add(&self->stats.release_failures, 1);
    return false;
  }
  tcx_counter_add(&self->stats.released_bytes, bytes);
  return true;
}

// -- Mending ------------------------------------------------------------------

// Whether the kernel knows the advice at all: of no memory it then says so.
// EINVAL alone is also its answer where the program has locked a page.
static bool knows_collapse(uint64_t huge) {
  struct tcx_huge_run none = {huge, 0};
  return tcx_os_advise(tcx_huge_run_start(none), 0, MADV_COLLAPSE) == 0;
}

static void back_off(struct tcx_huge_policy *self, uint64_t huge, int error,
                     uint64_t now_ms) {
  tcx_counter_add(&self->stats.collapse_failures, 1);
  if (error == EINVAL && !knows_collapse(huge)) {
    self->can_collapse = false;
    return;
  }
  self->collapse_again_ms = now_ms + self->collapse_wait_ms;
  if (self->collapse_wait_ms < COLLAPSE_WAIT_MAX_MS)
    self->collapse_wait_ms *= 2;
}

static bool collapse(struct tcx_huge_policy *self, uint64_t huge,
                     uint64_t now_ms) {
  if (!self->can_collapse || now_ms < self->collapse_again_ms)
    return false;
  int error = advise_one(huge, MADV_COLLAPSE);
  if (error != 0) {
    back_off(self, huge, error, now_ms);
    return false;
  }
  self->collapse_wait_ms = COLLAPSE_WAIT_MIN_MS;
  tcx_counter_add(&self->stats.collapsed, 1);
  return true;
}

enum tcx_huge_mended tcx_huge_policy_mend(struct tcx_huge_policy *self,
                                          uint64_t huge, bool is_full,
                                          uint64_t now_ms) {
  if (!self->has_huge_pages)
    return TCX_HUGE_MENDED;
  if (!unbreak(self, huge))
    return TCX_HUGE_STILL_BROKEN;
  bool is_huge = is_full && collapse(self, huge, now_ms);
  return is_huge ? TCX_HUGE_COLLAPSED : TCX_HUGE_MENDED;
}

// -- Statistics, check --------------------------------------------------------

void tcx_huge_policy_read_stats(const struct tcx_huge_policy *self,
                                struct tcx_huge_policy_stats *out) {
  const uint64_t *from = (const uint64_t *)&self->stats;
  uint64_t *to = (uint64_t *)out;
  for (size_t i = 0; i < sizeof *out / sizeof *to; i++)
    to[i] = tcx_atomic_load_relaxed(&from[i]);
}

void tcx_huge_policy_check(const struct tcx_huge_policy *self) {
  TCX_CHECK(self->stats.broken == self->stats.breaks - self->stats.mended);
  TCX_CHECK(self->stats.broken <= self->broken_max);
  TCX_CHECK(self->has_huge_pages || self->stats.broken == 0);
  TCX_CHECK(self->has_huge_pages || self->stats.advised_bytes == 0);
  TCX_CHECK(self->collapse_wait_ms >= COLLAPSE_WAIT_MIN_MS);
  TCX_CHECK(self->collapse_wait_ms <= COLLAPSE_WAIT_MAX_MS);
}

// api.c -- the public functions of include/tcx/tcx.h.
//
// PLACE IN THE SYSTEM: thin; each is a question to the heap, the settings or
// the statistics. The header is the contract.
// What it declares leaves the library.
#pragma GCC visibility push(default)
#include "tcx/tcx.h"
#pragma GCC visibility pop

#include <errno.h>
#include <string.h>

#include "base/compiler.h"
#include "base/knobs.h"
#include "base/os.h"
#include "libc/heap.h"
#include "libc/upkeep.h"
#include "pagemap/span.h"
#include "telemetry/stats.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#define VERSION             \
  STRING(TCX_VERSION_MAJOR) \
  "." STRING(TCX_VERSION_MINOR) "." STRING(TCX_VERSION_PATCH)

const char *tcx_version_string(void) {
  return VERSION;
}

unsigned tcx_version_number(void) {
  return TCX_VERSION_NUMBER;
}

// -- settings -----------------------------------------------------------------

int tcx_set(const char *name, const char *value) {
  bool serves = tcx_heap_start();
  int error =
      tcx_knob_set(name, strlen(name), value, strlen(value), TCX_KNOB_API);
  if (error == 0 && serves)
    tcx_upkeep_limits_changed();
  return error;
}

int tcx_get(const char *name, char *buffer, size_t bytes) {
  tcx_heap_start();
  return tcx_knob_get(name, buffer, bytes);
}

// -- giving memory back -------------------------------------------------------

size_t tcx_release(size_t bytes) {
  return tcx_heap_release(bytes);
}

void tcx_tick(void) {
  tcx_heap_tick();
}

// Where tcx has stepped aside there is no limit, and nothing to call.
int tcx_set_hard_limit_callback(int (*call)(void *arg, size_t wanted_bytes),
                                void *arg) {
  if (!tcx_heap_start())
    return 0;
  return tcx_upkeep_set_callback(call, arg) ? 0 : ENOMEM;
}

// -- about one object ---------------------------------------------------------

int tcx_owns(const void *pointer) {
  return tcx_heap_find(pointer) != NULL;
}

size_t tcx_size_of(const void *pointer) {
  const struct tcx_span *span = tcx_heap_find(pointer);
  return span != NULL ? tcx_heap_object_bytes(span) : 0;
}

unsigned tcx_size_class(const void *pointer) {
  const struct tcx_span *span = tcx_heap_find(pointer);
  return span != NULL ? span->size_class : 0;
}

size_t tcx_good_size(size_t size) {
  return size <= TCX_REQUEST_MAX ? tcx_heap_good_size(size) : 0;
}

// -- statistics ---------------------------------------------------------------

int tcx_statistics_get(struct tcx_statistics *out) {
  if (out->struct_size < sizeof *out)
    return EINVAL;
  tcx_heap_start();
  struct tcx_stats stats;
  tcx_stats_read(&stats);
  out->version = TCX_STATISTICS_VERSION;
  out->mapped_bytes = stats.mapped_bytes;
  out->released_bytes = stats.released_bytes;
  out->resident_bytes = stats.resident_bytes;
  out->allocated_bytes = stats.allocated_bytes;
  out->thread_cache_bytes = stats.thread_cache_bytes;
  out->cpu_cache_bytes = stats.cpu_cache_bytes;
  out->run_cache_bytes = stats.run_cache_bytes;
  out->transfer_bytes = stats.transfer_bytes;
  out->central_free_bytes = stats.central_free_bytes;
  out->span_tail_bytes = stats.span_tail_bytes;
  out->page_free_bytes = stats.page_free_bytes;
  out->metadata_bytes = stats.metadata_bytes;
  return 0;
}

static void print_text(const char *text, size_t bytes, void *fd) {
  tcx_os_write(*(const int *)fd, text, bytes);
}

void tcx_statistics_print(int fd) {
  tcx_heap_start();
  tcx_stats_write(print_text, &fd);
}

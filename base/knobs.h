// knobs.h -- the settings of tcx: their values, and where each came from.
//
// PLACE IN THE SYSTEM
//   knobs.def lists them. knobs.c knows names, kinds and ranges; knobs_load.c
//   reads the sources at start. Whoever follows a setting reads its field of
//   tcx_knobs.
//
// PRECEDENCE, the later wins, each setting on its own: default, the program's
//   `tcx_conf` symbol, /etc/tcx.conf (or the file that TCX_CONF_FILE names),
//   TCX_CONF, TCX_<NAME>, tcx_set(). The environment does not count in a
//   process with AT_SECURE. Nothing is read after start.
//
// LOCKING: loaded once, under the start lock. Fields of live knobs are written
//   with relaxed atomics by tcx_knob_set, and read so by slow paths.
#ifndef TCX_BASE_KNOBS_H_
#define TCX_BASE_KNOBS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

enum { TCX_KNOB_TEXT_BYTES = 256 };  // with the terminator

struct tcx_knobs {
#define TCX_KNOB(kind, name, initial, least, most, live, text) uint64_t name;
#define TCX_KNOB_TEXT(name, text) char name[TCX_KNOB_TEXT_BYTES];
#include "base/knobs.def"
#undef TCX_KNOB
#undef TCX_KNOB_TEXT
};
extern struct tcx_knobs tcx_knobs;

enum tcx_foreign_choice {
  TCX_FOREIGN_ABORT,
  TCX_FOREIGN_LIBC,
  TCX_FOREIGN_IGNORE
};
enum tcx_frontend_choice {
  TCX_FRONTEND_PERCPU_CHOICE,
  TCX_FRONTEND_PERTHREAD_CHOICE
};
enum tcx_hugepages_choice {
  TCX_HUGEPAGES_DEFAULT,
  TCX_HUGEPAGES_ALWAYS,
  TCX_HUGEPAGES_NEVER
};
enum tcx_background_choice {
  TCX_BACKGROUND_AUTO,
  TCX_BACKGROUND_ON,
  TCX_BACKGROUND_OFF
};
enum tcx_hard_limit_choice {
  TCX_HARD_LIMIT_FAIL,
  TCX_HARD_LIMIT_CALLBACK,
  TCX_HARD_LIMIT_ABORT
};
// What "auto" is as a value of a limit.
#define TCX_KNOB_LIMIT_AUTO ((uint64_t)INT64_MAX)
enum tcx_stats_choice { TCX_STATS_OFF, TCX_STATS_EXIT };

enum tcx_knob_source {
  TCX_KNOB_DEFAULT,
  TCX_KNOB_PROGRAM,      // the symbol tcx_conf
  TCX_KNOB_FILE,         // /etc/tcx.conf
  TCX_KNOB_CONF,         // TCX_CONF
  TCX_KNOB_ENVIRONMENT,  // TCX_<NAME>
  TCX_KNOB_API,
};

// What the program may define: "name:value,name:value".
extern const char *tcx_conf __attribute__((weak));

// Loads all sources, once; complains of each bad setting in one line. Before
// that, tcx_knobs holds the defaults. Does not allocate.
void tcx_knobs_load(void);

// Sets one knob by name. 0, or ENOENT (no such knob), EINVAL (not a value of
// its kind), ERANGE, or EPERM (TCX_KNOB_API only: not while the program runs).
// The old value stays then.
int tcx_knob_set(const char *name, size_t name_bytes, const char *value,
                 size_t value_bytes, enum tcx_knob_source source);

// The same; a value that is refused is reported in one line as coming from
// `where`, and ends the process if abort_on_bad_config is set.
void tcx_knob_set_or_complain(const char *name, size_t name_bytes,
                              const char *value, size_t value_bytes,
                              const char *where, enum tcx_knob_source source);

// The value as text, in base units. 0, ENOENT, or ERANGE: no room (nothing is
// written then).
int tcx_knob_get(const char *name, char *buffer, size_t capacity);

// Calls `visit` for each knob in order: its name, kind ("bytes" ...), range,
// value and source as text. For documents and TCX_SHOW_CONFIG.
struct tcx_knob_info {
  const char *name;
  const char *kind;
  const char *text;
  const char *source;
  uint64_t least;
  uint64_t most;
  bool live;
  char value[TCX_KNOB_TEXT_BYTES];
};
void tcx_knobs_each(void (*visit)(const struct tcx_knob_info *info, void *arg),
                    void *arg);

// Settings in one text. `pairs`: "name:value,name:value". Lines: "name =
// value", with # comments. Each bad one is reported as coming from `where`.
void tcx_knobs_parse_pairs(const char *text, size_t bytes, const char *where,
                           enum tcx_knob_source source);
void tcx_knobs_parse_lines(const char *text, size_t bytes, const char *where,
                           enum tcx_knob_source source);

TCX_END_DECLS

#endif  // TCX_BASE_KNOBS_H_

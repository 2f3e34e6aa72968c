// knobs_load.c -- reads the sources of the settings, once, at start.
//
// WHAT IT DECIDES
//   The order of knobs.h. A file counts only if root or this user owns it and
//   nobody else may write it. A variable TCX_X that names no knob is reported
//   like any other bad setting; TCX_CONF and TCX_CONF_FILE are not knobs.
#include <errno.h>
#include <string.h>

#include "base/knobs.h"
#include "base/log.h"
#include "base/os.h"

#define PREFIX "TCX_"
#define PREFIX_BYTES (sizeof PREFIX - 1)
#define NAME_BYTES 64
#define FILE_BYTES 4096
#define DEFAULT_FILE "/etc/tcx.conf"

extern char **environ;

static bool is_named(const char *entry, size_t bytes, const char *name) {
  return strlen(name) == bytes && memcmp(entry, name, bytes) == 0;
}

// "TCX_SOME_KNOB=value" as the pair "some_knob:value" would be set.
static void load_variable(const char *entry, const char *equals) {
  const char *name = entry + PREFIX_BYTES;
  size_t bytes = (size_t)(equals - name);
  if (is_named(name, bytes, "CONF") || is_named(name, bytes, "CONF_FILE"))
    return;
  char lower[NAME_BYTES];
  if (bytes >= sizeof lower)
    bytes = sizeof lower - 1;
  for (size_t i = 0; i < bytes; i++) {
    bool is_upper = name[i] >= 'A' && name[i] <= 'Z';
    lower[i] = (char)(is_upper ? name[i] - 'A' + 'a' : name[i]);
  }
  tcx_knob_set_or_complain(lower, bytes, equals + 1, strlen(equals + 1),
                           "environment", TCX_KNOB_ENVIRONMENT);
}

static void load_environment(void) {
  char **entries = tcx_os_environment();
  for (; entries != NULL && *entries != NULL; entries++) {
    const char *equals = strchr(*entries, '=');
    if (equals != NULL && strncmp(*entries, PREFIX, PREFIX_BYTES) == 0)
      load_variable(*entries, equals);
  }
}

static void load_file(void) {
  static char text[FILE_BYTES];
  const char *named = tcx_os_getenv("TCX_CONF_FILE");
  const char *path = named != NULL ? named : DEFAULT_FILE;
  intptr_t bytes = tcx_os_read_trusted_file(path, text, sizeof text);
  if (bytes >= 0) {
    tcx_knobs_parse_lines(text, (size_t)bytes, path, TCX_KNOB_FILE);
  } else if (bytes == -EPERM) {
    tcx_log("%s: not read: others than root and this user may write it", path);
  } else if (bytes == -EFBIG) {
    tcx_log("%s: not read: longer than %d bytes", path, FILE_BYTES);
  } else if (named != NULL) {
    tcx_log("%s: not read (error %d)", path, (int)-bytes);
  }
}

static void show(const struct tcx_knob_info *info, void *arg) {
  (void)arg;
  tcx_log("%s = %s (%s)", info->name, info->value, info->source);
}

void tcx_knobs_load(void) {
  // Ahead of the order: it says what a mistake in any source means.
  const char *strict = tcx_os_getenv("TCX_ABORT_ON_BAD_CONFIG");
  if (strict != NULL && strcmp(strict, "1") == 0)
    tcx_knobs.abort_on_bad_config = 1;
  if (&tcx_conf != NULL && tcx_conf != NULL) {
    tcx_knobs_parse_pairs(tcx_conf, strlen(tcx_conf), "tcx_conf",
                          TCX_KNOB_PROGRAM);
  }
  load_file();
  const char *pairs = tcx_os_getenv("TCX_CONF");
  if (pairs != NULL) {
    tcx_knobs_parse_pairs(pairs, strlen(pairs), "TCX_CONF", TCX_KNOB_CONF);
  }
  load_environment();
  if (tcx_knobs.show_config != 0)
    tcx_knobs_each(show, NULL);
}

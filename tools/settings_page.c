// settings_page.c -- prints docs/settings.md from base/knobs.def.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/knobs.h"

static void print_number(const char *kind, uint64_t value) {
  static const char *const units[] = {"", "k", "M", "G", "T"};
  unsigned unit = 0;
  if (strcmp(kind, "bytes") == 0) {
    while (value >= 1024 && value % 1024 == 0 && unit < 4) {
      value /= 1024;
      unit++;
    }
    printf("%lu%s", value, units[unit]);
  } else if (strcmp(kind, "time") == 0) {
    bool whole = value >= 1000 && value % 1000 == 0;
    printf("%lu%s", whole ? value / 1000 : value, whole ? "s" : "ms");
  } else {
    printf("%lu", value);
  }
}

// "abort|libc: what ..." -> "what ...".
static const char *explanation(const struct tcx_knob_info *info) {
  if (strcmp(info->kind, "choice") != 0)
    return info->text;
  return strchr(info->text, ':') + 2;
}

static void print_range(const struct tcx_knob_info *info) {
  if (strcmp(info->kind, "flag") == 0) {
    printf("0, 1");
  } else if (strcmp(info->kind, "text") == 0) {
    printf("up to %lu bytes", info->most);
  } else if (strcmp(info->kind, "choice") == 0) {
    int bytes = (int)strcspn(info->text, ":");
    for (int i = 0; i < bytes; i++)
      printf(info->text[i] == '|' ? ", " : "%c", info->text[i]);
  } else {
    if (strcmp(info->kind, "limit") == 0) {
      printf("auto, bytes");
      return;
    }
    print_number(info->kind, info->least);
    printf(" .. ");
    print_number(info->kind, info->most);
  }
}

static void print_row(const struct tcx_knob_info *info, void *arg) {
  (void)arg;
  bool is_number = strchr("btc", info->kind[0]) != NULL &&
                   strcmp(info->kind, "choice") != 0 &&
                   strcmp(info->kind, "text") != 0;
  printf("| `%s` | ", info->name);
  if (is_number) {
    uint64_t value = 0;
    sscanf(info->value, "%lu", &value);
    print_number(info->kind, value);
  } else {
    printf("%s", info->value[0] != 0 ? info->value : "none");
  }
  printf(" | ");
  print_range(info);
  printf(" | %s | %s |\n", info->live ? "yes" : "no", explanation(info));
}

int main(void) {
  printf(
      "# Settings\n\n"
      "Made by `bazel run //tools:settings_page` from `base/knobs.def`; a test "
      "compares.\nSources and syntax: `man tcx`, "
      "[man/tcx.3](man/tcx.3). The variable of a setting is\n`TCX_` and its "
      "name in capitals: `TCX_THREAD_CACHE=64M`.\n\n"
      "| setting | default | range | live | what |\n|---|---|---|---|---|\n");
  tcx_knobs_each(print_row, NULL);
  printf(
      "\nLive settings change by `tcx_set()` while the program runs; the "
      "others count at\nstart. Sizes are bytes with `k`, `M`, `G`, `T`; times "
      "milliseconds, with `ms`, `s`,\n`m`.\n");
  return 0;
}

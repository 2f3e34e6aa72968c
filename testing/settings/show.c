// show.c -- prints the values of the settings that it is asked for; of
// AT_SECURE, whether the process has more rights than its user.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <tcx/tcx.h>

#ifdef WITH_CONF
const char *tcx_conf = "thread_cache:5M,trim_time:5s";
#endif

int main(int argc, char **argv) {
  free(malloc(1));
  for (int i = 1; i < argc; i++) {
    char value[256];
    if (strcmp(argv[i], "AT_SECURE") == 0)
      snprintf(value, sizeof value, "%lu", getauxval(AT_SECURE));
    else if (tcx_get(argv[i], value, sizeof value) != 0)
      return 1;
    printf("%s%s", value, i + 1 < argc ? " " : "\n");
  }
  return 0;
}

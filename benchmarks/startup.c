// startup.c -- resident memory and faults of a process after its first malloc.
//
// Prints "RSS_KIB PRIVATE_KIB" from /proc/self/smaps_rollup. The file is read
// into a static buffer with system calls, so that nothing but the one malloc
// is counted. Run by startup_test.py under a preload and without one.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char text[8192];

static long field_kib(const char *name) {
  const char *at = strstr(text, name);
  return at == NULL ? 0 : strtol(at + strlen(name), NULL, 10);
}

int main(void) {
  char *volatile p = (char *)malloc(64);
  if (p == NULL)
    return 1;
  *p = 1;
  int fd = open("/proc/self/smaps_rollup", O_RDONLY);
  if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
    return 1;
  char line[80];
  int length =
      snprintf(line, sizeof(line), "%ld %ld\n", field_kib("\nRss:"),
               field_kib("\nPrivate_Clean:") + field_kib("\nPrivate_Dirty:"));
  free(p);
  return write(1, line, (size_t)length) == length ? 0 : 1;
}

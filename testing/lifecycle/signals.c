// signals.c -- malloc and free in a signal handler that interrupts them.
//
// Method: a timer fires every 50 us for a second; its handler allocates, fills,
//   checks and frees, while the program does the same.
// usage: signals fast   pairs of one size: both sides stay on the fast paths,
//                       which are re-entrant, so it must end well
//        signals slow   the program goes through all tiers all the time; the
//                       handler has a size of its own, of which it keeps some,
//                       so that it does too: whatever it interrupts, the
//                       process ends well or by one line
//        signals large  objects above 4 MiB, which have locks and no cache
#include <errno.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include "testing/lifecycle/check.h"

static volatile sig_atomic_t handled;
static size_t handler_size = 100;
static int is_slow;

static void pair(size_t size, int tag) {
  char *object = (char *)keep(malloc(size));
  if (object == NULL)
    abort();
  size_t touched = size < 200 ? size : 200;
  memset(object, tag, touched);
  keep(object);
  if (!is_filled(object, touched, tag))
    _Exit(3);  // Handed out twice.
  free(object);
}

// Of a size that nobody else has: a handler on a slow path of the size whose
// fast path it interrupted would be another matter (docs/life-cycle.md).
static void keep_some(void) {
  enum { KEPT = 200, SIZE = 1000 };
  static char *kept[KEPT];
  static int count;
  kept[count] = (char *)keep(malloc(SIZE));
  memset(kept[count], count, SIZE);
  if (++count < KEPT)
    return;
  while (count > 0) {
    count--;
    if (!is_filled(kept[count], SIZE, count))
      _Exit(3);
    free(kept[count]);
  }
}

static void handler(int number) {
  (void)number;
  int saved = errno;
  handled = handled + 1;
  if (is_slow)
    keep_some();
  else
    pair(handler_size, 0x11);
  errno = saved;
}

static void start_timer(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  struct itimerval each = {{0, 50}, {0, 50}};
  CHECK(setitimer(ITIMER_REAL, &each, NULL) == 0);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

enum { LIVE = 3000 };

// Sizes from 1 byte to 1 MiB; keeps many alive, so that classes run dry and
// overflow all the time.
static void mix(void) {
  static struct {
    void *object;
    size_t touched;
    int tag;
  } live[LIVE];
  static unsigned random = 1;
  for (int i = 0; i < 2 * LIVE; i++) {
    random = random * 1664525 + 1013904223;
    unsigned slot = (random >> 8) % LIVE;
    if (!is_filled(live[slot].object, live[slot].touched, live[slot].tag))
      _Exit(3);
    free(live[slot].object);
    size_t size = 1 + (random >> 4) % 300;
    if (random >> 28 == 0)
      size *= 3000;
    live[slot].object = keep(malloc(size));
    live[slot].touched = size < 200 ? size : 200;
    live[slot].tag = (int)(0x80 | random >> 25);
    memset(live[slot].object, live[slot].tag, live[slot].touched);
  }
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  is_slow = strcmp(mode, "slow") == 0;
  if (strcmp(mode, "large") == 0)
    handler_size = 5 << 20;
  // The classes of both sides have objects.
  for (int i = 0; i < 1000; i++)
    pair(handler_size, 0x33);
  void *spare = malloc(100);
  free(spare);
  start_timer();
  double end = now() + 1;
  while (now() < end) {
    if (is_slow) {
      mix();
    } else {
      for (int i = 0; i < 1000; i++)
        pair(handler_size, 0x44);
    }
  }
  struct itimerval none = {{0, 0}, {0, 0}};
  CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0);
  CHECK(handled > 100);
  printf("signals: %d handled\n", (int)handled);
  return report(mode);
}

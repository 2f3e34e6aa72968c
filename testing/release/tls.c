// tls.c -- a program with TLS_KIB KiB of static TLS, which libc puts on each
// thread's stack: tcx-bg has room beside it for all that it does.
//
// Method: tcx-bg reads the cgroup's files (TCX_LIMIT=auto), empties caches and
//   gives memory back; the calling thread waits until a round did.
#include "testing/release/memory.h"

#define BURST_BYTES (16 * MIB)
#define LEAST 256
#define WAIT_S 30

static __thread char large[TLS_KIB * 1024 + 1];

static void *fill(void *arg) {
  memset(large, 1, sizeof large);
  return arg;
}

int main(void) {
  pthread_t thread;
  (void)fill(NULL);
  CHECK(pthread_create(&thread, NULL, fill, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(has_background_thread());
  size_t base = rss_bytes();
  burst_of(BURST_BYTES, LEAST);
  CHECK(soon(rss_bytes, base + BURST_BYTES / 4, WAIT_S, NULL));
  CHECK(has_background_thread());
  CHECK(is_filled(large, sizeof large, 1));
  return report("tls");
}

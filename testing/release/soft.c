// soft.c -- the soft limit of 64 MiB: what is free goes back, needed or not.
//
// Method: blocks of 64 KiB, of which one in six stays, so that nothing goes
//   back unless huge pages are broken for it, which only a limit asks for so
//   soon. Of 240 MiB that leaves 40 MiB.
// usage: soft idle|calls   TCX_LIMIT=64M, with threads or single-threaded
//        soft threads      TCX_BACKGROUND=off too: only other threads call
//        soft live         no limit is set
//        soft none         no limit: all of that stays for now
#include "testing/release/memory.h"

#define PEAK_BYTES (240 * MIB)
#define BLOCK_BYTES (64 * KIB)
#define KEPT 6
#define SOFT_BYTES (64 * MIB)
#define SLACK_BYTES (4 * MIB)
#define WAIT_S 30

static struct burst fill(void) {
  struct burst burst = {};
  size_t room = PEAK_BYTES / BLOCK_BYTES;
  burst.objects =
      (void **)mmap(NULL, room * sizeof(void *), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (; burst.count < room; burst.count++) {
    void *block = keep(malloc(BLOCK_BYTES));
    memset(block, 1, BLOCK_BYTES);
    burst.objects[burst.count] = block;
  }
  return burst;
}

static void a_call(void) {
  free(keep(malloc(5000)));
}

static void *call(void *arg) {
  a_call();
  return arg;
}

static void a_call_of_a_thread(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, call, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}

static void check_returns(void (*step)(void)) {
  size_t base = rss_bytes();
  struct burst burst = fill();
  burst_free(&burst, PEAK_BYTES, BLOCK_BYTES, KEPT);
  CHECK(soon(resident_bytes, SOFT_BYTES + SLACK_BYTES, WAIT_S, step));
  CHECK(soon(rss_bytes, base + SOFT_BYTES + SLACK_BYTES, WAIT_S, step));
  // What lives is not touched, nor is malloc refused.
  for (size_t i = 0; i < burst.count; i += KEPT)
    CHECK(is_filled(burst.objects[i], BLOCK_BYTES, 1));
  burst_free(&burst, PEAK_BYTES, BLOCK_BYTES, 0);
  void *large = keep(malloc(2 * SOFT_BYTES));
  CHECK(large != NULL);
  free(large);
}

static void check_stays(void) {
  struct burst burst = fill();
  burst_free(&burst, PEAK_BYTES, BLOCK_BYTES, KEPT);
  sleep_s(1);
  for (int i = 0; i < 1000; i++)
    a_call();
  CHECK(resident_bytes() > 2 * SOFT_BYTES);
}

// While it is held already, and nobody calls malloc.
static void check_live(void) {
  struct burst burst = fill();
  burst_free(&burst, PEAK_BYTES, BLOCK_BYTES, KEPT);
  CHECK(resident_bytes() > 2 * SOFT_BYTES);
  CHECK(tcx_set("limit", "64M") == 0);
  CHECK(soon(resident_bytes, SOFT_BYTES + SLACK_BYTES, WAIT_S, NULL));
  pid_t child = fork();
  if (child == 0) {
    char value[32];
    CHECK(tcx_get("limit", value, sizeof value) == 0);
    CHECK(strcmp(value, "67108864") == 0);
    burst_free(&burst, PEAK_BYTES, BLOCK_BYTES, 0);
    check_returns(a_call);
    _exit(failures != 0);
  }
  CHECK(child_did_well(child));
  CHECK(tcx_set("limit", "0") == 0);
  void *large = keep(malloc(2 * SOFT_BYTES));
  memset(large, 1, 2 * SOFT_BYTES);
  CHECK(resident_bytes() > 2 * SOFT_BYTES);
  free(large);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  const char *name = argc > 1 ? argv[1] : "";
  free(keep(malloc(100)));
  if (strcmp(name, "calls") == 0) {
    check_returns(a_call);
  } else if (strcmp(name, "threads") == 0) {
    check_returns(a_call_of_a_thread);
    CHECK(background_thread() == 0);
  } else if (strcmp(name, "idle") == 0) {
    CHECK(make_and_join());
    check_returns(NULL);
  } else if (strcmp(name, "live") == 0) {
    CHECK(make_and_join());
    check_live();
  } else {
    check_stays();
  }
  return report(name);
}

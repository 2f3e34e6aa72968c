// hard.cc -- what allocations meet at the hard limit, TCX_HARD_LIMIT=128M.
//
// Method: each kind of block is allocated until there is no more. What is held
//   is read from tcx's books and from the kernel. It is above the limit by no
//   more than what does not count for it: what tcx needs for itself, and in the
//   kernel's figure the program. That the limit is exact for what counts, also
//   while threads race, is tested in //backend:reclaimer_test.
// usage: hard CASE   see the table at the end
#include <new>

#include "testing/release/memory.h"

#define LIMIT_BYTES (128 * MIB)
// The mappings of tcx's caches do not count, and its books may exceed the
// limit.
#define SLACK_BYTES (4 * MIB)
// Libraries, stacks, the table of blocks.
#define PROGRAM_BYTES (12 * MIB)
#define RSS_BYTES_MAX (LIMIT_BYTES + SLACK_BYTES + PROGRAM_BYTES)
#define BLOCKS_MAX 300000

static void **blocks;
static size_t count;

static void start() {
  free(keep(malloc(100)));
  blocks =
      (void **)mmap(NULL, BLOCKS_MAX * sizeof blocks[0], PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void free_all() {
  for (size_t i = 0; i < count; i++)
    free(blocks[i]);
  count = 0;
}

static void *plain(size_t size) {
  return malloc(size);
}
static void *zeroed(size_t size) {
  return calloc(1, size);
}
static void *aligned(size_t size) {
  return aligned_alloc(64, size / 64 * 64);
}

// Until there is no more. How many bytes that are.
static size_t fill(size_t size, void *(*allocate)(size_t) = plain) {
  size_t first = count;
  while (count < BLOCKS_MAX) {
    errno = 0;
    void *block = keep(allocate(size));
    if (block == NULL)
      break;
    memset(block, 7, size / 64 * 64);
    blocks[count++] = block;
  }
  CHECK(count < BLOCKS_MAX && errno == ENOMEM);
  return (count - first) * size;
}

static bool is_within() {
  size_t resident = resident_bytes();
  if (resident > LIMIT_BYTES + SLACK_BYTES)
    printf("%zu MiB resident\n", resident / MIB);
  return resident <= LIMIT_BYTES + SLACK_BYTES;
}

// -- fail ---------------------------------------------------------------------

static bool throws(size_t size) {
  try {
    operator delete(keep(operator new(size)));
  } catch (const std::bad_alloc &) {
    return true;
  }
  return false;
}

static void check_refusals(size_t size) {
  char *old = (char *)blocks[0];
  void *out = NULL;
  errno = 0;
  CHECK(keep(realloc(old, 2 * size + 8 * MIB)) == NULL && errno == ENOMEM);
  CHECK(is_filled(old, size / 64 * 64, 7));
  CHECK(posix_memalign(&out, 4096, size + MIB) == ENOMEM && out == NULL);
  CHECK(throws(size + MIB));
  CHECK(keep(operator new(size + MIB, std::nothrow)) == NULL);
}

static void fail() {
  static const size_t sizes[] = {600, 5000, 100000, 1 << 20, 8 << 20};
  start();
  for (size_t size : sizes) {
    size_t bytes = fill(size);
    printf("%zu MiB in blocks of %zu\n", bytes / MIB, size);
    CHECK(bytes >= LIMIT_BYTES / 4 * 3);
    fill(size, zeroed);
    fill(size, aligned);
    CHECK(is_within() && rss_bytes() <= RSS_BYTES_MAX);
    check_refusals(size);
    // One goes, one comes.
    free(blocks[0]);
    blocks[0] = keep(malloc(size));
    CHECK(blocks[0] != NULL);
    free_all();
  }
  // Nothing is lost.
  void *most = keep(malloc(LIMIT_BYTES / 10 * 9));
  CHECK(most != NULL);
  free(most);
}

// A block that has room behind it once all that is free has gone back.
static void grows_in_place() {
  start();
  char *block = (char *)keep(malloc(64 * MIB));
  void *other = keep(malloc(48 * MIB));
  memset(other, 1, 48 * MIB);
  memset(block, 7, 64 * MIB);
  free(other);
  block = (char *)keep(realloc(block, 100 * MIB));
  CHECK(block != NULL && is_filled(block, 64 * MIB, 7));
  free(block);
}

// -- many threads -------------------------------------------------------------

static int must_end;

static void *storm(void *arg) {
  enum { SLOTS = 200 };
  void *own[SLOTS] = {};
  uint64_t random = 88172645463325252u + 7 * (uintptr_t)arg;
  size_t refused = 0;
  while (!__atomic_load_n(&must_end, __ATOMIC_RELAXED)) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    void **slot = &own[random % SLOTS];
    free(*slot);
    size_t size = (size_t)64 << (random >> 32 & 15);
    *slot = keep(malloc(size));
    if (*slot != NULL)
      memset(*slot, 1, size);
    refused += *slot == NULL;
  }
  for (void *object : own)
    free(object);
  return (void *)refused;
}

static void threads() {
  enum { THREADS = 8 };
  pthread_t ids[THREADS];
  start();
  for (uintptr_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&ids[i], NULL, storm, (void *)i) == 0);
  size_t most = 0, most_rss = 0;
  for (double end = now_s() + 2; now_s() < end; usleep(500)) {
    size_t resident = resident_bytes(), rss = rss_bytes();
    most = resident > most ? resident : most;
    most_rss = rss > most_rss ? rss : most_rss;
  }
  __atomic_store_n(&must_end, 1, __ATOMIC_RELAXED);
  size_t refused = 0;
  for (int i = 0; i < THREADS; i++) {
    void *result = NULL;
    CHECK(pthread_join(ids[i], &result) == 0);
    refused += (size_t)result;
  }
  printf("at most %zu MiB, RSS %zu MiB, %zu refused\n", most / MIB,
         most_rss / MIB, refused);
  CHECK(refused > 0 && most > LIMIT_BYTES / 2);
  // The figures are read one after the other while they change.
  CHECK(most <= LIMIT_BYTES + 2 * SLACK_BYTES);
  CHECK(most_rss <= RSS_BYTES_MAX);
}

// -- callback -----------------------------------------------------------------

static void *reserve;
static int calls;
static size_t wanted;
static int nested_refusals;

static int free_reserve(void *arg, size_t wanted_bytes) {
  CHECK(arg == &reserve);
  calls++;
  wanted = wanted_bytes;
  // Not called for that again.
  nested_refusals += keep(malloc(LIMIT_BYTES)) == NULL;
  if (reserve == NULL)
    return 0;
  free(reserve);
  reserve = NULL;
  return 1;
}

static int never_helps(void *arg, size_t wanted_bytes) {
  (void)arg;
  (void)wanted_bytes;
  calls++;
  return 1;
}

static void callback() {
  start();
  reserve = keep(malloc(64 * MIB));
  // None is set yet.
  CHECK(keep(malloc(100 * MIB)) == NULL);
  CHECK(tcx_set_hard_limit_callback(free_reserve, &reserve) == 0);
  CHECK(calls == 0);
  void *large = keep(malloc(100 * MIB));
  CHECK(large != NULL && reserve == NULL);
  CHECK(calls == 1 && wanted == 100 * MIB && nested_refusals == 1);
  CHECK(keep(malloc(100 * MIB)) == NULL);
  CHECK(calls == 2);
  free(large);
  // By operator new, and for small blocks.
  reserve = keep(malloc(64 * MIB));
  CHECK(!throws(100 * MIB) && calls == 3);
  reserve = keep(malloc(64 * MIB));
  size_t bytes = fill(3000);
  CHECK(calls == 5 && wanted == 3000 && bytes > 100 * MIB);
  // The child has it too.
  pid_t child = fork();
  if (child == 0) {
    calls = 0;
    CHECK(keep(malloc(MIB)) == NULL && calls == 1);
    _exit(failures != 0);
  }
  CHECK(child_did_well(child));
  // One that says so for ever.
  calls = 0;
  CHECK(tcx_set_hard_limit_callback(never_helps, NULL) == 0);
  CHECK(keep(malloc(MIB)) == NULL && calls > 1 && calls <= 100);
  calls = 0;
  CHECK(tcx_set_hard_limit_callback(NULL, NULL) == 0);
  CHECK(keep(malloc(MIB)) == NULL && calls == 0);
  free_all();
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// Frees what another thread may want to free as well: a cache of the program's.
static int shrink_cache(void *arg, size_t wanted_bytes) {
  (void)arg;
  (void)wanted_bytes;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < 16 && count > 0; i++)
    free(blocks[--count]);
  pthread_mutex_unlock(&lock);
  return 1;
}

static void *use_cache(void *arg) {
  for (int i = 0; i < 2000; i++) {
    void *block = keep(malloc(60000));
    CHECK(block != NULL);
    if (block == NULL)
      return arg;
    pthread_mutex_lock(&lock);
    blocks[count++] = block;
    pthread_mutex_unlock(&lock);
  }
  return arg;
}

// None fails, as there is always something to free.
static void callback_threads() {
  enum { THREADS = 4 };
  pthread_t ids[THREADS];
  start();
  CHECK(tcx_set_hard_limit_callback(shrink_cache, NULL) == 0);
  for (int i = 0; i < THREADS; i++)
    CHECK(pthread_create(&ids[i], NULL, use_cache, NULL) == 0);
  for (int i = 0; i < THREADS; i++)
    CHECK(pthread_join(ids[i], NULL) == 0);
  CHECK(is_within());
  free_all();
}

// -- others -------------------------------------------------------------------

static void aborts() {
  start();
  fill(8 << 20);
}

// With no variable set: by the program alone.
static void live() {
  char value[32];
  start();
  void *before = keep(malloc(256 * MIB));
  CHECK(before != NULL);
  free(before);
  CHECK(tcx_set("hard_limit", "128M") == 0);
  CHECK(tcx_get("hard_limit", value, sizeof value) == 0);
  CHECK(strcmp(value, "134217728") == 0);
  CHECK(keep(malloc(256 * MIB)) == NULL);
  pid_t child = fork();
  if (child == 0) {
    CHECK(keep(malloc(256 * MIB)) == NULL);
    _exit(failures != 0);
  }
  CHECK(child_did_well(child));
  // Below what is held: nothing more, but all of that stays.
  fill(MIB);
  CHECK(tcx_set("hard_limit", "16M") == 0);
  CHECK(keep(malloc(MIB)) == NULL);
  CHECK(is_filled(blocks[count / 2], MIB, 7));
  CHECK(tcx_set("hard_limit", "0") == 0);
  before = keep(malloc(256 * MIB));
  CHECK(before != NULL);
  free(before);
  free_all();
  CHECK(tcx_set("hard_limit", "12Q") == EINVAL);
  CHECK(tcx_set("hard_limit", "2000T") == ERANGE);
  CHECK(tcx_set("hard_limit_policy", "sometimes") == EINVAL);
  CHECK(tcx_set("limit", "much") == EINVAL);
  CHECK(tcx_get("limit", value, sizeof value) == 0);
  CHECK(strcmp(value, "0") == 0);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)();
  } cases[] = {
      {"fail", fail},
      {"grows_in_place", grows_in_place},
      {"threads", threads},
      {"callback", callback},
      {"callback_threads", callback_threads},
      {"aborts", aborts},
      {"live", live},
  };
  setvbuf(stdout, NULL, _IONBF, 0);
  for (const auto &one : cases) {
    if (argc > 1 && strcmp(argv[1], one.name) == 0) {
      one.run();
      return report(argv[1]);
    }
  }
  return 2;
}

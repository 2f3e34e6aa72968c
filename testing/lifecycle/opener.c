// opener.c -- opens a library that brings a tcx of its own.
//
// usage: opener tcx PATH      libtcx.so itself: its malloc is there by dlsym,
//                             and works, also in a thread that is older; the
//                             process keeps the malloc it had
//        opener foreign PATH  the same, and one pointer of glibc's to its free
//        opener linked PATH USABLE   opened_library.c: host and library call
//                             one malloc, whose objects of 100 have USABLE
//        opener deep PATH USABLE     the same, with RTLD_DEEPBIND
#include <dlfcn.h>
#include <pthread.h>

#include "testing/lifecycle/check.h"

static void *(*opened_malloc)(size_t size);
static void (*opened_free)(void *pointer);
static size_t (*opened_usable)(void *pointer);
static pthread_barrier_t barrier;

static void *use_opened(void *wait) {
  if (wait != NULL) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
  }
  for (size_t size = 1; size < 10 << 20; size += size / 2 + 1) {
    char *object = (char *)opened_malloc(size);
    CHECK(object != NULL && opened_usable(object) >= size);
    memset(object, 1, size);
    opened_free(object);
  }
  return NULL;
}

static void check_tcx(const char *path, int is_foreign) {
  pthread_t older;
  pthread_t newer;
  CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
  CHECK(pthread_create(&older, NULL, use_opened, &barrier) == 0);
  pthread_barrier_wait(&barrier);
  void *tcx = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (tcx == NULL)
    fprintf(stderr, "%s\n", dlerror());
  CHECK(tcx != NULL);
  *(void **)&opened_malloc = dlsym(tcx, "malloc");
  *(void **)&opened_free = dlsym(tcx, "free");
  *(void **)&opened_usable = dlsym(tcx, "malloc_usable_size");
  CHECK(opened_malloc != malloc);
  pthread_barrier_wait(&barrier);
  use_opened(NULL);
  CHECK(pthread_create(&newer, NULL, use_opened, NULL) == 0);
  CHECK(pthread_join(newer, NULL) == 0);
  CHECK(pthread_join(older, NULL) == 0);
  void *object = opened_malloc(100);
  CHECK(opened_usable(object) == 112);
  opened_free(object);
  object = keep(malloc(100));
  CHECK(!is_of_tcx(object));
  if (is_foreign)
    opened_free(object);
  else
    free(object);
  CHECK(dlclose(tcx) == 0);
  use_malloc();
}

static void check_linked(const char *path, int flags, size_t usable) {
  void *library = dlopen(path, RTLD_NOW | flags);
  if (library == NULL)
    fprintf(stderr, "%s\n", dlerror());
  CHECK(library != NULL);
  size_t (*library_use)(void);
  *(void **)&library_use = dlsym(library, "library_use");
  *(void **)&opened_malloc = dlsym(library, "library_malloc");
  *(void **)&opened_free = dlsym(library, "library_free");
  CHECK(library_use() == usable);
  opened_free(keep(malloc(100)));
  if ((flags & RTLD_DEEPBIND) == 0)
    free(opened_malloc(100));
  void *object = opened_malloc(100);
  use_malloc();
  CHECK(dlclose(library) == 0);
  // It stays: the kernel may still read a descriptor of its sequences.
  CHECK(dlopen(path, RTLD_LAZY | RTLD_NOLOAD) == library);
  opened_free(object);
  use_malloc();
}

int main(int argc, char **argv) {
  if (argc < 3)
    return 2;
  if (strcmp(argv[1], "linked") == 0)
    check_linked(argv[2], 0, (size_t)atoi(argv[3]));
  else if (strcmp(argv[1], "deep") == 0)
    check_linked(argv[2], RTLD_DEEPBIND, (size_t)atoi(argv[3]));
  else
    check_tcx(argv[2], strcmp(argv[1], "foreign") == 0);
  return report(argv[1]);
}

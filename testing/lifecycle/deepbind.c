// deepbind.c -- a host that opens modules with RTLD_DEEPBIND.
//
// Method: the module lies in a folder that only the RUNPATH of libouter.so
//   names, so it is found only if libc sees libouter.so as the caller. Then
//   objects go from host and libc to the module's free, and back.
// usage: deepbind all|back|names
#include <dlfcn.h>

#include "testing/lifecycle/check.h"

void *outer_open(const char *name, int flags);

static void check_names(void) {
  // The host has no RUNPATH for it.
  CHECK(dlopen("libinner.so", RTLD_NOW) == NULL);
  CHECK(strstr(dlerror(), "libinner.so") != NULL);
  CHECK(outer_open("libinner.so", 0) != NULL);
  CHECK(outer_open("$ORIGIN/inner/libinner.so", 0) != NULL);
  CHECK(outer_open("libnowhere.so", RTLD_DEEPBIND) == NULL);
  CHECK(strstr(dlerror(), "libnowhere.so") != NULL);
  // The program itself: flags and a NULL name go through.
  void *self = dlopen(NULL, RTLD_NOW | RTLD_NOLOAD);
  CHECK(self != NULL && dlsym(self, "printf") == (void *)(uintptr_t)printf);
  CHECK(dlopen("libinner.so", 0) == NULL);  // neither RTLD_NOW nor RTLD_LAZY
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "names") == 0) {
    check_names();
    return report(what);
  }
  void *module = outer_open("libinner.so", RTLD_DEEPBIND | RTLD_GLOBAL);
  CHECK(module != NULL);
  void *(*module_malloc)(size_t);
  void (*module_free)(void *);
  int (*module_own)(void);
  *(void **)&module_malloc = dlsym(module, "module_malloc");
  *(void **)&module_free = dlsym(module, "module_free");
  *(void **)&module_own = dlsym(module, "module_own");
  for (int i = 0; i < 1000; i++) {
    free(module_malloc(100));
    if (strcmp(what, "all") == 0) {
      module_free(keep(malloc(100)));
      CHECK(module_own());
    }
  }
  return report(what);
}

// stay.c -- a library that is linked with tcx is never unmapped.
//
// PLACE IN THE SYSTEM
//   The loader runs its constructor. In programs and in the archive; the shared
//   library says the same to the loader by -z nodelete.
//
// WHY
//   dlclose would unmap what others still point at: the kernel, which reads the
//   descriptor in `rseq_cs` of every thread that has run a restartable sequence
//   when it next preempts it, and kills the process where that is gone
//   (https://docs.kernel.org/userspace-api/rseq.html); libc, which calls the
//   destructors of tcx's keys when threads end; the thread that gives memory
//   back, which runs this code; the program, which may hold objects. None of
//   them can be called off for threads that do not run.
//
// LOCKING: the loader's, which the loader holds already.
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>

// Weak: a static program must not be given libc's loader for our sake. (And
// dlopen, by its name here, the linker would warn of there.)
extern __typeof__(dladdr1) dladdr1 __attribute__((weak));
extern __typeof__(dlsym) dlsym __attribute__((weak));

typedef void *dlopen_function(const char *file, int mode);

__attribute__((constructor)) static void stay(void) {
  static const char here;
  Dl_info info;
  struct link_map *library = NULL;
  if (dladdr1 == NULL || dlsym == NULL ||
      dladdr1(&here, &info, (void **)&library, RTLD_DL_LINKMAP) == 0)
    return;
  bool is_program = library->l_name[0] == '\0';
  dlopen_function *open = (dlopen_function *)dlsym(RTLD_DEFAULT, "dlopen");
  if (!is_program && open != NULL)
    (void)open(library->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

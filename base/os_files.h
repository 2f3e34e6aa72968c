// os_files.h -- what the system tells in files and by prctl, through one seam.
//
// PLACE IN THE SYSTEM
//   huge_policy (what the kernel does with huge pages) and cgroup (what the
//   process is charged) --> os_files --> the files of /sys and /proc
//   Beside base/os.h, whose table is of the calls for memory: a test that makes
//   those fail has no files to give, and a test of the files no calls.
//
// RULES: as in base/os.h. No function changes errno; a failure is -errno. All
//   are thread safe; none allocates or locks.
#ifndef TCX_BASE_OS_FILES_H_
#define TCX_BASE_OS_FILES_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

struct tcx_os_files {
  // Fills the buffer with what is in the file from `offset` on, as far as there
  // is. Bytes read, or -errno.
  intptr_t (*read)(const char *path, uint64_t offset, char *buffer,
                   size_t capacity);
  // PR_GET_THP_DISABLE: TCX_OS_THP_ bits, or -errno.
  intptr_t (*thp_disable)(void);
};

// The process has no huge pages; or none but where it asks (Linux 6.18).
enum { TCX_OS_THP_DISABLED = 1, TCX_OS_THP_EXCEPT_ADVISED = 2 };

// The real ones, and those in use. Installing a table is for tests; it must
// stay valid, and no other thread may be inside tcx meanwhile.
extern const struct tcx_os_files tcx_os_files_linux;
void tcx_os_files_install(const struct tcx_os_files *files);

TCX_NODISCARD intptr_t tcx_os_read_file(const char *path, uint64_t offset,
                                        char *buffer, size_t capacity);
intptr_t tcx_os_thp_disable(void);

// The number at the start of a file; UINT64_MAX where it says "max". False:
// there is no such file, or something else is in it.
TCX_NODISCARD bool tcx_os_read_number(const char *path, uint64_t *out);
// The same of a text. Too large a number is UINT64_MAX.
TCX_NODISCARD bool tcx_os_parse_number(const char *text, size_t bytes,
                                       uint64_t *out);

// A file that is read from its start to its end: one that the kernel makes anew
// for each that opens it, and is slow to make. Not through the table, whose
// files are short. Opens it: a descriptor, which tcx_os_close closes, or
// -errno.
int tcx_os_open_read(const char *path);
// Bytes read, 0 at the end, or -errno.
intptr_t tcx_os_read(int fd, char *buffer, size_t capacity);

TCX_END_DECLS

#endif  // TCX_BASE_OS_FILES_H_

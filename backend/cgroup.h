// cgroup.h -- what the process's memory cgroup allows and is charged.
//
// PLACE IN THE SYSTEM: limits --> cgroup --> base/os_files (/proc/self/cgroup,
//   /proc/self/mountinfo, the group's folder)
//
// WHAT IT DECIDES
//   Which group counts: that of version 1 where the memory controller is there,
//   else that of version 2. Its folder is where the controller is mounted, and
//   in that the process's path less the mount's own root (a container sees a
//   part of the tree). A limit may be set at any level from there up to the
//   mount, so all are read: the level of the folder is 0, its parent's 1.
//   The charge is without the page cache that the kernel can drop at once
//   (inactive_file): who reads files is charged up to the limit, and no memory
//   that tcx gives back would change that.
//
// LOCKING: none; each function reads files only. About 3 KiB of stack.
#ifndef TCX_BACKEND_CGROUP_H_
#define TCX_BACKEND_CGROUP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

enum { TCX_CGROUP_PATH_BYTES = 512, TCX_CGROUP_LEVELS_MAX = 32 };

struct tcx_cgroup {
  unsigned version;     // 1 or 2; 0: none
  uint32_t root_bytes;  // of `path`: the folder of the last level
  char path[TCX_CGROUP_PATH_BYTES];
};

struct tcx_cgroup_memory {
  uint64_t limit_bytes;   // the least of those that are set; UINT64_MAX: none
  uint64_t charge_bytes;  // without what the kernel can drop at once
};

// Where the group is now. 0; ENOENT: none that could be found, version is 0;
// another error: the files could not be read this time (a process may have no
// descriptor left), and all is as it was.
TCX_NODISCARD int tcx_cgroup_find(struct tcx_cgroup *self);

// 0; ENOENT: there is no such level, or the folder of level 0 is gone; another
// error: it could not be read this time. A folder above it, or where the tree
// is mounted, that has no charge has no limit.
TCX_NODISCARD int tcx_cgroup_read(const struct tcx_cgroup *self, unsigned level,
                                  struct tcx_cgroup_memory *out);

TCX_END_DECLS

#endif  // TCX_BACKEND_CGROUP_H_

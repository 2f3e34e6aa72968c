// cgroup.c -- finds the group and reads its files. See cgroup.h.
#include "backend/cgroup.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/fmt.h"
#include "base/os_files.h"

#define LINE_BYTES_MAX 1024
// Version 1 has no word for "none" but a number near 2^63.
#define NO_LIMIT_BYTES ((uint64_t)1 << 60)

// -- Texts --------------------------------------------------------------------

// Not terminated.
struct text {
  const char *start;
  size_t bytes;
};

static struct text make(const char *start, size_t bytes) {
  return (struct text){start, bytes};
}

static bool is_word(struct text text, const char *word) {
  return strlen(word) == text.bytes &&
         memcmp(text.start, word, text.bytes) == 0;
}

// Cuts off what is before the first `end`, or all.
static struct text cut(struct text *rest, char end) {
  struct text all = *rest;
  const char *stop =
      all.bytes > 0 ? (const char *)memchr(all.start, end, all.bytes) : NULL;
  size_t bytes = stop != NULL ? (size_t)(stop - all.start) : all.bytes;
  size_t gone = bytes + (stop != NULL);
  *rest = make(all.start + gone, all.bytes - gone);
  return make(all.start, bytes);
}

// Whether a list with commas has the word.
static bool has_word(struct text list, const char *word) {
  while (list.bytes > 0) {
    if (is_word(cut(&list, ','), word))
      return true;
  }
  return false;
}

// ENODEV: the folder went after the file was opened.
static int error_of(intptr_t got) {
  return got == -ENODEV ? ENOENT : (int)-got;
}

// Calls `visit` for each line until it returns true; ENOENT: for none, or there
// is no such file. Lines that are too long are passed over.
static int each_line(const char *path,
                     bool (*visit)(struct text line, void *arg), void *arg) {
  char buffer[LINE_BYTES_MAX];
  uint64_t offset = 0;
  bool is_inside = false;  // of a line that is passed over
  for (;;) {
    intptr_t got = tcx_os_read_file(path, offset, buffer, sizeof buffer);
    if (got <= 0)
      return got < 0 ? error_of(got) : ENOENT;
    struct text rest = make(buffer, (size_t)got);
    size_t used = 0;
    while (memchr(rest.start, '\n', rest.bytes) != NULL) {
      struct text line = cut(&rest, '\n');
      used += line.bytes + 1;
      if (!is_inside && visit(line, arg))
        return 0;
      is_inside = false;
      if (rest.bytes == 0)
        break;
    }
    if (used == 0 && (size_t)got < sizeof buffer)
      return !is_inside && visit(rest, arg) ? 0 : ENOENT;  // It has no end.
    is_inside |= used == 0;
    offset += used > 0 ? used : (size_t)got;
  }
}

// -- Finding ------------------------------------------------------------------

struct search {
  struct tcx_cgroup *group;
  unsigned version;  // of the line that was found
  char path[TCX_CGROUP_PATH_BYTES];
};

static bool keep(struct text text, char *out) {
  if (text.bytes >= TCX_CGROUP_PATH_BYTES)
    return false;
  memcpy(out, text.start, text.bytes);
  out[text.bytes] = 0;
  return true;
}

// "4:memory:/path", and of version 2 "0::/path". One of version 1 ends it.
static bool visit_group(struct text line, void *arg) {
  struct search *search = (struct search *)arg;
  struct text number = cut(&line, ':');
  struct text controllers = cut(&line, ':');
  unsigned version = 0;
  if (has_word(controllers, "memory"))
    version = 1;
  else if (is_word(number, "0") && controllers.bytes == 0)
    version = 2;
  if (version != 0 && keep(line, search->path))
    search->version = version;
  return version == 1 && search->version == 1;
}

// The folder of a path under a mount of the part of the tree below `root`.
static bool join(struct tcx_cgroup *self, struct text mount, struct text root,
                 const char *path) {
  size_t skip = is_word(root, "/") ? 0 : root.bytes;
  if (strncmp(path, root.start, skip) != 0 ||
      (path[skip] != '/' && path[skip] != 0)) {
    return false;  // Another part: a bind mount of a container.
  }
  path += skip;
  if (path[0] == '/' && path[1] == 0)
    path++;
  size_t bytes = strlen(path);
  if (mount.bytes + bytes >= sizeof self->path)
    return false;
  memcpy(self->path, mount.start, mount.bytes);
  memcpy(self->path + mount.bytes, path, bytes + 1);
  self->root_bytes = (uint32_t)mount.bytes;
  return true;
}

// "31 23 0:28 /root /mount options optional ... - type source options"
static bool visit_mount(struct text line, void *arg) {
  struct search *search = (struct search *)arg;
  struct text fields[5];
  for (int i = 0; i < 5; i++)
    fields[i] = cut(&line, ' ');
  while (line.bytes > 0 && !is_word(cut(&line, ' '), "-")) {
  }
  struct text type = cut(&line, ' ');
  (void)cut(&line, ' ');
  bool fits = search->version == 2
                  ? is_word(type, "cgroup2")
                  : is_word(type, "cgroup") && has_word(line, "memory");
  return fits && join(search->group, fields[4], fields[3], search->path);
}

int tcx_cgroup_find(struct tcx_cgroup *self) {
  struct search search = {.group = self};
  int error = each_line("/proc/self/cgroup", visit_group, &search);
  // Of version 2 the last line has it, and none ends the search.
  if (error == ENOENT && search.version != 0)
    error = 0;
  if (error == 0)
    error = each_line("/proc/self/mountinfo", visit_mount, &search);
  if (error == 0 || error == ENOENT)
    self->version = error == 0 ? search.version : 0;
  return error;
}

// -- Reading ------------------------------------------------------------------

// Bytes of `path` that name the folder of a level; 0: there is none.
static size_t folder_bytes(const struct tcx_cgroup *self, unsigned level) {
  size_t bytes = strlen(self->path);
  TCX_ASSERT(bytes >= self->root_bytes);
  for (; level > 0; level--) {
    if (bytes <= self->root_bytes)
      return 0;
    while (bytes > self->root_bytes && self->path[bytes - 1] != '/')
      bytes--;
    if (bytes > self->root_bytes)
      bytes--;  // The slash.
  }
  return bytes;
}

struct folder {
  const struct tcx_cgroup *group;
  size_t bytes;
};

static void name_file(char *out, const struct folder *folder,
                      const char *name) {
  size_t bytes = strlen(name);
  TCX_ASSERT(bytes < 64);
  memcpy(out, folder->group->path, folder->bytes);
  out[folder->bytes] = '/';
  memcpy(out + folder->bytes + 1, name, bytes + 1);
}

// ENOENT too where there is something else in it.
static int read_number(const struct folder *folder, const char *name,
                       uint64_t *out) {
  char path[TCX_CGROUP_PATH_BYTES + 64];
  char text[32];
  name_file(path, folder, name);
  intptr_t got = tcx_os_read_file(path, 0, text, sizeof text);
  if (got < 0)
    return error_of(got);
  return tcx_os_parse_number(text, (size_t)got, out) ? 0 : ENOENT;
}

// A line of memory.stat: the name, a blank, a number.
struct entry {
  const char *name;
  uint64_t value;
};

static bool visit_entry(struct text line, void *arg) {
  struct entry *entry = (struct entry *)arg;
  return is_word(cut(&line, ' '), entry->name) &&
         tcx_os_parse_number(line.start, line.bytes, &entry->value);
}

static int read_droppable(const struct folder *folder, uint64_t *out) {
  bool is_first = folder->group->version == 1;
  struct entry entry = {is_first ? "total_inactive_file" : "inactive_file", 0};
  char path[TCX_CGROUP_PATH_BYTES + 64];
  name_file(path, folder, "memory.stat");
  int error = each_line(path, visit_entry, &entry);
  *out = entry.value;
  return error == ENOENT ? 0 : error;
}

static int read_limit(const struct folder *folder, uint64_t *out) {
  static const char *const names[][2] = {
      {"memory.limit_in_bytes", "memory.limit_in_bytes"},
      {"memory.max", "memory.high"}};
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < 2; i++) {
    uint64_t limit = UINT64_MAX;
    const char *name = names[folder->group->version - 1][i];
    int error = read_number(folder, name, &limit);
    if (error != 0 && error != ENOENT)
      return error;
    least = limit < least ? limit : least;
  }
  *out = least < NO_LIMIT_BYTES ? least : UINT64_MAX;
  return 0;
}

// Whether a level has no charge, and so no limit, rather than that it could not
// be read this time: the root of the tree in version 2, and what is not for
// this process to see above its own folder.
static bool is_unlimited(const struct folder *folder, unsigned level,
                         int error) {
  if (level > 0)
    return error == ENOENT || error == EACCES || error == EPERM;
  return error == ENOENT && folder->bytes == folder->group->root_bytes;
}

int tcx_cgroup_read(const struct tcx_cgroup *self, unsigned level,
                    struct tcx_cgroup_memory *out) {
  if (self->version == 0 || level >= TCX_CGROUP_LEVELS_MAX)
    return ENOENT;
  struct folder folder = {self, folder_bytes(self, level)};
  if (folder.bytes == 0)
    return ENOENT;
  *out = (struct tcx_cgroup_memory){UINT64_MAX, 0};
  const char *name =
      self->version == 1 ? "memory.usage_in_bytes" : "memory.current";
  int error = read_number(&folder, name, &out->charge_bytes);
  if (error != 0)
    return is_unlimited(&folder, level, error) ? 0 : error;
  error = read_limit(&folder, &out->limit_bytes);
  if (error != 0 || out->limit_bytes == UINT64_MAX)
    return error;
  uint64_t droppable = 0;
  error = read_droppable(&folder, &droppable);
  out->charge_bytes =
      out->charge_bytes > droppable ? out->charge_bytes - droppable : 0;
  return error;
}

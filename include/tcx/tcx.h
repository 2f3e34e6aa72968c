/* tcx.h -- the public interface of tcx. C11 and C++17.
 *
 * malloc, free and the rest are where they always were: <stdlib.h>, <malloc.h>.
 * Here is what a program can ask tcx besides. A program that may also run
 * without tcx declares what it uses weak, and tests it:
 *
 *     #pragma weak tcx_release
 *     if (tcx_release) tcx_release(SIZE_MAX);
 *
 * All functions may be called from any thread, none from a signal handler.
 * Errors are errno values as results; errno itself does not change.
 *
 * PROMISE. Within one major version names, types and meanings stay, and structs
 * grow only at their end. The SONAME of the shared library carries the major
 * version.
 */
#ifndef TCX_TCX_H_
#define TCX_TCX_H_

#include <stddef.h>
#include <stdint.h>

#define TCX_VERSION_MAJOR 0
#define TCX_VERSION_MINOR 2
#define TCX_VERSION_PATCH 0
/* Compares with tcx_version_number(). */
#define TCX_VERSION_NUMBER \
  (TCX_VERSION_MAJOR * 1000000 + TCX_VERSION_MINOR * 1000 + TCX_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/* -- version --------------------------------------------------------------- */

/* "0.2.0", of the library that is running; a constant. */
const char *tcx_version_string(void);
/* 1000000 x major + 1000 x minor + patch. */
unsigned tcx_version_number(void);

/* -- settings: docs/settings.md lists them --------------------------------- */

/* Sets a live setting, in the syntax of the environment ("64k", "2s", "libc").
 * 0, or ENOENT (no such setting), EINVAL (not a value for it), ERANGE, EPERM
 * (counts only at start). Nothing has changed after an error. */
int tcx_set(const char *name, const char *value);

/* Writes the value of a setting, in bytes, milliseconds or words, to `buffer`
 * of `bytes` bytes, terminated. 0, or ENOENT, or ERANGE (no room; nothing is
 * written). */
int tcx_get(const char *name, char *buffer, size_t bytes);

/* What becomes of an allocation at the hard limit (hard_limit) where
 * hard_limit_policy is "callback": tcx gives back all that is free; if that is
 * not enough it calls `call` with `arg` and the bytes that were asked for.
 *
 * `call` runs in the thread that allocates, inside malloc, without any lock of
 * tcx's: it may free, and also allocate, but what it allocates at the limit
 * fails, it is not called for that. Several threads may be in it at once. It
 * must not wait for a lock under which the program allocates, and returns: no
 * longjmp, no exception, no end of the thread.
 *
 * Its result: not 0: it made room, the allocation is tried again, up to 100
 * times; 0: the allocation fails with ENOMEM (after that operator new goes on
 * to the new_handler).
 *
 * NULL: there is none, and allocations fail. There is one callback for the
 * whole process, also in children of fork; after it was replaced other threads
 * may still be inside the old one. 0, or ENOMEM. */
int tcx_set_hard_limit_callback(int (*call)(void *arg, size_t wanted_bytes),
                                void *arg);

/* -- giving memory back ---------------------------------------------------- */

/* Gives up to about `bytes` bytes of free memory back to the system, from the
 * calling thread's cache, the shared caches and the page heap, in this order of
 * preparation; SIZE_MAX gives all that is free. Returns the bytes that the
 * system got. What other threads' caches hold stays there. */
size_t tcx_release(size_t bytes);

/* Housekeeping, for a program that has an idle moment: what the calling
 * thread's cache has not used for its time goes to the lower tiers; and in a
 * process without tcx's own thread, all memory that was not needed for its time
 * goes back to the system, at once. Cheap when nothing is due. */
void tcx_tick(void);

/* -- about one object ------------------------------------------------------ */

/* Any address may be asked about, but not one that another thread frees
 * meanwhile. An object that was freed counts as long as tcx keeps it cut. */

/* 1 if an object of tcx starts at `pointer`, else 0. */
int tcx_owns(const void *pointer);

/* Bytes of the object that starts there: of its size class, or of its large
 * block; what malloc_usable_size says. 0 if tcx does not own the pointer. */
size_t tcx_size_of(const void *pointer);

/* Size class of the object that starts there, 1 and up; 0 for large blocks
 * (above 4 MiB) and for pointers that tcx does not own. */
unsigned tcx_size_class(const void *pointer);

/* The bytes that malloc(size) would really provide: asking for so many costs
 * nothing more. 0 if the size can never be had. */
size_t tcx_good_size(size_t size);

/* -- statistics ------------------------------------------------------------ */

/* What tcx holds, in bytes. mapped == resident + released, and resident is the
 * sum of the terms from `allocated` to `metadata`. In a busy process the terms
 * are of slightly different moments. docs/statistics.md explains each. */
struct tcx_statistics {
  uint32_t struct_size; /* set by the caller: sizeof(struct tcx_statistics) */
  uint32_t version;     /* of this struct; set by tcx */
  uint64_t mapped_bytes;
  uint64_t released_bytes;
  uint64_t resident_bytes;
  uint64_t allocated_bytes; /* live objects, rounded to their classes */
  uint64_t thread_cache_bytes;
  uint64_t cpu_cache_bytes;
  uint64_t run_cache_bytes;
  uint64_t transfer_bytes;
  uint64_t central_free_bytes;
  uint64_t span_tail_bytes;
  uint64_t page_free_bytes;
  uint64_t metadata_bytes;
};
#define TCX_STATISTICS_VERSION 1

/* Fills as much of the struct as the caller's struct_size says. 0, or EINVAL
 * where struct_size is less than that of version 1. */
int tcx_statistics_get(struct tcx_statistics *out);

/* Writes the report of TCX_STATS=exit to a file descriptor. */
void tcx_statistics_print(int fd);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif  // TCX_TCX_H_

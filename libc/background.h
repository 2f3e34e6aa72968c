// background.h -- the thread that gives memory back while nobody calls malloc.
//
// PLACE IN THE SYSTEM
//   heap (start: what to do) --> background --> the back end's release
//   slow paths of the tiers --(there is work)--> tcx_background_wake
//   pthread_create.c --(the program made a thread)--> tcx_background_enter
//
// WHAT IT DECIDES, by TCX_BACKGROUND
//   auto  the program's first thread brings it along. A single-threaded process
//         never has one.
//   on    at start as well, and again in the child of a fork.
//   off   never. For programs that must have one thread again after they had
//         more (unshare(CLONE_NEWUSER) asks for that).
//   It is never made from malloc: making a thread allocates, may be refused by
//   a sandbox, and takes libc's locks.
//
//   The thread has all signals blocked, so that none of the program's handlers
//   run on its 64 KiB of stack (beside static TLS, which libc puts on the
//   stack). It is called tcx-bg and sleeps on a futex.
//
// INVARIANTS
//   I1. Only the main thread makes it, and where the main thread ends by
//       pthread_exit, it first waits for this one to end. So libc's count of
//       threads is that of the program's whenever one of them may be the last:
//       the process ends with its last thread, as it would without tcx.
//   I2. A fork leaves it behind. The child has none until its own main thread
//       makes a thread (or, if "on", at once); nothing it did is half done, as
//       it works under locks that fork takes.
//
// LOCKING: none. States change in the main thread alone, or in a child.
#ifndef TCX_LIBC_BACKGROUND_H_
#define TCX_LIBC_BACKGROUND_H_

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

TCX_BEGIN_DECLS

#define TCX_BACKGROUND_IDLE UINT64_MAX

// Does a piece of the work there is. When it wants to be called again, in ms:
// 0 at once, TCX_BACKGROUND_IDLE when it is woken. Must not end the thread.
struct tcx_background_job {
  uint64_t (*work)(uint64_t now_ms);
  // Whether there can be any. False: no thread for now (under valgrind another
  // malloc serves). NULL: there can. Not asked where the setting is "on".
  bool (*is_wanted)(void);
};

// What the thread will do; `choice` is tcx_knobs.background. At the start of
// the library; does not make the thread and may be called from malloc. Until
// then, and if off, everything below does nothing.
TCX_HIDDEN void tcx_background_start(const struct tcx_background_job *job,
                                     uint64_t choice);

// From the library's constructor, after its start, while there is one thread:
// looks how large a stack must be; where the setting is "on", makes the thread,
// here and in every child.
TCX_HIDDEN void tcx_background_start_early(void);

// The calling thread has just made a thread, and holds no lock of tcx's.
TCX_HIDDEN void tcx_background_enter(void);

// There is work, and what it is was stored before. Cheap; with locks or
// without.
TCX_HIDDEN void tcx_background_wake(void);

// Whether somebody comes when woken; else slow paths do the work themselves.
TCX_HIDDEN bool tcx_background_is_running(void);

struct tcx_background_stats {
  uint64_t made;      // threads, of this process
  uint64_t failures;  // to make one
  uint64_t rounds;    // of work
};
TCX_HIDDEN void tcx_background_read_stats(struct tcx_background_stats *out);

// pthread_create past tcx's own, where that is linked in (pthread_create.c).
// Not hidden: of a hidden name that is nowhere, gold makes an address in a PIE.
extern int tcx_pthread_create(pthread_t *thread,
                              const pthread_attr_t *attributes,
                              void *(*run)(void *), void *arg)
    __attribute__((weak));

TCX_END_DECLS

#endif  // TCX_LIBC_BACKGROUND_H_

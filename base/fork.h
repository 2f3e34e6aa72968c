// fork.h -- the steps of all modules around fork(), in the order of lock ranks.
//
// fork() copies a process whose other threads may be anywhere. Each module
// that has locks registers hooks; before the copy the forking thread takes all
// locks (lowest rank first), afterwards parent and child give them back
// (highest first). So the child finds every structure whole.
#ifndef TCX_BASE_FORK_H_
#define TCX_BASE_FORK_H_

#include <stdint.h>

#include "base/compiler.h"
#include "base/lock.h"

TCX_BEGIN_DECLS

// Lives for ever. A hook may be NULL.
struct tcx_fork_hooks {
  enum tcx_lock_rank rank;
  void *self;  // passed to each
  void (*prepare)(void *self);
  void (*parent)(void *self);
  void (*child)(void *self);
};

// At most this many can be registered; one more ends the process.
#define TCX_FORK_HOOKS_MAX 32

// Registering the same hooks twice is harmless.
void tcx_fork_register(const struct tcx_fork_hooks *hooks);

// Hooks for a single lock: prepare acquires, parent releases, child resets.
void tcx_fork_lock_prepare(void *lock);
void tcx_fork_lock_parent(void *lock);
void tcx_fork_lock_child(void *lock);

// Registers the three functions below with pthread_atfork, once. Called at the
// start of the library, before the first allocation returns.
void tcx_fork_start(void);

void tcx_fork_prepare(void);
void tcx_fork_parent(void);
void tcx_fork_child(void);

// Forks of this process since start; a child begins with its parent's number.
uint64_t tcx_fork_count(void);

TCX_END_DECLS

#endif  // TCX_BASE_FORK_H_

// perthread.h -- the per-thread front end, as the per-CPU one falls back on it.
#ifndef TCX_FRONTEND_PERTHREAD_H_
#define TCX_FRONTEND_PERTHREAD_H_

#include "base/compiler.h"
#include "frontend/frontend.h"
#include "frontend/slab.h"

TCX_BEGIN_DECLS

extern const struct tcx_frontend_ops tcx_perthread_ops;

// The calling thread's slab, made if it has none. NULL: no memory, or the
// thread is at its end.
struct tcx_slab *tcx_perthread_slab(void);

// Lets the middle give down what was idle for `trim_time`, if that is due: both
// front ends by one clock, as the middle goes by what moved since the last
// time.
void tcx_perthread_trim_middle(void);

// Called, if set, with a slab that is about to go, by the thread that drops it.
extern void (*tcx_perthread_ends)(struct tcx_slab *slab);

TCX_END_DECLS

#endif  // TCX_FRONTEND_PERTHREAD_H_

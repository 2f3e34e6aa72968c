// perthread_selected.c -- makes the per-thread front end that of the build.
#include "frontend/perthread.h"
#include "frontend/thread.h"

__thread struct tcx_thread tcx_thread
    __attribute__((tls_model("initial-exec"))) = {.slab = &tcx_slab_dummy};

const struct tcx_frontend_ops *const tcx_frontend = &tcx_perthread_ops;

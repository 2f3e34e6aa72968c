// replaced.c -- the table of replaced.h.
//
// A file of its own, in C: where a compiler sees the definition of an operator
// beside the question, it may answer "ours" without asking.
#include "libc/replaced.h"

#define VISIBLE(name) __asm__(name) __attribute__((visibility("default")))

extern void *visible_new(size_t) VISIBLE("_Znwm");
extern void *visible_new_array(size_t) VISIBLE("_Znam");
extern void *visible_new_aligned(size_t, size_t)
    VISIBLE("_ZnwmSt11align_val_t");
extern void *visible_new_array_aligned(size_t, size_t)
    VISIBLE("_ZnamSt11align_val_t");
extern void visible_delete(void *) VISIBLE("_ZdlPv");
extern void visible_delete_array(void *) VISIBLE("_ZdaPv");
extern void visible_delete_aligned(void *, size_t)
    VISIBLE("_ZdlPvSt11align_val_t");
extern void visible_delete_array_aligned(void *, size_t)
    VISIBLE("_ZdaPvSt11align_val_t");

const struct tcx_operators tcx_operators = {
    visible_new,
    visible_new_array,
    visible_new_aligned,
    visible_new_array_aligned,
    visible_delete,
    visible_delete_array,
    visible_delete_aligned,
    visible_delete_array_aligned,
};

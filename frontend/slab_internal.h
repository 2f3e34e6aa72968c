// slab_internal.h -- what the files of the slab share: slab.c (refill,
// overflow, capacity), slab_check.c (invariants, sizes), runs.c (run classes).
#ifndef TCX_FRONTEND_SLAB_INTERNAL_H_
#define TCX_FRONTEND_SLAB_INTERNAL_H_

#include "frontend/slab.h"

TCX_BEGIN_DECLS

// Any odd value: a pop that reads it found nothing.
#define TCX_SLAB_GUARD ((void *)1)

static inline size_t tcx_slab_capacity(const struct tcx_slab *self,
                                       unsigned size_class) {
  const struct tcx_slab_row *row = &self->rows[size_class];
  if (row->begin == NULL)
    return 0;
  return (size_t)(self->headers[size_class].end + 1 - row->begin);
}

static inline size_t tcx_slab_count(const struct tcx_slab *self,
                                    unsigned size_class) {
  const struct tcx_slab_row *row = &self->rows[size_class];
  if (row->begin == NULL)
    return 0;
  return (size_t)(self->headers[size_class].top + 1 - row->begin);
}

// Moves `end`, and the bytes it stands for. At least what the class holds, at
// most its slots.
void tcx_slab_set_capacity(struct tcx_slab *self, unsigned size_class,
                           size_t capacity);

// One slot more for a run class. False: four already, or no memory.
bool tcx_slab_reserve_run(struct tcx_slab *self, unsigned size_class);

// Makes room for one more block of a run class, within the run budget, if need
// be by dropping those of other classes, the largest first.
void tcx_slab_run_room(struct tcx_slab *self, unsigned size_class);

// Gives objects of a class to the object source, or runs to the page source.
void tcx_slab_give_down(struct tcx_slab *self, unsigned size_class,
                        void *const *objects, size_t count);

void tcx_slab_wire_plant(struct tcx_slab *self, unsigned size_class);
void tcx_slab_wire_remove(struct tcx_slab *self, unsigned size_class);

TCX_END_DECLS

#endif  // TCX_FRONTEND_SLAB_INTERNAL_H_

// selected_hpaa.c -- --config=hpaa: the hugepage-aware back end. See
// selected.h.
#include "backend/hpaa/hpaa.h"
#include "backend/selected.h"

struct tcx_page_source *tcx_page_source_start(void) {
  static struct tcx_hpaa hpaa;
  return tcx_hpaa_init(&hpaa);
}

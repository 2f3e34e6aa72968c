// selected_page_heap.c -- --config=pageheap: the page heap. See selected.h.
#include "backend/page_heap.h"
#include "backend/selected.h"

struct tcx_page_source *tcx_page_source_start(void) {
  static struct tcx_page_heap heap;
  return tcx_page_heap_init(&heap);
}

// head_stock.c -- see head_stock.h.
#include "backend/head_stock.h"

#include "backend/metadata.h"

struct tcx_span *tcx_head_stock_make(void) {
  return tcx_metadata_spans_allocate(TCX_HEAD_STOCK_BATCH);
}

void tcx_head_stock_add(struct tcx_head_stock *self, struct tcx_span *heads) {
  while (heads != NULL) {
    struct tcx_span *head = heads;
    heads = head->next;
    tcx_head_stock_put(self, head);
  }
}

static struct tcx_span *take_batch(struct tcx_head_stock *self) {
  struct tcx_span *batch = self->heads;
  struct tcx_span *last = batch;
  for (unsigned i = 1; i < TCX_HEAD_STOCK_BATCH; i++)
    last = last->next;
  self->heads = last->next;
  self->count -= TCX_HEAD_STOCK_BATCH;
  last->next = NULL;
  return batch;
}

void tcx_head_stock_put(struct tcx_head_stock *self, struct tcx_span *head) {
  if (self->count >= 2 * TCX_HEAD_STOCK_BATCH)
    tcx_metadata_spans_free(take_batch(self));
  head->state = TCX_SPAN_UNUSED;
  head->next = self->heads;
  self->heads = head;
  self->count++;
}

void tcx_head_stock_check(const struct tcx_head_stock *self) {
  uint32_t count = 0;
  for (const struct tcx_span *h = self->heads; h != NULL; h = h->next) {
    TCX_CHECK(h->state == TCX_SPAN_UNUSED);
    count++;
  }
  TCX_CHECK(count == self->count);
  TCX_CHECK(count <= 2 * TCX_HEAD_STOCK_BATCH);
}

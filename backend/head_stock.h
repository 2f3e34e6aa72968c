// head_stock.h -- the spare heads of spans that a page source has at hand.
//
// PLACE IN THE SYSTEM. Between a page source, which needs a head for each span
//   it cuts and has one to spare for each it takes back, and the pool of all
//   heads, whose lock costs about as much as finding a place for a span does.
//
// WHAT IT DECIDES. Heads come from the pool and go back to it by the batch; two
//   batches are kept at most.
//
// LOCKING: the page source's lock is held, but in tcx_head_stock_make.
#ifndef TCX_BACKEND_HEAD_STOCK_H_
#define TCX_BACKEND_HEAD_STOCK_H_

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/compiler.h"
#include "pagemap/span.h"

TCX_BEGIN_DECLS

#define TCX_HEAD_STOCK_BATCH 32u

struct tcx_head_stock {
  struct tcx_span *heads;  // UNUSED, linked by next
  uint32_t count;
};

// A batch, to be added: linked by next, fewer where memory ends. NULL: none.
// Without the lock, for it may have to wait for memory.
TCX_NODISCARD struct tcx_span *tcx_head_stock_make(void);
void tcx_head_stock_add(struct tcx_head_stock *self, struct tcx_span *heads);

// One more than two batches, and one of them goes back.
void tcx_head_stock_put(struct tcx_head_stock *self, struct tcx_span *head);

// There is one. Its contents are undefined.
static inline struct tcx_span *tcx_head_stock_get(struct tcx_head_stock *self) {
  struct tcx_span *head = self->heads;
  TCX_ASSERT(head != NULL);
  self->heads = head->next;
  self->count--;
  return head;
}

// Stops the process where a head is in use or the count is wrong.
void tcx_head_stock_check(const struct tcx_head_stock *self);

TCX_END_DECLS

#endif  // TCX_BACKEND_HEAD_STOCK_H_

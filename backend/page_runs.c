// page_runs.c -- lists by length, and a treap for the longer runs.
#include "backend/page_runs.h"

#include <stdbool.h>

#include "base/bits.h"
#include "base/check.h"

// Runs looked at for an aligned request before settling for a longer one.
#define ALIGNED_TRIES 16

// -- Treap --------------------------------------------------------------------

static bool is_before(const struct tcx_span *a, const struct tcx_span *b) {
  if (a->pages != b->pages) {
    return a->pages < b->pages;
  }
  return a->first_page < b->first_page;
}

static uint64_t next_random(struct tcx_page_runs *self) {
  self->random ^= self->random << 13;
  self->random ^= self->random >> 7;
  self->random ^= self->random << 17;
  return self->random;
}

static void tree_insert(struct tcx_page_runs *self, struct tcx_span *run) {
  run->priority = next_random(self);
  struct tcx_span **link = &self->tree;
  while (*link != NULL && (*link)->priority >= run->priority) {
    link = is_before(run, *link) ? &(*link)->left : &(*link)->right;
  }
  // `run` takes the place; what was below is split into before and after.
  struct tcx_span *rest = *link;
  struct tcx_span **before = &run->left;
  struct tcx_span **after = &run->right;
  *link = run;
  while (rest != NULL) {
    if (is_before(rest, run)) {
      *before = rest;
      before = &rest->right;
      rest = *before;
    } else {
      *after = rest;
      after = &rest->left;
      rest = *after;
    }
  }
  *before = NULL;
  *after = NULL;
}

static void tree_remove(struct tcx_page_runs *self, struct tcx_span *run) {
  struct tcx_span **link = &self->tree;
  while (*link != run) {
    TCX_ASSERT(*link != NULL);
    link = is_before(run, *link) ? &(*link)->left : &(*link)->right;
  }
  // Merges the two subtrees into the place.
  struct tcx_span *left = run->left;
  struct tcx_span *right = run->right;
  while (left != NULL && right != NULL) {
    if (left->priority >= right->priority) {
      *link = left;
      link = &left->right;
      left = *link;
    } else {
      *link = right;
      link = &right->left;
      right = *link;
    }
  }
  *link = left != NULL ? left : right;
  run->left = NULL;
  run->right = NULL;
}

static struct tcx_span *tree_best_fit(const struct tcx_page_runs *self,
                                      size_t pages) {
  struct tcx_span *best = NULL;
  struct tcx_span *at = self->tree;
  while (at != NULL) {
    if (at->pages >= pages) {
      best = at;
      at = at->left;
    } else {
      at = at->right;
    }
  }
  return best;
}

// -- Runs ---------------------------------------------------------------------

void tcx_page_runs_init(struct tcx_page_runs *self) {
  for (int i = 0; i < TCX_PAGE_RUNS_LISTS; i++) {
    tcx_span_list_init(&self->lists[i]);
  }
  for (int i = 0; i < TCX_PAGE_RUNS_LISTS / 64; i++) {
    self->nonempty[i] = 0;
  }
  self->tree = NULL;
  self->pages = 0;
  self->random = UINT64_C(0x9e3779b97f4a7c15);
}

void tcx_page_runs_insert(struct tcx_page_runs *self, struct tcx_span *run) {
  TCX_ASSERT(run->pages > 0);
  self->pages += run->pages;
  if (run->pages > TCX_PAGE_RUNS_LISTS) {
    tree_insert(self, run);
    return;
  }
  unsigned index = run->pages - 1;
  tcx_span_list_push(&self->lists[index], run);
  self->nonempty[index / 64] |= UINT64_C(1) << (index % 64);
}

void tcx_page_runs_remove(struct tcx_page_runs *self, struct tcx_span *run) {
  TCX_ASSERT(self->pages >= run->pages);
  self->pages -= run->pages;
  if (run->pages > TCX_PAGE_RUNS_LISTS) {
    tree_remove(self, run);
    return;
  }
  unsigned index = run->pages - 1;
  tcx_span_list_remove(run);
  if (tcx_span_list_is_empty(&self->lists[index])) {
    self->nonempty[index / 64] &= ~(UINT64_C(1) << (index % 64));
  }
}

// Index of the first list at or after `index` that has runs, or
// TCX_PAGE_RUNS_LISTS.
static size_t nonempty_from(const struct tcx_page_runs *self, size_t index) {
  while (index < TCX_PAGE_RUNS_LISTS) {
    uint64_t bits = self->nonempty[index / 64] >> (index % 64);
    if (bits != 0) {
      return index + tcx_lowest_bit(bits);
    }
    index = tcx_align_down(index, 64) + 64;
  }
  return TCX_PAGE_RUNS_LISTS;
}

struct tcx_span *tcx_page_runs_best_fit(const struct tcx_page_runs *self,
                                        size_t pages) {
  TCX_ASSERT(pages > 0);
  size_t index = nonempty_from(self, pages - 1);
  if (index < TCX_PAGE_RUNS_LISTS) {
    return self->lists[index].next;
  }
  return tree_best_fit(self, pages);
}

static bool has_aligned(const struct tcx_span *run, size_t pages,
                        size_t align_pages) {
  uint64_t first = tcx_align_up(run->first_page, align_pages);
  return first + pages <= run->first_page + run->pages;
}

struct tcx_span *tcx_page_runs_aligned_fit(const struct tcx_page_runs *self,
                                           size_t pages, size_t align_pages) {
  int tries = ALIGNED_TRIES;
  size_t index = nonempty_from(self, pages - 1);
  for (; index < TCX_PAGE_RUNS_LISTS; index = nonempty_from(self, index + 1)) {
    const struct tcx_span *head = &self->lists[index];
    for (struct tcx_span *run = head->next; run != head; run = run->next) {
      if (has_aligned(run, pages, align_pages)) {
        return run;
      }
      if (--tries == 0) {
        return tcx_page_runs_best_fit(self, pages + align_pages - 1);
      }
    }
  }
  struct tcx_span *run = tree_best_fit(self, pages);
  if (run != NULL && has_aligned(run, pages, align_pages)) {
    return run;
  }
  return tcx_page_runs_best_fit(self, pages + align_pages - 1);
}

struct tcx_span *tcx_page_runs_longest(const struct tcx_page_runs *self) {
  struct tcx_span *run = self->tree;
  if (run != NULL) {
    while (run->right != NULL) {
      run = run->right;
    }
    return run;
  }
  for (int word = TCX_PAGE_RUNS_LISTS / 64 - 1; word >= 0; word--) {
    if (self->nonempty[word] != 0) {
      return self->lists[64 * word + (int)tcx_highest_bit(self->nonempty[word])]
          .next;
    }
  }
  return NULL;
}

// -- Check --------------------------------------------------------------------

static void check_one(const struct tcx_span *run,
                      void (*check_run)(const struct tcx_span *run)) {
  if (check_run != NULL) {
    check_run(run);
  }
}

// Recursive: about 2 log2(runs) deep. Returns the pages in the subtree.
static uint64_t check_tree(const struct tcx_span *root,
                           void (*check_run)(const struct tcx_span *run)) {
  if (root == NULL) {
    return 0;
  }
  TCX_CHECK(root->pages > TCX_PAGE_RUNS_LISTS);
  if (root->left != NULL) {
    TCX_CHECK(is_before(root->left, root));
    TCX_CHECK(root->left->priority <= root->priority);
  }
  if (root->right != NULL) {
    TCX_CHECK(is_before(root, root->right));
    TCX_CHECK(root->right->priority <= root->priority);
  }
  check_one(root, check_run);
  return root->pages + check_tree(root->left, check_run) +
         check_tree(root->right, check_run);
}

void tcx_page_runs_check(const struct tcx_page_runs *self,
                         void (*check_run)(const struct tcx_span *run)) {
  uint64_t pages = 0;
  for (uint32_t i = 0; i < TCX_PAGE_RUNS_LISTS; i++) {
    const struct tcx_span *head = &self->lists[i];
    bool marked = (self->nonempty[i / 64] >> (i % 64) & 1) != 0;
    TCX_CHECK(marked == !tcx_span_list_is_empty(head));
    for (const struct tcx_span *run = head->next; run != head;
         run = run->next) {
      TCX_CHECK(run->pages == i + 1);
      TCX_CHECK(run->next->prev == run);
      check_one(run, check_run);
      pages += run->pages;
    }
  }
  pages += check_tree(self->tree, check_run);
  TCX_CHECK(pages == self->pages);
}

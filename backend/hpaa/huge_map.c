// huge_map.c -- a treap by address that knows the longest run of each subtree.
//
// Nodes have parents: a change of a run is carried upwards only as far as it
// changes `longest`, and nothing here recurses but the check.
#include "backend/hpaa/huge_map.h"

#include <stddef.h>

#include "base/bits.h"
#include "base/check.h"

// Runs looked at for an aligned request when none is long enough wherever it
// lies.
#define ALIGNED_TRIES 16

void tcx_huge_map_init(struct tcx_huge_map *self,
                       struct tcx_huge_nodes *nodes) {
  *self = (struct tcx_huge_map){.nodes = nodes, .random = 0x9e3779b9};
}

// -- Treap --------------------------------------------------------------------

static uint32_t next_random(struct tcx_huge_map *self) {
  self->random ^= self->random << 13;
  self->random ^= self->random >> 17;
  self->random ^= self->random << 5;
  return self->random;
}

static uint64_t end_of(const struct tcx_huge_node *node) {
  return (uint64_t)node->first + node->count;
}

static uint32_t longest_of(const struct tcx_huge_node *node) {
  return node != NULL ? node->longest : 0;
}

static uint32_t longest_by_children(const struct tcx_huge_node *node) {
  uint32_t left = longest_of(node->left);
  uint32_t right = longest_of(node->right);
  uint32_t longest = left > right ? left : right;
  return longest > node->count ? longest : node->count;
}

// Sets `longest` from here upwards, as far as it changes.
static void update_up(struct tcx_huge_node *node) {
  for (; node != NULL; node = node->parent) {
    uint32_t longest = longest_by_children(node);
    if (longest == node->longest) {
      return;
    }
    node->longest = longest;
  }
}

// What points to the node: its parent's child, or the root.
static struct tcx_huge_node **link_of(struct tcx_huge_map *self,
                                      const struct tcx_huge_node *node) {
  struct tcx_huge_node *parent = node->parent;
  if (parent == NULL) {
    return &self->root;
  }
  return parent->left == node ? &parent->left : &parent->right;
}

// The node takes its parent's place, which becomes its child.
static void rotate_up(struct tcx_huge_map *self, struct tcx_huge_node *node) {
  struct tcx_huge_node *parent = node->parent;
  struct tcx_huge_node *inner;
  *link_of(self, parent) = node;
  if (parent->left == node) {
    inner = node->right;
    parent->left = inner;
    node->right = parent;
  } else {
    inner = node->left;
    parent->right = inner;
    node->left = parent;
  }
  if (inner != NULL) {
    inner->parent = parent;
  }
  node->parent = parent->parent;
  parent->parent = node;
  node->longest = parent->longest;
  parent->longest = longest_by_children(parent);
}

static void add_node(struct tcx_huge_map *self, struct tcx_huge_run run) {
  struct tcx_huge_node *node = tcx_huge_nodes_get(self->nodes);
  struct tcx_huge_node *parent = NULL;
  struct tcx_huge_node **link = &self->root;
  while (*link != NULL) {
    parent = *link;
    TCX_ASSERT(parent->first != run.first);
    link = run.first < parent->first ? &parent->left : &parent->right;
  }
  *node = (struct tcx_huge_node){.parent = parent,
                                 .first = (uint32_t)run.first,
                                 .count = (uint32_t)run.count,
                                 .longest = (uint32_t)run.count,
                                 .priority = next_random(self)};
  *link = node;
  update_up(parent);
  while (node->parent != NULL && node->parent->priority < node->priority) {
    rotate_up(self, node);
  }
  self->runs++;
}

static void drop_node(struct tcx_huge_map *self, struct tcx_huge_node *node) {
  while (node->left != NULL && node->right != NULL) {
    bool is_left = node->left->priority >= node->right->priority;
    rotate_up(self, is_left ? node->left : node->right);
  }
  struct tcx_huge_node *child = node->left != NULL ? node->left : node->right;
  *link_of(self, node) = child;
  if (child != NULL) {
    child->parent = node->parent;
  }
  update_up(node->parent);
  tcx_huge_nodes_put(self->nodes, node);
  self->runs--;
}

// Changes a run without changing its place in the order.
static void set_run(struct tcx_huge_node *node, uint64_t first,
                    uint64_t count) {
  TCX_ASSERT(count > 0);
  node->first = (uint32_t)first;
  node->count = (uint32_t)count;
  update_up(node);
}

// -- Searching ----------------------------------------------------------------

// The last run that starts at or before `huge`.
static struct tcx_huge_node *at_or_before(const struct tcx_huge_map *self,
                                          uint64_t huge) {
  struct tcx_huge_node *found = NULL;
  for (struct tcx_huge_node *at = self->root; at != NULL;) {
    if (at->first <= huge) {
      found = at;
      at = at->right;
    } else {
      at = at->left;
    }
  }
  return found;
}

// The first run that ends behind `huge`.
static struct tcx_huge_node *ending_behind(const struct tcx_huge_map *self,
                                           uint64_t huge) {
  struct tcx_huge_node *found = NULL;
  for (struct tcx_huge_node *at = self->root; at != NULL;) {
    if (end_of(at) > huge) {
      found = at;
      at = at->left;
    } else {
      at = at->right;
    }
  }
  return found;
}

static bool is_better(const struct tcx_huge_node *a,
                      const struct tcx_huge_node *b) {
  if (b == NULL || a->count != b->count) {
    return b == NULL || a->count < b->count;
  }
  return a->first < b->first;
}

static struct tcx_huge_node *find_fit(const struct tcx_huge_map *self,
                                      uint64_t count) {
  struct tcx_huge_node *best = NULL;
  struct tcx_huge_node *at = self->root;
  while (longest_of(at) >= count) {
    if (at->count >= count && is_better(at, best)) {
      best = at;
    }
    bool is_right = longest_of(at->left) < count ||
                    (longest_of(at->right) >= count &&
                     longest_of(at->right) < longest_of(at->left));
    at = is_right ? at->right : at->left;
  }
  return best;
}

// The lowest run of `count` or more in a subtree whose longest is no shorter.
static struct tcx_huge_node *lowest_fit(struct tcx_huge_node *at,
                                        uint64_t count) {
  for (;;) {
    TCX_ASSERT(longest_of(at) >= count);
    if (longest_of(at->left) >= count) {
      at = at->left;
    } else if (at->count >= count) {
      return at;
    } else {
      at = at->right;
    }
  }
}

// The next run of `count` or more, by address.
static struct tcx_huge_node *next_fit(struct tcx_huge_node *at,
                                      uint64_t count) {
  if (longest_of(at->right) >= count) {
    return lowest_fit(at->right, count);
  }
  for (; at->parent != NULL; at = at->parent) {
    struct tcx_huge_node *parent = at->parent;
    if (parent->left != at) {
      continue;
    }
    if (parent->count >= count) {
      return parent;
    }
    if (longest_of(parent->right) >= count) {
      return lowest_fit(parent->right, count);
    }
  }
  return NULL;
}

static bool has_aligned(const struct tcx_huge_node *node, uint64_t count,
                        uint64_t align) {
  return tcx_align_up(node->first, align) + count <= end_of(node);
}

static struct tcx_huge_node *find_aligned(const struct tcx_huge_map *self,
                                          uint64_t count, uint64_t align) {
  struct tcx_huge_node *node = find_fit(self, count);
  if (node == NULL || has_aligned(node, count, align)) {
    return node;
  }
  struct tcx_huge_node *longer = find_fit(self, count + align - 1);
  if (longer != NULL) {
    return longer;
  }
  node = lowest_fit(self->root, count);
  for (int i = 0; i < ALIGNED_TRIES && node != NULL; i++) {
    if (has_aligned(node, count, align)) {
      return node;
    }
    node = next_fit(node, count);
  }
  return NULL;
}

// -- Operations ---------------------------------------------------------------

void tcx_huge_map_insert(struct tcx_huge_map *self, struct tcx_huge_run run) {
  TCX_ASSERT(run.count > 0 && run.count <= TCX_HUGE_LIMIT);
  TCX_ASSERT(run.first <= TCX_HUGE_LIMIT - run.count);
  struct tcx_huge_node *before = at_or_before(self, run.first);
  struct tcx_huge_node *after = ending_behind(self, run.first);
  TCX_CHECK(before == NULL || end_of(before) <= run.first);
  TCX_CHECK(after == NULL || after->first >= tcx_huge_run_end(run));
  bool joins_before = before != NULL && end_of(before) == run.first;
  bool joins_after = after != NULL && after->first == tcx_huge_run_end(run);
  self->huge += run.count;
  if (joins_before && joins_after) {
    run.count += after->count;
    drop_node(self, after);
  }
  if (joins_before) {
    set_run(before, before->first, before->count + run.count);
  } else if (joins_after) {
    set_run(after, run.first, run.count + after->count);
  } else {
    add_node(self, run);
  }
}

// Takes a part out of a run.
static void cut(struct tcx_huge_map *self, struct tcx_huge_node *node,
                struct tcx_huge_run part) {
  TCX_ASSERT(part.first >= node->first);
  TCX_ASSERT(tcx_huge_run_end(part) <= end_of(node));
  uint64_t front = part.first - node->first;
  struct tcx_huge_run rest = {tcx_huge_run_end(part),
                              end_of(node) - tcx_huge_run_end(part)};
  self->huge -= part.count;
  if (front > 0) {
    set_run(node, node->first, front);
    if (rest.count > 0) {
      add_node(self, rest);
    }
  } else if (rest.count > 0) {
    set_run(node, rest.first, rest.count);
  } else {
    drop_node(self, node);
  }
}

struct tcx_huge_run tcx_huge_map_take(struct tcx_huge_map *self, uint64_t count,
                                      uint64_t align) {
  TCX_ASSERT(count > 0);
  TCX_ASSERT(tcx_is_power_of_two(align));
  struct tcx_huge_run run = {0, 0};
  if (count > TCX_HUGE_LIMIT || align > TCX_HUGE_LIMIT) {
    return run;
  }
  struct tcx_huge_node *node = find_aligned(self, count, align);
  if (node != NULL) {
    run.first = tcx_align_up(node->first, align);
    run.count = count;
    cut(self, node, run);
  }
  return run;
}

bool tcx_huge_map_take_at(struct tcx_huge_map *self, struct tcx_huge_run run) {
  TCX_ASSERT(run.count > 0);
  struct tcx_huge_node *node = at_or_before(self, run.first);
  if (node == NULL || tcx_huge_run_end(run) > end_of(node)) {
    return false;
  }
  cut(self, node, run);
  return true;
}

struct tcx_huge_run tcx_huge_map_take_last(struct tcx_huge_map *self,
                                           uint64_t below, uint64_t count_max) {
  TCX_ASSERT(count_max > 0);
  struct tcx_huge_run run = {0, 0};
  struct tcx_huge_node *last = below > 0 ? at_or_before(self, below - 1) : NULL;
  if (last != NULL) {
    uint64_t end = tcx_min_size(end_of(last), below);
    run.count = tcx_min_size(end - last->first, count_max);
    run.first = end - run.count;
    cut(self, last, run);
  }
  return run;
}

struct tcx_huge_run tcx_huge_map_next(const struct tcx_huge_map *self,
                                      uint64_t huge) {
  struct tcx_huge_run run = {0, 0};
  const struct tcx_huge_node *node = ending_behind(self, huge);
  if (node != NULL) {
    run.first = node->first;
    run.count = node->count;
  }
  return run;
}

// -- Check --------------------------------------------------------------------

static void check_node(const struct tcx_huge_node *node) {
  TCX_CHECK(node->count > 0);
  TCX_CHECK(end_of(node) <= TCX_HUGE_LIMIT);
  TCX_CHECK(node->longest == longest_by_children(node));
  const struct tcx_huge_node *children[] = {node->left, node->right};
  for (int i = 0; i < 2; i++) {
    if (children[i] != NULL) {
      TCX_CHECK(children[i]->parent == node);
      TCX_CHECK(children[i]->priority <= node->priority);
    }
  }
}

// Recursive: about 2 log2(runs) deep. Runs from `*end` on; where the last one
// ends is the new `*end`. `sums` is counted up.
static void check_subtree(const struct tcx_huge_map *self,
                          const struct tcx_huge_node *node, uint64_t *end,
                          struct tcx_huge_map *sums) {
  if (node == NULL) {
    return;
  }
  check_node(node);
  check_subtree(self, node->left, end, sums);
  TCX_CHECK(sums->runs == 0 || node->first > *end);
  *end = end_of(node);
  sums->huge += node->count;
  sums->runs++;
  check_subtree(self, node->right, end, sums);
}

void tcx_huge_map_check(const struct tcx_huge_map *self) {
  struct tcx_huge_map sums = {0};
  uint64_t end = 0;
  TCX_CHECK(self->root == NULL || self->root->parent == NULL);
  check_subtree(self, self->root, &end, &sums);
  TCX_CHECK(sums.huge == self->huge);
  TCX_CHECK(sums.runs == self->runs);
  TCX_CHECK(self->runs <= self->nodes->in_use);
}

// bignum.c -- arithmetic on long numbers, each result a new small object.
//
// Sums of continued fractions with exact numerators and denominators: many
// short-lived objects of a few sizes that grow slowly, little else. In the
// spirit of the classic "cfrac" program.
//
//   bignum [FRACTIONS] [TERMS]

#include "benchmarks/workloads/common.h"

struct number {
  uint32_t length;
  uint32_t digits[];  // lowest first, base 2^32
};

static struct number *number_new(uint32_t length) {
  struct number *n = (struct number *)work_malloc(sizeof(struct number) +
                                                  length * sizeof(uint32_t));
  n->length = length;
  return n;
}

static struct number *number_from(uint32_t value) {
  struct number *n = number_new(1);
  n->digits[0] = value;
  return n;
}

static struct number *number_times(const struct number *a, uint32_t factor) {
  struct number *n = number_new(a->length + 1);
  uint64_t carry = 0;
  for (uint32_t i = 0; i < a->length; i++) {
    carry += (uint64_t)a->digits[i] * factor;
    n->digits[i] = (uint32_t)carry;
    carry >>= 32;
  }
  n->digits[a->length] = (uint32_t)carry;
  if (carry == 0)
    n->length--;
  return n;
}

static struct number *number_plus(const struct number *a,
                                  const struct number *b) {
  uint32_t longest = a->length > b->length ? a->length : b->length;
  struct number *n = number_new(longest + 1);
  uint64_t carry = 0;
  for (uint32_t i = 0; i < longest; i++) {
    if (i < a->length)
      carry += a->digits[i];
    if (i < b->length)
      carry += b->digits[i];
    n->digits[i] = (uint32_t)carry;
    carry >>= 32;
  }
  n->digits[longest] = (uint32_t)carry;
  if (carry == 0)
    n->length--;
  return n;
}

// next = term * now + before; `before` dies.
static void step(struct number **before, struct number **now, uint32_t term) {
  struct number *product = number_times(*now, term);
  struct number *next = number_plus(product, *before);
  free(product);
  free(*before);
  *before = *now;
  *now = next;
}

int main(int argc, char **argv) {
  unsigned fractions = work_argument(argc, argv, 1, 100000);
  unsigned terms = work_argument(argc, argv, 2, 100);
  struct work_random random = {11};
  uint64_t sum = 0;
  for (unsigned f = 0; f < fractions; f++) {
    struct number *h0 = number_from(0), *h1 = number_from(1);
    struct number *k0 = number_from(1), *k1 = number_from(0);
    for (unsigned t = 0; t < terms; t++) {
      uint32_t term = 1 + work_random_below(&random, 40);
      step(&h0, &h1, term);
      step(&k0, &k1, term);
    }
    sum += h1->digits[0] + k1->digits[0] + h1->length;
    free(h0);
    free(h1);
    free(k0);
    free(k1);
  }
  work_done("bignum", sum);
  return 0;
}

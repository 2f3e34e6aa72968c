// chase.c -- how much of a heap is on huge pages, and what that is worth.
//
//   chase [MIB [LOW [HIGH [SECONDS [STEPS]]]]]
//
// Fills MIB with objects of LOW .. HIGH bytes (powers of two), links them to
// one ring in random order, waits SECONDS, and follows the ring STEPS steps,
// five times. One thread.
//
// marks: filled, settled; figure: ns_step (the median of the five)

#include "common.h"

#define ROUNDS 5

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void **link_ring(struct plan *plan) {
  plan_shuffle(plan);
  for (size_t i = 0; i < plan->count; i++)
    *(void **)plan->objects[i] = plan->objects[(i + 1) % plan->count];
  return (void **)plan->objects[0];
}

int main(int argc, char **argv) {
  size_t bytes = argument(argc, argv, 1, 1024) * MIB;
  size_t low = argument(argc, argv, 2, 16);
  size_t high = argument(argc, argv, 3, 4096);
  double seconds = (double)argument(argc, argv, 4, 5);
  size_t steps = argument(argc, argv, 5, 5000000);
  struct plan plan;
  plan_make(&plan, bytes, low, high, 0);
  plan_fill(&plan);
  void **at = link_ring(&plan);
  plan_drop(&plan);
  mark("filled");
  sleep_until_s(now_s() + seconds);
  mark("settled");
  double ns[ROUNDS];
  for (int round = 0; round < ROUNDS; round++) {
    double from = now_s();
    for (size_t i = 0; i < steps; i++)
      at = (void **)*at;
    __asm__ volatile("" : : "r"(at));
    ns[round] = (now_s() - from) * 1e9 / (double)steps;
  }
  qsort(ns, ROUNDS, sizeof ns[0], compare_doubles);
  say("figure ns_step %.3f\n", ns[ROUNDS / 2]);
  return 0;
}

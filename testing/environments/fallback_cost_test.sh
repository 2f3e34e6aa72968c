#!/bin/bash
# fallback_cost_test.sh LIBRARY PERTHREAD -- what a thread without a registered
# area pays.
#
# Method: instructions of a pair of malloc and free, counted by callgrind as the
#   difference of two runs, so that start and warming up fall out. valgrind has
#   no rseq, so the per-CPU library falls back; it may take twice as many as the
#   per-thread library, for the same work.
set -euo pipefail
# shellcheck source=testing/environments/common.sh
source testing/environments/common.sh
perthread=$(realpath "$2")

build pairs "$programs/pairs.c"

# instructions LIBRARY COUNT
instructions() {
  LD_PRELOAD=$1 valgrind --tool=callgrind --callgrind-out-file=/dev/null \
    "$out/pairs" "$2" 2>&1 | awk '/Collected/ { print $4 }'
}

# per_1000_pairs LIBRARY
per_1000_pairs() {
  local few many
  few=$(instructions "$1" 2000)
  many=$(instructions "$1" 3000)
  [[ $few -gt 0 && $many -gt $few ]] || fail "callgrind does not count: $1"
  echo $((many - few))
}

thread=$(per_1000_pairs "$perthread")
fallback=$(per_1000_pairs "$library")
cases=1
echo "1000 pairs: $thread instructions per thread, $fallback by the fallback"
((fallback <= 2 * thread)) || fail "more than twice as many"
((fallback > thread)) || fail "not the fallback"
done_with fallback_cost_test

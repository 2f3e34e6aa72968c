#!/bin/bash
# signals_test.sh LIBRARY -- malloc in signal handlers.
#
# Method: signals.c, ten times each. The fast paths must survive. What interrupts
#   a slow path may end the process, but by one line of tcx and SIGABRT: no
#   crash, no hang, no object handed out twice.
set -euo pipefail
library=$(realpath "$1")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

build signals "$here/signals.c"
readonly line='tcx: malloc or free in a signal handler that interrupted tcx'

expect "fast paths" env LD_PRELOAD="$library" "$out/signals" fast

# Slow paths of the caches of CPUs are re-entrant but for the locks of the tiers
# below, which a handler of another size meets but rarely.
env TCX_STATS=exit LD_PRELOAD="$library" "$out/signals" none >"$out/log" 2>&1
must_interrupt='slow large'
if grep -q 'front end in use percpu' "$out/log"; then
  must_interrupt=large
fi

# At least ten times, and on until a slow path was interrupted, if it must be.
readonly runs_max=100
for mode in slow large; do
  lines=0
  for ((i = 0; i < 10 || (lines == 0 && i < runs_max); i++)); do
    [[ $i -lt 10 || " $must_interrupt " == *" $mode "* ]] || break
    status=0
    timeout 60 env LD_PRELOAD="$library" "$out/signals" "$mode" \
      >"$out/log" 2>&1 || status=$?
    if [[ $status == 134 ]] && head -n 1 "$out/log" | grep -q "^$line"; then
      lines=$((lines + 1))
    elif [[ $status != 0 ]]; then
      cat "$out/log" >&2
      fail "$mode, run $i: exit status $status without the line"
    fi
    cases=$((cases + 1))
  done
  echo "ok $mode: $lines of $i runs ended by the line, the others well"
  [[ $lines -gt 0 || " $must_interrupt " != *" $mode "* ]] ||
    fail "$mode: no run interrupted a slow path"
done
done_with signals_test

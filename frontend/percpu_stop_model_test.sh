#!/usr/bin/env bash
# percpu_stop_model_test.sh MODEL -- Spin's verdict on percpu_stop.pml.
#
# Method: the model holds in every state, all of them searched, and every step of
#   it is reached. With one part of the protocol taken out at a time, Spin must
#   find a token in two hands or a lost one: so the model sees what it is for.
set -euo pipefail
model=$(realpath "$1")
readonly model
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/spin.XXXXXX")
readonly work
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
  cat log >&2
  echo "FAILED: $*" >&2
  exit 1
}

command -v spin >/dev/null || {
  echo "FAILED: spin is missing; ./setup.sh installs it" >&2
  exit 1
}

# search OPTIMIZATION [-DPART]: log is what the search printed.
search() {
  local optimize=$1
  shift
  spin "$@" -a "$model" >log 2>&1 || fail "spin does not take the model"
  gcc "$optimize" -w -DSAFETY -o pan pan.c >log 2>&1 || fail "no compiler for pan.c"
  ./pan -m500000 -w22 >log 2>&1 || fail "the search ended with status $?"
}

search -O1
grep -q 'errors: 0$' log || fail "the protocol is broken"
if grep -qE 'search depth too small|out of memory|not a complete' log; then
  fail "not all states were searched"
fi
# Processes run for ever: their ends alone are not reached.
if grep -E ', state [0-9]+,' log | grep -qv -- '"-end-"'; then
  fail "a step of the model is never taken"
fi
states=$(awk '/states, stored/ { print $1 }' log)
echo "holds in all of $states states"

for part in NO_FENCE NO_ABORT NO_RELEASE NO_RESTART; do
  search -O0 "-D$part"
  grep -q 'errors: 1$' log || fail "$part goes unnoticed"
  grep -q 'assertion violated' log || fail "$part fails otherwise than expected"
  echo "$part: $(sed -n 's/^pan:1: //p' log)"
done

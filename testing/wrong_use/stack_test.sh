#!/bin/bash
# stack_test.sh -- the stack of a report leads to the program's own functions.
#
# With frame pointers to all of them; without, and without an unwinder in the
# process, at least to the one that called tcx.
#
# usage: stack_test.sh LIBRARY PROGRAM_WITH_FRAMES PROGRAM_WITHOUT
set -uo pipefail

readonly library=$PWD/$1 with=$2 without=$3
failed=0

# Runs PROGRAM ARGUMENT preloaded; each NAME must be in the stack.
check() {
  local program=$1 argument=$2 name said
  shift 2
  said=$(LD_PRELOAD=$library "./$program" "$argument" 2>&1)
  for name in "$@"; do
    if ! grep -qE "^tcx:   at 0x[0-9a-f]+ $name\$" <<<"$said"; then
      echo "FAILED: $program $argument: no $name in the stack:"
      echo "$said"
      failed=1
    fi
  done
}

check "$with" free StackInner StackOuter main
check "$with" realloc StackReallocInner StackOuter main
check "$without" free StackInner
check "$without" realloc StackReallocInner
exit "$failed"

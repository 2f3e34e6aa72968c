#!/usr/bin/env bash
# machine_code_test.sh -- what the compiler made of the fast paths.
#
# machine_code_test.sh LIBRARY LINES LINES_OF_SIZED_DELETE
#
# malloc, free and operator new return within so many cache lines of 64 bytes from
# a line's start, without a call or a push; sized delete likewise. See fast_path.h
# for why.
set -euo pipefail

readonly library=$1
failed=0

# Checks that FUNCTION starts with a line and returns within BYTES.
check() {
  local name=$1 bytes=$2 code start end
  start=$((16#$(nm -D "$library" | awk -v n="$name" '$3 == n { print $1 }')))
  # Up to the first return; a function has several names, so by address.
  code=$(objdump -d --no-show-raw-insn --start-address="$start" \
    --stop-address=$((start + 512)) "$library" |
    awk '/^ +[0-9a-f]+:/ && !done { print } $2 == "ret" { done = 1 }')
  end=$((16#$(awk 'END { sub(":", "", $1); print $1 }' <<<"$code") + 1))
  echo "$name: $((end - start)) bytes from $((start % 64)) in its line"
  if ((start % 64 != 0 || end - start > bytes)); then
    echo "FAILED: $name must start with a line and return within $bytes bytes"
    failed=1
  fi
  if grep -qE '\s(call|push|lock|div|cmpxchg)' <<<"$code"; then
    echo "FAILED: $name calls, pushes, locks or divides"
    failed=1
  fi
}

check malloc $((64 * $2))
check free $((64 * $2))
check _Znwm $((64 * $2))
check _ZdlPvm $((64 * $3))
exit "$failed"

#!/bin/bash
# limits_test.sh LIBRARY -- the soft limit and the hard one in whole processes.
#
# Method: hard.cc and soft.c; each case is a process of its own.
set -euo pipefail
library=$(realpath "$1")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

g++ -std=c++17 -O1 -g -fno-builtin -Wall -Wextra -Werror -I. -pthread \
  -o "$out/hard" testing/release/hard.cc || fail "cannot build hard"
build soft testing/release/soft.c -pthread

readonly preloaded=(env LD_PRELOAD="$library")

export TCX_HARD_LIMIT=128M
for name in fail grows_in_place threads; do
  expect "hard limit: $name" "${preloaded[@]}" "$out/hard" "$name"
done
expect "hard limit: threads, no background thread" \
  "${preloaded[@]}" TCX_BACKGROUND=off "$out/hard" threads
for name in callback callback_threads; do
  expect "hard limit: $name" \
    "${preloaded[@]}" TCX_HARD_LIMIT_POLICY=callback "$out/hard" "$name"
done
expect_abort "hard limit: abort" \
  "tcx: hard limit of 134217728 bytes: [0-9]+ are resident, 8388608 more are wanted" \
  "${preloaded[@]}" TCX_HARD_LIMIT_POLICY=abort "$out/hard" aborts
unset TCX_HARD_LIMIT
expect "hard limit: live" "${preloaded[@]}" "$out/hard" live

expect "no soft limit" "${preloaded[@]}" "$out/soft" none
expect "soft limit: idle" "${preloaded[@]}" TCX_LIMIT=64M "$out/soft" idle
expect "soft limit: calls" "${preloaded[@]}" TCX_LIMIT=64M "$out/soft" calls
expect "soft limit: calls of threads, no background thread" \
  "${preloaded[@]}" TCX_LIMIT=64M TCX_BACKGROUND=off "$out/soft" threads
expect "soft limit: live" "${preloaded[@]}" "$out/soft" live

# What is no limit is reported, and there is none.
for wrong in TCX_LIMIT=much TCX_HARD_LIMIT=12Q TCX_HARD_LIMIT_POLICY=never; do
  expect "$wrong" "${preloaded[@]}" "$wrong" "$out/soft" none
  grep -q "^tcx: environment: .* cannot be" "$out/log" ||
    fail "$wrong: no line: $(cat "$out/log")"
done
done_with limits_test

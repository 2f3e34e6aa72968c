#!/bin/bash
# back_test.sh LIBRARY ARCHIVE -- memory goes back to the system, by a thread of
# tcx's or by the program's own calls, in every kind of process.
#
# Method: back.c and tls.c; each case is a process of its own, all at once, as
#   they wait most of the time.
set -euo pipefail
library=$(realpath "$1")
archive=$(realpath "$2")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

build back testing/release/back.c -pthread
build static testing/release/back.c -static -pthread "$archive"

# What the cache of a thread holds stays there while that thread sleeps (the
# per-thread front end): of small objects up to 32 MiB else. These programs have
# no blocks of the run classes, whose budget is another.
export TCX_THREAD_CACHE=1M

jobs=()
# start NAME COMMAND...
start() {
  local name=$1
  shift
  timeout 120 "$@" >"$out/$name.log" 2>&1 &
  jobs+=("$name:$!")
}

start idle_threads env LD_PRELOAD="$library" "$out/back" idle_threads
start in_time env LD_PRELOAD="$library" "$out/back" in_time
start single env LD_PRELOAD="$library" "$out/back" single
start off env TCX_BACKGROUND=off LD_PRELOAD="$library" "$out/back" off
start on env TCX_BACKGROUND=on LD_PRELOAD="$library" "$out/back" on
start fork_child env LD_PRELOAD="$library" "$out/back" fork_child
start main_ends_first env LD_PRELOAD="$library" "$out/back" main_ends_first
start many_threads env LD_PRELOAD="$library" "$out/back" many_threads
start by_hand env TCX_BACKGROUND=off LD_PRELOAD="$library" "$out/back" by_hand
start static "$out/static" idle_threads
start static_ends "$out/static" main_ends_first
# About as much static TLS as once was the whole stack.
for kib in 0 30 54 55 56 57 58 59 60 61 62 63 64 200; do
  build "tls$kib" testing/release/tls.c -DTLS_KIB=$kib -pthread
  start "tls_$kib" env TCX_LIMIT=auto LD_PRELOAD="$library" "$out/tls$kib"
done
build tls_static testing/release/tls.c -DTLS_KIB=56 -static -pthread "$archive"
start tls_static env TCX_LIMIT=auto "$out/tls_static"

wrong=0
for job in "${jobs[@]}"; do
  name=${job%:*}
  status=0
  wait "${job#*:}" || status=$?
  cases=$((cases + 1))
  if [[ $status == 0 ]]; then
    echo "ok $name: $(tr '\n' ' ' <"$out/$name.log")"
  else
    echo "FAILED: $name: exit status $status"
    cat "$out/$name.log"
    wrong=1
  fi
done
((wrong == 0)) || exit 1
done_with back_test

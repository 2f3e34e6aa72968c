#!/bin/bash
# vfork_test.sh LIBRARY PERTHREAD ARCHIVE -- malloc and free in children of vfork,
# which run on their parent's memory and thread-local storage.
#
# Method: vfork.c, whose objects know what they are, on each kind of cache that a
#   thread can have, on the per-thread build, which has no vfork of its own, and
#   linked statically with the archive (which has assertions, in most builds).
#   gdb steps through vfork (vfork_steps.py): every instruction can be unwound,
#   and leaves the thread fit for signal handlers.
set -euo pipefail
# shellcheck source=testing/environments/common.sh
source testing/environments/common.sh
perthread=$(realpath "$2")
archive=$(realpath "$3")

build vfork "$programs/vfork.c" -pthread
build threads "$programs/threads.c" -pthread
build vfork_static "$programs/vfork.c" -pthread -static "$archive"

# on NAME CACHED COUNT PROGRAM...: CACHED, whether a child has a cache.
on() {
  local name=$1 cached=$2 count=$3
  shift 3
  local run=("$@")
  expect "$name: two threads of $count vforks each" \
    "${run[@]}" storm "$count"
  expect "$name: one thread" "${run[@]}" alone "$cached"
  expect "$name: a child's child" "${run[@]}" nested
  expect "$name: before the first malloc" "${run[@]}" early
  expect "$name: refused" "${run[@]}" fails
  expect "$name: signal handlers" "${run[@]}" signals
  expect "$name: posix_spawn, system, popen, fork" "${run[@]}" others
}

# step MODE: the first vfork, on the parent's side.
step() {
  expect "stepping: $1" gdb -q -nx -batch -ex "set startup-with-shell off" \
    -ex "set environment LD_PRELOAD $library" -x "$programs/vfork_steps.py" \
    --args "$out/vfork" "$@"
  expect_line "[0-9]+ steps, all well"
}

# Without rseq every thread has a cache of its own.
cached=0
[[ $("$out/threads" able) != none ]] || cached=1

readonly preloaded=(env LD_PRELOAD="$library" "$out/vfork")
on "libc's area" "$cached" 1000 "${preloaded[@]}"
on "own area" 1 200 \
  env GLIBC_TUNABLES=glibc.pthread.rseq=0 "${preloaded[@]}"
on "fallback" 1 200 env TCX_FRONTEND=perthread "${preloaded[@]}"
on "per-thread build" 1 200 env LD_PRELOAD="$perthread" "$out/vfork"
on "static" "$cached" 200 "$out/vfork_static"
step alone 0
step fails
done_with vfork_test

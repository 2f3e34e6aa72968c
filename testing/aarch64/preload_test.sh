#!/bin/bash
# preload_test.sh LIBRARY -- the shared library for arm64, preloaded under qemu.
#
# Method: programs of testing/lifecycle/, built by the cross compiler. The
#   emulated kernel has no rseq: the statistics must say so, and that threads
#   serve themselves.
set -euo pipefail
library=$(realpath "$1")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

gcc() { aarch64-linux-gnu-gcc "$@"; }

emulate() {
  qemu-aarch64 -R 0x200000000 -L /usr/aarch64-linux-gnu \
    -E LD_PRELOAD="$library" "$@"
}
export -f emulate
export library

# on_tcx NAME COMMAND...
on_tcx() {
  local name=$1
  shift
  expect "$name" bash -c 'emulate "$@"' bash "$@"
}

mkdir -p "$out/outer/inner"
build outer/inner/libinner.so "$here/deepbind_module.c" -shared -fPIC
build outer/libouter.so "$here/deepbind_outer.c" -shared -fPIC \
  -Wl,--enable-new-dtags,-rpath,'$ORIGIN/inner'
build deepbind "$here/deepbind.c" "$out/outer/libouter.so" \
  -Wl,--enable-new-dtags,-rpath,"$out/outer"

# libc's dlopen sees the caller's RUNPATH through ours, and no RTLD_DEEPBIND.
on_tcx "objects go everywhere" "$out/deepbind" all
on_tcx "names and flags reach libc" "$out/deepbind" names
on_tcx "the fallback and its reason" -E TCX_STATS=exit "$out/deepbind" all
expect_line "tcx: front end in use perthread, rseq area none, ids none, \
reason (no membarrier for rseq|rseq refused)"
on_tcx "TCX_DISABLE=1" -E TCX_DISABLE=1 "$out/deepbind" names
done_with preload_test

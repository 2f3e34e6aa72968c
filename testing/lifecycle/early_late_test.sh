#!/bin/bash
# early_late_test.sh LIBRARY ARCHIVE -- calls before any constructor and after
# all destructors.
#
# Method: early_late.c visits every point that a program can reach, from an
#   IFUNC resolver to the last entry of .fini_array; preloaded, linked, and fully
#   static (where resolvers run before there is a thread pointer, so without
#   that point); and all of it again with TCX_DISABLE. (A static program has a
#   dlsym that fails, and allocates its message.)
set -euo pipefail
library=$(realpath "$1")
archive=$(realpath "$2")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

build plain "$here/early_late.c" -pthread
build now "$here/early_late.c" -pthread -Wl,-z,now -no-pie
build linked "$here/early_late.c" -pthread "$archive"
build static "$here/early_late.c" -DSTATIC -pthread -static "$archive"

expect "on glibc" "$out/plain" libc
expect "preloaded" env LD_PRELOAD="$library" "$out/plain" tcx
expect "preloaded, no lazy binding" env LD_PRELOAD="$library" "$out/now" tcx
expect "linked" "$out/linked" tcx
expect "static" "$out/static" tcx
expect "preloaded, disabled" \
  env TCX_DISABLE=1 LD_PRELOAD="$library" "$out/plain" libc
expect "linked, disabled" env TCX_DISABLE=1 "$out/linked" libc
expect "static, disabled: no other malloc" \
  env TCX_DISABLE=1 "$out/static" tcx
expect_line "tcx: disable: not done, as this process has no other malloc"
done_with early_late_test

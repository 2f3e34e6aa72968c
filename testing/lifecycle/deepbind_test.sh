#!/bin/bash
# deepbind_test.sh LIBRARY -- modules that are opened with RTLD_DEEPBIND.
#
# Method: deepbind.c under tcx, with and without TCX_DEEPBIND=0; on glibc alone,
#   to know that the test itself is right. testing/programs/php_test.py is the
#   same with a real program.
set -euo pipefail
library=$(realpath "$1")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

mkdir -p "$out/outer/inner"
build outer/inner/libinner.so "$here/deepbind_module.c" -shared -fPIC
build outer/libouter.so "$here/deepbind_outer.c" -shared -fPIC \
  -Wl,--enable-new-dtags,-rpath,'$ORIGIN/inner'
build deepbind "$here/deepbind.c" "$out/outer/libouter.so" \
  -Wl,--enable-new-dtags,-rpath,"$out/outer"

preloaded=(env LD_PRELOAD="$library")
expect "glibc alone" "$out/deepbind" all
expect "names and flags on glibc alone" "$out/deepbind" names
expect "objects go everywhere" "${preloaded[@]}" "$out/deepbind" all
expect "names and flags reach libc" "${preloaded[@]}" "$out/deepbind" names
expect "names with TCX_DEEPBIND=0" \
  "${preloaded[@]}" TCX_DEEPBIND=0 "$out/deepbind" names
expect_abort "TCX_DEEPBIND=0 leaves the flag" \
  "tcx: free\(\): .*" "${preloaded[@]}" TCX_DEEPBIND=0 "$out/deepbind" back
expect "TCX_DEEPBIND=0 and TCX_FOREIGN=libc" \
  "${preloaded[@]}" TCX_DEEPBIND=0 TCX_FOREIGN=libc "$out/deepbind" back
expect "TCX_DISABLE=1" "${preloaded[@]}" TCX_DISABLE=1 "$out/deepbind" all
done_with deepbind_test

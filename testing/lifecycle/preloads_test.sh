#!/bin/bash
# preloads_test.sh LIBRARY ARCHIVE -- more than one allocator in a process: two
# preloads, tcx opened by dlopen, a library that is linked with tcx.
set -euo pipefail
library=$(realpath "$1")
archive=$(realpath "$2")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

build preloads "$here/preloads.c" -pthread
build opener "$here/opener.c" -pthread
build libopened.so "$here/opened_library.c" -shared -fPIC "$archive"
cp "$library" "$out/libtcx_one.so"
cp "$library" "$out/libtcx_two.so"
one=$out/libtcx_one.so
two=$out/libtcx_two.so

# Two preloads: the first one is the process's malloc, the second one sleeps.
expect "tcx twice" env LD_PRELOAD="$one $two" "$out/preloads" libtcx_one.so
expect "tcx twice, python3" env LD_PRELOAD="$two $one" PYTHONMALLOC=malloc \
  /usr/bin/python3 -c 'import json, decimal; print(len(json.dumps([1] * 9999)))'
for other in jemalloc.so.2 tcmalloc_minimal.so.4 mimalloc.so.2.0; do
  other=/usr/lib/x86_64-linux-gnu/lib$other
  if [[ ! -e $other ]]; then
    echo "not installed: $other"
    continue
  fi
  expect "tcx before ${other##*/}" \
    env LD_PRELOAD="$one $other" "$out/preloads" libtcx_one.so
  expect "tcx behind ${other##*/}" \
    env LD_PRELOAD="$other $one" "$out/preloads" "${other##*/lib}" asleep
done

# The library itself, opened by a program on glibc.
expect "tcx opened" "$out/opener" tcx "$one"
expect_abort "tcx opened: free of glibc's" "tcx: free\(\): .*" \
  "$out/opener" foreign "$one"
expect "tcx opened: TCX_FOREIGN=libc" \
  env TCX_FOREIGN=libc "$out/opener" foreign "$one"
expect "tcx opened: TCX_DISABLE does not matter to glibc" \
  env TCX_DISABLE=1 "$out/preloads" libc.so.6 asleep

# A library with a tcx of its own calls what the process calls.
expect "linked library on glibc" "$out/opener" linked "$out/libopened.so" 104
expect "linked library, preloaded" \
  env LD_PRELOAD="$one" "$out/opener" linked "$out/libopened.so" 112
expect "linked library, preloaded, RTLD_DEEPBIND" \
  env LD_PRELOAD="$one" "$out/opener" deep "$out/libopened.so" 112
# On glibc, that flag gives it its own tcx, to which libc's strdup is foreign.
expect "linked library on glibc, RTLD_DEEPBIND" \
  env TCX_FOREIGN=libc "$out/opener" deep "$out/libopened.so" 112
expect_abort "the same without TCX_FOREIGN" "tcx: free\(\): .*" \
  "$out/opener" deep "$out/libopened.so" 112

# Static thread-local storage, of which libraries that are opened late have
# little.
bytes=$((16#$(readelf -lW "$library" | awk '$1 == "TLS" { print substr($6, 3) }')))
echo "static TLS: $bytes bytes"
((bytes > 0 && bytes <= 64)) || fail "static TLS of $bytes bytes"
cases=$((cases + 1))
done_with preloads_test

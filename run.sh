#!/usr/bin/env bash
# run.sh [PROGRAM [ARGS]] -- runs a program on tcx.
#
# Without arguments: runs a real program, python3 on threads and json, once on
# glibc's malloc and once on tcx, and shows both beside tcx's statistics.
set -euo pipefail
readonly here=$(cd "$(dirname "$0")" && pwd)

build() {
  local log=$here/.cache/build.log
  (cd "$here" && bazel build --config=opt --noshow_progress \
    //:libtcx.so) >"$log" 2>&1 || {
    grep -m3 -iE '^(error|fail)' "$log" >&2 || tail -n3 "$log" >&2
    echo "run: FAILED: bazel build (all of it: $log)" >&2
    exit 1
  }
  # A copy: the next build in another mode moves bazel-bin.
  cp -f "$here/bazel-bin/libtcx.so" "$here/.cache/libtcx.so"
}

TCX_SETUP=build "$here/setup.sh" >&2
build
readonly library=$here/.cache/libtcx.so
if [[ $# == 0 ]]; then
  exec /usr/bin/python3 "$here/tools/compare.py" "$library"
fi
exec env LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}" "$@"

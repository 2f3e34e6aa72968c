#!/usr/bin/env bash
# consumer_test.sh -- builds and runs this workspace by Bazel alone, offline.
#
# Not inside "bazel test": it is a Bazel of its own.  Checks malloc = with every
# named variant, dynamic and fully static, and the archive with gcc and no C++
# library.
set -euo pipefail
cd "$(dirname "$0")"

readonly outputs=$PWD/../../.cache/consumer

fail() {
  echo "consumer: FAILED: $*" >&2
  exit 1
}

# All of it in a network namespace with no interface but lo, where the kernel
# lets us make one.
if [[ ${1:-} != --inside ]]; then
  for flags in -n -rn; do
    if unshare $flags ip link set lo up 2>/dev/null; then
      exec unshare $flags "$PWD/${0##*/}" --inside
    fi
  done
  echo "consumer: no network namespaces here, so not shown to work offline"
else
  ip link set lo up
  [[ $(ip -o link | wc -l) == 1 ]] || fail "the namespace has a network"
  echo "consumer: ok: no network but lo"
fi

work=$(mktemp -d)
run_bazel() { bazel --output_user_root="$outputs" "$@"; }

# The server would outlive this test.
trap 'rm -rf "$work"; run_bazel shutdown >/dev/null 2>&1 || true' EXIT

serves() {
  local out
  out=$("$@") || fail "$* exited with $?: ${out:-no output}"
  [[ $out == "served by tcx" ]] || fail "$* printed: $out"
  echo "consumer: ok: ${*##*/}"
}

needs() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p'; }

run_bazel build --jobs=2 --nosandbox_debug --noshow_progress \
  --ui_event_filters=-info //:all @tcx//:libtcx_percpu.a ||
  fail "bazel build"

for malloc in tcx tcx_percpu tcx_percpu_256k tcx_perthread tcx_perthread_4k \
  static; do
  serves "bazel-bin/${malloc}_c"
  serves "bazel-bin/${malloc}_cc"
done
[[ -z $(needs bazel-bin/static_c) && -z $(needs bazel-bin/static_cc) ]] ||
  fail "a static program needs shared libraries"

# As one builds who has no source of abseil.
run_bazel build --jobs=2 --nosandbox_debug --noshow_progress \
  --ui_event_filters=-info --@tcx//bazel/config:abseil=False \
  --repo_env=TCX_ABSL_SRC=/nonexistent //:tcx_c || fail "build without abseil"
serves bazel-bin/tcx_c
run_bazel build --noshow_progress //:tcx_c \
  --repo_env=TCX_ABSL_SRC=/nonexistent 2>"$work/log" &&
  fail "abseil was not looked for in TCX_ABSL_SRC"
grep -q 'run ./setup.sh' "$work/log" || fail "no abseil, no clear message"

# The archive, without Bazel and without a C++ library.
archive=bazel-bin/external/tcx/libtcx_percpu.a
gcc -O2 -o "$work/archive_c" main.c "$archive" -pthread
serves "$work/archive_c"
gcc -O2 -static -o "$work/archive_static_c" main.c "$archive" -pthread
serves "$work/archive_static_c"
g++ -O2 -o "$work/archive_cc" main.cc "$archive" -pthread
serves "$work/archive_cc"
extra=$(needs "$work/archive_c" | grep -v '^libc\.so' || true)
[[ -z $extra ]] || fail "a C program with the archive needs $extra"

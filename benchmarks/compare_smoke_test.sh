#!/bin/bash
# compare_smoke_test.sh LIBRARY -- the comparison runs from end to end.
#
# One run of a few rows and workloads: every line must come out, whatever its
# figures. Allocators that are not installed are left out.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${TCX_BENCHMARKS_BIN:-$here}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

fail() {
  echo "FAIL: $1" >&2
  cat "$out" >&2
  exit 1
}

/usr/bin/python3 "$here/compare.py" --tcx "$1" --bin-dir "$bin" \
  --runs 1 --no-touch --allow-missing --template \
  --only '^(pair_64|new_64|random_1k|pair_1m|bignum|mleak|sqlite)$' >"$out"

for text in 'CPU: ' 'malloc + free, 64 B' 'new / sized delete' '1 K slots live' \
  '1 MiB' bignum mleak sqlite 'geometric mean, against glibc' \
  '## What we lose, and why'; do
  grep -qF -- "$text" "$out" || fail "no '$text' in the output"
done

# Each program of the list of workloads was built, and each row has a program.
while read -r program; do
  [[ -x $bin/$program ]] || fail "$program of LIST.md was not built"
done < <(sed -n 's/^|[^|]*|[^|]*| bin\/\([a-z_]*\).*/\1/p' "$here/workloads/LIST.md")
"$bin/rows" --list >"$out"
while read -r row; do
  grep -qx "$row" "$out" || fail "compare.py names a row that rows has not: $row"
done < <(sed -n 's/^    ("[a-z0-9_]*", \["\([a-z0-9_]*\)".*/\1/p' "$here/compare.py")

# A preload that the loader ignores must not pass for tcx.
if /usr/bin/python3 "$here/compare.py" --tcx /nonexistent.so --bin-dir "$bin" \
  --runs 1 --no-touch --allow-missing --rows --only pair_64 >"$out" 2>&1; then
  fail "a library that does not exist was accepted"
fi
echo PASS

#!/bin/bash
# over_time_smoke_test.sh LIBRARY -- the measurements over time run from end to
# end.
#
# Every scenario once, with little memory and for a second: its table and plot
# must come out, whatever its figures. Allocators that are not installed are
# left out; where no cgroup can be made there is no charge.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${TCX_BENCHMARKS_BIN:-$here/..}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

fail() {
  echo "FAIL: $1" >&2
  cat "$out/text" "$out/log" >&2
  exit 1
}

run() {
  /usr/bin/python3 "$here/over_time.py" --bin-dir "$bin" --quick --runs 1 \
    --no-touch --allow-missing "$@" >"$out/text" 2>"$out/log"
}

run --tcx "$1" --plots "$out/plots" --json "$out/json" || fail "it ended"
[[ $(grep -c '^### ' "$out/text") == 11 ]] || fail "not eleven sections"
[[ $(grep -c '^| tcx |' "$out/text") -ge 8 ]] || fail "tables without tcx"
for text in 'after 1000' 'held / live' 'page faults | ' 'time of work | ' \
  'TCX_HUGEPAGES=never | ' '32 KiB, untouched, two threads' 'any, 2 threads'; do
  grep -qF -- "$text" "$out/text" || fail "no '$text' in the output"
done
for plot in burst_small burst_large burst_single sparse sawtooth_fast \
  sawtooth_slow coverage; do
  grep -q '<polyline.*stroke="#0060c0"' "$out/plots/$plot.svg" ||
    fail "no line of tcx in the plot $plot"
  grep -qF "plots/$plot.svg" "$out/text" || fail "the text lacks plot $plot"
done
/usr/bin/python3 - "$out" <<'PYTHON' || fail "a plot or the samples do not parse"
import glob, json, sys, xml.dom.minidom
for name in glob.glob(sys.argv[1] + "/plots/*.svg"):
    xml.dom.minidom.parse(name)
raw = json.load(open(sys.argv[1] + "/json"))
held = [rss for _, _, rss, _ in raw["burst_small"]["tcx"][0]["samples"]]
assert max(held) > 30, held  # a 32nd of 1 GiB was there
PYTHON

# Each row of pairs has a program.
"$bin/rows" --list >"$out/text"
for size in 32k 256k 1m 4m; do
  for row in untouched_${size}{,_2threads} pair_${size}{,_2threads}; do
    grep -qx "$row" "$out/text" || fail "rows has no row $row"
  done
done

# A preload that the loader ignores must not pass for tcx.
if run --tcx /nonexistent.so --only burst_small; then
  fail "a library that does not exist was accepted"
fi
echo PASS

#!/bin/bash
# disable_test.sh LIBRARY -- TCX_DISABLE=1: a preloaded tcx is not there.
#
# Method: disabled.c asks each function; python3 runs a real load, whose output
#   must be the same as without tcx and whose peak of resident memory must be
#   that of glibc's malloc, within 2 MiB.
set -euo pipefail
library=$(realpath "$1")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

build disabled "$here/disabled.c" -pthread

expect "every function" \
  env TCX_DISABLE=1 LD_PRELOAD="$library" "$out/disabled"
echo "disable = 1" >"$out/tcx.conf"
expect "by a file" \
  env TCX_CONF_FILE="$out/tcx.conf" LD_PRELOAD="$library" "$out/disabled"

cat >"$out/load.py" <<'PYTHON'
import json, re, resource, sys
for seed in (1, 2, 3):
    data = {str(i * seed): list(range(i % 50)) for i in range(20000)}
    text = json.dumps(data)
    print(seed, len(re.findall(r"\d+", text)), len(json.loads(text)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak, file=sys.stderr)
PYTHON

export PYTHONMALLOC=malloc PYTHONHASHSEED=0
/usr/bin/python3 "$out/load.py" >"$out/glibc.out" 2>"$out/glibc.rss"
TCX_DISABLE=1 LD_PRELOAD=$library /usr/bin/python3 "$out/load.py" \
  >"$out/tcx.out" 2>"$out/tcx.rss"
cmp "$out/glibc.out" "$out/tcx.out" || fail "python3: another output"
glibc=$(<"$out/glibc.rss")
tcx=$(<"$out/tcx.rss")
((tcx - glibc < 2048 && glibc - tcx < 2048)) ||
  fail "python3: peak of $tcx KiB, with glibc $glibc"
cases=$((cases + 1))
echo "ok python3: peak $tcx KiB, with glibc alone $glibc KiB"
done_with disable_test

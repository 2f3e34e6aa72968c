#!/bin/sh
# soak_preload_test.sh SOAK LIBRARY SECONDS -- the soak under LD_PRELOAD, and a
# moment of it on glibc: the model itself must ask for nothing that is not so.
set -eu
soak=$1 library=$2 seconds=$3

log=${TEST_TMPDIR:-/tmp}/soak.log
status=0
LD_PRELOAD=$PWD/$library "$soak" "--seconds=$seconds" >"$log" 2>&1 || status=$?
cat "$log"
[ "$status" = 0 ]
grep -q ' on tcx$' "$log"
"$soak" --seconds=2 --threads=4

#!/bin/bash
# gdb_test.sh SCRIPT PROGRAM LIBRARY -- gdb's stack in sections, and at their abort
# handlers.
#
# Method: gdb_script.py, run by gdb, stops PROGRAM (profiled.c) on the preloaded
#   LIBRARY there. Every stack must reach main.
set -euo pipefail
script=$(realpath "$1")
program=$(realpath "$2")
library=$(realpath "$3")

log=$(mktemp "${TEST_TMPDIR:-/tmp}/gdb.XXXXXX")
trap 'rm -f "$log"' EXIT
status=0
LD_PRELOAD=$library TCX_FRONTEND=percpu "$program" 0 0 >"$log" 2>&1 || status=$?
if [[ $status == 77 ]]; then
  echo "skipped: this machine registers no rseq area"
  exit 0
fi
status=0
HOME=/nonexistent RSEQ_TEST_LIBRARY=$library timeout 100 \
  gdb -batch -nx -iex 'set debuginfod enabled off' \
  -iex 'set startup-with-shell off' \
  -ex "set environment LD_PRELOAD $library" \
  -ex "set environment TCX_FRONTEND percpu" \
  -x "$script" --args "$program" 1000000000 1000000000 \
  >"$log" 2>&1 || status=$?
if grep -q 'ptrace: Operation not permitted' "$log"; then
  echo "skipped: no ptrace on this machine"
  exit 0
fi
cat "$log"
if [[ $status != 0 ]] || ! grep -q '^gdb: 4 functions$' "$log"; then
  echo "FAILED: exit status $status" >&2
  exit 1
fi

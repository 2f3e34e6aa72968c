#!/bin/bash
# profile_test.sh PROGRAM LIBRARY -- no broken stack in a profile of malloc.
#
# Method: PROGRAM (profiled.c) on the preloaded LIBRARY, until it has thousands of
#   samples, hundreds of them at abort handlers.
set -euo pipefail
program=$(realpath "$1")
library=$(realpath "$2")

status=0
LD_PRELOAD=$library TCX_FRONTEND=percpu "$program" 5000 300 || status=$?
case $status in
  0) echo "no broken stack" ;;
  77) echo "skipped: this machine registers no rseq area" ;;
  *)
    echo "FAILED: exit status $status" >&2
    exit 1
    ;;
esac

#!/usr/bin/env bash
# man_test.sh -- the man page formats without a warning, and names every public
# function of tcx.h.
set -euo pipefail

readonly page=$1 header=$2
warnings=$(groff -man -Tutf8 -ww -z "$page" 2>&1)
[[ -z $warnings ]] || {
  echo "FAILED: $warnings"
  exit 1
}
grep -oE '\btcx_[a-z_]+\(' "$header" | tr -d '(' | sort -u | while read -r name; do
  grep -q "$name" "$page" || {
    echo "FAILED: $page does not name $name"
    exit 1
  }
done

#!/bin/bash
# churn_test.sh LIBRARY -- blocks that come and go need little more memory than
# was live at once.
#
# Bounds are for each kind of churn.c, on the peak of RSS over what was live: of
# what it takes today the half again. One kind took 49 once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
library=$PWD/$1
failed=0

check() { # KIND THREADS BOUND
  local live peak_kib
  live=$("$here/../measure" -p "$library" -f 3 -- "$here/churn" "$1" 10000 "$2" \
    3>"$TEST_TMPDIR/figures" | awk '{ print $3 }')
  read -r _ _ _ peak_kib _ <"$TEST_TMPDIR/figures"
  awk -v kind="$1, $2 threads" -v live="$live" -v peak="$peak_kib" -v most="$3" '
    BEGIN {
      ratio = peak / 1024 / live
      printf "%s: %.2f, at most %s\n", kind, ratio, most
      exit !(live > 10 && ratio <= most)
    }' || failed=1
}

check any 1 2.3
check any 2 2.3
check headers 1 2.7
check aligned 1 3.3
check shrunk 1 5.0
check grown 1 2.2
if ((failed)); then
  echo FAIL
  exit 1
fi
echo PASS

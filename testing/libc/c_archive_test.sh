#!/bin/bash
# c_archive_test.sh ARCHIVE MAIN.c EXPORTED -- a C program on the archive, by gcc alone.
#
# Method: MAIN.c (static_symbols_test.c) is linked with the archive and with no
#   C++ library, dynamic and fully static, and run; it checks itself that tcx
#   served it.
set -euo pipefail
archive=$1
main=$2
exported=$3
out=${TEST_TMPDIR:-$(mktemp -d)}

for mode in "" -static; do
  # shellcheck disable=SC2086
  gcc -std=c11 -D_GNU_SOURCE -O1 -fno-builtin -Wall -Werror -I. $mode "$main" "$archive" \
    -pthread -o "$out/program"
  if readelf -d "$out/program" | grep -E 'NEEDED.*(stdc\+\+|c\+\+)'; then
    echo "the program needs a C++ library" >&2
    exit 1
  fi
  "$out/program"
done

# Of tcx's names, only those that the shared library exports are global.
private=$(nm -g --defined-only "$archive" | awk 'NF == 3 && $3 ~ /^tcx_/ { print $3 }' |
  grep -vxFf "$exported" || true)
[[ -z $private ]] || {
  echo "private names are global: $private" >&2
  exit 1
}

#!/usr/bin/env bash
# exported_symbols_test.sh LIBRARY LIST [NAME...] -- what leaves the library is
# what the list says, without the NAMEs; names of tcx alone have a version; it
# needs libc alone.
set -euo pipefail

readonly library=$1 list=$2
shift 2
export LC_ALL=C

# Local symbols, which the linker adds for thread-local variables, do not leave.
names=$(nm -D --defined-only "$library" | awk '$2 ~ /[B-Z]/ { print $3 }')
expected=$(grep -vxF "$(printf '%s\n' "${@:-none}")" "$list")
diff -u <(cat <<<"$expected") <(sed 's/@.*//' <<<"$names" | sort) || {
  echo "FAILED: + leaves the library and is not in the list, - the reverse"
  exit 1
}
wrong=$(grep -E '^tcx_' <<<"$names" | grep -vE '@@TCX_0$' || true)
wrong+=$(grep -vE '^tcx_' <<<"$names" | grep '@' || true)
[[ -z $wrong ]] || {
  echo "FAILED: wrong versions: $wrong"
  exit 1
}
needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
[[ $needed == libc.so.6 ]] || {
  echo "FAILED: needs" $needed
  exit 1
}
readelf -d "$library" | grep 'SONAME.*\[libtcx\.so\.0\]' >/dev/null

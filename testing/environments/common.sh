# common.sh -- sourced by the tests of this folder, with the path of the per-CPU
# library: runs programs on it, and reads what its report says.
# shellcheck shell=bash disable=SC2034

library=$(realpath "$1")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh
readonly programs=testing/environments

# Of the program under test alone, for expect and `refuse ... -- `.
tcx() {
  local settings=()
  while [[ $1 == *=* ]]; do
    settings+=("$1")
    shift
  done
  run=(env LD_PRELOAD="$library" TCX_STATS=exit TCX_STATS_FILE="$out/report"
    "${settings[@]}" "$@")
}

# ends_well NAME COMMAND...: as expect, with a report of its own.
ends_well() {
  rm -f "$out/report"
  expect "$@"
  [[ -s $out/report ]] || fail "$1: no report"
}

# on_tcx NAME [SETTING=VALUE...] PROGRAM...
on_tcx() {
  local name=$1
  shift
  tcx "$@"
  ends_well "$name" "${run[@]}"
}

# The last report's line about the front end.
serves() {
  local line="tcx: front end in use $1, rseq area $2, ids $3, reason $4"
  grep -qxF "$line" "$out/report" || {
    grep "front end in use" "$out/report" >&2
    fail "not '$line'"
  }
}

# figure NAME OPERATOR NUMBER: a figure of the last report, compared.
figure() {
  local value
  value=$(awk -v name="$1" '$2 == name { print $3 }' "$out/report")
  [[ -n $value ]] || fail "no figure $1"
  test "$value" "$2" "$3" || fail "$1 is $value, not $2 $3"
}

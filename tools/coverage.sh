#!/usr/bin/env bash
# coverage.sh -- line coverage of the library by the tests, per folder.
#
# usage: tools/coverage.sh [--missing] [TARGETS]
#   --missing  also names the lines that no test reached
#   TARGETS    of Bazel; by default the tests that are linked with the library
# TCX_REPORT=FILE reads that report and runs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly tests=(
  //{backend,base,frontend,libc,middle,pagemap,size_classes,telemetry}/...
  //testing/{faults,fork,libc,settings,soak,statistics}/...
  //testing/wrong_use:{harden_test,wrong_use_linked_8k_test}
)

missing=0
if [[ ${1-} == --missing ]]; then
  missing=1
  shift
fi

report=${TCX_REPORT-}
if [[ -z $report ]]; then
  status=0
  bazel coverage --noshow_progress --keep_going "${@:-${tests[@]}}" >&2 || status=$?
  # 3: some test failed; the others count.
  [[ $status == 0 || $status == 3 ]] || exit "$status"
  report=$(bazel info output_path 2>/dev/null)/_coverage/_coverage_report.dat
fi

awk -v missing="$missing" '
  function end_gap() {
    if (first != "") {
      gaps[file] = gaps[file] " " (first == last ? first : first "-" last)
      first = ""
    }
  }
  # Fakes and what only tests use are not the library.
  /^SF:/ {
    file = substr($0, 4)
    folder = file
    sub("/.*", "", folder)
    wanted = file !~ /(^|\/)(fake_|exhausted_)|_(test|fuzz|benchmark)\./ &&
      file !~ /^(testing|benchmarks|bazel|bazel-out|external)\//
    first = ""
  }
  wanted && /^DA:/ {
    split(substr($0, 4), part, ",")
    lines[folder]++
    if (part[2] > 0) {
      hit[folder]++
      end_gap()
    } else {
      if (first == "") first = part[1]
      last = part[1]
    }
  }
  /^end_of_record/ { if (wanted) end_gap() }
  END {
    printf "%-14s %6s %6s %7s\n", "folder", "lines", "hit", "%"
    for (f in lines) {
      printf "%-14s %6d %6d %6.1f\n", f, lines[f], hit[f],
        100 * hit[f] / lines[f] | "sort"
      all += lines[f]
      all_hit += hit[f]
    }
    close("sort")
    if (all == 0) {
      print "coverage: no lines in the report" > "/dev/stderr"
      exit 1
    }
    printf "%-14s %6d %6d %6.1f\n", "total", all, all_hit, 100 * all_hit / all
    if (missing) {
      print ""
      for (f in gaps) print f ":" gaps[f] | "sort"
    }
  }
' "$report"

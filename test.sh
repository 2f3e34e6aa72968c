#!/usr/bin/env bash
# test.sh -- sets up, then runs all tests of tcx.
#
# Ends with one line "N passed, N failed": the tests of Bazel and the steps of
# this script.  TCX_STEPS="style bazel" runs those steps alone.
set -uo pipefail
cd "$(dirname "$0")"

readonly logs=$PWD/.cache/test
# Lines of Bazel's summary that name a test which did not pass.
readonly bad_test='^//[^ ]+ .*(FAILED|TIMEOUT|NO STATUS|FLAKY)'
passed=0
failed=0

# Source files of the library, in C.
library_sources() {
  git ls-files --cached --others --exclude-standard -- 'base/*.c' \
    'size_classes/*.c' 'pagemap/*.c' 'backend/*.c' 'middle/*.c' \
    'frontend/*.c' 'libc/*.c' 'telemetry/*.c' | grep -v '_test\.c$'
}

bazel_files() {
  git ls-files --cached --others --exclude-standard -- '*.bzl' '*.bazel' \
    WORKSPACE '*.BUILD'
}

formatted_sources() {
  git ls-files --cached --others --exclude-standard -- '*.c' '*.cc' '*.h'
}

# Deleted files are in the index until they are committed.
existing() { while read -r f; do [[ ! -e $f ]] || printf '%s\0' "$f"; done; }

step_style() { python3 tools/tidy.py; }

step_format() {
  formatted_sources | existing | xargs -0r clang-format --dry-run -Werror
}

step_buildifier() {
  bazel_files | existing |
    xargs -0r node_modules/.bin/buildifier -mode=check -lint=warn
}

# Only what it says of our files, each miss once.
step_clang_tidy() {
  local log=$logs/clang_tidy.all status=0
  library_sources | existing | xargs -0r -P2 -n4 sh -c '
    clang-tidy --quiet "$@" -- -std=c11 -D_GNU_SOURCE -DTCX_PAGE_SHIFT=13 \
      -I. -Iinclude 2>&1' clang-tidy >"$log" || status=$?
  grep -E '^[^ ].*: (error|warning): ' "$log" | sort -u
  return "$status"
}

step_consumer() { testing/consumer/consumer_test.sh; }

# Each test of Bazel counts. Without the links of the last build, which lead
# //... into Bazel's own trees (.bazelignore names them for the usual checkouts).
step_bazel() {
  find . -maxdepth 1 -type l -name 'bazel-*' -delete
  bazel test --noshow_progress --keep_going //...
}

run_step() {
  local name=$1 begin=$SECONDS log=$logs/$1.log status=0
  "step_$name" >"$log" 2>&1 || status=$?
  if [[ $name == bazel ]]; then
    local ok bad
    ok=$(grep -cE '^//[^ ]+ .*PASSED' "$log")
    bad=$(grep -cE "$bad_test" "$log")
    # A build that failed, or ran nothing, is a failure of its own.
    if [[ $((ok + bad)) == 0 || ($status != 0 && $bad == 0) ]]; then
      bad=$((bad + 1))
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    [[ $bad == 0 ]] || status=1
    echo "bazel tests: $ok passed, $bad failed"
  elif [[ $status == 0 ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
  if [[ $status == 0 ]]; then
    echo "ok      $name ($((SECONDS - begin)) s)"
  else
    echo "FAILED  $name ($((SECONDS - begin)) s), log $log:"
    say_why "$name" "$log" | sed 's/^/    /'
  fi
}

# What a reader of a short excerpt needs: of Bazel's tests the names of those
# that failed, then what googletest says of the first failures and the end of
# each one's own log; else the end of the step's. A variant of a test has its
# log in the tree of its own configuration.
say_why() {
  local bad
  bad=$(grep -E "$bad_test" "$2")
  if [[ $1 != bazel || -z $bad ]]; then
    tail -n 40 "$2"
    return
  fi
  echo "$bad"
  local label log
  while read -r label _; do
    label=${label#//}
    find bazel-out/*/testlogs/"${label/://}"/ -name test.log | while read -r log; do
      echo "-- $log:"
      { grep -A4 ': Failure$' "$log" | head -n 10; tail -n 8 "$log"; } | cut -c1-160
    done
  done <<<"$bad"
}

main() {
  ./setup.sh || {
    echo "0 passed, 1 failed"
    exit 1
  }
  mkdir -p "$logs"
  local step
  for step in ${TCX_STEPS:-style format buildifier clang_tidy bazel consumer}; do
    run_step "$step"
  done
  echo "all of it took $SECONDS s"
  echo "$passed passed, $failed failed"
  [[ $failed == 0 && $passed -gt 0 ]]
}

main "$@"

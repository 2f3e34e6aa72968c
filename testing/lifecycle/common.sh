# common.sh -- sourced by the tests of this folder: builds small programs as
# users do, with gcc alone, and runs them. Tests print "N cases" at their end.

readonly out=${TEST_TMPDIR:-$(mktemp -d)}
readonly here=testing/lifecycle
cases=0

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# Bazel gives paths from the top of the tree.
absolute() { realpath -- "$1"; }

# build OUTPUT SOURCE [flags]: the flags come last, for archives.
build() {
  local output=$1 source=$2
  shift 2
  gcc -std=c11 -D_GNU_SOURCE -O1 -g -fno-builtin -Wall -Wextra -Werror -I. \
    -o "$out/$output" "$source" "$@" || fail "cannot build $output"
}

# expect NAME COMMAND...: it must exit with 0, within the time.
expect() {
  local name=$1 status=0
  shift
  timeout 60 "$@" >"$out/log" 2>&1 || status=$?
  if [[ $status != 0 ]]; then
    cat "$out/log" >&2
    fail "$name: exit status $status"
  fi
  cases=$((cases + 1))
  echo "ok $name: $(tail -n 1 "$out/log")"
}

# expect_abort NAME LINE COMMAND...: ends by SIGABRT, and its first line on
# standard error is LINE (a regular expression).
expect_abort() {
  local name=$1 line=$2 status=0
  shift 2
  timeout 60 "$@" >"$out/log" 2>&1 || status=$?
  if [[ $status != 134 ]] || ! head -n 1 "$out/log" | grep -qE "^$line$"; then
    cat "$out/log" >&2
    fail "$name: exit status $status, or not '$line'"
  fi
  cases=$((cases + 1))
  echo "ok $name: $(head -n 1 "$out/log")"
}

# expect_line LINE: the last command also printed it.
expect_line() {
  grep -qE "^$1$" "$out/log" || {
    cat "$out/log" >&2
    fail "no line '$1'"
  }
}

done_with() { echo "$1: $cases cases passed"; }

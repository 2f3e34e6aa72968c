#!/usr/bin/env bash
# settings_test.sh -- settings as a deployed program meets them: by environment,
# file and program, and not at all with more rights than the user has.
set -euo pipefail

readonly show=$1 show_with_conf=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs the rest and compares both outputs, joined.
expect() {
  local want=$1 got
  shift
  got=$("$@" 2>&1) || got+=" (exit $?)"
  [[ $got == "$want" ]] || {
    echo "FAILED: $*: printed '$got', not '$want'"
    exit 1
  }
}

expect "33554432 abort" "$show" thread_cache foreign
expect "67108864" env TCX_THREAD_CACHE=64M "$show" thread_cache
expect "5242880 5000" "$show_with_conf" thread_cache trim_time

printf 'thread_cache = 7M\ntrim_time = 7s # a comment\n' >"$work/conf"
chmod 644 "$work/conf"
export TCX_CONF_FILE=$work/conf
expect "7340032 7000" "$show" thread_cache trim_time
expect "7340032 7000" "$show_with_conf" thread_cache trim_time
expect "8388608 7000" env TCX_CONF=thread_cache:8M "$show" thread_cache trim_time
expect "9437184 7000" env TCX_CONF=thread_cache:8M TCX_THREAD_CACHE=9M \
  "$show" thread_cache trim_time
unset TCX_CONF_FILE

expect "tcx: environment: unknown setting 'thread_cash'
33554432" env TCX_THREAD_CASH=64M "$show" thread_cache
expect "tcx: TCX_CONF: thread_cache cannot be '12': it lies between 1048576 and 1099511627776
33554432" env TCX_CONF=thread_cache:12 "$show" thread_cache
out=$(TCX_ABORT_ON_BAD_CONFIG=1 TCX_CONF=x:1 "$show" foreign 2>&1) && {
  echo "FAILED: abort_on_bad_config did not end the process: $out"
  exit 1
}
TCX_SHOW_CONFIG=1 TCX_HARDEN=0 "$show" harden 2>&1 |
  grep -x 'tcx: harden = 0 (environment)' >/dev/null || {
  echo "FAILED: TCX_SHOW_CONFIG"
  exit 1
}

# A program with the rights of another user. Only root can make one, and not on
# every file system.
cp "$show" "$work/secure"
chmod 755 "$work"
if chown nobody "$work/secure" 2>/dev/null && chmod 4755 "$work/secure" &&
  [[ $("$work/secure" AT_SECURE) == 1 ]]; then
  expect "33554432" env TCX_CONF_FILE="$work/conf" TCX_THREAD_CACHE=64M \
    "$work/secure" thread_cache
  echo "AT_SECURE: tested"
else
  echo "AT_SECURE: not tested, this machine makes no such program"
fi

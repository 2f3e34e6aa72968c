#!/bin/bash
# cpus_test.sh LIBRARY -- threads that are moved, and processes that may use few
# CPUs.
#
# Method: threads.c under taskset, with its affinity changed at run time, and in
#   a control group whose CPUs change (as root, where there are such groups).
#   Each with areas of libc's and of tcx's, whose ids are as dense as the kernel
#   makes them; the report says how many caches there were.
set -euo pipefail
# shellcheck source=testing/environments/common.sh
source testing/environments/common.sh

build threads "$programs/threads.c" -pthread
readonly libcs=GLIBC_TUNABLES=glibc.pthread.rseq=1
readonly own=GLIBC_TUNABLES=glibc.pthread.rseq=0
cpus=$(nproc)
# "0-3,8" -> 0
first=$(taskset -cp $$ | sed 's/.*: *//; s/[-,].*//')

group=
drop_group() { [[ -z $group ]] || rmdir "$group" || true; }
trap drop_group EXIT

# Makes $group, a group of its own with all CPUs of this one. False: not here.
make_group() {
  local base
  for base in /sys/fs/cgroup/cpuset /sys/fs/cgroup; do
    [[ -w $base/cgroup.procs ]] || continue
    mkdir "$base/tcx_test.$$" 2>/dev/null || continue
    group=$base/tcx_test.$$
    if [[ -w $group/cpuset.cpus && -w $group/cpuset.mems ]]; then
      cat "$base/cpuset.mems" >"$group/cpuset.mems" 2>/dev/null || true
      echo "$first" >"$group/cpuset.cpus" 2>/dev/null && return 0
    fi
    rmdir "$group"
    group=
  done
  return 1
}

# in_group SETTING: the CPUs change under threads that run.
in_group() {
  local all i
  all=$(taskset -cp $$ | sed 's/.*: *//')
  tcx "$1" "$out/threads" wait
  rm -f "$out/report"
  for ((i = 0; i < 50; i++)); do
    echo "$first" >"$group/cpuset.cpus"
    sleep 0.004
    echo "$all" >"$group/cpuset.cpus"
    sleep 0.004
  done | (
    echo "$BASHPID" >"$group/cgroup.procs"
    exec timeout 60 "${run[@]}"
  ) >"$out/log" 2>&1 || fail "in a group: $(cat "$out/log")"
  cases=$((cases + 1))
  echo "ok a group whose CPUs change, $1: $(tail -n 1 "$out/log")"
  figure cpu_caches -le "$cpus"
}

for setting in "$libcs" "$own"; do
  on_tcx "one CPU, $setting" "$setting" \
    taskset -c "$first" "$out/threads" run 100000
  figure cpu_caches -ge 1
  figure cpu_caches -le "$cpus"
  on_tcx "each CPU in turn, $setting" "$setting" "$out/threads" moved
  figure cpu_caches -le "$cpus"
done
if make_group; then
  in_group "$libcs"
  in_group "$own"
else
  echo "No control group of CPUs can be made here: skipped."
fi
done_with cpus_test

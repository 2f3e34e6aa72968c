#!/bin/bash
# cgroup_test.sh LIBRARY LIMITED -- TCX_LIMIT=auto in a real memory cgroup: a load that
# is killed without it survives with it.
#
# Method: benchmarks/memory/limited.c needs less than the limit at any time, and
#   touches more in all; each run in a group of its own, made below the one that
#   this process is in. Version 1 or 2; where none can be made, says so.
set -euo pipefail
library=$(realpath "$1")
limited=$(realpath "$2")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

readonly limit_mib=384

# Prints the folder of this process's group, and the file of its limit.
find_group() {
  local path
  path=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
  if [[ -n $path ]]; then
    for path in "/sys/fs/cgroup/memory$path" /sys/fs/cgroup/memory; do
      [[ -w $path/tasks ]] && echo "$path" memory.limit_in_bytes && return
    done
  elif [[ -w /sys/fs/cgroup/cgroup.procs ]] &&
    grep -qw memory /sys/fs/cgroup/cgroup.subtree_control; then
    echo /sys/fs/cgroup memory.max
  fi
}

read -r parent limit_file < <(find_group) || true
group=${parent:-}/tcx_test_$$
if [[ -z ${parent:-} ]] || ! mkdir "$group" 2>/dev/null; then
  echo "cgroup_test: not tested, no memory cgroup can be made here"
  exit 0
fi
# Removed once the kernel has let its last process go.
remove() {
  local i
  for ((i = 0; i < 50; i++)); do
    rmdir "$group" 2>/dev/null && return
    sleep 0.1
  done
}
trap remove EXIT
echo $((limit_mib << 20)) >"$group/$limit_file"
# Without swap, or what is too much may go there.
for no_swap in "memory.swap.max 0" "memory.swappiness 0" \
  "memory.memsw.limit_in_bytes $((limit_mib << 20))"; do
  read -r file value <<<"$no_swap"
  if [[ -e $group/$file ]] && ! echo "$value" >"$group/$file"; then
    echo "cgroup_test: $file cannot be set"
  fi
done

# inside COMMAND...: in the group. Its exit status, 137 where it was killed.
inside() {
  local status=0
  # shellcheck disable=SC2016
  timeout 120 bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' inside \
    "$group" env "$@" </dev/null >"$out/log" 2>&1 || status=$?
  echo "$status"
}

for load in fragments mapped; do
  for background in auto on; do
    variables=(LD_PRELOAD="$library" TCX_BACKGROUND="$background")
    run=("$limited" "$load" "$limit_mib" 1)
    without=$(inside "${variables[@]}" "${run[@]}")
    with=$(inside "${variables[@]}" TCX_LIMIT=auto "${run[@]}")
    echo "$load, background $background: without $without, with $with"
    [[ $without == 137 ]] || fail "$load survives without a limit: $without"
    [[ $with == 0 ]] || {
      cat "$out/log"
      fail "$load does not survive: $with"
    }
    cases=$((cases + 1))
  done
done
done_with cgroup_test

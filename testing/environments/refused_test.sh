#!/bin/bash
# refused_test.sh LIBRARY -- containers that refuse rseq, membarrier or both.
#
# Method: refuse.c installs a filter for system calls and runs threads.c under
#   it, so that libc and tcx meet it at their start. The caches of threads must
#   serve, and the report must say why. Where a filter ends the process for
#   membarrier, TCX_FRONTEND=perthread does not call it.
set -euo pipefail
# shellcheck source=testing/environments/common.sh
source testing/environments/common.sh

build threads "$programs/threads.c" -pthread
build refuse "$programs/refuse.c"
ids=$("$out/threads" able)

# refused REASON RULE...
refused() {
  local reason=$1
  shift
  tcx "$out/threads" run 50000
  ends_well "$*" "$out/refuse" "$@" -- "${run[@]}"
  serves perthread none none "$reason"
  figure cpu_caches -eq 0
  figure caches_total -ge 4
  tcx "$out/threads" turnover 500
  ends_well "$*: threads come and go" "$out/refuse" "$@" -- "${run[@]}"
}

refused "rseq refused" rseq=EPERM
refused "rseq refused" rseq=ENOSYS
refused "no membarrier for rseq" membarrier=EPERM
refused "no membarrier for rseq" membarrier=ENOSYS
refused "no membarrier for rseq" rseq=ENOSYS membarrier=EPERM

# What a sandbox of the program's does later: nobody can be stopped any more,
# and nobody is emptied.
if [[ $ids != none ]]; then
  tcx "$out/threads" fences
  ends_well "fence=EPERM" "$out/refuse" fence=EPERM -- "${run[@]}"
  serves percpu libc "$ids" ok
  figure cpu_drains -eq 0
fi

tcx TCX_FRONTEND=perthread "$out/threads" run 50000
ends_well "membarrier=KILL, TCX_FRONTEND=perthread" \
  "$out/refuse" membarrier=KILL -- "${run[@]}"
serves perthread none none "not wanted"
done_with refused_test

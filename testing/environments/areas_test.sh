#!/bin/bash
# areas_test.sh LIBRARY -- whose restartable-sequence area a thread uses: libc's,
# one of tcx's own, none; and threads of several kinds in one process.
#
# Method: threads.c, whose threads trade objects that know what they are, and
#   which counts what is left at its end; the report says which caches served.
#   Threads without an area have a cache of their own, and so count as `caches`.
set -euo pipefail
# shellcheck source=testing/environments/common.sh
source testing/environments/common.sh

build threads "$programs/threads.c" -pthread
ids=$("$out/threads" able)
readonly unregistered=GLIBC_TUNABLES=glibc.pthread.rseq=0

cpus_only() {
  figure cpu_caches -ge 1
  figure caches_total -eq 0
}

libcs_areas() {
  on_tcx "libc's areas" "$out/threads" run 100000
  serves percpu libc "$ids" ok
  cpus_only
  on_tcx "libc's areas: threads come and go" "$out/threads" turnover 2000
  cpus_only
  on_tcx "libc's areas: caches are emptied from outside" "$out/threads" fences
  figure cpu_drains -ge 100
  cpus_only
  on_tcx "two of four threads unregistered" "$out/threads" mixed
  serves percpu libc "$ids" ok
  figure cpu_caches -ge 1
  figure caches_total -eq 2
}

# Threads have slabs of their own for their areas, but no objects in them.
own_areas() {
  on_tcx "own areas" "$unregistered" "$out/threads" run 100000
  serves percpu own "$ids" ok
  figure cpu_caches -ge 1
  figure thread_cache_bytes -eq 0
  on_tcx "own areas: threads come and go" \
    "$unregistered" "$out/threads" turnover 2000
  figure caches_total -ge 2001
  figure thread_cache_bytes -eq 0
  on_tcx "own areas: none is left registered" \
    "$unregistered" "$out/threads" leavers 1000
  figure caches_total -ge 1001
  on_tcx "own areas: caches are emptied from outside" \
    "$unregistered" "$out/threads" fences
  figure cpu_drains -ge 100
  on_tcx "own areas: two of four threads registered another" \
    "$unregistered" "$out/threads" taken
  serves percpu own "$ids" ok
  figure cpu_caches -ge 1
}

caches_of_threads() {
  on_tcx "TCX_FRONTEND=perthread" \
    TCX_FRONTEND=perthread "$out/threads" run 100000
  serves perthread none none "not wanted"
  figure cpu_caches -eq 0
  figure caches_total -ge 4
  on_tcx "TCX_FRONTEND=perthread: threads come and go" \
    TCX_FRONTEND=perthread "$out/threads" turnover 2000
  figure caches_total -ge 2001
}

if [[ $ids == none ]]; then
  echo "This machine has no rseq: the caches of threads alone."
  on_tcx "no rseq" "$out/threads" run 100000
  serves perthread none none "rseq refused"
else
  libcs_areas
  own_areas
fi
caches_of_threads
done_with areas_test

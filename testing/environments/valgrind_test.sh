#!/bin/bash
# valgrind_test.sh LIBRARY -- programs that run on tcx under valgrind.
#
# Method: memcheck takes malloc and free for itself, in whatever library they
#   are: it must find what it finds without tcx (memcheck.c), and nothing in
#   tcx. With `somalloc=nouserintercepts`, and with other tools, tcx serves;
#   valgrind has no rseq, so the caches of threads do, and nothing is reported.
set -euo pipefail
# shellcheck source=testing/environments/common.sh
source testing/environments/common.sh

build threads "$programs/threads.c" -pthread
build memcheck "$programs/memcheck.c"

# under [OPTION...] PROGRAM...: exits with 99 where memcheck reports an error.
under() { tcx valgrind --leak-check=full --error-exitcode=99 "$@"; }

for case in after beyond leak; do
  under "$out/memcheck" "$case"
  status=0
  timeout 60 "${run[@]}" >"$out/log" 2>&1 || status=$?
  [[ $status == 99 ]] || {
    cat "$out/log" >&2
    fail "memcheck does not find: $case (status $status)"
  }
  cases=$((cases + 1))
  echo "ok memcheck finds: $case"
done
under "$out/memcheck" well
ends_well "memcheck, no error" "${run[@]}"
under "$out/threads" run 1000
ends_well "memcheck, threads" "${run[@]}"
figure served_objects -eq 0

under --soname-synonyms=somalloc=nouserintercepts "$out/threads" run 1000
ends_well "memcheck leaves malloc to tcx" "${run[@]}"
serves perthread none none "rseq refused"
figure served_objects -ge 1
figure caches_total -ge 4

tcx valgrind --tool=none "$out/threads" turnover 50
ends_well "no tool, threads come and go" "${run[@]}"
serves perthread none none "rseq refused"
figure caches_total -ge 51
done_with valgrind_test

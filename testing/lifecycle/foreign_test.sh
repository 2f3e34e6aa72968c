#!/bin/bash
# foreign_test.sh LIBRARY -- TCX_FOREIGN: what free and its like do with a pointer
# that is not tcx's.
#
# Method: foreign.c gives them pointers of glibc's malloc, in each mode; a pointer
#   into tcx's own memory is never foreign.
set -euo pipefail
library=$(realpath "$1")
# shellcheck source=testing/lifecycle/common.sh
source testing/lifecycle/common.sh

build foreign "$here/foreign.c"

# under MODE FUNCTION
under() { echo env "TCX_FOREIGN=$1" LD_PRELOAD="$library" "$out/foreign" "$2"; }

# shellcheck disable=SC2046
{
  expect "libc" $(under libc libc)
  expect "ignore" $(under ignore ignore)
  for function in free realloc malloc_usable_size free_sized; do
    expect_abort "abort: $function" \
      "tcx: $function\(\): .*0x[0-9a-f]+.*" $(under abort "$function")
  done
  expect_abort "abort: delete" "tcx: .*0x[0-9a-f]+.*" $(under abort delete)
  expect_abort "the default is abort" "tcx: free\(\): .*" \
    env LD_PRELOAD="$library" "$out/foreign" free
  for mode in libc ignore; do
    expect_abort "$mode: inside an object of tcx" "tcx: free\(\): .*" \
      $(under "$mode" inside)
  done
}
done_with foreign_test

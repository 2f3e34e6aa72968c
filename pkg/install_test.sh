#!/usr/bin/env bash
# install_test.sh -- installs, and builds and runs programs as a user would, by
# pkg-config alone: with the shared library and with the archive.
set -euo pipefail

readonly install=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$install" "$@" "$work/tcx"
export PKG_CONFIG_PATH=$work/tcx/lib/pkgconfig

cat >"$work/main.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tcx/tcx.h>

int main(void) {
  void *p = malloc(100);
  char value[64];
  struct tcx_statistics s = {.struct_size = sizeof s};
  if (p == NULL || !tcx_owns(p) || tcx_owns(&s) || tcx_size_of(p) != 112 ||
      tcx_good_size(100) != 112 || tcx_size_class(p) == 0)
    return 1;
  if (tcx_version_number() != TCX_VERSION_NUMBER ||
      tcx_set("trim_time", "2s") != 0 || tcx_set("nothing", "1") == 0 ||
      tcx_get("trim_time", value, sizeof value) != 0 ||
      strcmp(value, "2000") != 0)
    return 2;
  if (tcx_statistics_get(&s) != 0 || s.allocated_bytes < 112 ||
      s.mapped_bytes != s.resident_bytes + s.released_bytes)
    return 3;
  free(p);
  tcx_tick();
  tcx_release((size_t)-1);
  printf("tcx %s\n", tcx_version_string());
  return 0;
}
C
cp "$work/main.c" "$work/main.cc"
sed -i 's/{.struct_size = sizeof s}/{sizeof s}/' "$work/main.cc"

flags=$(pkg-config --cflags --libs tcx)
# shellcheck disable=SC2086  # words, as pkg-config means them
gcc -std=c11 -Wall -Werror "$work/main.c" $flags -o "$work/shared"
# shellcheck disable=SC2086
g++ -std=c++17 -Wall -Werror -Wno-missing-field-initializers "$work/main.cc" \
  $flags -o "$work/shared_cc"
gcc -std=c11 -static "$work/main.c" -I"$work/tcx/include" \
  "$work/tcx/lib/libtcx.a" -pthread -o "$work/static"
version=$(pkg-config --modversion tcx)
readelf -d "$work/shared" | grep -q "NEEDED.*libtcx.so.${version%%.*}\]"
export LD_LIBRARY_PATH=$work/tcx/lib
for program in shared shared_cc static; do
  out=$("$work/$program") || {
    echo "FAILED: $program exited with $?"
    exit 1
  }
  [[ $out == "tcx $version" ]] || {
    echo "FAILED: $program printed $out"
    exit 1
  }
done
if "$install" "$@" relative/path 2>/dev/null; then
  echo "FAILED: a relative prefix was taken"
  exit 1
fi

#!/usr/bin/env bash
# install.sh -- behind "bazel run -c opt //pkg:install -- PREFIX".
#
# Copies the shared library, the archive, the header, tcx.pc and the man page
# below PREFIX (/usr/local unless told), with DESTDIR before it if that is set.
# The first five arguments are these files; Bazel gives them.
set -euo pipefail

readonly library=$1 archive=$2 header=$3 template=$4 page=$5
readonly prefix=${6:-/usr/local}
readonly root=${DESTDIR:-}$prefix

[[ $prefix == /* ]] || {
  echo "install: PREFIX must be an absolute path, not '$prefix'" >&2
  exit 2
}

# A field of the version, from the header.
part() { sed -n "s/^#define TCX_VERSION_$1 //p" "$header"; }
major=$(part MAJOR)
version=$major.$(part MINOR).$(part PATCH)

install -d "$root"/{lib/pkgconfig,include/tcx,share/man/man3}
install -m 755 "$library" "$root/lib/libtcx.so.$version"
ln -sf "libtcx.so.$version" "$root/lib/libtcx.so.$major"
ln -sf "libtcx.so.$major" "$root/lib/libtcx.so"
install -m 644 "$archive" "$root/lib/libtcx.a"
install -m 644 "$header" "$root/include/tcx/tcx.h"
install -m 644 "$page" "$root/share/man/man3/tcx.3"
sed -e "s,@PREFIX@,$prefix,; s,@VERSION@,$version," "$template" \
  >"$root/lib/pkgconfig/tcx.pc"
echo "install: tcx $version is below $root"

#!/usr/bin/env bash
# setup.sh -- installs what tcx needs to build and to run its tests on Debian 12.
#
# Safe to run again: what is there is left alone.  Wants root or sudo only when
# a package is missing.  TCX_SETUP=build takes the build tools alone.
set -euo pipefail
cd "$(dirname "$0")"

readonly cache=$PWD/.cache

say() { echo "setup: $*"; }

die() {
  echo "setup: FAILED: $*" >&2
  exit 1
}

# What ./run.sh and the unit tests need.
readonly build_packages=(
  bazel-bootstrap bazel-skylib bazel-platforms googletest
  g++ git dpkg-dev python3
)

# Compilers and checkers, allocators to compare with, programs to run on tcx.
readonly test_packages=(
  clang clang-format clang-tidy libclang-rt-14-dev valgrind gdb
  libtcmalloc-minimal4 libjemalloc2 libmimalloc2.0
  gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross
  qemu-user python3-unicorn
  libpython3.11-testsuite redis-server redis-tools nginx wrk sqlite3
  postgresql postgresql-contrib iproute2 php-cli groff-base pkgconf spin
)

missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) \
      == installed ]] || echo "$package"
  done
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  else
    command -v sudo >/dev/null || die "not root, and no sudo"
    sudo "$@"
  fi
}

# Programs may install services; the tests start their own, on their own ports.
install_packages() {
  local log=$cache/apt.log policy=/usr/sbin/policy-rc.d made=
  say "installing ${#} packages: $*"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    made=yes
  fi
  local status=0
  {
    as_root apt-get update &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y \
        --no-install-recommends "$@"
  } >"$log" 2>&1 || status=$?
  [[ -z $made ]] || as_root rm -f "$policy"
  [[ $status == 0 ]] || die "apt-get: $(grep -m1 '^E:' "$log" || tail -n1 "$log") (all of it: $log)"
}

# A view of the machine's own apt sources with source packages; nothing under
# /etc changes.
source_view() {
  local view=$1 file
  mkdir -p "$view/lists/partial"
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ -e $file ]] || continue
    # Stanzas of Debian's own suites only.
    awk -v RS= -v ORS='\n\n' '/\nSuites: *(bookworm|stable)/' "$file" |
      sed 's/^Types:.*/Types: deb-src/' >>"$view/debian.sources"
  done
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+ +(bookworm|stable).*)/deb-src \1\2/p' \
      >"$view/debian.list" || true
}

fetch_sources() {
  local package work
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  source_view "$work/view"
  local apt=(apt-get -o Dir::Etc::SourceList=/dev/null
    -o "Dir::Etc::SourceParts=$work/view" -o "Dir::State::Lists=$work/view/lists"
    -o APT::Sandbox::User=root)
  "${apt[@]}" update >"$cache/apt.log" 2>&1 ||
    die "apt-get update for source packages (see $cache/apt.log)"
  for package in "$@"; do
    say "fetching Debian's source package $package"
    (cd "$work" && "${apt[@]}" source --download-only "$package") \
      >"$cache/apt.log" 2>&1 || die "source package $package (see $cache/apt.log)"
    dpkg-source --no-check -x "$work/$package"_*.dsc "$work/$package" \
      >"$cache/apt.log" 2>&1 || die "dpkg-source $package (see $cache/apt.log)"
    rm -rf "${cache:?}/$package"
    mv "$work/$package" "$cache/$package"
  done
  rm -rf "$work"
}

install_buildifier() {
  say "installing buildifier into node_modules/"
  npm install --no-save --no-package-lock --no-audit --no-fund \
    >"$cache/npm.log" 2>&1 || die "npm install (see $cache/npm.log)"
}

main() {
  [[ $(uname -m) == x86_64 ]] || die "tcx is for x86-64"
  command -v apt-get >/dev/null || die "Debian's apt-get is needed"
  mkdir -p "$cache"

  local wanted=("${build_packages[@]}") missing
  if [[ ${TCX_SETUP:-all} == all ]]; then
    wanted+=("${test_packages[@]}")
    # Packages of Node.js from elsewhere bring their own npm.
    command -v node >/dev/null || wanted+=(nodejs)
    command -v npm >/dev/null || wanted+=(npm)
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  [[ ${#missing[@]} == 0 ]] || install_packages "${missing[@]}"

  local sources=()
  [[ -e $cache/abseil/absl ]] || sources+=(abseil)
  [[ -e $cache/benchmark/src ]] || sources+=(benchmark)
  [[ ${#sources[@]} == 0 ]] || fetch_sources "${sources[@]}"

  if [[ ${TCX_SETUP:-all} == all && ! -x node_modules/.bin/buildifier ]]; then
    install_buildifier
  fi
  say "ready"
}

main "$@"

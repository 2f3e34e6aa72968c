#!/usr/bin/env bash
# run.sh -- boots Debian's kernels under qemu and runs the tests of restartable
# sequences in each: other kernels, more CPUs, CPUs that go off and on.
#
# usage: tools/kernels/run.sh [KERNEL...]
#   KERNEL  amd64-6.1, amd64-6.12, arm64-6.1, arm64-6.12;
#           by default amd64-6.1 and arm64-6.12
#
# Wants qemu-system-x86 and qemu-system-arm (and says so when they are missing),
# what setup.sh installs, and the network: kernels, a C library and python3 are
# unpacked from Debian's packages into .cache/kernels, by apt's view of
# the machine's own mirror. Nothing is installed. Half a gigabyte of disk; three
# to ten minutes a kernel where /dev/kvm is of no use. Not part of ./test.sh.
#
# Environment:
#   TCX_KERNELS_SECONDS   of each stress; 20
#   TCX_KERNELS_ACCEL     kvm or tcg; else kvm where it boots
#   TCX_KERNELS_PROGRAMS  a folder with amd64/ and arm64/, built already
#
# The last lines say what ran in each kernel; the logs are .cache/kernels/*.log.
# Fails if any test fails, if a kernel's ids are not those that it should have,
# or if the stress does not see that the fence is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly here=tools/kernels
readonly cache=$PWD/.cache/kernels
readonly seconds=${TCX_KERNELS_SECONDS:-20}
readonly boot_limit=$((900 + 20 * seconds))

say() { echo "kernels: $*"; }

die() {
  echo "kernels: FAILED: $*" >&2
  exit 1
}

# -- packages of Debian -----------------------------------------------------------

# apt's state in a folder of our own, for two architectures, with backports.
make_view() {
  local view=$cache/view mirror
  mirror=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list \
    /etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n1 | tr -d ' ') || true
  [[ -n $mirror ]] || die "no mirror of Debian in /etc/apt"
  rm -rf "$view"
  mkdir -p "$view"/{parts,lists/partial,archives/partial}
  : >"$view/status"
  cat >"$view/parts/debian.sources" <<EOF
Types: deb
URIs: $mirror
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
  cat >"$view/apt.conf" <<EOF
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$view/parts";
Dir::State::Lists "$view/lists";
Dir::State::status "$view/status";
Dir::Cache "$view";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
EOF
  export APT_CONFIG=$view/apt.conf
  apt-get update >"$cache/apt.log" 2>&1 || die "apt-get update (see $cache/apt.log)"
}

# The package of the newest kernel VERSION for ARCH, or nothing.
kernel_package() {
  local arch=$1 version=$2 newest
  newest=$(apt-cache madison "linux-image-cloud-$arch:$arch" |
    awk -v prefix="$version." 'index($3, prefix) == 1 { print $3; exit }')
  [[ -n $newest ]] || return 0
  apt-cache show "linux-image-cloud-$arch:$arch=$newest" |
    sed -n 's/^Depends: *\([^ ,:]*\).*/\1/p' | head -n1
}

# unpack FOLDER PACKAGE...
unpack() {
  local folder=$1 deb
  shift
  rm -rf "$folder.debs" "$folder"
  mkdir -p "$folder.debs" "$folder"
  (cd "$folder.debs" && apt-get download "$@") >"$cache/apt.log" 2>&1 ||
    die "apt-get download $* (see $cache/apt.log)"
  for deb in "$folder.debs"/*.deb; do
    dpkg-deb -x "$deb" "$folder"
  done
  rm -rf "$folder.debs"
}

# The kernel alone of KERNEL.
get_kernel() {
  local kernel=$1 arch=${1%%-*} version=${1#*-} package
  [[ ! -s $cache/$kernel.image ]] || return 0
  [[ -n ${APT_CONFIG-} ]] || make_view
  package=$(kernel_package "$arch" "$version")
  [[ -n $package ]] || die "apt offers no kernel $version for $arch"
  say "fetching $package"
  unpack "$cache/$kernel" "$package:$arch"
  cp "$cache/$kernel"/boot/vmlinuz-* "$cache/$kernel.image"
  rm -rf "${cache:?}/$kernel"
}

# A small Debian: a static busybox, the C library, python3.
get_system() {
  local arch=$1 names
  [[ ! -e $cache/$arch.system/usr/bin/python3.11 ]] || return 0
  [[ -n ${APT_CONFIG-} ]] || make_view
  say "fetching the C library, busybox and python3 for $arch"
  names=(busybox-static libc6 libgcc-s1 libstdc++6 zlib1g libexpat1
    python3.11-minimal libpython3.11-minimal libpython3.11-stdlib)
  unpack "$cache/$arch.unpacked" "${names[@]/%/:$arch}"
  rm -rf "$cache/$arch.unpacked"/usr/{share,sbin} \
    "$cache/$arch.unpacked"/usr/lib/*/gconv
  mv "$cache/$arch.unpacked" "$cache/$arch.system"
}

# -- our programs -----------------------------------------------------------------

readonly programs=(
  //frontend:percpu_{test,threads_test,refused_test,stress_test,stress_fence_test}
  //testing/libc:threads_test //testing/soak:soak
)

# Fills .cache/kernels/ARCH.programs: copies, for the next build moves bazel-bin.
get_programs() {
  local arch=$1 folder=$cache/$1.programs
  rm -rf "$folder"
  mkdir -p "$folder"
  if [[ -n ${TCX_KERNELS_PROGRAMS-} ]]; then
    cp "$TCX_KERNELS_PROGRAMS/$arch"/* "$folder"
  else
    say "building our programs for $arch"
    build_programs "$arch" "$folder"
  fi
  build_small_programs "$arch" "$folder"
}

build_programs() {
  local arch=$1 folder=$2 flags=() files
  [[ $arch == amd64 ]] || flags=(
    --platforms=//bazel/toolchain:linux_aarch64 --platform_suffix=-aarch64
    --//bazel/config:abseil=False
  )
  build "${flags[@]}" "${programs[@]}"
  files=("${programs[@]/#\/\//bazel-bin/}")
  cp "${files[@]/://}" "$folder"
  build "${flags[@]}" --config=opt //:libtcx.so
  cp bazel-bin/libtcx.so "$folder/libtcx_percpu.so"
}

build() {
  bazel build --noshow_progress --config=percpu "$@" >"$cache/bazel.log" 2>&1 ||
    die "bazel build (see $cache/bazel.log)"
}

# Those of testing/environments, by the compiler alone as their tests do.
build_small_programs() {
  local arch=$1 folder=$2 compiler=x86_64-linux-gnu-gcc program
  [[ $arch == amd64 ]] || compiler=aarch64-linux-gnu-gcc
  for program in threads vfork; do
    "$compiler" -std=c11 -D_GNU_SOURCE -O1 -g -fno-builtin -I. -pthread \
      "testing/environments/$program.c" -o "$folder/$program" ||
      die "cannot build $program for $arch"
  done
}

# make_initrd ARCH
make_initrd() {
  local arch=$1 root=$cache/$1.root
  rm -rf "$root"
  cp -a "$cache/$arch.system" "$root"
  mkdir -p "$root/tests"
  cp "$cache/$arch.programs"/* testing/programs/python_work.py \
    $here/python_short.py "$root/tests"
  ln -s busybox "$root/bin/sh"
  cp $here/guest.sh "$root/init"
  chmod +x "$root/init"
  # Ours runs here: no package for cpio.
  (cd "$root" && find . | "$cache/amd64.system/bin/busybox" cpio -o -H newc |
    gzip -1 >"$cache/$arch.initrd") 2>/dev/null
  rm -rf "$root"
}

# -- machines ---------------------------------------------------------------------

# boot KERNEL ACCEL LIMIT ARGUMENTS: the console to stdout.
boot() {
  local kernel=$1 arch=${1%%-*} accel=$2 limit=$3 arguments=$4 machine cpu=cortex-a72 cpus=8
  [[ $accel != kvm ]] || cpu=host
  case $arch in
    amd64)
      cpu=max
      # Once qemu 7.2 was seen to damage this kernel's flags at a cmpxchg16b.
      [[ $kernel != amd64-6.12 ]] || cpu=max,-cx16
      machine=(qemu-system-x86_64 -machine "q35,accel=$accel" -cpu "$cpu")
      ;;
    # Emulated: of -cpu max the pointer authentication is slow, and of 8 CPUs
    # the waiting for each other.
    arm64)
      machine=(qemu-system-aarch64 -machine "virt,accel=$accel" -cpu "$cpu")
      cpus=4
      ;;
  esac
  [[ $arch == amd64 ]] && arguments+=" console=ttyS0" ||
    arguments+=" console=ttyAMA0"
  timeout "$limit" "${machine[@]}" -smp "$cpus" -m 2048 -nographic -no-reboot \
    -nic none -kernel "$cache/$kernel.image" -initrd "$cache/$arch.initrd" \
    -append "$arguments quiet panic=-1" </dev/null 2>&1 | sed -u 's/\r//g'
}

# How to run KERNEL: kvm if it gets as far as our init.
accelerator() {
  local kernel=$1 arch=${1%%-*}
  if [[ -n ${TCX_KERNELS_ACCEL-} ]]; then
    echo "$TCX_KERNELS_ACCEL"
  elif [[ $arch == "$(dpkg --print-architecture)" && -w /dev/kvm ]] &&
    { boot "$kernel" kvm 20 tcx_probe | grep '^kernels: probe'; } \
      >/dev/null 2>&1; then
    echo kvm
  else
    echo tcg
  fi
}

# summary KERNEL ACCEL: one line, and whether all was well.
summary() {
  awk -v kernel="$1" -v accel="$2" '
    # The number before WORD; 0 if there is none.
    function before(word) {
      return match($0, "[0-9]+ " word) ? substr($0, RSTART, RLENGTH) + 0 : 0
    }
    /^kernels: kernel / { release = $3; machine = $4; cpus = $6 }
    /^kernels: begins / { test = $3 }
    /^kernels: passed / { passed++ }
    /^kernels: passed fence_missing / { seen = 1 }
    /^kernels: FAILED / { failed = failed " " $3 }
    /^kernels: statistics / {
      match($0, /ids [a-z_]+/)
      ids[substr($0, RSTART + 4, RLENGTH - 4)]
      drains += $NF
    }
    /^kernels: hotplug_events / { events = $3 }
    /^kernels: ends after / { ended = 1 }
    /^kernels: begins / { tests++ }
    # The stress; not that which is to be wrong.
    test ~ /^stress/ && / operations, .* wrong/ {
      operations += before("operations")
      drains += before("drains")
      wrong += before("wrong")
    }
    /^soak: end/ { operations += before("steps") }
    END {
      expected = release ~ /^6\.1\./ ? "cpu_id" : "mm_cid"
      for (id in ids) {
        found = found (found == "" ? "" : "+") id
        strange = strange || id != expected
      }
      ok = ended && passed == tests && failed == "" && events > 0 && \
        wrong == 0 && operations > 0 && found != "" && !strange
      printf "%s %s: Linux %s %s (%s), %d CPUs, ids %s, %d of %d tests passed, " \
        "%d operations, %d drains, %d hotplug events, %d wrong; %s without the " \
        "fence%s%s\n", ok ? "ok    " : "FAILED", kernel, release,
        machine, accel, cpus, found == "" ? "unknown" : found, passed, tests,
        operations, drains, events, wrong, seen ? "fails" : "does not fail",
        failed == "" ? "" : "; failed:" failed,
        ended ? "" : "; did not come to its end"
      exit !ok
    }' "$cache/$1.log"
}

# test_kernel KERNEL
test_kernel() {
  local kernel=$1 arch=${1%%-*} accel begin=$SECONDS status=0
  get_kernel "$kernel"
  accel=$(accelerator "$kernel")
  say "booting $kernel on $accel; $cache/$kernel.log"
  boot "$kernel" "$accel" "$boot_limit" "tcx_seconds=$seconds" \
    >"$cache/$kernel.log" || true
  summary "$kernel" "$accel" >>"$cache/summary" || status=1
  say "$kernel took $((SECONDS - begin)) s"
  return $status
}

main() {
  local kernels=("$@") kernel arch tool failed=0
  [[ $# != 0 ]] || kernels=(amd64-6.1 arm64-6.12)
  for tool in qemu-system-{x86_64,aarch64} {x86_64,aarch64}-linux-gnu-gcc; do
    command -v "$tool" >/dev/null || die "no $tool; wanted: ./setup.sh, apt-get" \
      "install --no-install-recommends qemu-system-x86 qemu-system-arm"
  done
  mkdir -p "$cache"
  : >"$cache/summary"
  get_system amd64
  for kernel in "${kernels[@]}"; do
    arch=${kernel%%-*}
    [[ $kernel =~ ^(amd64|arm64)-6\.(1|12)$ ]] || die "no such kernel: $kernel"
    get_system "$arch"
    [[ -n ${done_for[$arch]-} ]] || {
      get_programs "$arch"
      make_initrd "$arch"
      done_for[$arch]=yes
    }
    test_kernel "$kernel" || failed=1
  done
  cat "$cache/summary"
  return $failed
}

declare -A done_for
main "$@"

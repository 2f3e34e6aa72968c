#!/bin/sh
# guest.sh -- the init of the machine that run.sh boots: tests, one after another.
#
# Runs on busybox alone. What run.sh reads are the lines "kernels: ..." on the
# console; the rest is what the tests say. The kernel's command line has
# tcx_seconds=N, how long each stress takes.
PATH=/bin:/usr/bin:/tests
export PATH

report() { echo "kernels: $*"; }

set_up() {
  checks=0
  /bin/busybox --install -s /bin
  mkdir -p /proc /sys /dev /tmp
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t devtmpfs devtmpfs /dev
  mkdir -p /dev/shm
  mount -t tmpfs tmpfs /dev/shm
  mount -t tmpfs tmpfs /tmp
  ip link set lo up 2>/dev/null
  seconds=$(sed -n 's/.*tcx_seconds=\([0-9]*\).*/\1/p' /proc/cmdline)
  cpus=$(grep -c '^processor' /proc/cpuinfo)
  export LD_LIBRARY_PATH=/tests GTEST_COLOR=no
  # The firmware leaves the cursor in the middle of a line.
  echo
  if grep -q tcx_probe /proc/cmdline; then
    report probe
    poweroff -f
  fi
  report "kernel $(uname -r) $(uname -m) cpus $cpus"
}

# -- CPUs go off and on -----------------------------------------------------------

set_online() {
  echo "$2" >"/sys/devices/system/cpu/cpu$1/online" 2>/dev/null &&
    events=$((events + 1)) && echo "$events" >/tmp/hotplug
}

# Up to half of them are off at once; the first stays. Until /tmp/unplug is gone.
plug_loop() {
  events=$(cat /tmp/hotplug 2>/dev/null || echo 0)
  cpu=1
  while [ -e /tmp/unplug ]; do
    set_online "$cpu" 0
    set_online "$(((cpu + cpus / 2 - 1) % (cpus - 1) + 1))" 1
    cpu=$((cpu % (cpus - 1) + 1))
    usleep 50000
  done
  cpu=1
  while [ "$cpu" -lt "$cpus" ]; do
    set_online "$cpu" 1
    cpu=$((cpu + 1))
  done
}

hotplug_starts() {
  touch /tmp/unplug
  plug_loop &
  plugger=$!
}

hotplug_ends() {
  rm -f /tmp/unplug
  wait "$plugger"
}

# -- tests ------------------------------------------------------------------------

# check NAME COMMAND...
check() {
  checks=$((checks + 1))
  name=$1
  shift
  begin=$(date +%s)
  report "begins $name"
  "$@"
  status=$?
  took=$(($(date +%s) - begin))
  if [ "$status" = 0 ]; then
    report "passed $name in $took s"
  else
    report "FAILED $name in $took s, status $status"
  fi
}

# preloaded [SETTING=VALUE...] PROGRAM...
preloaded() {
  rm -f /tmp/stats
  env LD_PRELOAD=/tests/libtcx_percpu.so TCX_STATS=exit \
    TCX_STATS_FILE=/tmp/stats "$@"
}

# served AREA: what ran last was on the caches of CPUs, by the areas of "libc"
# or by tcx's "own". Children of fork have reports too.
served() {
  report "statistics $(sed -n 's/^tcx: front end in use/front end/p' /tmp/stats |
    head -n1), cpu_drains $(awk '/^tcx: cpu_drains / { sum += $3 }
      END { print sum + 0 }' /tmp/stats)"
  grep -q "^tcx: front end in use percpu, rseq area $1," /tmp/stats
}

readonly own_areas=GLIBC_TUNABLES=glibc.pthread.rseq=0
readonly libcs_areas=GLIBC_TUNABLES=glibc.pthread.rseq=1

# on_areas AREA SETTING: programs of testing/environments, less of each.
on_areas() {
  preloaded "$2" threads run 20000 && served "$1" &&
    preloaded "$2" threads turnover 100 && served "$1" &&
    preloaded "$2" threads fences && served "$1" &&
    preloaded "$2" vfork storm 50
}

areas() {
  on_areas libc "$libcs_areas" &&
    preloaded "$libcs_areas" threads moved && served libc &&
    preloaded "$libcs_areas" threads mixed && served libc &&
    on_areas own "$own_areas" &&
    preloaded "$own_areas" threads taken && served own
}

# soak AREA SETTING
soak() {
  preloaded "$2" soak --seconds="$seconds" --threads=8 && served "$1"
}

# The same results on glibc's malloc and on tcx.
python() {
  python3.11 /tests/python_short.py >/tmp/python.glibc &&
    preloaded python3.11 /tests/python_short.py >/tmp/python.tcx &&
    cat /tmp/python.tcx && cmp /tmp/python.glibc /tmp/python.tcx && served libc
}

# googletest PROGRAM [FILTER]: that a test was skipped is a failure too. Where
# instructions are emulated, 10 000 signals a second leave time for nothing else.
googletest() {
  env TCX_STRESS_SECONDS="$seconds" TCX_STRESS_SIGNAL_US=2000 \
    "$1" --gtest_filter="${2:-*}" >/tmp/log 2>&1
  status=$?
  cat /tmp/log
  ! grep -q '^\[  SKIPPED \]' /tmp/log && return $status
}

stress() { googletest percpu_stress_test '-*WithoutTheFence*'; }

# It must fail, so this is to be seen; under emulation not always in a moment.
fence_missing() {
  googletest percpu_stress_fence_test '*WithoutTheFence' ||
    googletest percpu_stress_fence_test '*WithoutTheFence'
}

set_up
for test in percpu_test percpu_threads_test percpu_refused_test; do
  check $test googletest $test
done
check areas areas
check stress stress
check fence_missing fence_missing
hotplug_starts
check stress_hotplug stress
check soak_hotplug soak libc "$libcs_areas"
check soak_own_areas_hotplug soak own "$own_areas"
check threads_hotplug googletest threads_test
hotplug_ends
check python python
report "hotplug_events $(cat /tmp/hotplug)"
report "ends after $checks"
poweroff -f

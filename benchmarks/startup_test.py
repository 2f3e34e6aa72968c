"""startup_test.py -- what a tcx library costs a process that hardly uses it.

  startup_test.py LIBRARY MEASURE STARTUP

Two limits of the architecture, each read from the finished library:
  - resident memory after the first malloc at most 1 MiB above glibc's
    (the programs `measure` and `startup` of this folder tell it), and
  - static TLS (the PT_TLS segment) at most 64 bytes, which is what a dlopen
    of the library needs of the space that every thread has.
"""

import os
import struct
import subprocess
import sys

MAX_OVER_GLIBC_KIB = 1024
AIM_OVER_GLIBC_KIB = 512
MAX_TLS_BYTES = 64
RUNS = 5
PT_TLS = 7


def tls_bytes(library):
    """Size in memory of the 64-bit little-endian ELF file's PT_TLS segment."""
    with open(library, "rb") as f:
        data = f.read()
    if data[:6] != b"\x7fELF\x02\x01":
        sys.exit("startup_test.py: not a 64-bit little-endian ELF: " + library)
    table, = struct.unpack_from("<Q", data, 32)
    entry_size, entries = struct.unpack_from("<HH", data, 54)
    for i in range(entries):
        at = table + i * entry_size
        if struct.unpack_from("<I", data, at)[0] == PT_TLS:
            return struct.unpack_from("<Q", data, at + 40)[0]
    return 0


def resident_kib(measure, startup, preload):
    """Median over a few runs of (resident, private) KiB."""
    figures = []
    for _ in range(RUNS):
        args = [measure] + (["-p", preload] if preload else [])
        done = subprocess.run(args + ["--", startup], text=True, check=True,
                              capture_output=True)
        if "cannot be preloaded" in done.stderr:
            sys.exit("startup_test.py: the loader ignores " + preload)
        figures.append(tuple(map(int, done.stdout.split())))
    return sorted(figures)[RUNS // 2]


def main():
    library, measure, startup = map(os.path.abspath, sys.argv[1:4])
    tls = tls_bytes(library)
    glibc = resident_kib(measure, startup, None)
    ours = resident_kib(measure, startup, library)
    over = ours[0] - glibc[0]
    print("static TLS: %d bytes (at most %d)" % (tls, MAX_TLS_BYTES))
    print("resident after the first malloc: %d KiB (private %d); glibc %d KiB"
          " (private %d); %d KiB over glibc (at most %d, aim %d)" % (
              ours + glibc + (over, MAX_OVER_GLIBC_KIB, AIM_OVER_GLIBC_KIB)))
    met = tls <= MAX_TLS_BYTES and over <= MAX_OVER_GLIBC_KIB
    print("PASS" if met else "FAIL")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

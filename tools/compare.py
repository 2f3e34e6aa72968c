#!/usr/bin/env python3
"""Runs one real program on glibc's malloc and on tcx, and shows both.

usage: compare.py LIBRARY [PROGRAM [ARGS]]

The program (by default python3 on tools/workload.py) runs as it is, with tcx
in LD_PRELOAD.  Its output must be the same, and tcx must have served it.
"""
import os
import re
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# PYTHONMALLOC: python3's own small-object allocator would hide malloc.
DEFAULT = ["/usr/bin/python3", os.path.join(HERE, "workload.py")]


def run(program, variables):
    """Returns (status, output, seconds, peak KiB) of one run."""
    with tempfile.TemporaryFile() as out:
        environment = {**os.environ, "PYTHONMALLOC": "malloc", **variables}
        begin = time.monotonic()
        pid = os.posix_spawnp(
            program[0], program, environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
        _, status, usage = os.wait4(pid, 0)
        seconds = time.monotonic() - begin
        out.seek(0)
        return (os.waitstatus_to_exitcode(status), out.read(), seconds,
                usage.ru_maxrss)


def fail(text):
    print("compare: FAILED: " + text, file=sys.stderr)
    sys.exit(1)


def main(library, *program):
    program = list(program) or DEFAULT
    with tempfile.NamedTemporaryFile("r", prefix="tcx-stats-") as stats:
        rows = {
            "glibc": run(program, {}),
            "tcx": run(program, {
                "LD_PRELOAD": library,
                "TCX_STATS": "exit",
                "TCX_STATS_FILE": stats.name,
            }),
        }
        statistics = stats.read()
    for name, (status, _, _, _) in rows.items():
        if status != 0:
            fail("%s on %s ended with %d" % (program[0], name, status))
    if rows["glibc"][1] != rows["tcx"][1]:
        fail("the output on tcx differs from that on glibc")
    if not re.search(r"\d", statistics):
        fail("tcx did not serve the program: no statistics")

    print("program: " + " ".join(program))
    print("output : %s (%d bytes, the same on both)" % (
        rows["tcx"][1].decode(errors="replace").splitlines()[-1],
        len(rows["tcx"][1])))
    print()
    print("%-8s %10s %14s" % ("malloc", "seconds", "peak memory"))
    for name, (_, _, seconds, peak) in rows.items():
        print("%-8s %10.2f %10.1f MiB" % (name, seconds, peak / 1024))
    print()
    print("tcx's statistics at exit:")
    print(statistics.rstrip())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        fail("usage: compare.py LIBRARY [PROGRAM [ARGS]]")
    main(*sys.argv[1:])

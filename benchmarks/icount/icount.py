"""icount.py -- instructions per operation under a preload, by callgrind.

  icount.py ROWS [LIBRARY] [ROW...]

Times drift between machines and days, instruction counts do not: a change that
adds a load to malloc shows as one line of difference. Each row of the `rows`
program runs twice with different counts; the difference, less that of the row
"empty" (the loop itself), is what one operation costs when warm. Without a
LIBRARY (or with "glibc") glibc is counted.

callgrind runs without rseq, so a per-CPU library takes its fallback here unless
the test points it at a fake area; this counts what the library really ran.
"""

import os
import re
import subprocess
import sys
import tempfile

ROWS = ["pair_16", "pair_64", "pair_1024", "new_64", "calloc_256", "batch_100",
        "random_1k", "turns_8", "pair_32k", "pair_256k"]
FEW, MANY = 20000, 100000  # multiples of all that a row does at once


def instructions(rows, preload, row, count):
    env = dict(os.environ)
    if preload:
        env["LD_PRELOAD"] = preload
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind",
             "--callgrind-out-file=" + os.path.join(folder, "out"),
             rows, "-n", str(count), row],
            env=env, text=True, capture_output=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit("icount.py: callgrind failed:\n" + done.stderr)
    if "cannot be preloaded" in done.stderr:
        sys.exit("icount.py: the loader ignores " + preload)
    return int(found.group(1))


def per_operation(rows, preload, row):
    many = instructions(rows, preload, row, MANY)
    return (many - instructions(rows, preload, row, FEW)) / (MANY - FEW)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = os.path.abspath(sys.argv[1])
    library = sys.argv[2] if len(sys.argv) > 2 else "glibc"
    preload = None if library == "glibc" else os.path.abspath(library)
    loop = per_operation(rows, preload, "empty")
    print("%-12s %s" % ("row", "instructions per operation"))
    for row in sys.argv[3:] or ROWS:
        count = per_operation(rows, preload, row) - loop
        print("%-12s %.1f" % (row, count), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

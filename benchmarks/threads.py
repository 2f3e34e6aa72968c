"""threads.py -- memory of many threads at equal live data, by allocator.

  threads.py [--runs N] --bin-dir DIR tcx=LIBRARY [NAME=LIBRARY...]
  threads.py --check RATIO THREADS LIBRARY

PLACE IN THE SYSTEM
  Runs `threads` (threads.c) with 1, 10, 100 and 1000 threads that hold 62.5 MiB
  in all, under each allocator by LD_PRELOAD, and writes a table for RESULTS.md:
  what is resident beyond the stacks.

  --check is the test: what 1000 threads need is at most RATIO times what one
  needs. It takes tcx's own statistics (resident_bytes), which do not depend on
  what else the process maps; and passes where the kernel refuses rseq.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys

from compare import OTHERS, cpu_text, fail, log

COUNTS = [1, 10, 100, 1000]
LIVE_KIB = 64000
# Of the report, where the kernel does not let CPUs have caches.
REFUSED = re.compile(
    r"^tcx: front end in use .* (rseq refused|no membarrier.*)$", re.M)


def run(program, count, preload=None, **variables):
    env = dict(os.environ, **variables)
    if preload is not None:
        env["LD_PRELOAD"] = preload
    done = subprocess.run([program, str(count), str(LIVE_KIB)], env=env,
                          text=True, capture_output=True)
    if done.returncode != 0 or "cannot be preloaded" in done.stderr:
        fail("%d threads under %s failed (%d): %s" % (
            count, preload or "glibc", done.returncode, done.stderr.strip()))
    return done


def resident_mib(program, count, preload):
    return int(run(program, count, preload).stdout.split()[1]) / 1024


def table(medians):
    """Lines of a markdown table, one for each allocator."""
    yield "| | %s | 1000 / 1 |" % " | ".join(
        "%d thread%s" % (n, "" if n == 1 else "s") for n in COUNTS)
    yield "|---" * (len(COUNTS) + 2) + "|"
    for name, by_count in medians.items():
        cells = ["%.1f" % by_count[n] for n in COUNTS]
        yield "| %s | %s | %.2f |" % (name, " | ".join(cells),
                                      by_count[COUNTS[-1]] / by_count[1])


def measure(program, ours, runs):
    libraries = dict(ours)
    for name, library, package in OTHERS:
        if library is not None and not os.path.exists(library):
            log("without %s (package %s is not installed)" % (name, package))
        else:
            libraries[name] = library
    medians = {}
    for name, library in libraries.items():
        log("threads: " + name)
        medians[name] = {
            n: statistics.median(resident_mib(program, n, library)
                                 for _ in range(runs)) for n in COUNTS}
    print("- CPU: " + cpu_text())
    print("- %.1f MiB live in each run; MiB resident beyond the stacks, medians"
          " of %d runs\n" % (LIVE_KIB / 1024, runs))
    print("\n".join(table(medians)))


def statistic(report, name):
    found = re.search(r"^tcx: %s (\d+)$" % name, report, re.M)
    if not found:
        fail("no %s in the report:\n%s" % (name, report))
    return int(found.group(1))


def check(program, ratio, count, library):
    # With many CPUs their caches alone are more than the bar.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    resident = {}
    for n in (1, count):
        report = run(program, n, library, TCX_STATS="exit").stderr
        refused = REFUSED.search(report)
        if refused:
            print("skipped: no caches of CPUs here: " + refused[1])
            return 0
        resident[n] = statistic(report, "resident_bytes")
        print("%d threads: %.1f MiB for %.1f live" % (
            n, resident[n] / 2**20, LIVE_KIB / 1024))
    got = resident[count] / resident[1]
    met = got <= ratio
    print("%s: %.2f, at most %.2f" % ("PASS" if met else "FAIL", got, ratio))
    return 0 if met else 1


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--bin-dir", default=os.path.dirname(__file__))
    p.add_argument("--check", nargs=2, metavar=("RATIO", "THREADS"))
    p.add_argument("libraries", nargs="+", metavar="NAME=LIBRARY")
    args = p.parse_args()
    program = os.path.abspath(os.path.join(args.bin_dir, "threads"))
    if args.check:
        return check(program, float(args.check[0]), int(args.check[1]),
                     os.path.abspath(args.libraries[0]))
    pairs = [text.partition("=")[::2] for text in args.libraries]
    measure(program, {n: os.path.abspath(l) for n, l in pairs}, args.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""one_figure.py -- the comparisons that are not lines over time: pairs of large
blocks, blocks that come and go, memory at start-up, loads under a cgroup's limit.

Each function returns the Markdown of a section and its raw figures; over_time.py
calls them.
"""

import contextlib
import os
import signal
import statistics

import compare
import watch

THP = "/sys/kernel/mm/transparent_hugepage/enabled"
ONE = 1.02  # a bar of 1.0 reads 1.02
SIZES = [("32k", "32 KiB"), ("256k", "256 KiB"), ("1m", "1 MiB"),
         ("4m", "4 MiB")]
# As compare.ROWS: name, programs of `rows`, CPUs, text.
LARGE_ROWS = [
    (name, [name], cpus, "%s, %s, %s" % (size_text, kind_text, threads_text))
    for size, size_text in SIZES
    for kind, kind_text in (("untouched", "untouched"),
                            ("pair", "first byte written"))
    for more, cpus, threads_text in (("", 1, "one thread"),
                                     ("_2threads", 2, "two threads"))
    for name in ["%s_%s%s" % (kind, size, more)]
]


def pairs(bench):
    """malloc and free of large blocks, ns a pair, beside the best other."""
    rows = LARGE_ROWS[:2] if bench.quick else LARGE_ROWS
    names = [a.name for a in bench.allocators]
    data = compare.measure_rows(bench.runner, bench.allocators, rows,
                                bench.runs(7))
    lines = compare.compare_rows(rows, data, names,
                                 {name: ONE for name, _, _, _ in rows})
    text = "Nanoseconds per malloc and free; medians of %d runs.\n\n" % (
        bench.runs(7))
    return text + compare.table(lines, names, lambda v: "%.2f" % v, True), data


# --- churn --------------------------------------------------------------------

# As churn.c: kind, steps, threads.
CHURNS = [("any", 10000, 1), ("any", 10000, 2), ("wide", 1500, 1),
          ("headers", 10000, 1), ("aligned", 10000, 1), ("shrunk", 10000, 1),
          ("grown", 10000, 1)]


def churn_once(bench, allocator, kind, steps, threads):
    """Peak RSS and the most that was live, MiB; seconds."""
    program = os.path.join(bench.bin_dir, "memory", "churn")
    if bench.quick:
        steps //= 50
    out, seconds, peak_kib, _ = bench.runner.run(
        allocator, [program, kind, str(steps), str(threads)], threads)
    return peak_kib / 1024, float(out.split()[2]), seconds


def churn(bench):
    """Blocks that come and go: peak beside what was live, and time."""
    names = [a.name for a in bench.allocators]
    runs = bench.runs(3)
    lines = ["| | live, MiB | %s |" % " | ".join(names),
             "|---" * (2 + len(names)) + "|"]
    raw = {}
    for load in CHURNS:
        name = "%s, %d thread%s" % (load[0], load[2], "s"[:load[2] - 1])
        got = {a.name: [] for a in bench.allocators}
        for number in range(runs):
            for a in compare.by_turns(bench.allocators, number):
                compare.log("churn: %s, %s" % (name, a.name))
                got[a.name].append(churn_once(bench, a, *load))
        raw[name] = got
        cells = []
        for all_runs in got.values():
            peak, live, seconds = map(statistics.median, zip(*all_runs))
            cells.append("%.2f, %.2f s" % (peak / live, seconds))
        lines.append("| %s | %.0f | %s |" % (name, live, " | ".join(cells)))
    text = ("Peak RSS / the most that was live, and time; medians of %d runs."
            " The kinds: `churn.c`.\n\n" % runs)
    return text + "\n".join(lines), raw


# --- start-up -----------------------------------------------------------------


class ThpMode:
    """Sets the mode of transparent huge pages and always puts it back."""

    def __init__(self, mode):
        self.mode = mode
        self.before = compare.thp_text()

    def __enter__(self):
        self.handler = signal.signal(signal.SIGTERM, self.ended)
        watch.write_text(THP, self.mode)

    def __exit__(self, *_):
        watch.write_text(THP, self.before)
        signal.signal(signal.SIGTERM, self.handler)

    @staticmethod
    def ended(_number, _frame):
        raise SystemExit("ended while the mode of huge pages was changed")


def startup_kib(bench, allocator):
    """Resident KiB after the first malloc, median of a few runs."""
    program = os.path.join(bench.bin_dir, "startup")
    figures = []
    for _ in range(1 if bench.quick else 5):
        out, _, _, _ = bench.runner.run(allocator, [program], 1)
        figures.append(int(out.split()[0]))
    return statistics.median(figures)


def startup(bench):
    """Memory of a process after its first malloc; --thp-always: twice."""
    modes = [(compare.thp_text(), None)]
    if bench.thp_always and modes[0][0] != "always":
        modes.append(("always", ThpMode("always")))
    raw = {}
    for mode, switch in modes:
        with switch or contextlib.nullcontext():
            raw[mode] = {a.name: startup_kib(bench, a)
                         for a in bench.allocators}
    lines = ["| resident KiB after the first malloc | %s |" % " | ".join(
        "THP=%s | over glibc" % mode for mode in raw),
             "|---" * (1 + 2 * len(raw)) + "|"]
    for a in bench.allocators:
        lines.append("| %s | %s |" % (a.name, " | ".join(
            "%.0f | %.0f" % (kib[a.name], kib[a.name] - kib["glibc"])
            for kib in raw.values())))
    return "\n".join(lines), raw


# --- limits -------------------------------------------------------------------

LIMIT_MIB = 256
LOADS = ["fragments", "mapped"]


def outcome(run):
    if run.killed:
        return "killed"
    if run.status == 0:
        return "survives"
    return "fails (%d): %s" % (run.status, run.error.splitlines()[-1:])


def limit(bench):
    """A load under a cgroup's limit that it needs less than."""
    group = watch.make_group()
    if group is None:
        return "No cgroup with a memory controller could be made here.", {}
    group.remove()
    kinds = [(a.name, a, {}) for a in bench.allocators]
    ours = bench.allocators[-1]
    kinds.append(("tcx, TCX_LIMIT=auto", ours, {"TCX_LIMIT": "auto"}))
    kinds.append(("tcx, TCX_LIMIT=auto, TCX_BACKGROUND=on", ours,
                  {"TCX_LIMIT": "auto", "TCX_BACKGROUND": "on"}))
    runs = bench.runs(3)
    mib = LIMIT_MIB // 4 if bench.quick else LIMIT_MIB
    program = os.path.join(bench.bin_dir, "memory", "limited")
    lines = ["| | %s |" % " | ".join(LOADS), "|---" * (1 + len(LOADS)) + "|"]
    raw = {}
    for name, allocator, variables in kinds:
        cells = []
        for load in LOADS:
            outcomes = []
            for _ in range(runs):
                compare.log("limit: %s, %s" % (load, name))
                outcomes.append(outcome(watch.watched(
                    [program, load, str(mib)], allocator.preload, bench.cpus,
                    limit_bytes=mib * watch.MIB, variables=variables)))
            raw["%s, %s" % (name, load)] = outcomes
            cells.append(", ".join(
                "%s %d of %d" % (o, outcomes.count(o), runs)
                if len(set(outcomes)) > 1 else o
                for o in sorted(set(outcomes))))
        lines.append("| %s | %s |" % (name, " | ".join(cells)))
    text = ("Limit %d MiB, %d runs each; what each load is: `limited.c`."
            "\n\n" % (mib, runs))
    return text + "\n".join(lines), raw


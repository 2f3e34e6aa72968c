#!/usr/bin/env python3
"""compare.py -- tcx beside other allocators: rows, workloads, verdicts.

PLACE IN THE SYSTEM
  Runs `rows` (one operation in a loop) and the workloads of workloads/LIST.md
  under each allocator by LD_PRELOAD, by turns, pinned, and compares tcx with
  the best of the others. It writes the tables of RESULTS.md.

WHAT IT DECIDES
  A row is compared with the allocator of the smallest median for that row, a
  mean with the allocator of the best mean. The ratio is taken within each run
  (machines drift between runs), and its median over the runs is held against
  the bar; quartiles stand beside it. A bar of 1.0 reads 1.02.

INVARIANTS
  I1  In each run every allocator runs the row once, each run starting with
      another one.
  I2  A preload that the loader would ignore ends the comparison.
  I3  A workload whose output differs between allocators ends the comparison.
"""

import argparse
import json
import math
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DEBIAN = "/usr/lib/x86_64-linux-gnu/"
OTHERS = [
    ("glibc", None, "libc6"),
    ("gperftools", DEBIAN + "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
    ("jemalloc", DEBIAN + "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc", DEBIAN + "libmimalloc.so.2.0", "libmimalloc2.0"),
]
TOUCHED_MIB = 2048

# Name of the row, the `rows` programs whose geometric mean it is, CPUs, text.
ROWS = [
    ("pair", ["pair_16", "pair_64", "pair_256", "pair_1024"], 1,
     "malloc + free, 16 B .. 1 KiB (geometric mean)"),
    ("pair_16", ["pair_16"], 1, "malloc + free, 16 B"),
    ("pair_64", ["pair_64"], 1, "malloc + free, 64 B"),
    ("pair_256", ["pair_256"], 1, "malloc + free, 256 B"),
    ("pair_1024", ["pair_1024"], 1, "malloc + free, 1 KiB"),
    ("new_64", ["new_64"], 1, "new / sized delete, 64 B"),
    ("batch_100", ["batch_100"], 1, "100 x malloc, 100 x free, 64 B"),
    ("batch_10000", ["batch_10000"], 1, "10 000 x malloc, then free, 64 B"),
    ("random_1k", ["random_1k"], 1, "random 8 .. 519 B, 1 K slots live"),
    ("random_64k", ["random_64k"], 1,
     "random 8 .. 1031 B, 64 K slots live, 8 B written"),
    ("calloc_256", ["calloc_256"], 1, "calloc + free, 256 B"),
    ("realloc", ["realloc"], 1,
     "realloc growth, 20 x 1.5 from 8 B, used heap, per step"),
    ("realloc_alone", ["realloc_alone"], 1,
     "the same, alone in an empty heap"),
    ("pair_32k", ["pair_32k"], 1, "32 KiB, first byte written"),
    ("pair_256k", ["pair_256k"], 1, "256 KiB, first byte written"),
    ("pair_1m", ["pair_1m"], 1, "1 MiB, first byte written"),
    ("pair_4m", ["pair_4m"], 1, "4 MiB, first byte written"),
    ("pair_64_2threads", ["pair_64_2threads"], 2, "64 B on two threads"),
    ("turns_2", ["turns_2"], 1, "two classes by turns"),
    ("turns_8", ["turns_8"], 1, "eight classes by turns"),
    ("nested_4", ["nested_4"], 1, "four nested lifetimes"),
]

# Bars by row. Rows without one are reported only.
_ONE = 1.02
_AT_MOST_ONE = ["batch_100", "batch_10000", "random_1k", "random_64k",
                "calloc_256", "realloc", "pair_32k", "pair_256k", "pair_1m",
                "pair_4m"]
_ISSUE3 = {name: 1.10 for name, _, _, _ in ROWS
           if name not in ("pair_1m", "pair_4m", "realloc_alone")}
ROW_BARS = {
    "perthread": dict({"pair": 0.80, "new_64": 0.97},
                      **{row: _ONE for row in _AT_MOST_ONE}),
    "percpu": dict({"pair": 0.90, "new_64": 0.97},
                   **{row: _ONE for row in _AT_MOST_ONE}),
    "linked": dict({"pair": 0.85, "new_64": 0.90},
                   **{row: _ONE for row in _AT_MOST_ONE}),
    "issue3": dict(_ISSUE3, pair=0.85),
}
KIND_BARS = {"bound": (0.92, 1.05), "real": (_ONE, 1.03)}
PEAK_BARS = {("bound", "gperftools"): 0.80, ("bound", "glibc"): 1.15,
             ("real", "glibc"): 1.10}


class Allocator:
    """What decides whose malloc runs: a preload, or another `rows` binary."""

    def __init__(self, name, preload=None, rows=None):
        self.name = name
        self.preload = preload
        self.rows = rows


def fail(text):
    sys.exit("compare.py: " + text)


def log(text):
    print(text, file=sys.stderr, flush=True)


def geometric_mean(values):
    return math.exp(sum(math.log(max(v, 1e-9)) for v in values) / len(values))


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    q1, q2, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return q1, q2, q3


# --- running ------------------------------------------------------------------


class Runner:
    """Starts programs through `measure`, pinned to the last CPUs we may use."""

    def __init__(self, bin_dir, cpus):
        self.bin_dir = bin_dir
        self.cpus = cpus
        self.measure = os.path.join(bin_dir, "measure")

    def touch_memory(self):
        available = 0
        with open("/proc/meminfo") as f:
            for line in f:
                if line.startswith("MemAvailable:"):
                    available = int(line.split()[1]) // 1024
        mib = min(TOUCHED_MIB, available // 2)
        subprocess.run([self.measure, "-t", str(mib)], check=True)

    def check_preload(self, allocator):
        if allocator.preload is None:
            return
        env = dict(os.environ, LD_TRACE_LOADED_OBJECTS="1",
                   LD_PRELOAD=allocator.preload)
        out = subprocess.run([self.measure], env=env, text=True,
                             capture_output=True).stdout
        if allocator.preload not in out:
            fail("the loader ignores the preload " + allocator.preload)

    def run(self, allocator, command, cpus):
        """Returns (stdout, wall seconds, peak KiB, CPU seconds)."""
        read_end, write_end = os.pipe()
        args = [self.measure, "-c", ",".join(map(str, self.cpus[-cpus:])),
                "-f", str(write_end)]
        if allocator.preload is not None:
            args += ["-p", allocator.preload]
        done = subprocess.run(args + ["--"] + command, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              pass_fds=[write_end])
        os.close(write_end)
        with os.fdopen(read_end) as f:
            figures = f.read().split()
        if done.returncode != 0 or not figures:
            fail("%s under %s failed (%d): %s" % (
                " ".join(command), allocator.name, done.returncode,
                done.stderr.strip()))
        cpu = float(figures[1]) + float(figures[2])
        return done.stdout, float(figures[0]), int(figures[3]), cpu


def by_turns(allocators, run):
    start = run % len(allocators)
    return allocators[start:] + allocators[:start]


def measure_rows(runner, allocators, rows, runs):
    """Returns {program: {allocator: [ns of each run]}}."""
    cpus = {}
    for _, programs, count, _ in rows:
        cpus.update({p: count for p in programs})
    result = {p: {a.name: [] for a in allocators} for p in cpus}
    for run in range(runs):
        log("rows: run %d of %d" % (run + 1, runs))
        for program, count in cpus.items():
            for a in by_turns(allocators, run):
                binary = a.rows or os.path.join(runner.bin_dir, "rows")
                out, _, _, _ = runner.run(a, [binary, program], count)
                result[program][a.name].append(float(out.split()[1]))
    return result


def read_workloads(bin_dir):
    """The table of LIST.md: [(name, kind, command)]."""
    source = os.path.join(HERE, "workloads")
    result = []
    with open(os.path.join(source, "LIST.md")) as f:
        for line in f:
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if len(cells) != 4 or cells[1] not in KIND_BARS:
                continue
            command = [
                os.path.join(bin_dir, word[4:]) if word.startswith("bin/") else
                os.path.join(source, word[4:]) if word.startswith("src/") else
                word for word in shlex.split(cells[2])]
            result.append((cells[0], cells[1], command))
    return result


def measure_workloads(runner, allocators, workloads, runs):
    """{workload: {allocator: [(wall s, peak KiB, CPU s) of each run]}}."""
    result = {w[0]: {a.name: [] for a in allocators} for w in workloads}
    outputs = {}
    for run in range(runs):
        log("workloads: run %d of %d" % (run + 1, runs))
        for name, _, command in workloads:
            for a in by_turns(allocators, run):
                out, *figures = runner.run(a, command, 2)
                result[name][a.name].append(tuple(figures))
                if outputs.setdefault(name, out) != out:
                    fail("%s prints something else under %s: %r, not %r" % (
                        name, a.name, out, outputs[name]))
    return result


# --- comparing ----------------------------------------------------------------


class Comparison:
    """One line: all medians, the best other, the ratio and the bar."""

    def __init__(self, text, samples, bar=None, against=None, ours="tcx"):
        self.text = text
        self.bar = bar
        self.medians = {n: statistics.median(v) for n, v in samples.items()}
        others = [n for n in samples if n != ours]
        self.against = against or (
            min(others, key=self.medians.get) if others else ours)
        self.low, self.ratio, self.high = quartiles(
            [a / b for a, b in zip(samples[ours], samples[self.against])])

    def verdict(self):
        if self.bar is None:
            return "-"
        return "met" if self.ratio <= self.bar else "**not met**"

    def cells(self, names, form):
        return [self.text] + [form(self.medians[n]) for n in names] + [
            self.against, "%.2f" % self.ratio,
            "%.2f .. %.2f" % (self.low, self.high),
            "-" if self.bar is None else "%.2f" % self.bar, self.verdict()]


def compare_rows(rows, data, names, bars):
    result = []
    for name, programs, _, text in rows:
        samples = {n: [geometric_mean(ns) for ns in
                       zip(*(data[p][n] for p in programs))] for n in names}
        result.append(Comparison(text, samples, bars.get(name)))
    return result


def means_by_run(data, workloads, names, figure):
    return {n: [geometric_mean(run) for run in
                zip(*([s[figure] for s in data[w[0]][n]] for w in workloads))]
            for n in names}


def compare_workloads(workloads, data, names, kind):
    """Returns (time lines, memory lines) for the workloads of one kind."""
    chosen = [w for w in workloads if w[1] == kind]
    if not chosen:
        return [], []
    mean_bar, each_bar = KIND_BARS[kind]
    times = []
    for name, _, _ in chosen:
        samples = {n: [s[0] for s in data[name][n]] for n in names}
        times.append(Comparison(name, samples, each_bar))
    times.append(Comparison("**geometric mean**",
                            means_by_run(data, chosen, names, 0), mean_bar))
    peaks = []
    for name, _, _ in chosen:
        samples = {n: [s[1] / 1024 for s in data[name][n]] for n in names}
        peaks.append(Comparison(name, samples))
    means = means_by_run(data, chosen, names, 1)
    means = {n: [kib / 1024 for kib in v] for n, v in means.items()}
    for other in names:
        bar = PEAK_BARS.get((kind, other))
        if bar is not None:
            peaks.append(Comparison("**geometric mean, against %s**" % other,
                                    means, bar, against=other))
    return times, peaks


# --- writing ------------------------------------------------------------------


def cpu_text():
    fields = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    return "%s (family %s, model %s), %d CPUs" % (
        fields.get("model name", platform.machine()),
        fields.get("cpu family", "?"), fields.get("model", "?"), os.cpu_count())


def package_version(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                          text=True, capture_output=True)
    return done.stdout if done.returncode == 0 else "?"


def thp_text():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as f:
            return re.search(r"\[(\w+)\]", f.read()).group(1)
    except (OSError, AttributeError):
        return "?"


def machine_text(allocators, runs):
    versions = ["%s %s" % (name, package_version(package))
                for name, _, package in OTHERS
                if any(a.name == name for a in allocators)]
    return "\n".join([
        "- CPU: " + cpu_text(),
        "- Linux %s, transparent huge pages: %s" % (platform.release(),
                                                   thp_text()),
        "- against: " + ", ".join(versions),
        "- %d interleaved runs, pinned; load average at the end %.1f" % (
            runs, os.getloadavg()[0]),
    ])


def table(lines, names, form, markdown):
    head = ["what"] + names + ["against", "ratio", "quartiles", "bar", ""]
    cells = [head] + [line.cells(names, form) for line in lines]
    if markdown:
        rows = ["| " + " | ".join(c) + " |" for c in cells]
        rows.insert(1, "|---" * len(head) + "|")
        return "\n".join(rows)
    widths = [max(len(c[i]) for c in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip()
                     for row in cells)


def losses_text(groups):
    """Every figure worse than the best of the others, by table."""
    result = []
    for title, lines in groups:
        lost = [c for c in lines if c.ratio > _ONE or c.verdict()[0] == "*"]
        if not lost:
            continue
        result.append("%s:\n\n%s" % (title, "\n".join(
            "- %s: %.2f x %s%s. Reason: (to be written)" % (
                c.text, c.ratio, c.against, "" if c.bar is None else
                ", bar %.2f: %s" % (c.bar, c.verdict()))
            for c in lost)))
    return "\n\n".join(result) or (
        "Nothing: no figure above is worse than the best of the others.")


TEMPLATE = """# Results

Written by `benchmarks/compare.py --template`; how it measures and what each row
is: `benchmarks/README.md`. Ratio: tcx / the best other, median over the runs of
the ratio within each run. Time and memory come from the same runs.

{machine}

{body}

## What we lose, and why

{losses}
"""


# --- command line -------------------------------------------------------------


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tcx", metavar="LIB", help="the tcx library to preload")
    p.add_argument("--linked", metavar="NAME=BIN", action="append", default=[],
                   help="a `rows` binary linked with allocator NAME; given for"
                   " tcx and others: compare these instead of preloads")
    p.add_argument("--bin-dir", default=HERE,
                   help="where rows, measure and the workloads were built")
    p.add_argument("--rows", action="store_true", help="measure the rows")
    p.add_argument("--workloads", action="store_true",
                   help="measure the workloads")
    p.add_argument("--runs", type=int, default=7)
    p.add_argument("--only", metavar="REGEX", default="",
                   help="only rows and workloads whose name matches")
    p.add_argument("--bars", choices=sorted(ROW_BARS), default="perthread")
    p.add_argument("--allow-missing", action="store_true",
                   help="go on without allocators that are not installed")
    p.add_argument("--markdown", action="store_true", help="markdown tables")
    p.add_argument("--template", action="store_true",
                   help="a whole RESULTS.md, with its section on losses")
    p.add_argument("--json", metavar="FILE", help="also write all raw figures")
    p.add_argument("--no-touch", action="store_true",
                   help="do not touch guest memory first")
    args = p.parse_args()
    if not args.rows and not args.workloads:
        args.rows = args.workloads = True
    if bool(args.tcx) == bool(args.linked):
        p.error("give either --tcx LIB or --linked tcx=BIN ...")
    if args.linked:
        args.workloads, args.bars = False, "linked"
    return args


def choose_allocators(args):
    if args.linked:
        pairs = [text.partition("=")[::2] for text in args.linked]
        result = [Allocator(n, rows=os.path.abspath(b)) for n, b in pairs]
        if "tcx" not in [a.name for a in result]:
            fail("--linked needs tcx=BIN")
        return result
    result = []
    for name, library, package in OTHERS:
        if library is None or os.path.exists(library):
            result.append(Allocator(name, library))
        elif args.allow_missing:
            log("without %s (package %s is not installed)" % (name, package))
        else:
            fail("%s is missing; run: apt-get install %s" % (library, package))
    return result + [Allocator("tcx", os.path.abspath(args.tcx))]


def main():
    args = parse_arguments()
    allocators = choose_allocators(args)
    names = [a.name for a in allocators]
    markdown = args.markdown or args.template
    cpus = sorted(os.sched_getaffinity(0))
    runner = Runner(os.path.abspath(args.bin_dir), cpus)
    for a in allocators:
        runner.check_preload(a)
    if not args.no_touch:
        runner.touch_memory()

    groups, raw = [], {}  # groups: (title, lines, form of a figure)
    if args.rows:
        rows = [r for r in ROWS if re.search(args.only, r[0])]
        raw["rows"] = measure_rows(runner, allocators, rows, args.runs)
        groups.append((
            "Rows, %s: nanoseconds per operation" % (
                "linked" if args.linked else "preloaded"),
            compare_rows(rows, raw["rows"], names, ROW_BARS[args.bars]),
            "%.2f"))
    if args.workloads:
        workloads = [w for w in read_workloads(runner.bin_dir)
                     if re.search(args.only, w[0])]
        raw["workloads"] = measure_workloads(runner, allocators, workloads,
                                             args.runs)
        for kind, title in (("bound", "Workloads bound by allocation"),
                            ("real", "Real programs")):
            times, peaks = compare_workloads(workloads, raw["workloads"], names,
                                             kind)
            groups.append((title + ": seconds", times, "%.3f"))
            groups.append((title + ": peak resident MiB", peaks, "%.1f"))
    groups = [g for g in groups if g[1]]
    if not groups:
        fail("nothing matches --only " + args.only)

    machine = machine_text(allocators, args.runs)
    body = "\n\n".join(
        ("## " if markdown else "") + title + "\n\n" +
        table(lines, names, lambda v, form=form: form % v, markdown)
        for title, lines, form in groups)
    if args.template:
        print(TEMPLATE.format(machine=machine, body=body, losses=losses_text(
            [g[:2] for g in groups])), end="")
    else:
        print(machine + "\n\n" + body)
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"machine": machine, "raw": raw}, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""over_time.py -- what allocators hold, and when they give it back.

  over_time.py --tcx LIBRARY --bin-dir bazel-bin/benchmarks [--only REGEX]
      [--runs N] [--plots DIR] [--json FILE]

PLACE IN THE SYSTEM
  Runs the programs of this folder under each allocator by LD_PRELOAD, by turns,
  each in a cgroup of its own (watch.py), and writes the Markdown tables of
  "Memory over time" in RESULTS.md and the plots beside it (plot.py).

WHAT IT DECIDES
  A figure of memory is "charge / RSS" in MiB; the charge counts where there is
  one, for that is what a container pays. Figures are medians over the runs;
  plots show the first run. Bars are those of issue 6.
"""

import argparse
import json
import os
import re
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

# pylint: disable=wrong-import-position
import compare
import one_figure
import watch
from plot import plot

BURST_SECONDS = [0, 1, 3, 10]
BURST_BAR = 0.05
SPARSE_SECONDS = 45
SPARSE_BAR = 2.0
SAWTOOTH_SECONDS = 30
FAULTS_BAR = 1.1
TOUCHED_MIB = 1024  # before each program that is watched
GIVES_BACK = 0.5  # of the peak, at some moment between two loads
COVERAGE_BAR = 0.95
CHASE_BAR = 0.90


class Bench:
    """What every scenario needs; --quick makes all of it small."""

    def __init__(self, args, allocators, runner, cpus):
        self.allocators = allocators
        self.runner = runner
        self.cpus = cpus
        self.bin_dir = runner.bin_dir
        self.quick = args.quick
        self.runs_wanted = args.runs
        self.plots = args.plots
        self.thp_always = args.thp_always
        self.touches = not (args.no_touch or args.quick)

    def runs(self, otherwise):
        return self.runs_wanted or otherwise

    def mib(self, mib):
        return mib // 32 if self.quick else mib

    def seconds(self, seconds):
        return min(seconds, 1) if self.quick else seconds

    def watch_all(self, what, command, runs, kinds=None, **options):
        """{name: [Run]}; kinds: [(name, preload, variables)]"""
        kinds = kinds or [(a.name, a.preload, {}) for a in self.allocators]
        program = os.path.join(self.bin_dir, "memory", command[0])
        result = {name: [] for name, _, _ in kinds}
        for number in range(runs):
            for name, preload, variables in compare.by_turns(kinds, number):
                compare.log("%s: run %d of %d, %s" % (what, number + 1, runs,
                                                      name))
                if self.touches:
                    watch.touch_huge_pages(TOUCHED_MIB)
                run = watch.watched(
                    [program] + [str(word) for word in command[1:]], preload,
                    self.cpus, variables=variables, **options)
                if run.status != 0 or "cannot be preloaded" in run.error:
                    compare.fail("%s under %s failed (%d): %s" % (
                        what, name, run.status, run.error))
                result[name].append(run)
        return result

    def write_plot(self, name, *args, **options):
        """Markdown that shows the plot; nothing without --plots."""
        if self.plots is None:
            return ""
        os.makedirs(self.plots, exist_ok=True)
        watch.write_text(os.path.join(self.plots, name + ".svg"),
                         plot(*args, **options))
        return "\n\n![%s](plots/%s.svg)" % (args[0], name)


def raw_runs(runs):
    """What --json keeps of {name: [Run]}."""
    return {name: [{
        "figures": run.figures,
        "marks": [(mark, s.seconds) for mark, s in run.marks],
        "samples": [(round(s.seconds, 3), s.charge, s.rss, s.huge)
                    for s in run.samples],
    } for run in all_runs] for name, all_runs in runs.items()}


def middle(runs, choose):
    """The sample or value that is the median over the runs, by what is held."""
    values = [choose(run) for run in runs]
    if isinstance(values[0], watch.Sample):
        return sorted(values, key=lambda s: s.held())[(len(values) - 1) // 2]
    return statistics.median(values)


def markdown(head, rows):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in
                     [head, ["---"] * len(head)] + rows)


def met(is_met):
    return "met" if is_met else "**not met**"


def what_is_plotted(runs):
    some = next(iter(runs.values()))[0].samples[0]
    return "MiB resident" if some.charge is None else "MiB charged"


def lines_of(runs, mark, value=watch.Sample.held):
    return {name: all_runs[0].series(mark, value)
            for name, all_runs in runs.items()}


# --- burst --------------------------------------------------------------------


def burst(bench, name, title, mib, low, high):
    """Two threads fill, two free, all are parked."""
    seconds = sorted({bench.seconds(s) for s in BURST_SECONDS})
    runs = bench.watch_all(
        name, ["burst", bench.mib(mib), low, high, 2, 0, seconds[-1]],
        bench.runs(3))
    rows = []
    for allocator, all_runs in runs.items():
        peak = middle(all_runs, lambda r: r.mark("filled"))
        at = [middle(all_runs, lambda r, s=s: r.after("freed", s))
              for s in seconds]
        share = middle(all_runs, lambda r: r.after("freed", seconds[-1]).held()
                       / r.mark("filled").held())
        rows.append([allocator, peak.text()] + [s.text() for s in at] +
                    ["%.1f %%" % (100 * share), met(share <= BURST_BAR)
                     if allocator == "tcx" else ""])
    text = markdown(["charge / RSS, MiB", "filled"] +
                    ["%g s" % s for s in seconds] +
                    ["of the peak", "bar %g %%" % (100 * BURST_BAR)], rows)
    peak = max(r[0].mark("filled").held() for r in runs.values())
    text += bench.write_plot(
        name, title, what_is_plotted(runs), lines_of(runs, "freed"),
        (-2, seconds[-1]), [(BURST_BAR * peak, "bar: 5 % of the peak")],
        x_label="seconds since all was freed")
    return text, raw_runs(runs)


def burst_small(bench):
    return burst(bench, "burst_small", "1 GiB of 16 B to 4 KiB, freed", 1024,
                 16, 4096)


def burst_large(bench):
    return burst(bench, "burst_large", "512 MiB of 64 KiB to 4 MiB, freed",
                 512, 65536, 4194304)


def burst_single(bench):
    """One thread: its next mallocs have to give the memory back."""
    seconds = bench.seconds(3)
    runs = bench.watch_all(
        "burst_single",
        ["burst", bench.mib(1024), 16, 4096, 1, 0, seconds, 1000],
        bench.runs(3))

    def called(run, calls):
        return [s for n, s in run.marks if n == "called"][calls // 100 - 1]

    rows = []
    for allocator, all_runs in runs.items():
        at = [middle(all_runs, choose) for choose in (
            lambda r: r.mark("filled"), lambda r: r.mark("freed"),
            lambda r: r.mark("waited"), lambda r: called(r, 100),
            lambda r: called(r, 1000))]
        share = middle(all_runs, lambda r: called(r, 1000).held()
                       / r.mark("filled").held())
        rows.append([allocator] + [s.text() for s in at] + [
            "%.1f %%" % (100 * share),
            met(share <= BURST_BAR) if allocator == "tcx" else ""])
    text = markdown(["charge / RSS, MiB", "filled", "freed",
                     "%g s later" % seconds, "after 100 mallocs",
                     "after 1000", "of the peak",
                     "bar %g %%" % (100 * BURST_BAR)], rows)
    peak = max(r[0].mark("filled").held() for r in runs.values())
    text += bench.write_plot(
        "burst_single", "1 GiB freed by the only thread; 1000 mallocs at %g s"
        % seconds, what_is_plotted(runs), lines_of(runs, "freed"),
        (-2, seconds + 1), [(BURST_BAR * peak, "bar: 5 % of the peak")],
        x_label="seconds since all was freed")
    return text, raw_runs(runs)


# --- sparse -------------------------------------------------------------------


def sparse(bench):
    """15 of 16 objects go, at random; what is held beside what is live."""
    seconds = bench.seconds(SPARSE_SECONDS)
    runs = bench.watch_all(
        "sparse",
        ["burst", bench.mib(1024), 16, 65536, 2, 16, seconds + 1],
        bench.runs(3))

    def ratio(run, after):
        return run.after("freed", after).held() / (
            run.figures["live_bytes"] / watch.MIB)

    rows = []
    steps = sorted({0, min(3, seconds), min(10, seconds), seconds})
    for allocator, all_runs in runs.items():
        at = [middle(all_runs, lambda r, s=s: r.after("freed", s))
              for s in steps]
        got = middle(all_runs, lambda r: ratio(r, seconds))
        live = middle(all_runs, lambda r: r.figures["live_bytes"]) / watch.MIB
        rows.append([allocator, "%.1f" % live] + [s.text() for s in at] + [
            "%.2f" % got, met(got <= SPARSE_BAR) if allocator == "tcx" else ""])
    text = markdown(["charge / RSS, MiB", "live"] + ["%g s" % s for s in steps]
                    + ["held / live", "bar %g" % SPARSE_BAR], rows)
    live = next(iter(runs.values()))[0].figures["live_bytes"] / watch.MIB
    text += bench.write_plot(
        "sparse", "15 of 16 of 1 GiB freed at random", what_is_plotted(runs),
        lines_of(runs, "freed"), (-2, seconds),
        [(SPARSE_BAR * live, "bar: 2 x what is live")],
        x_label="seconds since they were freed")
    return text, raw_runs(runs)


# --- sawtooth -----------------------------------------------------------------


def lowest(run):
    """The least held between the loads, as a part of the peak."""
    begin, end = run.mark("start").seconds, run.mark("end").seconds
    held = [s.held() for s in run.samples if begin < s.seconds < end]
    peak_at = held.index(max(held))
    return min(held[peak_at:]) / max(held)


def sawtooth(bench, name, title, period_ms, compared):
    """compared: [(text, figure, bar, only others that give back)]"""
    seconds = bench.seconds(SAWTOOTH_SECONDS)
    period_ms = min(period_ms, seconds * 500)
    cycles = max(1, int(seconds * 1000 / period_ms))
    runs = bench.watch_all(
        name, ["sawtooth", bench.mib(512), 16, 4096, 2, period_ms, cycles],
        bench.runs(5), interval=0.02)
    low = {n: statistics.median(map(lowest, r)) for n, r in runs.items()}
    rows = []
    for allocator, all_runs in runs.items():
        faults, work, cpu = (
            statistics.median(r.figures[f] for r in all_runs)
            for f in ("faults", "work_s", "cpu_s"))
        rows.append([allocator, "%.0f" % faults, "%.2f" % work, "%.2f" % cpu,
                     "%.0f %%" % (100 * low[allocator]),
                     "yes" if low[allocator] < GIVES_BACK else "no"])
    text = markdown(["", "page faults", "work, s", "CPU, s",
                     "least held, of the peak", "gives back"], rows)
    lines = []
    for what, figure, bar, giving in compared:
        names = [n for n in runs
                 if n == "tcx" or not giving or low[n] < GIVES_BACK]
        if names == ["tcx"]:
            text += "\n\nNo other gives back: %s has no bar." % what
            continue
        lines.append(compare.Comparison(
            what, {n: [r.figures[figure] for r in runs[n]] for n in names},
            bar))
    text += "\n\n" + markdown(
        ["tcx / the best other", "against", "ratio", "quartiles", "bar", ""],
        [line.cells([], str) for line in lines])
    shown = min(seconds, 10 * period_ms / 1000 + 0.5)
    text += bench.write_plot(name, title, what_is_plotted(runs),
                             lines_of(runs, "start"), (0, shown))
    return text, raw_runs(runs)


def sawtooth_fast(bench):
    return sawtooth(bench, "sawtooth_fast", "512 MiB filled and freed every"
                    " 0.3 s", 300,
                    [("page faults", "faults", FAULTS_BAR, False),
                     ("time of work", "work_s", one_figure.ONE, False)])


def sawtooth_slow(bench):
    return sawtooth(bench, "sawtooth_slow", "512 MiB filled and freed every"
                    " 5 s", 5000, [("time of work", "work_s", 1.1, True)])


# --- coverage -----------------------------------------------------------------


def huge_share(sample):
    return 100 * (sample.huge or 0) / sample.rss


def coverage(bench):
    """How much lies on huge pages, and a pointer chase with and without."""
    never = "tcx, TCX_HUGEPAGES=never"
    kinds = [(a.name, a.preload, {}) for a in bench.allocators]
    kinds.append((never, bench.allocators[-1].preload,
                  {"TCX_HUGEPAGES": "never"}))
    steps = 100000 if bench.quick else 5000000
    runs = bench.watch_all(
        "coverage",
        ["chase", bench.mib(1024), 16, 4096, bench.seconds(5), steps],
        bench.runs(7), kinds, interval=0.25, detailed=True)
    rows = []
    for name, all_runs in runs.items():
        settled = middle(all_runs, lambda r: r.mark("settled"))
        share = middle(all_runs,
                       lambda r: huge_share(r.mark("settled"))) / 100
        rows.append([
            name, settled.text(), "%.0f" % settled.huge,
            "%.1f %%" % (100 * share),
            met(share >= COVERAGE_BAR) if name == "tcx" else "",
            "%.1f" % middle(all_runs, lambda r: r.figures["ns_step"])])
    chase = {n: [r.figures["ns_step"] for r in runs[n]] for n in runs}
    text = markdown(["", "charge / RSS, MiB", "on huge pages, MiB", "share",
                     "bar %g %%" % (100 * COVERAGE_BAR),
                     "chase, ns a step"], rows)
    lines = [compare.Comparison("tcx / TCX_HUGEPAGES=never", {
        "tcx": chase["tcx"], never: chase[never]}, CHASE_BAR),
             compare.Comparison("tcx / the best other", {
                 n: v for n, v in chase.items() if n != never})]
    text += "\n\n" + markdown(
        ["chase", "against", "ratio", "quartiles", "bar", ""],
        [line.cells([], str) for line in lines])
    shown = lines_of(runs, "filled", huge_share)
    shown["tcx, never"] = shown.pop(never)
    text += bench.write_plot(
        "coverage", "1 GiB of 16 B to 4 KiB: on huge pages", "% of RSS",
        shown, (-2, bench.seconds(5)),
        [(100 * COVERAGE_BAR, "bar: 95 %")],
        x_label="seconds since it was filled")
    return text, raw_runs(runs)


# --- command line -------------------------------------------------------------

SCENARIOS = [
    ("burst_small", "Burst of small objects: two threads fill 1 GiB, others"
     " free it", burst_small),
    ("burst_large", "Burst of 512 MiB of 64 KiB to 4 MiB", burst_large),
    ("burst_single", "Burst of one thread: its next 1000 mallocs",
     burst_single),
    ("sparse", "15 of 16 of 1 GiB freed at random (16 B to 64 KiB)", sparse),
    ("sawtooth_fast", "Sawtooth: 512 MiB every 0.3 s for 30 s", sawtooth_fast),
    ("sawtooth_slow", "Sawtooth: 512 MiB every 5 s for 30 s", sawtooth_slow),
    ("coverage", "Huge pages: 1 GiB of 16 B to 4 KiB, after 5 s", coverage),
    ("pairs", "Pairs of large blocks", one_figure.pairs),
    ("churn", "Blocks that come and go", one_figure.churn),
    ("startup", "Start-up", one_figure.startup),
    ("limit", "A cgroup's limit", one_figure.limit),
]


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tcx", metavar="LIB", required=True)
    p.add_argument("--bin-dir", default=os.path.dirname(HERE),
                   help="where //benchmarks:programs and memory/ were built")
    p.add_argument("--only", metavar="REGEX", default="",
                   help="only scenarios whose name matches: %s" % ", ".join(
                       name for name, _, _ in SCENARIOS))
    p.add_argument("--runs", type=int, default=0,
                   help="instead of 3, 5 or 7, by scenario")
    p.add_argument("--plots", metavar="DIR", help="write plots there")
    p.add_argument("--json", metavar="FILE", help="also write all samples")
    p.add_argument("--quick", action="store_true",
                   help="a 32nd of the memory, a second each: that it works")
    p.add_argument("--thp-always", action="store_true",
                   help="startup: also with THP=always, set for the whole"
                   " machine for a moment (root)")
    p.add_argument("--allow-missing", action="store_true",
                   help="go on without allocators that are not installed")
    p.add_argument("--no-touch", action="store_true",
                   help="do not touch guest memory first")
    args = p.parse_args()
    args.linked = []  # for compare.choose_allocators
    return args


def charge_text():
    group = watch.make_group()
    if group is None:
        return "- no cgroup could be made: RSS only"
    group.remove()
    return "- charge: memory of a cgroup v%d made for each run" % group.version


def main():
    args = parse_arguments()
    allocators = compare.choose_allocators(args)
    cpus = sorted(os.sched_getaffinity(0))[-2:]
    runner = compare.Runner(os.path.abspath(args.bin_dir), cpus)
    for a in allocators:
        runner.check_preload(a)
    if not args.no_touch:
        runner.touch_memory()
    bench = Bench(args, allocators, runner, cpus)
    chosen = [s for s in SCENARIOS if re.search(args.only, s[0])]
    if not chosen:
        compare.fail("nothing matches --only " + args.only)
    machine = compare.machine_text(allocators, bench.runs(3))
    print(machine.rpartition("\n")[0])
    print(charge_text(), flush=True)
    raw = {}
    for name, title, run in chosen:
        text, raw[name] = run(bench)
        print("\n### %s\n\n%s" % (title, text), flush=True)
    print("\nLoad average at the end: %.1f" % os.getloadavg()[0])
    if args.json:
        watch.write_text(args.json, json.dumps(raw))
    return 0


if __name__ == "__main__":
    sys.exit(main())

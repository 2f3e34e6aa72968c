#!/usr/bin/env python3
"""What C and C++ need of the (Java) coverage tools that Bazel 4.2 downloads.

Bazel runs it twice: after each test over the test's coverage directory
(--coverage_dir), with gcov's JSON files; and at the end over the list of all
those reports (--reports_file).  Both times it writes one lcov tracefile
(--output_file), of the files of the workspace alone.
"""
import collections
import glob
import gzip
import json
import os
import re
import sys


class Trace:
    """Counts of the lines and functions of each file."""

    def __init__(self, skipped):
        self.skipped = [re.compile(pattern) for pattern in skipped]
        self.lines = collections.defaultdict(collections.Counter)
        self.functions = collections.defaultdict(dict)

    def wants(self, name):
        return not name.startswith(("/", "..")) and \
            not any(pattern.fullmatch(name) for pattern in self.skipped)

    def add_function(self, name, function, line, count):
        old = self.functions[name].get(function, (line, 0))
        self.functions[name][function] = (old[0] or line, old[1] + count)

    def read_gcov(self, path):
        with gzip.open(path) as f:
            files = json.load(f)["files"]
        for entry in files:
            name = os.path.normpath(entry["file"])
            if not self.wants(name):
                continue
            for line in entry["lines"]:
                self.lines[name][line["line_number"]] += line["count"]
            for function in entry["functions"]:
                self.add_function(name, function["name"],
                                  function["start_line"],
                                  function["execution_count"])

    def read_lcov(self, path):
        name = None
        with open(path, encoding="utf-8") as f:
            for line in f:
                tag, _, value = line.strip().partition(":")
                if tag == "SF":
                    name = value if self.wants(value) else None
                elif name is None:
                    continue
                elif tag == "DA":
                    number, count = value.split(",")[:2]
                    self.lines[name][int(number)] += int(count)
                elif tag == "FN":
                    number, function = value.split(",", 1)
                    self.add_function(name, function, int(number), 0)
                elif tag == "FNDA":
                    count, function = value.split(",", 1)
                    self.add_function(name, function, 0, int(count))

    def write(self, path):
        with open(path, "w", encoding="utf-8") as f:
            for name in sorted(self.lines):
                f.write("SF:%s\n" % name)
                for function, (line, count) in sorted(
                        self.functions[name].items()):
                    f.write("FN:%d,%s\nFNDA:%d,%s\n" %
                            (line, function, count, function))
                for line, count in sorted(self.lines[name].items()):
                    f.write("DA:%d,%d\n" % (line, count))
                hit = sum(count > 0 for count in self.lines[name].values())
                f.write("LH:%d\nLF:%d\nend_of_record\n" %
                        (hit, len(self.lines[name])))


def main(argv):
    options = collections.defaultdict(list)
    for arg in argv:
        key, _, value = arg.lstrip("-").partition("=")
        options[key].append(value)
    out = options["output_file"][0]
    trace = Trace(options["filter_sources"])
    reports = []
    for path in options["reports_file"]:
        with open(path, encoding="utf-8") as f:
            reports += f.read().split()
    for folder in options["coverage_dir"]:
        for path in glob.glob(folder + "/**/*.gcov.json.gz", recursive=True):
            trace.read_gcov(path)
        reports += glob.glob(folder + "/**/*.dat", recursive=True)
    for path in reports:
        if os.path.abspath(path) != os.path.abspath(out):
            trace.read_lcov(path)
    trace.write(out)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What processes on tcx print: the text report, malloc_info's XML.

usage: report_test.py REPORT_PROGRAM STATS.DEF

Method: runs report_program in its modes and reads what comes out with parsers
of its own; sums are compared with each other, names with stats.def.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

PROGRAM, STATS_DEF = (os.path.abspath(path) for path in sys.argv[1:3])
TERMS = (
    "allocated thread_cache cpu_cache run_cache transfer central_free span_tail "
    "page_free metadata"
).split()
CLASS_LINE = re.compile(
    r"^tcx: class +(\d+) size +(\d+) live (\d+) cached (\d+)"
    r"(?: transfer (\d+) central (\d+) spans (\d+) spans_total (\d+)"
    r" transfer_hits (\d+) transfer_misses (\d+))?$",
    re.MULTILINE,
)
HELD_LINE = re.compile(
    r"^tcx: held (\w+)(?: (\d+) size (\d+))? bytes (\d+) percent (\d+\.\d)"
    r", ([\w ]+)$",
    re.MULTILINE,
)
HELD_ROWS = (
    "in_use cpu_caches thread_caches run_caches transfer_caches class "
    "other_classes span_tails kept_huge_pages parts_of_huge_pages "
    "other_free_pages metadata"
).split()
COVERAGE_LINE = re.compile(
    r"^tcx: coverage huge_covered_bytes (\d+) of_resident_bytes (\d+)"
    r" percent (\d+\.\d) mappings (\d+)$",
    re.MULTILINE,
)


def percent(part, whole):
    """As the report rounds."""
    tenths = (part * 1000 + whole // 2) // whole if whole else 0
    return "%d.%d" % divmod(tenths, 10)


def names_of_def():
    """The names of stats.def, in its order."""
    with open(STATS_DEF, encoding="utf-8") as file:
        return re.findall(r"^TCX_STAT\(\w+, \w+, (\w+),", file.read(), re.M)


def run(*arguments, **environment):
    env = {"PATH": "/usr/bin:/bin", **environment}
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        env=env,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def blocks_of(text):
    """Whole reports in a text: each from its first to its last line."""
    return re.findall(
        r"^tcx: statistics of pid (\d+)\n(.*?)^tcx: end of statistics of pid "
        r"\1\n",
        text,
        re.M | re.S,
    )


def figures_of(block):
    return {
        name: int(value)
        for name, value in re.findall(r"^tcx: (\w+) (\d+)$", block, re.M)
    }


class ReportTest(unittest.TestCase):
    def check_block(self, block):
        """One report of a process without other threads at that moment."""
        figures = figures_of(block)
        self.assertEqual(list(figures), names_of_def())
        self.assertEqual(
            figures["mapped_bytes"],
            figures["resident_bytes"] + figures["released_bytes"],
        )
        self.assertEqual(
            figures["resident_bytes"],
            sum(figures[term + "_bytes"] for term in TERMS),
        )
        live = figures["large_bytes"]
        for match in CLASS_LINE.finditer(block):
            live += int(match.group(2)) * int(match.group(3))
        self.assertEqual(live, figures["allocated_bytes"])
        self.check_held(block, figures)
        self.check_coverage(block)
        return figures

    def check_held(self, block, figures):
        """Why memory is held: the rows and their sum."""
        rows = HELD_LINE.findall(block)
        names = [row[0] for row in rows]
        self.assertEqual(len(rows), block.count("\ntcx: held "))
        self.assertLessEqual(names.count("class"), 5)
        without_more = [
            name for i, name in enumerate(names) if name not in names[:i]
        ]
        expected = [n for n in HELD_ROWS if n != "class" or n in names]
        self.assertEqual(without_more, expected)
        resident = figures["resident_bytes"]
        self.assertEqual(sum(int(row[3]) for row in rows), resident)
        for row in rows:
            self.assertEqual(row[4], percent(int(row[3]), resident), row)
        held = {row[0]: int(row[3]) for row in rows}
        self.assertEqual(held["in_use"], figures["allocated_bytes"])
        self.assertEqual(
            held["kept_huge_pages"]
            + held["parts_of_huge_pages"]
            + held["other_free_pages"],
            figures["page_free_bytes"],
        )
        self.check_held_classes(block, rows)

    def check_held_classes(self, block, rows):
        classes = {m.group(1): m for m in CLASS_LINE.finditer(block)}
        listed = [row for row in rows if row[0] == "class"]
        sizes = [int(row[3]) for row in listed]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        for _, number, size, _, _, why in listed:
            line = classes[number]
            self.assertEqual(line.group(2), size)
            out = sum(int(line.group(i)) for i in (3, 4, 5))
            self.assertEqual(
                why,
                "waiting for %d objects of %s spans" % (out, line.group(7)),
            )

    def check_coverage(self, block):
        (match,) = COVERAGE_LINE.finditer(block)
        covered, resident, mappings = (int(match.group(i)) for i in (1, 2, 4))
        self.assertLessEqual(covered, resident)
        self.assertEqual(match.group(3), percent(covered, resident))
        # What the program has written to, of 3000 objects of 4500 bytes.
        self.assertGreater(resident, 8 << 20)
        self.assertGreater(mappings, 0)

    def test_malloc_stats(self):
        code, _, err = run("stats")
        self.assertEqual(code, 0, err)
        (block,) = [text for _, text in blocks_of(err)]
        figures = self.check_block(block)
        self.assertGreater(figures["served_objects"], 3000)
        self.assertGreaterEqual(figures["large_bytes"], 10 << 20)
        self.assertRegex(
            block,
            r"^tcx: version \d+\.\d+\.\d+, front end \w+, middle \w+, "
            r"back end [\w ]+, page size \d+\n",
        )
        self.assertRegex(block, r"(?m)^tcx: lock page_source waits \d+$")
        self.assertRegex(block, r"(?m)^tcx: os mmap calls \d+ failures 0$")
        self.assertRegex(
            block,
            r"(?m)^tcx: front end in use \w+, rseq area \w+, ids \w+, "
            r"reason [\w ]+$",
        )
        # No line that is none of these.
        lines = [line for line in block.splitlines()[1:] if line]
        for line in lines:
            self.assertRegex(
                line,
                r"^tcx: (\w+ \d+|"
                r"(front end|cpu|class|held|coverage|lock|os|setting) .*)$",
            )

    def test_settings_and_their_sources(self):
        _, _, err = run("stats", TCX_THREAD_CACHE="64M")
        self.assertIn(
            "tcx: setting thread_cache %d (environment)\n" % (64 << 20), err
        )
        self.assertIn("tcx: setting harden 0 (default)\n", err)

    def figures_with(self, **environment):
        code, _, err = run("stats", **environment)
        self.assertEqual(code, 0, err)
        (block,) = [text for _, text in blocks_of(err)]
        return self.check_block(block)

    def test_limits(self):
        none = self.figures_with()
        for name in (
            "soft_limit_bytes",
            "hard_limit_bytes",
            "soft_limit_hits",
            "hard_limit_hits",
            "limit_released_bytes",
            "limit_refused",
        ):
            self.assertEqual(none[name], 0, name)
        soft = self.figures_with(TCX_LIMIT="8M")
        self.assertEqual(soft["soft_limit_bytes"], 8 << 20)
        self.assertEqual(soft["hard_limit_bytes"], 0)
        self.assertGreater(soft["soft_limit_hits"], 0)
        self.assertEqual(soft["limit_refused"], 0)
        # The last object, of 10 MiB, is refused.
        limit = none["resident_bytes"] - (8 << 20)
        hard = self.figures_with(TCX_HARD_LIMIT=str(limit))
        self.assertEqual(hard["hard_limit_bytes"], limit)
        self.assertGreater(hard["hard_limit_hits"], 0)
        self.assertGreater(hard["limit_refused"], 0)
        self.assertEqual(hard["large_bytes"], 0)
        self.assertLessEqual(hard["resident_bytes"], limit)

    def test_background(self):
        self.assertEqual(self.figures_with()["background_threads"], 0)
        with_thread = self.figures_with(TCX_BACKGROUND="on")
        self.assertEqual(with_thread["background_threads"], 1)

    def test_report_without_memory_is_whole(self):
        code, _, err = run("no_memory")
        self.assertEqual(code, 0, err)
        (block,) = [text for _, text in blocks_of(err)]
        self.check_block(block)

    def test_report_is_one_write(self):
        # A datagram per write: what others append cannot come in between.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        env = {"TCX_STATS": "exit"}
        subprocess.run([PROGRAM, "work"], stderr=theirs, env=env, check=True)
        theirs.close()
        text = ours.recv(1 << 20).decode()
        self.assertEqual(len(blocks_of(text)), 1, text)
        ours.close()

    def test_exit_report_goes_to_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "stats")
            pids = set()
            for _ in range(3):
                _, _, err = run("work", TCX_STATS="exit", TCX_STATS_FILE=path)
                self.assertEqual(err, "")
            with open(path, encoding="utf-8") as file:
                blocks = blocks_of(file.read())
            for pid, block in blocks:
                self.check_block(block)
                pids.add(pid)
            self.assertEqual(len(pids), 3)

    def test_file_that_cannot_be_opened_is_one_line(self):
        code, _, err = run(
            "work", TCX_STATS="exit", TCX_STATS_FILE="/no/such/folder/f"
        )
        self.assertEqual(code, 0)
        self.assertEqual(
            err, "tcx: cannot open /no/such/folder/f: error 2\n"
        )

    def test_no_report_unless_asked_for(self):
        self.assertEqual(run("work"), (0, "", ""))

    def test_signal_is_served_by_fast_paths_soon(self):
        number = int(signal.SIGUSR2)
        code, _, err = run("quiet", number, TCX_STATS_SIGNAL=str(number))
        self.assertEqual(code, 0, err)
        before, after = err.split("raised\n")
        self.assertEqual(before, "")
        report, rest = after.split("done\n")
        self.assertEqual(rest, "")
        (block,) = [text for _, text in blocks_of(report)]
        self.check_block(block)

    def test_signal_is_served_at_the_end(self):
        # Nothing is allocated after it.
        number = int(signal.SIGUSR1)
        code, _, err = run("last", number, TCX_STATS_SIGNAL=str(number))
        self.assertEqual(code, 0, err)
        self.assertEqual(len(blocks_of(err)), 1)

    def test_signals_under_locks_do_no_harm(self):
        number = int(signal.SIGUSR2)
        code, _, err = run("storm", number, TCX_STATS_SIGNAL=str(number))
        self.assertEqual(code, 0, err[-2000:])
        self.assertIn("done\n", err)
        self.assertGreater(len(blocks_of(err)), 20)

    def test_signal_without_the_setting_kills(self):
        number = int(signal.SIGUSR2)
        self.assertEqual(run("quiet", number)[0], -number)

    def test_signal_that_cannot_be_had(self):
        code, _, err = run("work", TCX_STATS_SIGNAL=str(int(signal.SIGKILL)))
        self.assertEqual(code, 0)
        self.assertEqual(err, "tcx: stats_signal: signal 9 cannot be had\n")


class MallocInfoTest(unittest.TestCase):
    def test_xml(self):
        code, out, err = run("info")
        self.assertEqual((code, err), (0, ""))
        root = xml.etree.ElementTree.fromstring(out)
        self.assertEqual(root.tag, "malloc")
        figures = {
            row.get("name"): int(row.get("value"))
            for row in root.findall("tcx/figure")
        }
        self.assertEqual(list(figures), names_of_def())
        # glibc's totals, in the heap and once more.
        for place in (root, root.find("heap")):
            totals = {
                (row.tag, row.get("type")): int(row.get("size"))
                for row in place
                if row.get("type")
            }
            current = totals["system", "current"]
            self.assertEqual(current, figures["resident_bytes"])
            self.assertEqual(
                totals["aspace", "total"], figures["mapped_bytes"]
            )
            free = totals["total", "fast"] + totals["total", "rest"]
            self.assertEqual(
                current,
                free
                + figures["allocated_bytes"]
                + figures["span_tail_bytes"]
                + figures["metadata_bytes"],
            )
        live = figures["large_bytes"]
        for row in root.findall("tcx/class"):
            live += int(row.get("size")) * int(row.get("live"))
        # stdout's own buffer came to life between the two.
        self.assertGreaterEqual(live, figures["allocated_bytes"])
        self.assertLess(live, figures["allocated_bytes"] + 64 * 1024)
        sizes = root.findall("heap/sizes/size")
        self.assertGreater(len(sizes), 10)
        for row in sizes:
            count, size = int(row.get("count")), int(row.get("to"))
            self.assertEqual(int(row.get("total")), count * size)
            self.assertLess(int(row.get("from")), size)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)

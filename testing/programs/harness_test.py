"""harness_test -- the proof that tcx served a program cannot be fooled."""

import os
import subprocess
import sys
import tempfile
import unittest

import harness

HEAD = "tcx: statistics of pid %d\n"
SERVED = "tcx: served_objects %d\n"

# A test of one short program.
PROGRAM = """
import sys
sys.path.insert(0, %r)
import harness
def work(side):
    side.run(["/bin/echo"])
    return {}
harness.main(work)
"""


class HarnessTest(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = os.path.join(self.scratch.name, "side")

    def side_with(self, stats):
        side = harness.Side("tcx", self.folder, "/proc/self/maps")
        with open(side.stats_file, "w") as out:
            out.write(stats)
        return side

    def run_test(self, library):
        here = os.path.dirname(os.path.abspath(harness.__file__))
        return subprocess.run(
            [sys.executable, "-B", "-c", PROGRAM % here, library],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def test_counts_by_pid(self):
        stats = HEAD % 7 + SERVED % 5 + HEAD % 8 + "x\n" + SERVED % 2
        side = self.side_with(stats)
        self.assertEqual(side.served(), {7: 5, 8: 2})
        side.expect_served([7, 8], 2)

    def test_exec_keeps_the_pid(self):
        side = self.side_with((HEAD % 7 + SERVED % 5) * 2)
        self.assertEqual(side.served(), {7: 10})

    def test_nothing_written_fails(self):
        with self.assertRaises(harness.Failure):
            self.side_with("").expect_served()

    def test_zero_objects_fail(self):
        side = self.side_with(HEAD % 7 + SERVED % 5 + HEAD % 8 + SERVED % 0)
        with self.assertRaises(harness.Failure):
            side.expect_served([7])

    def test_block_without_count_fails(self):
        side = self.side_with(HEAD % 7 + HEAD % 8 + SERVED % 1)
        with self.assertRaises(harness.Failure):
            side.expect_served()

    def test_other_process_does_not_count(self):
        side = self.side_with(HEAD % 7 + SERVED % 5)
        with self.assertRaises(harness.Failure):
            side.expect_served([9])

    def test_missing_program_names_set_up(self):
        with self.assertRaisesRegex(harness.Failure, r"\./setup\.sh"):
            harness.need("/nowhere/at/all")

    def test_ignored_preload_fails(self):
        # Not a library: the loader says so and goes on without it.
        done = self.run_test("/proc/self/status")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("FAIL: tcx served 0 processes", done.stdout)

    def test_library_is_needed(self):
        done = self.run_test("/nowhere/libtcx.so")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("FAIL: no library", done.stdout)

    def test_difference_fails(self):
        with self.assertRaisesRegex(harness.Failure, "output differs"):
            harness._compare({"output": "a"}, {"output": "b"})
        with self.assertRaisesRegex(harness.Failure, "output differs"):
            harness._compare({}, {"output": "b"})


if __name__ == "__main__":
    unittest.main()

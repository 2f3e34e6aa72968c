"""python_suite_test -- a part of python3's own test suite."""

import harness

PYTHON = "/usr/bin/python3"
SUITE = "/usr/lib/python3.11/test/test_json"
# Longest first; none that writes beside python's own modules (test_pickle),
# which Bazel's sandbox forbids.
TESTS = """
    test_threading test_array test_bytes test_collections test_ctypes
    test_deque test_dict test_json test_list test_memoryio test_memoryview
    test_mmap test_re test_set test_sort test_struct test_thread test_unicode
    test_zlib
""".split()
# These wait with short time-outs: on a busy machine they fail by themselves.
TIMED = ["*LockTests", "EventTests", "Condition*Tests", "*SemaphoreTests"]
TIMED += ["BarrierTests", "TimerTests"]


def work(side):
    harness.need(SUITE)  # of libpython3.11-testsuite
    command = [PYTHON, "-B", "-m", "test", "-j2", "--timeout", "100"]
    for pattern in TIMED:
        command += ["--ignore", pattern]
    extra = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}
    out = side.run(command + TESTS, extra=extra, seconds=130)
    side.expect_served(processes=len(TESTS))  # each in a process of its own
    results = [line for line in out.splitlines() if "Tests result:" in line]
    return {"result": results, "tests": " ".join(TESTS)}


if __name__ == "__main__":
    harness.main(work)

"""python_test -- python3: json in threads, multiprocessing, big buffers."""

import os

import harness

PYTHON = "/usr/bin/python3"
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(HERE, "python_work.py")


def work(side):
    results = {}
    for domain in ("pymalloc", "malloc"):  # as users run it; every object
        extra = {"PYTHONMALLOC": domain, "PYTHONHASHSEED": "0"}
        out = side.run([PYTHON, "-B", PROGRAM], extra=extra)
        results["output under " + domain] = out
    side.expect_served(processes=2)
    return results


if __name__ == "__main__":
    harness.main(work)

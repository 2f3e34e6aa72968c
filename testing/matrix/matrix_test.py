"""matrix_test -- one combination of front end, back end and page size at work.

usage: matrix_test.py LIBRARY SOAK FRONTEND_BACKEND_PAGESIZE

Python with threads, forks and blocks of all sizes gives what it gives on
glibc's malloc; the soak, which checks each object, ends well; and the report of
every process names the combination.
"""

import os
import re
import sys

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "programs"))

import harness  # noqa: E402

PYTHON = "/usr/bin/python3"
HEAD = re.compile(
    r"^tcx: version [\d.]+, front end (\w+), middle [\w ]+, "
    r"back end ([\w ]+), page size (\d+)$",
    re.MULTILINE,
)
BACKENDS = {"hpaa": "hpaa", "pageheap": "page heap"}
PROGRAM = """
import hashlib, json, os, threading

def churn(seed):
    rows = [{"id": i * seed % 8191, "text": "ab" * (i * seed % 700)}
            for i in range(3000)]
    rows.sort(key=lambda row: (row["id"], row["text"]))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

def grow(size):
    grown = bytearray()
    while len(grown) < size:
        grown += b"0123456789abcdef" * (1 + len(grown) // 64)
    return hashlib.sha256(grown).hexdigest()

results = {}
def work(seed):
    results[seed] = churn(seed)

threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 9)]
for thread in threads:
    thread.start()
for size in (100, 10000, 300000, 3000000, 20000000):
    results["grown %d" % size] = grow(size)
for i in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if churn(77) and grow(5000000) else 1)
    assert os.waitpid(child, 0)[1] == 0
for thread in threads:
    thread.join()
print(sorted(map(str, results.items())))
"""


def check_heads(side, combination):
    frontend, backend, page_size = combination.split("_")
    want = (frontend, BACKENDS[backend], str(int(page_size[:-1]) << 10))
    with open(side.stats_file, errors="replace") as stats:
        heads = HEAD.findall(stats.read())
    harness.check(len(heads) >= 2, "%d reports name what they are", len(heads))
    for head in heads:
        harness.check(head == want, "reports %s, wanted %s", head, want)
    print("%d reports of %s" % (len(heads), ", ".join(want)))


def main():
    soak = os.path.abspath(sys.argv.pop(2))
    combination = sys.argv.pop(2)

    def work(side):
        out = side.run([PYTHON, "-c", PROGRAM])
        if side.library:
            told = side.run([soak, "--seconds=1", "--seed=6", "--threads=4"])
            harness.check(" on tcx\n" in told, "soak: %s", told)
            side.expect_served(processes=2)
            check_heads(side, combination)
        return {"python": harness.digest(out)}

    harness.main(work)


if __name__ == "__main__":
    main()

"""fast_paths.py -- instructions of each fast path, against golden figures.

  fast_paths.py PROGRAM FRONTEND GOLDEN
  fast_paths.py --write PROGRAM_PERCPU PROGRAM_PERTHREAD > GOLDEN

PROGRAM is `fast_paths` (fast_paths.c), linked with the release product of
FRONTEND ("percpu", "perthread"); it makes sure itself that the fast path of
that front end is what ran. callgrind counts; only tcx's functions are summed
up: memset is libc's, and another one on each kind of processor.

The figures are those of one compiler (Debian 12's gcc). Where one changes on
purpose, write the table anew:

  bazel run //benchmarks/icount:write_golden > benchmarks/icount/golden.txt
"""

import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

REPEATS = 4  # of fast_paths.c
DRIVER = re.compile(r"op_\w+|count|main|warm_up")
# Nothing that depends on the time: valgrind is slow.
SETTINGS = {"TCX_SCAVENGE_TIME": "3600s", "TCX_TRIM_TIME": "3600s"}
FRONTENDS = ["percpu", "perthread"]
HEAD = """\
# Instructions that tcx executes for one call, warm. Written and explained by
# benchmarks/icount/fast_paths.py.
"""


def fail(text):
    sys.exit("fast_paths.py: " + text)


def read_dump(path, program):
    """(operation, {function of the program: its own instructions})."""
    operation, functions = None, collections.Counter()
    names, objects = {}, {}  # callgrind writes a name once: "fn=(7) malloc"
    name = ours = after_call = None

    def named(table, text):
        number, _, word = text.partition(" ")
        return table.setdefault(number, word) if word else table[number]

    with open(path) as f:
        for line in f:
            line = line.rstrip("\n")
            if line.startswith("desc: Trigger: Client Request: "):
                operation = line.rpartition(" ")[2]
            elif line.startswith("ob="):
                ours = os.path.basename(named(objects, line[3:])) == program
            elif line.startswith("cob="):
                named(objects, line[4:])
            elif line.startswith("fn="):
                name = named(names, line[3:])
            elif line.startswith("cfn="):
                named(names, line[4:])
            elif line.startswith("calls="):
                after_call = True  # The next line is the callee's.
            elif re.match(r"[+\-*\d]\S* \d+$", line):
                if not after_call and ours and not DRIVER.fullmatch(name):
                    functions[name] += int(line.split()[1])
                after_call = False
    return operation, functions


def count(program):
    """{operation: {function: instructions per call}}, in the program's order."""
    program = os.path.realpath(program)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--collect-atstart=no",
             "--callgrind-out-file=" + os.path.join(folder, "out"), program],
            env=dict(os.environ, **SETTINGS), text=True, capture_output=True)
        if done.returncode != 0 or done.stdout != "ok\n":
            fail("%s failed (%d): %s" % (program, done.returncode,
                                         done.stderr.strip()))
        dumps = glob.glob(os.path.join(folder, "out.*"))
        dumps.sort(key=lambda path: int(path.rpartition(".")[2]))
        result = {}
        for path in dumps:
            operation, functions = read_dump(path, os.path.basename(program))
            if operation is not None:
                result[operation] = {
                    n: c / REPEATS for n, c in functions.items()}
    if not result or not all(result.values()):
        fail("nothing counted: %s" % result)
    return result


def read_golden(path, frontend):
    with open(path) as f:
        lines = [line.split() for line in f if not line.startswith("#")]
    column = lines[0].index(frontend)
    return {line[0]: float(line[column]) for line in lines[1:]}


def write(counted):
    print(HEAD, end="")
    form = "%-20s" + " %10s" * len(FRONTENDS)
    print(form % ("operation", *FRONTENDS))
    for operation in counted[0]:
        print(form % (operation, *("%g" % sum(c[operation].values())
                                   for c in counted)))


def check(program, frontend, golden):
    wanted = read_golden(golden, frontend)
    counted = count(program)
    wrong = 0
    for operation in sorted(set(wanted) | set(counted)):
        functions = counted.get(operation, {})
        got, want = sum(functions.values()), wanted.get(operation)
        wrong += got != want
        print("%-20s %6g  golden %s%s" % (
            operation, got, "%g" % want if want is not None else "none",
            "" if got == want else "  FAILED: " + str(functions)))
    print("FAIL" if wrong else "PASS")
    return 1 if wrong else 0


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    if sys.argv[1] == "--write":
        write([count(program) for program in sys.argv[2:]])
        return 0
    return check(*sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

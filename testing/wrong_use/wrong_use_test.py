"""Runs every misuse on tcx, and compares what happens with docs/wrong-use.md.

usage: wrong_use_test.py DOCS PROGRAM [LIBRARY]

PROGRAM is misuse.cc; with a LIBRARY that is preloaded, else linked with tcx.
The table of DOCS says of each case when it is found, by default and under
TCX_HARDEN=1, and the exact message, in which P, N and M stand for the pointer,
the bytes of its object and the other size; the program prints all three. A case
that is not in the table, or only there, is a failure. Programs run on one CPU:
with caches of CPUs a thread that moves between two frees is found late.
"""
import os
import re
import signal
import subprocess
import sys

NOT_FOUND = "no"
LATE = "; found late"
RIGHT = ["right_use", "right_use_at_random"]
CPU = min(os.sched_getaffinity(0))
MISUSE_OUTER = "MisuseOuter"

failures = []
count = {"default": 0, "late": 0, "hardened": 0}


def read_table(path):
    """Case -> (default, hardened), each None or the messages of which one comes."""
    table = {}
    with open(path, encoding="utf-8") as docs:
        for line in docs:
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if len(cells) != 5 or not re.fullmatch(r"`[a-z_]+`", cells[0]):
                continue
            name = cells[0].strip("`")
            message = cells[4].strip("`")
            table[name] = tuple(read_cell(c, message) for c in cells[2:4])
    return table


def read_cell(cell, message):
    """None for "no"; else the messages in the cell, or that of the row."""
    if cell == NOT_FOUND:
        return None
    if cell == "at once":
        return [message]
    own = re.fullmatch(r"(?:at once|late|(at once or late)): `(.+)`", cell)
    assert own, "a cell must be 'no', 'at once' or 'late: `MESSAGE`': " + cell
    return [own.group(2)] + ([message] if own.group(1) else [])


def run(program, library, name, harden):
    """The finished process of one case."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TCX_")}
    if library:
        env["LD_PRELOAD"] = os.path.abspath(library)
    if harden:
        env["TCX_HARDEN"] = "1"
    return subprocess.run(
        [os.path.abspath(program), name],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, [CPU]),
    )


def expected_line(message, stdout):
    """The message with the program's own figures."""
    said = re.search(r"P=(\S+) N=(\d+) M=(\d+)", stdout)
    assert said, "the program did not say what it does: " + stdout
    figures = dict(zip("PNM", said.groups()))
    return "tcx: " + re.sub(r"\b[PNM]\b", lambda m: figures[m.group()], message)


def problem_of(done, messages):
    """None, or what is wrong with how the process ended."""
    if messages is None:
        if done.returncode != 0 or "survived" not in done.stdout:
            return "did not come through"
        return "said something" if done.stderr else None
    if done.returncode != -signal.SIGABRT:
        return "did not end by SIGABRT, but %d" % done.returncode
    lines = done.stderr.splitlines()
    wants = [expected_line(message, done.stdout) for message in messages]
    if not lines or lines[0] not in wants:
        return "said another thing than:\n    " + " or\n    ".join(wants)
    if not all(line.startswith("tcx:   at ") for line in lines[1:]):
        return "said more than one line and the stack"
    # Its callers (and their names, in the stack of another thread's trim).
    if MISUSE_OUTER not in done.stderr:
        return "printed a stack without " + MISUSE_OUTER
    return None


def check(program, library, name, harden, messages):
    """Runs one case."""
    mode = "hardened" if harden else "default"
    done = run(program, library, name, harden)
    problem = problem_of(done, messages)
    if problem:
        failures.append(name)
        print("FAILED %s (%s): %s\n%s%s" %
              (name, mode, problem, done.stdout, done.stderr))
    elif messages is not None:
        count["late" if LATE in done.stderr else mode] += 1


def main(docs, program, library=None):
    """Everything; 0 when all is as the table says."""
    table = read_table(docs)
    listed = subprocess.run([os.path.abspath(program), "--list"],
                            stdout=subprocess.PIPE, text=True, check=True)
    cases = listed.stdout.split()
    for name in set(table).symmetric_difference(set(cases) - set(RIGHT)):
        failures.append(name)
        print("FAILED %s: not in both of the table and the program" % name)
    for name in cases:
        messages = (None, None) if name in RIGHT else table.get(name)
        if messages:
            check(program, library, name, False, messages[0])
            check(program, library, name, True, messages[1])
    print("%d misuses: %d found at once by default and %d late, "
          "%d at once under TCX_HARDEN=1" %
          (len(cases) - len(RIGHT), count["default"], count["late"],
           count["hardened"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

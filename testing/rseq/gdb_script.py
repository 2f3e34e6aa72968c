"""Run by gdb (gdb_test.sh): stops in sections and at abort handlers, and asks for
the stack. RSEQ_TEST_LIBRARY is the preloaded library, this file's folder has the
modules."""

import os
import sys

import gdb

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import section_rules
from library import Library

# With a section, and called by the program.
FUNCTIONS = ("malloc", "free", "tcx_percpu_push_batch", "tcx_percpu_pop_batch")


def bias(path):
    pid = gdb.selected_inferior().pid
    with open("/proc/%d/maps" % pid, encoding="utf-8") as maps:
        for line in maps:
            fields = line.split()
            if fields[-1] == path:
                return int(line.split("-")[0], 16) - int(fields[2], 16)
    raise AssertionError("%s is not loaded" % path)


def run_to(address):
    gdb.execute("tbreak *%#x" % address, to_string=True)
    gdb.execute("continue", to_string=True)
    pc = int(gdb.parse_and_eval("(unsigned long)$pc"))
    assert pc == address, "stopped at %x, not at %x" % (pc, address)


def check_stack(names_of_function, where):
    names = []
    frame = gdb.newest_frame()
    while frame is not None:
        names.append(frame.name())
        frame = frame.older()
    assert names[-1] == "main", "%s: %s" % (where, names)
    assert names_of_function & set(names), "%s: %s" % (where, names)
    assert {"pairs", "batches", "moves"} & set(names), "%s: %s" % (where, names)
    print("%s: %s" % (where, " < ".join(map(str, names))))


def main():
    path = os.path.realpath(os.environ["RSEQ_TEST_LIBRARY"])
    library = Library(path)
    sections = section_rules.sections(library, [])
    gdb.execute("set breakpoint pending off")
    # Else the signal comes first where gdb goes on.
    gdb.execute("handle SIGPROF nostop noprint nopass", to_string=True)
    gdb.execute("break batches", to_string=True)
    gdb.execute("run", to_string=True)
    gdb.execute("delete")
    loaded = bias(path)
    for function in FUNCTIONS:
        section = next(
            s for s in sections
            if function in library.functions_of(s.descriptor.start))
        names = library.functions_of(section.descriptor.start)
        inside = section.code[len(section.code) // 2].address
        run_to(inside + loaded)
        check_stack(names, "in a section of " + function)
        # gdb's stop took the thread off its CPU: so the section is aborted.
        run_to(section.descriptor.abort + loaded)
        check_stack(names, "at the abort handler of " + function)
        gdb.execute("stepi", to_string=True)
        pc = int(gdb.parse_and_eval("(unsigned long)$pc"))
        assert pc == section.arm + loaded, "the handler leads to %x" % pc
    gdb.execute("kill")
    print("gdb: %d functions" % len(FUNCTIONS))


try:
    main()
except (AssertionError, gdb.error) as error:
    print("FAILED: %s" % error)
    gdb.execute("quit 1")

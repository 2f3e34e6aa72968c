"""Runs inside gdb: steps through a vfork of the parent's, to its return.

After each instruction the stack must be unwound to main, and the thread's block
must be fit for a signal handler: if the thread stands nowhere, the flag says so.
Ends with "N steps, all well".
"""
import gdb

AREA, FLAGS, FLAG = 16, 24, 8  # frontend/thread_offsets.h


def functions():
    """Names of the functions on the stack, innermost first."""
    frame, names = gdb.newest_frame(), []
    while frame is not None:
        names.append(frame.name() or "?")
        frame = frame.older()
    return names


def number(expression):
    return int(gdb.parse_and_eval(expression))


def step_through():
    block, nowhere = None, number("(long)&tcx_rseq_nowhere")
    steps = away = 0
    while functions()[0] in ("vfork", "__vfork"):
        gdb.execute("stepi", to_string=True)
        steps += 1
        names = functions()
        if "main" not in names:
            raise gdb.GdbError("after step %d: only %s" % (steps, names))
        if block is None:
            # The third instruction is the first that uses the block's offset.
            block = number("$fs_base + $r8") if steps == 2 else None
            continue
        area = number("*(long *)%d" % (block + AREA))
        flags = number("*(int *)%d" % (block + FLAGS))
        away += area == nowhere
        if area == nowhere and not flags & FLAG:
            raise gdb.GdbError("after step %d: nowhere, not flagged" % steps)
    if away == 0 or area == nowhere or flags & FLAG:
        raise gdb.GdbError("the area did not go and come back")
    print("%d steps, all well" % steps)


gdb.execute("set pagination off")
gdb.execute("break vfork_parent", to_string=True)
gdb.execute("run", to_string=True)
gdb.execute("break *vfork", to_string=True)
gdb.execute("continue", to_string=True)
gdb.execute("delete", to_string=True)
try:
    step_through()
finally:
    gdb.execute("kill", to_string=True)

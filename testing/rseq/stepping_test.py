"""Every section of a built library, aborted at each of its instructions.

usage: stepping_test.py LIBRARY PROGRAM        (PROGRAM: stepped.c)

Method: PROGRAM runs under ptrace with LIBRARY preloaded, on an area that the
kernel knows. All entries of the base table point at a slab of the test's own,
with one class. For each section and each scenario (objects there, empty, room,
full, double ...) the test sets the registers that the section reads and

  1. steps through it without the kernel's knowledge (rseq_cs = 0): the outcome
     must be that of the operation in operations.py;
  2. brings it to each instruction of that path in turn, each turn of a loop
     included, and goes on with rseq_cs = descriptor, once plainly (the tracer's
     stop took the thread off its CPU) and once with a signal; and, where the
     path comes there first, also lets it run there by itself, from where it
     is armed to an int3. Each time nothing that others can see may have changed
     (R1), control must go to the abort handler, a signal handler must see that
     address, and the section must start over and end as in 1: exactly one
     operation.

The sections come from the library's descriptors: none is left out. At the end a
copy of the library with one push in the wrong order must fail.
"""

import os
import signal
import struct
import sys
import tempfile

import section_rules
import tracer
from library import Library
from operations import SCENARIOS, Class

WORD = 8
HEADER = 16  # Offset of the class's header in the slab.
AREA, HANDLED, SEEN = 0, 8, 16  # Of the board (stepped.c).
HEADERS, SLOTS, BATCH = 32, 80, 176
BOARD_BYTES = 240
FIRST = 1  # Slot of the class's first object; slot 0 is the guard.
FLAGS = 0x8D5  # Carry, parity, adjust, zero, sign, overflow.
CARRY = 1
BASES = 1024 + 2
BASES_OFFSET = 16  # In struct tcx_percpu.


class Stepper:
    """Brings the process through one section in one scenario."""

    def __init__(self, library, program):
        self.library = library
        environment = {"LD_PRELOAD": library.path, "TCX_FRONTEND": "percpu"}
        self.process = tracer.Process([program], environment)
        try:
            self.process.run()
        except tracer.Ended as ended:
            if os.WEXITSTATUS(ended.args[0]) == 77:
                raise tracer.Refused from ended
            raise
        self.clean = self.process.registers()
        self.board = self.clean["rax"]
        self.area = self.process.word(self.board + AREA)
        self.bias = self.process.bias(library.path)
        self.percpu = self.bias + library.symbols["tcx_percpu"]
        self.id_offset = self.process.word(self.percpu)
        assert self.id_offset in (4, 24), self.id_offset
        slab = struct.pack("<Q", self.board + HEADERS)
        self.process.write(self.percpu + BASES_OFFSET, slab * BASES)
        self.aborts = 0

    # -- the scenario ---------------------------------------------------------

    def slot(self, i):
        return self.board + SLOTS + WORD * i

    def image(self, state):
        """What the board must hold, from HEADERS to its end."""
        words = [0, 0, self.slot(state.top), self.slot(state.end), 0, 0]
        return struct.pack("<26Q", *words, *state.slots, *state.batch)

    def inputs(self, section, arguments):
        """The registers that the section reads."""
        slab = self.board + HEADERS
        values = {"rdi": self.area, "rsi": HEADER}
        if section.kind in ("pop", "push"):
            return self.inline_inputs(section, arguments)
        if section.kind in ("push_batch", "pop_batch"):
            values.update(rdx=self.board + BATCH, rcx=arguments[0])
        elif section.kind == "grow":
            values.update(rdx=arguments[0], rcx=self.slot(arguments[1]) - slab,
                          r8=slab if arguments[2] else slab + HEADER)
        elif section.kind == "shrink":
            values.update(rdx=arguments[0],
                          rcx=slab if arguments[1] else slab + HEADER)
        else:
            values.update(rdx=arguments[0])
        return values

    def inline_inputs(self, section, arguments):
        """The compiler chose the registers: they stand in the code."""
        code = section.code
        the_id = code[0].memory(code[0].operands[0])
        base = code[1].memory(code[1].operands[0])
        assert base.disp == BASES_OFFSET + 2 * WORD, code[1].text
        values = {
            the_id.base: self.area,
            the_id.index: self.id_offset,
            base.base: self.percpu,
            code[2].register(0): HEADER,
        }
        if section.kind == "push":
            compare = next(i for i in code if i.mnemonic == "cmp")
            values[compare.register(0)] = arguments[0]
        return values

    def set_up(self, section, state, arguments):
        """Where the section is armed next, and nothing has happened."""
        registers = dict(self.clean, rip=section.arm + self.bias)
        for i, name in enumerate(tracer.NAMES[:15]):
            if name != "rbp":
                registers[name] = 0x7700 + i
        registers.update(self.inputs(section, arguments))
        self.process.set_registers(registers)
        self.process.write(self.board + HEADERS, self.image(state))
        self.set_rseq_cs(0)

    def set_rseq_cs(self, value):
        self.process.write(self.area + 8, struct.pack("<Q", value))

    # -- what came of it ------------------------------------------------------

    def outcome(self):
        registers = self.process.registers()
        registers["eflags"] &= FLAGS
        return registers, self.process.read(
            self.board + HEADERS, BOARD_BYTES - HEADERS)

    def path(self, section):
        """Steps from arm to the first instruction outside; the addresses of
        the instructions in the section, and that one's. The kernel is not to
        know of it."""
        self.process.step()
        self.process.step()
        self.set_rseq_cs(0)
        addresses = []
        while True:
            rip = self.process.registers()["rip"] - self.bias
            if not section.descriptor.start <= rip < section.descriptor.end:
                return addresses, rip
            addresses.append(rip)
            self.process.step()

    def check_operation(self, section, state, arguments, way_out):
        """The outcome of an undisturbed run is that of the operation."""
        getattr(state, section.kind)(*arguments)
        registers, memory = self.outcome()
        assert memory == self.image(state), "not the slab of one operation"
        committed = way_out == section.descriptor.end
        if section.kind == "pop":
            assert committed == (state.result is not None)
            if committed:
                assert registers["rax"] == state.result
        elif section.kind == "push":
            assert committed == state.result
            assert not (committed and registers["eflags"] & CARRY)
        else:
            while self.process.read(
                    self.process.registers()["rip"], 1) != b"\xc3":
                self.process.step()
            low = self.process.registers()["rax"] & 0xFFFFFFFF
            assert low == state.result, "returned %d" % low

    def check_unchanged(self, state):
        """R1: headers as before, and slots up to top."""
        _, memory = self.outcome()
        image = self.image(state)
        end = SLOTS - HEADERS + WORD * (state.top + 1)
        assert memory[:end] == image[:end], "seen before the commit"

    def step_to(self, section, n):
        """Before the n-th instruction of the path, and armed."""
        for _ in range(2 + n):
            self.set_rseq_cs(0)
            self.process.step()
        self.set_rseq_cs(section.descriptor.address + self.bias)

    def abort(self, section, state, number):
        """The process stands within the section; it goes on armed again."""
        descriptor = section.descriptor
        armed = self.process.word(self.area + 8) - self.bias
        assert armed == descriptor.address, "not armed"
        self.check_unchanged(state)
        handled = self.process.word(self.board + HANDLED)
        self.process.run_to(descriptor.abort + self.bias, number)
        assert self.process.word(self.area + 8) == 0, "rseq_cs is not cleared"
        if number:
            assert self.process.word(self.board + HANDLED) == handled + 1
            seen = self.process.word(self.board + SEEN)
            assert seen == descriptor.abort + self.bias, \
                "a handler saw %x" % (seen - self.bias)
        self.check_unchanged(state)
        self.process.run_to(section.arm + self.bias)
        self.aborts += 1

    # -- all of it ------------------------------------------------------------

    def scenario(self, section, count, room, arguments):
        """Returns the addresses that it came by."""
        def fresh():
            state = Class(count, room)
            self.set_up(section, state, arguments)
            return state

        state = fresh()
        addresses, way_out = self.path(section)
        expected = self.outcome()
        self.check_operation(section, state, arguments, way_out)
        for n, address in enumerate(addresses):
            first = address not in addresses[:n]
            for live in (False, True) if first else (False,):
                for number in (0, signal.SIGUSR1):
                    state = fresh()
                    if live:
                        self.process.run_to(address + self.bias)
                    else:
                        self.step_to(section, n)
                    self.abort(section, state, number)
                    self.process.run_to(way_out + self.bias)
                    assert self.outcome() == expected, \
                        "not exactly one operation"
        return addresses

    def section(self, section):
        """All scenarios; each instruction must have been aborted once."""
        seen = set()
        for count, room, arguments in SCENARIOS[section.kind]:
            try:
                seen.update(self.scenario(section, count, room, arguments))
            except AssertionError as error:
                raise AssertionError("%s (%s), %d objects, room for %d, %s" % (
                    section.descriptor, section.kind, count, room,
                    arguments)) from error
        missed = {i.address for i in section.code} - seen
        assert not missed, "never at %s" % sorted(map(hex, missed))


def check_bites(path, program):
    """The test must fail where a push stores the header before the slot."""
    library = Library(path)
    section = next(s for s in section_rules.check(library)[0]
                   if s.kind == "push")
    slot, commit = section.code[-2:]
    assert slot.stored() and commit.stored()
    start, middle, end = (
        library.offset(a) for a in (slot.address, commit.address, commit.end))
    code = library.bytes
    swapped = code[middle:end] + code[start:middle]
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(code[:start] + swapped + code[end:])
        file.flush()
        broken = Library(file.name)
        section = next(s for s in section_rules.check(broken)[0]
                       if s.kind == "push")
        stepper = Stepper(broken, program)
        try:
            stepper.section(section)
        except AssertionError as error:
            assert "seen before the commit" in str(error.__cause__), error
        else:
            raise AssertionError("a push in the wrong order passed")
        finally:
            stepper.process.kill()


def main():
    path, program = (os.path.realpath(p) for p in sys.argv[1:3])
    # The two take turns; on one CPU that is fastest.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    library = Library(path)
    sections, misses = section_rules.check(library)
    assert not misses, misses
    try:
        stepper = Stepper(library, program)
    except tracer.Refused:
        print("skipped: no ptrace, or no rseq, on this machine")
        return 0
    for section in sections:
        stepper.section(section)
    stepper.process.kill()
    check_bites(path, program)
    print("%d sections, %d instructions, %d aborts: each ended as exactly one "
          "operation" % (len(sections), sum(len(s.code) for s in sections),
                         stepper.aborts))
    return 0


if __name__ == "__main__":
    sys.exit(main())

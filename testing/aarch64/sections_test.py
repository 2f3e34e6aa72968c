"""Every section of a library for arm64, aborted at each of its instructions.

usage: sections_test.py LIBRARY        (libtcx_percpu.so for arm64)

Method: the machine code of the library, emulated one instruction at a time, on
an area and a slab of the test's own; no kernel, no process. For each section
that a descriptor names, and each scenario (objects there, empty, room, full,
double ...), the test sets the registers that the section reads and

  1. lets it run: the outcome must be that of the operation in operations.py;
  2. again for each instruction of that path, each turn of a loop included:
     there it does what the kernel does, clears rseq_cs and goes to the abort
     handler.
     So far nothing that others can see may have changed (R1 of percpu_fast.h);
     the section must arm itself again, start over, and end as in 1: exactly one
     operation.

Two copies that are damaged on purpose must fail: a push that stores the header
before the slot, and an abort handler that leaves the section unarmed.
"""

import os
import struct
import sys

import unicorn
from unicorn import arm64_const

from arm64_library import Library

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "rseq"))
from operations import SCENARIOS, Class  # noqa: E402

PAGE = 0x10000
BOARD = 0x7000_0000
STOP = BOARD + PAGE - 4
AREA, HEADERS, SLOTS, BATCH = (BOARD + at for at in (0, 64, 128, 256))
BOARD_BYTES = 320
RSEQ_CS, MM_CID = 8, 24
HEADER = 16  # Offset of the class's header in the slab.
BASES = 16  # Of struct tcx_percpu; the entry of id 0 is the third.
ID = 5

X = [getattr(arm64_const, "UC_ARM64_REG_X%d" % i) for i in range(31)]
PC = arm64_const.UC_ARM64_REG_PC

# (mask, value) of an instruction; its registers are at bits 16, 5 and 0.
LOAD_ID = (0xFFE0FC00, 0xB8A06800)  # ldrsw Xt, [Xn, Xm]
LOAD_BASE = (0xFFE0FC00, 0xF8607800)  # ldr Xt, [Xn, Xm, lsl 3]
ADD = (0xFFE0FC00, 0x8B000000)  # add Xt, Xn, Xm
LOAD = (0xFFFFFC00, 0xF9400000)  # ldr Xt, [Xn]
COMPARE = (0xFFE0FC1F, 0xEB00001F)  # cmp Xn, Xm
JUMP = (0xFC000000, 0x14000000)  # b
POP_WORDS, PUSH_WORDS = 8, 13

# What must not be in a section: bl, blr, ret, svc and other exceptions.
LEAVES = [(0xFC000000, 0x94000000), (0xFF9FFC1F, 0xD61F0000),
          (0xFF000000, 0xD4000000)]


def matches(word, pattern):
    return word & pattern[0] == pattern[1]


class Board(Class):
    """The class, where the sections find it."""

    def image(self):
        """What the board must hold from HEADERS on."""
        words = [0, 0, SLOTS + 8 * self.top, SLOTS + 8 * self.end] + [0] * 4
        return struct.pack("<32Q", *words, *self.slots, *[0] * 4, *self.batch)

    def image_others_see(self):
        """Headers, and slots up to top."""
        return self.image()[:SLOTS - HEADERS + 8 * (self.top + 1)]


class Section:
    """One descriptor, and the code that it names."""

    def __init__(self, library, descriptor):
        self.descriptor = descriptor
        self.code = [library.word(a) for a in self.addresses()]
        names = library.functions_of(descriptor.start)
        ours = [n for n in names if n.startswith("tcx_percpu_")]
        self.names = "/".join(sorted(names))
        self.kind = ours[0][len("tcx_percpu_"):] if ours else "inline"
        self.arm = self._target(library, descriptor.abort)
        self._check_form(library)
        if self.kind == "inline":
            self._read_registers(library)

    def addresses(self):
        return range(self.descriptor.start, self.descriptor.end, 4)

    @staticmethod
    def _target(library, address):
        """Where the `b` at the address goes."""
        word = library.word(address)
        assert matches(word, JUMP), "%x is no jump" % address
        distance = word & 0x3FFFFFF
        return address + 4 * (distance - (distance >> 25 << 26))

    def _check_form(self, library):
        """What the kernel and unwinders ask, and R3."""
        descriptor = self.descriptor
        assert library.word(descriptor.abort - 4) == 0xD428BC00
        assert descriptor.abort > descriptor.end
        assert library.functions_of(descriptor.abort) == \
            library.functions_of(descriptor.start), "handler elsewhere"
        frame = library.frame_of(descriptor.start)
        assert frame and frame == library.frame_of(descriptor.abort), \
            "handler without its function's unwind table"
        for word in self.code:
            assert not any(matches(word, l) for l in LEAVES), hex(word)

    def _read_registers(self, library):
        """The compiler chose them."""
        code = self.code
        registers = [(w & 31, w >> 5 & 31, w >> 16 & 31) for w in code]
        for word, form in zip(code, (LOAD_ID, LOAD_BASE, ADD, LOAD, LOAD)):
            assert matches(word, form), hex(word)
        _, area, the_id = registers[0]
        self.inputs = {area: "area", the_id: "id_offset",
                       registers[1][1]: "base", registers[2][2]: "header"}
        if len(code) == POP_WORDS:
            self.kind = "pop"
            self.result = registers[4][0]
        else:
            self.kind = "push"
            assert len(code) == PUSH_WORDS and matches(code[5], COMPARE)
            self.inputs[registers[5][2]] = "object"
            self.result = registers[3][0]
        self.way_out = self._target(library, self.descriptor.end)


class Machine:
    """The library in an emulated arm64, and one section at work."""

    def __init__(self, library):
        self.emulator = unicorn.Uc(unicorn.UC_ARCH_ARM64,
                                   unicorn.UC_MODE_ARM)
        self.emulator.mem_map(0, -(-len(library.memory) // PAGE) * PAGE)
        self.emulator.mem_map(BOARD, PAGE)
        self.write(0, bytes(library.memory))
        self.percpu, size = library.symbols["tcx_percpu"]
        # Whoever reads the base of another id falls into a hole.
        bases = [1 << 40] * ((size - BASES) // 8)
        bases[2 + ID] = HEADERS
        self.write(self.percpu, struct.pack("<QQ", MM_CID, 0))
        self.write(self.percpu + BASES, struct.pack(
            "<%dQ" % len(bases), *bases))
        self.aborts = 0

    def write(self, address, data):
        self.emulator.mem_write(address, data)

    def words(self, address, count):
        return struct.unpack("<%dQ" % count,
                             self.emulator.mem_read(address, 8 * count))

    def image(self):
        return bytes(self.emulator.mem_read(HEADERS, 256))

    def step(self):
        pc = self.pc()
        self.emulator.emu_start(pc, STOP, count=1)

    def pc(self):
        return self.emulator.reg_read(PC)

    def registers(self):
        return [self.emulator.reg_read(x) for x in X]

    def arguments(self, section, arguments):
        """Register -> value."""
        if section.kind in ("pop", "push"):
            values = {"area": AREA, "id_offset": MM_CID, "header": HEADER,
                      "base": self.percpu + BASES + 16,
                      "object": arguments[0] if arguments else None}
            return {r: values[what] for r, what in section.inputs.items()}
        values = {0: AREA, 1: HEADER, 30: STOP}
        if section.kind in ("push_batch", "pop_batch"):
            values.update({2: BATCH, 3: arguments[0]})
        elif section.kind == "grow":
            slots, limit, here = arguments
            values.update({2: slots, 3: SLOTS + 8 * limit - HEADERS,
                           4: HEADERS if here else HEADERS + HEADER})
        elif section.kind == "shrink":
            values.update({2: arguments[0],
                           3: HEADERS if arguments[1] else HEADERS + HEADER})
        else:
            values.update({2: arguments[0]})
        return values

    def set_up(self, section, state, arguments):
        """Where the section is armed next, and nothing has happened."""
        for i, x in enumerate(X):
            self.emulator.reg_write(x, 0x7700 + i)
        for i, value in self.arguments(section, arguments).items():
            self.emulator.reg_write(X[i], value)
        area = struct.pack("<iiQiiii", ID, ID, 0, 0, 0, ID, 0)
        self.write(AREA, area)
        self.write(HEADERS, state.image())
        self.emulator.reg_write(PC, section.arm)

    def arm(self, section):
        """To the start of the section."""
        for _ in range(3):
            self.step()
        assert self.pc() == section.descriptor.start, "armed elsewhere"
        self.check_armed(section)

    def check_armed(self, section):
        assert self.words(AREA + RSEQ_CS, 1)[0] == section.descriptor.address, \
            "not armed"

    def finish(self, section):
        """To the way out; the addresses in the section that it came by."""
        path = []
        stop = getattr(section, "way_out", STOP)
        while self.pc() != stop:
            assert len(path) < 1000, "does not end"
            if self.pc() in section.addresses():
                self.check_armed(section)
                path.append(self.pc())
            self.step()
        return path

    def check_operation(self, section, state, arguments):
        getattr(state, section.kind)(*arguments)
        assert self.image() == state.image(), "not the slab of one operation"
        if section.kind == "push":
            result = self.registers()[section.result] != 0
        elif section.kind == "pop":
            result = self.registers()[section.result]
        else:
            result = self.registers()[0]
        assert result == (state.result or 0), "result %x" % result

    def abort(self, section, state):
        """As the kernel does."""
        self.check_armed(section)
        seen = state.image_others_see()
        assert self.image()[:len(seen)] == seen, "seen before the commit"
        self.write(AREA + RSEQ_CS, bytes(8))
        self.emulator.reg_write(PC, section.descriptor.abort)
        self.aborts += 1

    def scenario(self, section, count, room, arguments):
        """Returns the addresses that it came by."""
        def fresh():
            state = Board(count, room)
            self.set_up(section, state, arguments)
            self.arm(section)
            return state

        state = fresh()
        path = self.finish(section)
        self.check_operation(section, state, arguments)
        expected = self.registers(), self.image()
        for n in range(len(path)):
            state = fresh()
            for _ in range(n):
                self.step()
            assert self.pc() == path[n]
            self.abort(section, state)
            assert self.finish(section) == path, "another way"
            assert (self.registers(), self.image()) == expected, \
                "not exactly one operation"
        return path

    def run(self, section):
        """All scenarios; each instruction must have been aborted once."""
        seen = set()
        for scenario in SCENARIOS[section.kind]:
            try:
                seen.update(self.scenario(section, *scenario))
            except (AssertionError, unicorn.UcError) as error:
                raise AssertionError("%s (%s) %s: %s" % (
                    section.names, section.kind, scenario, error)) from error
        missed = set(section.addresses()) - seen
        assert not missed, "never at %s" % sorted(map(hex, missed))


def check_bites(library, sections):
    """Damaged code must fail, or this test sees nothing."""
    push = next(s for s in sections if s.kind == "push")
    end = push.descriptor.end
    to_start = (push.descriptor.start - push.descriptor.abort) // 4 & 0x3FFFFFF
    for address, words, what in [
        (end - 8, (library.word(end - 4), library.word(end - 8)),
         "seen before the commit"),
        (push.descriptor.abort, (JUMP[1] | to_start,), "not armed"),
    ]:
        machine = Machine(library)
        machine.write(address, struct.pack("<%dI" % len(words), *words))
        try:
            machine.run(push)
        except AssertionError as error:
            assert what in str(error), error
        else:
            raise AssertionError("damaged code passed: " + what)


def main():
    library = Library(sys.argv[1])
    assert sorted(library.signatures()) == sorted(
        d.abort for d in library.descriptors), "a handler without a descriptor"
    sections = [Section(library, d) for d in library.descriptors]
    kinds = {s.kind for s in sections}
    assert kinds == set(SCENARIOS), kinds
    machine = Machine(library)
    for section in sections:
        machine.run(section)
    check_bites(library, sections)
    print("%d sections, %d instructions, %d aborts: each ended as exactly one "
          "operation" % (len(sections), sum(len(s.code) for s in sections),
                         machine.aborts))


if __name__ == "__main__":
    main()

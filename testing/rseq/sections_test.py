"""The machine code of a built library, without running it.

usage: sections_test.py LIBRARY

Method: section_rules.py and area_stores.py read the library and must find
nothing. Then a copy of it is broken in one byte or word in each of several
sections, as a mistake in the sources would, and each must be found: so the rules
are known to bite.
"""

import os
import struct
import sys
import tempfile
import unittest

import area_stores
import section_rules
from library import Library

LIBRARY = os.path.abspath(sys.argv[1])
# pop and push of malloc, free, new, delete ...; those of percpu_x86_64.S.
KINDS = {"pop", "push", "push_batch", "pop_batch", "grow", "shrink", "is_top"}
# These write the ids of an area that is not registered.
SETS_IDS = {
    "tcx_slab_init", "tcx_percpu_thread_enter", "tcx_percpu_thread_leave"
}


class Broken:
    """A copy of the library, to be broken in places."""

    def __init__(self, library):
        self.library = library
        self.bytes = bytearray(library.bytes)

    def put(self, address, data):
        at = self.library.offset(address)
        self.bytes[at : at + len(data)] = data

    def put_relocation(self, address, value):
        """A new value for the relocation at an address."""
        at = self.library.bytes.index(struct.pack("<QQ", address, 8))
        self.bytes[at + 16 : at + 24] = struct.pack("<Q", value)

    def read(self):
        """The copy as a Library."""
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(self.bytes)
            file.flush()
            return Library(file.name)


class SectionsTest(unittest.TestCase):
    def test_every_section_keeps_the_rules(self):
        sections, misses = section_rules.check(Library(LIBRARY))
        self.assertEqual(misses, [])
        self.assertEqual({s.kind for s in sections}, KINDS)
        print("%d sections in %s" % (len(sections), LIBRARY))


class BrokenSectionsTest(unittest.TestCase):
    """Each break is in a section of its own."""

    @classmethod
    def setUpClass(cls):
        library = Library(LIBRARY)
        sections = section_rules.check(library)[0]
        pops = [s for s in sections if s.kind == "pop"]
        cls.sections = {s.kind: s for s in sections}
        cls.sections.update(
            {"pop%d" % i: section for i, section in enumerate(pops[:4])})
        cls.broken = Broken(library)
        cls.break_all()
        cls.misses = section_rules.check(cls.broken.read())[1]

    @classmethod
    def break_all(cls):
        put, sections = cls.broken.put, cls.sections
        # A wrong signature: the kernel ends the process.
        put(sections["push"].descriptor.abort - 4, b"\x54")
        # The handler of another function.
        cls.broken.put_relocation(sections["pop0"].descriptor.address + 24,
                                  sections["grow"].descriptor.abort)
        # The handler within the section.
        one = sections["push_batch"].descriptor
        put(one.address + 16, struct.pack("<Q", one.abort + 2 - one.start))
        # A handler that goes to the start, and does not arm again.
        one = sections["pop1"].descriptor
        put(one.abort + 1, struct.pack("<b", one.start - (one.abort + 2)))
        # The commit outside of the section.
        one = sections["pop2"]
        put(one.descriptor.address + 16, struct.pack(
            "<Q", one.code[-1].address - one.descriptor.start))
        # A system call in the place of a test.
        one = next(i for i in sections["pop_batch"].code
                   if i.mnemonic == "test")
        put(one.address, b"\x0f\x05" + b"\x90" * (one.end - one.address - 2))
        # 16(area) in the place of 8(area).
        put(sections["shrink"].descriptor.start - 1, b"\x10")
        # Another version of the descriptor: the kernel ends the process.
        put(sections["is_top"].descriptor.address, b"\x01")
        # A commit to another word than top and end.
        put(sections["grow"].descriptor.end - 1, b"\x10")

    def check(self, section, *said):
        start = "section %x.." % self.sections[section].descriptor.start
        found = "\n".join(m for m in self.misses if m.startswith(start))
        for text in said:
            self.assertIn(text, found)

    def test_finds_a_wrong_signature(self):
        self.check("push", "no signature before the abort handler")

    def test_finds_a_handler_of_another_function(self):
        self.check("pop0", "with its handler, is in one function",
                   "with its handler, has one unwind range",
                   "does not jump to where the section is armed")

    def test_finds_a_handler_within_the_section(self):
        self.check("push_batch", "the abort handler lies in the section")

    def test_finds_a_handler_that_does_not_arm_again(self):
        self.check("pop1", "does not jump to where the section is armed")

    def test_finds_a_section_that_ends_before_its_commit(self):
        self.check("pop2", "is no commit")

    def test_finds_a_commit_to_another_word(self):
        self.check("grow", "is no commit")

    def test_finds_a_system_call_in_a_section(self):
        self.check("pop_batch", "`syscall` in it")

    def test_finds_a_section_that_nothing_arms(self):
        self.check("shrink", "is armed in 0 places")

    def test_finds_a_descriptor_that_is_none(self):
        abort = self.sections["is_top"].descriptor.abort
        self.assertIn("a signature at %x without a section" % (abort - 4),
                      self.misses)

    def test_finds_nothing_in_others(self):
        self.assertFalse([m for m in self.misses if m.startswith(
            "section %x.." % self.sections["pop3"].descriptor.start)])


class AreaStoresTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.library = Library(LIBRARY)
        cls.flow = area_stores.Flow(cls.library)
        cls.misses = cls.flow.run()

    def loads(self):
        """Loads of an area's field into 32 bits: opcode 8b, no prefix, as in
        tcx_rseq_of_libc."""
        found = []
        for i in self.library.code:
            memory = i.memory(i.operands[0]) if i.operands else None
            if i.mnemonic == "mov" and memory is not None and \
                    self.library.read(i.address, "<B") == 0x8B and \
                    self.flow.states[i.address].get(
                        memory.base) == area_stores.AREA:
                found.append(i)
        return found

    def test_no_store_to_an_area_but_to_rseq_cs(self):
        self.assertEqual(self.misses, [])
        armed = {d.start for d in self.library.descriptors}
        stores = {self.library.code[self.library.index[a]].end
                  for a in self.flow.stores}
        self.assertEqual(stores, armed)
        print("%d stores to areas, all to rseq_cs, in %d instructions" %
              (len(stores), len(self.library.code)))

    def test_own_areas_have_ids_from_us_while_not_registered(self):
        self.assertEqual(len(self.flow.own_offsets), 1)
        functions = area_stores.own_area_stores(
            self.library, self.flow.own_offsets)
        self.assertEqual(set(functions), SETS_IDS)

    def test_finds_other_stores(self):
        """A store in the place of each load; every second section arms with
        24(area) in the place of 8(area)."""
        broken = Broken(self.library)
        loads = [i.address for i in self.loads()]
        self.assertIn("tcx_rseq_of_libc", {
            n for a in loads for n in self.library.functions_of(a)})
        for address in loads:
            broken.put(address, b"\x89")
        arms = [d.start - 4 for d in self.library.descriptors[::2]]
        for address in arms:
            broken.put(address + 3, b"\x18")
        misses = area_stores.Flow(broken.read()).run()
        found = {int(m.split()[0], 16) for m in misses
                 if m.endswith("stores to an area")}
        self.assertEqual(found, set(loads + arms))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

"""What the kernel and unwinders ask of a restartable section, and R1 to R3 of
frontend/percpu_fast.h, read off the machine code of a built library.

Sections are found three ways, which must agree: by the shape of the descriptor
in .data.rel.ro, by the code that stores a descriptor's address into an area, and
by the signature in .text. So none is overlooked because one of its marks is
wrong.
"""

import collections
import re

from library import SIGNATURE

# Section: how it starts. `header` is the register of the class's header.
Section = collections.namedtuple(
    "Section", "descriptor arm area code header kind"
)

_LEAVES = re.compile(r"(call|ret|sys|int|iret|hlt|ud|rep|xbegin)")


def _same_register(one, other):
    return one is not None and one == other


def arming(library, n):
    """(descriptor's address, area's register) if instructions n, n + 1 arm."""
    lea, store = library.code[n : n + 2]
    if lea.mnemonic != "lea" or lea.refers is None or store.mnemonic != "mov":
        return None
    memory = store.stored()
    if memory is None or memory.disp != 8 or memory.index or memory.segment:
        return None
    if not _same_register(lea.register(-1), store.register(0)):
        return None
    return lea.refers, memory.base


def _kind(library, descriptor, code):
    """pop, push (inline), or the function of percpu_x86_64.S."""
    for name in library.functions_of(descriptor.start):
        if name.startswith("tcx_percpu_"):
            return name[len("tcx_percpu_") :]
    if any(i.mnemonic == "test" and i.operands[0] == "$0x1" for i in code):
        return "pop"
    return "push"


def sections(library, misses):
    """All sections; what is wrong with how they are found goes to `misses`."""
    armed = {}
    for n in range(len(library.code) - 1):
        found = arming(library, n)
        if found and library.code[n + 1].end in {
            d.start for d in library.descriptors
        }:
            armed.setdefault(found[0], []).append((n, found[1]))
    result = []
    for descriptor in library.descriptors:
        arms = armed.pop(descriptor.address, [])
        if len(arms) != 1:
            misses.append("%s is armed in %d places" % (descriptor, len(arms)))
            continue
        n, area = arms[0]
        code = library.between(descriptor.start, descriptor.end)
        # The first addition after the load of the base makes the header's
        # address.
        header = next(
            (i.register(-1) for i in code
             if i.mnemonic == "add" and i.register(-1) and i.register(0)), None)
        result.append(
            Section(descriptor, library.code[n].address, area, code, header,
                    _kind(library, descriptor, code)))
    for address in armed:
        misses.append("%x is armed, and is no descriptor" % address)
    _signatures(library, misses)
    return result


def _signatures(library, misses):
    """Each signature is before a handler, or an argument of the rseq call."""
    handlers = {d.abort for d in library.descriptors}
    arguments = {
        i.end for i in library.code
        if i.mnemonic == "mov" and i.operands[0] == "$%#x" % SIGNATURE
    }
    for address in library.signatures():
        if address not in handlers | arguments:
            misses.append("a signature at %x without a section" % (address - 4))


def _check_abort(library, section, say):
    descriptor = section.descriptor
    if library.read(descriptor.abort - 4, "<I") != SIGNATURE:
        say("no signature before the abort handler")
    if descriptor.start <= descriptor.abort < descriptor.end:
        say("the abort handler lies in the section")
    if library.jump_at(descriptor.abort) != section.arm:
        say("the abort handler does not jump to where the section is armed")


def _check_symbol(library, section, say):
    descriptor = section.descriptor
    places = (section.arm, descriptor.end - 1, descriptor.abort - 4,
              descriptor.abort)
    functions = [library.functions_of(a) for a in places]
    if not set.intersection(*functions):
        say("not all of it, with its handler, is in one function")
    frames = {library.frame_of(a) for a in places}
    if len(frames) != 1 or None in frames:
        say("not all of it, with its handler, has one unwind range")


def _check_code(library, section, say):
    """No way out but jumps and the end; no way in but the start."""
    descriptor, code = section.descriptor, section.code
    if not code or code[0].address != descriptor.start or \
            code[-1].end != descriptor.end:
        say("its ends are not those of instructions")
        return
    for i in code:
        if _LEAVES.match(i.mnemonic) or i.jumps() and i.target() is None:
            say("`%s` in it" % i.text)
    inside = {i.address for i in code}
    for i in library.code:
        if i.target() in inside and i.address not in inside:
            say("%x jumps into it" % i.address)


def _check_stores(section, say):
    """R2: the commit is last, and alone stores to the header."""
    stores = [i for i in section.code if i.stored()]
    for i in stores:
        memory = i.stored()
        if memory.base == section.area or memory.index == section.area:
            say("`%s` stores to the area" % i.text)
    if section.kind == "is_top":
        if stores:
            say("it stores, and is there to look")
        return
    last = section.code[-1]
    memory = last.stored()
    if memory is None or last.mnemonic != "mov" or \
            memory.base != section.header or memory.index or \
            memory.disp not in (0, 8):
        say("its last instruction `%s` is no commit" % last.text)
    for i in stores[:-1]:
        if section.header in (i.stored().base, i.stored().index):
            say("`%s` stores to the header before the commit" % i.text)


def check(library):
    """Returns (sections, what is wrong)."""
    misses = []
    found = sections(library, misses)
    for section in found:
        def say(text, where=section):
            misses.append("%s (%s): %s" % (where.descriptor, where.kind, text))

        _check_abort(library, section, say)
        _check_symbol(library, section, say)
        _check_code(library, section, say)
        if section.code:
            _check_stores(section, say)
    return found, misses

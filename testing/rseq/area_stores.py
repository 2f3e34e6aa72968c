"""Proof that a built library stores to an rseq area in rseq_cs alone.

Where does the address of an area come from? From tcx_thread.area, which lies in
TLS; from the thread pointer plus __rseq_offset; from the static area
tcx_rseq_nowhere; and from the area within a thread's slab (`lea`, or an addition,
of its offset, which is learnt from what is stored to tcx_thread.area). Nothing
else: check() sees to it that such an address is kept in registers, on the stack
and in tcx_thread.area alone.

From there each value is followed through the machine code of the whole library,
an abstract interpretation: for each instruction, which registers may hold an
area's address when it is reached. Jumps, calls and tail calls carry it into
functions, returns out of them. Arithmetic on an address stays one. A register
that holds an unknown thing counts as an address where that may be one.

Then of every instruction that stores, and whose operand's base or index may be
an area's address, it must be `mov %r, 8(%area)` with the address of a descriptor
in %r. Or the address itself is stored: to the stack or to tcx_thread.area. What
is taken on trust: no call through a pointer passes an area (no table of functions
of tcx has such a parameter), and libc does not write to one behind the kernel.

tcx writes the ids of a slab's own area while the kernel does not know it. Stores
at these offsets from a slab are looked for by their displacement, and must be in
the functions that do so.
"""

from library import DESCRIPTOR_BYTES, REGISTERS
from section_rules import arming

AREA = "area"
THREAD = "thread pointer"  # %fs:0
AREA_BYTES = 32
AREA_OFFSET = 16  # of tcx_thread.area in tcx_thread

ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
LOST_BY_CALLS = ARGUMENTS + ("rax", "r10", "r11")
_NEVER_FALLS_THROUGH = ("jmp", "ret", "ud2", "hlt")


class Flow:
    """What each register may hold: AREA, THREAD, ("tls", offset),
    ("thread", offset) for the address of a field of our TLS, or nothing."""

    def __init__(self, library):
        self.library = library
        self.states = {}  # address -> {register: value}
        self.work = []
        self.misses = set()
        self.stores = set()  # the addresses of stores to areas that are right
        self.spilling = set()  # functions that keep an area on the stack
        self.returning = set()  # functions that return one
        self.callers = {}  # function -> addresses behind calls of it
        self.functions = {
            i.address: start
            for start, end, _ in reversed(library.functions)
            for i in library.between(start, end)
        }
        self.own_offsets = self._own_offsets()
        self.nowhere = library.symbols["tcx_rseq_nowhere"]

    # -- where areas come from ------------------------------------------------

    def area_stores(self):
        """(instruction, register) where tcx_thread.area is stored."""
        for i in self.library.code:
            memory = i.stored()
            if memory and memory.segment == "fs" and memory.base and \
                    memory.disp == AREA_OFFSET and i.register(0):
                yield i, i.register(0)

    def _own_offsets(self):
        """The offsets in a slab of what is stored to tcx_thread.area."""
        kept = {(self.function(i.address), r) for i, r in self.area_stores()}
        offsets = set()
        for i in self.library.code:
            if i.mnemonic == "lea" and i.refers is None and \
                    (self.function(i.address), i.register(-1)) in kept:
                memory = i.memory(i.operands[0])
                if memory.base not in ("rsp", "rbp") and not memory.index:
                    offsets.add(memory.disp)
        return offsets

    def _is_own(self, disp):
        return disp in self.own_offsets

    def load(self, i, memory, state, function):
        """What a load of 64 bits yields."""
        if memory.segment == "fs":
            if memory.base is None:
                return THREAD if memory.disp == 0 else None
            known = state.get(memory.base)
            if isinstance(known, tuple) and known[0] == "tls":
                at = known[1] + memory.disp
                return AREA if at == AREA_OFFSET else None
            # An offset from elsewhere: that of the area is the only one that
            # pairs with tcx_thread.area.
            return AREA if memory.disp == AREA_OFFSET else None
        if memory.base == "rip" and i.refers in self.library.tls:
            return ("tls", self.library.tls[i.refers])
        known = state.get(memory.base)
        if isinstance(known, tuple) and known[0] == "thread":
            return AREA if known[1] + memory.disp == AREA_OFFSET else None
        if memory.base in ("rsp", "rbp") and function in self.spilling:
            return AREA
        return None

    def address(self, i, memory, state):
        """What `lea` yields."""
        values = [state.get(memory.base), state.get(memory.index)]
        if memory.base == "rip":
            inside = i.refers is not None and \
                0 <= i.refers - self.nowhere < AREA_BYTES
            return AREA if inside else None
        if AREA in values or THREAD in values or self._is_own(memory.disp):
            return AREA
        for value in values:
            if isinstance(value, tuple):
                return (value[0], value[1] + memory.disp)
        return None

    def add(self, i, state, register, function):
        """What `add`, `sub` and the like leave in the register."""
        mine = state.get(register)
        source = i.operands[0]
        if source.startswith("$"):
            change = int(source[1:], 16)
            if i.mnemonic == "add" and self._is_own(change):
                return AREA
            if isinstance(mine, tuple) and i.mnemonic == "add":
                return (mine[0], mine[1] + change)
            return mine
        memory = i.memory(source)
        other = self.load(i, memory, state, function) if memory else \
            state.get(i.register(0))
        if i.mnemonic == "sub" and other == THREAD:
            return None
        if other == THREAD or mine == THREAD:
            known = mine if other == THREAD else other
            if isinstance(known, tuple) and known[0] == "tls":
                return ("thread", known[1])
            return AREA  # The thread pointer and __rseq_offset.
        return AREA if AREA in (mine, other) else None

    # -- one instruction ------------------------------------------------------

    def step(self, i, state, function):
        """Changes the state as the instruction does."""
        last = i.register(-1)
        if i.mnemonic.startswith("call"):
            target = i.target()
            returns = target is not None and target in self.returning
            for register in LOST_BY_CALLS:
                state.pop(register, None)
            if returns:
                state["rax"] = AREA
            return
        if last is None or i.mnemonic.startswith(("cmp", "test", "push", "j")):
            return
        if i.mnemonic == "pop" or len(i.operands) == 1:
            value = None if i.mnemonic == "pop" or \
                i.mnemonic.startswith("set") else state.get(last)
        elif i.mnemonic in ("mov", "movabs"):
            memory = i.memory(i.operands[0])
            whole = i.operands[-1][1:] in REGISTERS
            value = None
            if memory:
                value = self.load(i, memory, state, function)
            elif not i.operands[0].startswith("$"):
                value = state.get(i.register(0))
            if not whole:
                value = None
        elif i.mnemonic == "lea":
            value = self.address(i, i.memory(i.operands[0]), state)
        elif i.mnemonic.startswith(("movz", "movs")):
            value = None  # Narrower than an address.
        elif i.mnemonic.startswith("cmov"):
            memory = i.memory(i.operands[0])
            other = self.load(i, memory, state, function) if memory else \
                state.get(i.register(0))
            value = AREA if AREA in (other, state.get(last)) else \
                other or state.get(last)
        elif i.mnemonic == "xor" and i.operands[0] == i.operands[1]:
            value = None
        else:
            value = self.add(i, state, last, function)
        if value is None:
            state.pop(last, None)
        else:
            state[last] = value

    def check_store(self, n, i, state, function):
        """A store through an area's address, or of one."""
        memory = i.stored()
        pushed = i.mnemonic == "push" and state.get(i.register(0)) == AREA
        if i.mnemonic.startswith(("stos", "movs")) and \
                i.operands and "%es:" in i.operands[-1]:
            if state.get("rdi") == AREA:
                self.miss(i, "stores to an area")
            return
        if pushed:
            self.spill(function)
        if i.operands and i.operands[-1].startswith("%xmm") and (
                state.get(i.register(0)) == AREA or "%fs:" in i.operands[0]):
            self.miss(i, "moves an area's address out of sight")
        if memory is None:
            return
        through = [state.get(r) for r in (memory.base, memory.index)]
        if AREA in through or THREAD in through:
            found = arming(self.library, n - 1)
            if found and found[0] in self.descriptors:
                self.stores.add(i.address)
            else:
                self.miss(i, "stores to an area")
        if i.mnemonic.startswith(("xchg", "cmpxchg", "mov", "xadd")) and \
                i.register(0) and state.get(i.register(0)) == AREA and \
                i.operands[0][1:] in REGISTERS:
            self.check_kept(i, memory, state, function)

    def check_kept(self, i, memory, state, function):
        """The address of an area is stored."""
        if memory.base in ("rsp", "rbp"):
            self.spill(function)
        elif memory.segment == "fs":
            known = state.get(memory.base)
            if not isinstance(known, tuple) or \
                    known[1] + memory.disp != AREA_OFFSET:
                self.miss(i, "keeps an area's address")
        else:
            self.miss(i, "keeps an area's address")

    def spill(self, function):
        if function not in self.spilling:
            self.spilling.add(function)
            self.work.extend(
                a for a in self.states if self.function(a) == function)

    def miss(self, i, what):
        self.misses.add("%x `%s` in %s %s" % (
            i.address, i.text, "/".join(
                sorted(self.library.functions_of(i.address))), what))

    # -- the whole library ----------------------------------------------------

    def function(self, address):
        """Where the function with the address starts."""
        return self.functions.get(address)

    def reach(self, address, state):
        """The instruction may be reached with these registers."""
        if address not in self.library.index:
            return
        known = self.states.get(address)
        if known is None:
            self.states[address] = dict(state)
        else:
            merged = dict(known)
            for register, value in state.items():
                if merged.setdefault(register, value) != value:
                    merged[register] = AREA
            if merged == known:
                return
            self.states[address] = merged
        self.work.append(address)

    def leave(self, i, state, function):
        """Where it may go on from here, and with what."""
        target = i.target()
        if i.mnemonic.startswith("call") and target is not None:
            self.callers.setdefault(target, set()).add(i.address)
        if target is not None:
            arguments = {r: v for r, v in state.items() if r in ARGUMENTS}
            inner = self.function(target) == function and \
                not i.mnemonic.startswith("call")
            self.reach(target, state if inner else arguments)
            if not inner and i.jumps() and target in self.returning:
                self.returns(function)  # A tail call.
            if not inner and i.jumps():
                self.callers.setdefault(target, set()).add(i.address)
        if i.mnemonic == "ret" and state.get("rax") == AREA:
            self.returns(function)

    def returns(self, function):
        if function is not None and function not in self.returning:
            self.returning.add(function)
            self.work.extend(self.callers.get(function, ()))

    def run(self):
        """Follows all values until nothing changes; returns what is wrong."""
        self.descriptors = {d.address for d in self.library.descriptors}
        # Every instruction may be reached, with nothing: of jumps by a table
        # the targets are not known.
        for address in self.library.addresses:
            self.states[address] = {}
        self.work = list(reversed(self.library.addresses))
        while self.work:
            address = self.work.pop()
            n = self.library.index[address]
            i = self.library.code[n]
            state = dict(self.states[address])
            function = self.function(address)
            self.check_store(n, i, state, function)
            self.leave(i, state, function)
            self.step(i, state, function)
            if i.mnemonic not in _NEVER_FALLS_THROUGH:
                self.reach(i.end, state)
        for i, register in self.area_stores():
            if self.states[i.address].get(register) != AREA:
                self.miss(i, "stores what is no area to tcx_thread.area")
        return sorted(self.misses)


def own_area_stores(library, offsets):
    """Functions that store to the own area of a slab, but for rseq_cs."""
    found = {}
    for i in library.code:
        memory = i.stored()
        if memory is None or memory.base in (None, "rip", "rsp", "rbp"):
            continue
        for offset in offsets:
            at = memory.disp - offset
            if 0 <= at < DESCRIPTOR_BYTES and at != 8:
                for name in library.functions_of(i.address):
                    found.setdefault(name, []).append(i.text)
    return found

"""A built library as the tests of this folder read it.

Its instructions (objdump), its functions, relocations, unwind ranges (readelf),
its bytes, and the descriptors of its restartable sections.
"""

import bisect
import re
import struct
import subprocess

SIGNATURE = 0x53053053
DESCRIPTOR_BYTES = 32
SECTION_BYTES_MAX = 4096

# `name` of 64 bits -> all names of the register.
REGISTERS = {
    "r" + n: ("r" + n, "e" + n, n, n[0] + "l", n[0] + "h")
    for n in ("ax", "bx", "cx", "dx")
}
REGISTERS.update(
    {"r" + n: ("r" + n, "e" + n, n, n + "l") for n in ("si", "di", "bp", "sp")}
)
REGISTERS.update(
    {n: (n, n + "d", n + "w", n + "b") for n in map("r{}".format, range(8, 16))}
)
WHOLE = {part: whole for whole, parts in REGISTERS.items() for part in parts}

# Last operand in memory, but not written.
_READERS = re.compile(
    r"(cmp[bwlq]?|test[bwlq]?|nop[wl]?|prefetch\w*|push[q]?|call[q]?|jmp[q]?|"
    r"i?mul[bwlq]?|i?div[bwlq]?|bt[wlq]?|ud\d|u?comis[sd])$"
)
_PREFIX = re.compile(r"(addr32|data16|cs|ds|notrack|bnd|lock|repz?|repnz|rex\S*)$")
_MEMORY = re.compile(
    r"(?:%(?P<segment>\w\w):)?(?P<disp>-?0x[0-9a-f]+)?"
    r"(?:\((?:%(?P<base>\w+))?(?:,%(?P<index>\w+),(?P<scale>\d))?\))?$"
)


class Memory:
    """An operand in memory; registers by their 64-bit names."""

    def __init__(self, match):
        self.segment = match["segment"]
        self.disp = int(match["disp"] or "0", 16)
        self.base = WHOLE.get(match["base"], match["base"])
        self.index = WHOLE.get(match["index"], match["index"])


class Instruction:
    """One instruction in AT&T order: the destination is the last operand."""

    def __init__(self, address, text):
        self.address = address
        self.end = address
        code, _, comment = text.partition("#")
        words = code.split()
        while len(words) > 1 and _PREFIX.match(words[0]):
            words.pop(0)
        self.mnemonic = words[0]
        rest = re.sub(r"<[^>]*>", "", " ".join(words[1:])).strip()
        self.operands = re.split(r",(?![^(]*\))", rest) if rest else []
        named = re.match(r"\s*([0-9a-f]+)", comment)
        self.refers = int(named[1], 16) if named else None
        self.text = " ".join(code.split())

    def memory(self, operand):
        """The operand as Memory, or None."""
        if operand[:1] in ("$", "*") or re.fullmatch(r"%\w+", operand):
            return None
        if self.jumps() or self.mnemonic.startswith("call"):
            return None
        match = _MEMORY.match(operand)
        return Memory(match) if match else None

    def stored(self):
        """The Memory that it writes, or None."""
        if not self.operands or _READERS.match(self.mnemonic):
            return None
        if self.mnemonic.startswith("lea"):
            return None
        return self.memory(self.operands[-1])

    def jumps(self):
        return self.mnemonic.startswith("j")

    def target(self):
        """Where a direct jump or call goes, or None."""
        if self.operands and (self.jumps() or self.mnemonic == "call"):
            if re.fullmatch(r"[0-9a-f]+", self.operands[0]):
                return int(self.operands[0], 16)
        return None

    def register(self, i):
        """The 64-bit name of an operand that is a register, or None."""
        operand = self.operands[i] if len(self.operands) > 0 else ""
        return WHOLE.get(operand[1:]) if operand.startswith("%") else None


class Descriptor:
    """A descriptor of a restartable section."""

    def __init__(self, address, start, length, abort):
        self.address = address
        self.start = start
        self.end = start + length
        self.abort = abort

    def __repr__(self):
        return "section %x..%x" % (self.start, self.end)


def _run(*command):
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout


class Library:
    """Reads all that the tests ask."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        self.path = path
        self._headers(_run("readelf", "-SW", path))
        self._relocations(_run("readelf", "-rW", path))
        self._symbols(_run("readelf", "-sW", path))
        self._frames(_run("readelf", "-W", "--debug-dump=frames", path))
        self._code(_run("objdump", "-dw", "--no-show-raw-insn", path))
        self.descriptors = self._descriptors()

    def _headers(self, text):
        self.sections = {}  # name -> (address, offset, size)
        for name, address, offset, size in re.findall(
            r"\] (\S+) +\S+ +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) ", text
        ):
            self.sections[name] = tuple(
                int(n, 16) for n in (address, offset, size)
            )

    def _relocations(self, text):
        self.relative = {}  # address -> value
        self.tls = {}  # address of a GOT entry -> offset in our TLS
        self.relocation_offsets = {}
        for address, kind, rest in re.findall(
            r"^([0-9a-f]+) +[0-9a-f]+ (R_X86_64_\w+) +(.*)$", text, re.M
        ):
            if kind == "R_X86_64_RELATIVE":
                self.relative[int(address, 16)] = int(rest, 16)
            elif kind == "R_X86_64_TPOFF64":
                self.tls[int(address, 16)] = int(rest.split()[-1], 16)

    def _symbols(self, text):
        self.functions = []  # (start, end, name), sorted
        self.symbols = {}
        for value, size, kind, name in re.findall(
            r": ([0-9a-f]{16}) +(\d+) (FUNC|OBJECT|TLS) .* (\S+)$", text, re.M
        ):
            start = int(value, 16)
            self.symbols[name.split("@")[0]] = start
            if kind == "FUNC" and int(size) > 0:
                self.functions.append((start, start + int(size), name))
        self.functions = sorted(set(self.functions))

    def _frames(self, text):
        self.frames = sorted(
            (int(start, 16), int(end, 16))
            for start, end in re.findall(
                r" FDE .* pc=([0-9a-f]+)\.\.([0-9a-f]+)", text
            )
        )

    def _code(self, text):
        self.code = [
            Instruction(int(address, 16), rest)
            for address, rest in re.findall(
                r"^ +([0-9a-f]+):\t(.+)$", text, re.M
            )
        ]
        for one, following in zip(self.code, self.code[1:]):
            one.end = following.address
        self.addresses = [i.address for i in self.code]
        self.index = {a: n for n, a in enumerate(self.addresses)}

    def between(self, start, end):
        """The instructions of [start, end)."""
        first = bisect.bisect_left(self.addresses, start)
        last = bisect.bisect_left(self.addresses, end)
        return self.code[first:last]

    def offset(self, address):
        """Where in the file the byte of an address lies."""
        for start, offset, size in self.sections.values():
            if start <= address < start + size and start != 0:
                return address - start + offset
        raise ValueError("no section has %x" % address)

    def read(self, address, layout):
        return struct.unpack_from(layout, self.bytes, self.offset(address))[0]

    def is_code(self, address):
        start, _, size = self.sections[".text"]
        return start <= address < start + size

    def functions_of(self, address):
        """The names of the functions whose symbols cover the address."""
        return {n for s, e, n in self.functions if s <= address < e}

    def frame_of(self, address):
        """The range that the unwind table describes as one, or None."""
        n = bisect.bisect_right(self.frames, (address, 1 << 64)) - 1
        if n >= 0 and address < self.frames[n][1]:
            return self.frames[n]
        return None

    def _descriptors(self):
        """By their shape alone: {0, code, small number, code}, aligned."""
        found = []
        start, _, size = self.sections[".data.rel.ro"]
        for at in range(-(-start // 32) * 32, start + size - 31, 32):
            begin = self.relative.get(at + 8)
            abort = self.relative.get(at + 24)
            if begin is None or abort is None:
                continue
            if at in self.relative or at + 16 in self.relative:
                continue
            length = self.read(at + 16, "<Q")
            if self.is_code(begin) and self.is_code(abort):
                if self.read(at, "<Q") == 0 and 0 < length < SECTION_BYTES_MAX:
                    found.append(Descriptor(at, begin, length, abort))
        return found

    def signatures(self):
        """Addresses behind each place of .text with the signature."""
        start, offset, size = self.sections[".text"]
        text = self.bytes[offset : offset + size]
        word = struct.pack("<I", SIGNATURE)
        return [start + m.end() for m in re.finditer(re.escape(word), text)]

    def jump_at(self, address):
        """Where the `jmp` at an address goes, decoded from its bytes."""
        opcode = self.read(address, "<B")
        if opcode == 0xEB:
            return address + 2 + self.read(address + 1, "<b")
        if opcode == 0xE9:
            return address + 5 + self.read(address + 1, "<i")
        return None

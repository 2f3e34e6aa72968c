"""A shared library for arm64: its bytes in memory, functions, and the
descriptors of its restartable sections."""

import re
import struct
import subprocess

SIGNATURE = 0xD428BC00
RELATIVE = 1027  # R_AARCH64_RELATIVE
LOAD = 1


class Descriptor:
    def __init__(self, address, start, length, abort):
        self.address = address
        self.start = start
        self.end = start + length
        self.abort = abort


class Library:
    """As it lies in memory at address 0."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        assert data[:5] == b"\x7fELF\x02" and data[18] == 183, "not for arm64"
        self._load(data)
        self._sections(data)
        self._symbols(data)
        frames = subprocess.run(
            ["readelf", "-W", "--debug-dump=frames", path],
            check=True, capture_output=True, text=True).stdout
        self.frames = [
            (int(start, 16), int(end, 16)) for start, end in re.findall(
                r" FDE .* pc=([0-9a-f]+)\.\.([0-9a-f]+)", frames)]
        self.descriptors = self._descriptors()

    def _load(self, data):
        offset, = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        segments = [struct.unpack_from("<IIQQQQQQ", data, offset + size * i)
                    for i in range(count)]
        segments = [s for s in segments if s[0] == LOAD]
        self.memory = bytearray(max(s[3] + s[6] for s in segments))
        for _, _, at, address, _, file_bytes, _, _ in segments:
            self.memory[address:address + file_bytes] = \
                data[at:at + file_bytes]

    def _sections(self, data):
        offset, = struct.unpack_from("<Q", data, 40)
        size, count, names = struct.unpack_from("<HHH", data, 58)
        headers = [struct.unpack_from("<IIQQQQ", data, offset + size * i)
                   for i in range(count)]
        text = headers[names][4]
        self.sections = {}  # name -> (address, offset, bytes)
        for name, _, _, address, at, length in headers:
            end = data.index(b"\0", text + name)
            self.sections[data[text + name:end].decode()] = (
                address, at, length)
        self.relative = set()  # addresses
        _, at, length = self.sections[".rela.dyn"]
        for entry in range(at, at + length, 24):
            address, kind, value = struct.unpack_from("<QQQ", data, entry)
            if kind == RELATIVE:
                self.relative.add(address)
                struct.pack_into("<Q", self.memory, address, value)

    def _symbols(self, data):
        self.symbols = {}  # name -> (address, bytes)
        _, text, _ = self.sections[".strtab"]
        _, at, length = self.sections[".symtab"]
        for entry in range(at, at + length, 24):
            name, _, _, _, value, size = struct.unpack_from(
                "<IBBHQQ", data, entry)
            end = data.index(b"\0", text + name)
            self.symbols[data[text + name:end].decode()] = (value, size)

    def word(self, address):
        """One instruction."""
        return struct.unpack_from("<I", self.memory, address)[0]

    def is_code(self, address):
        start, _, size = self.sections[".text"]
        return start <= address < start + size and address % 4 == 0

    def functions_of(self, address):
        return {name for name, (start, size) in self.symbols.items()
                if start <= address < start + size}

    def frame_of(self, address):
        """The range that the unwind table describes as one, or None."""
        return next((f for f in self.frames if f[0] <= address < f[1]), None)

    def _descriptors(self):
        """By their shape alone: {0, code, small number, code}, aligned."""
        found = []
        first, _, size = self.sections[".data.rel.ro"]
        for at in range(-(-first // 32) * 32, first + size - 31, 32):
            version, start, length, abort = struct.unpack_from(
                "<QQQQ", self.memory, at)
            pointers = {at, at + 8, at + 16, at + 24} & self.relative
            if version == 0 and pointers == {at + 8, at + 24}:
                if self.is_code(start) and self.is_code(abort):
                    if 0 < length < 4096 and length % 4 == 0:
                        found.append(Descriptor(at, start, length, abort))
        return found

    def signatures(self):
        """Addresses behind each word of .text that is the signature."""
        start, _, size = self.sections[".text"]
        return [a + 4 for a in range(start, start + size, 4)
                if self.word(a) == SIGNATURE]

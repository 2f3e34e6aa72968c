"""A process under ptrace: registers, memory, breakpoints. x86-64."""

import ctypes
import os
import signal
import struct

_TRACEME, _CONT, _SINGLESTEP, _GETREGS, _SETREGS = 0, 7, 9, 12, 13
_SETOPTIONS, _EXITKILL = 0x4200, 0x00100000
NAMES = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs "
    "eflags rsp ss fs_base gs_base ds es fs gs"
).split()
_LAYOUT = struct.Struct("<%dQ" % len(NAMES))
_INT3 = b"\xcc"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                         ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Refused(Exception):
    """The system does not let us trace a child."""


class Ended(Exception):
    """The process ended; its wait status."""


def _ptrace(request, pid, data=None):
    if _libc.ptrace(request, pid, None, data) == -1:
        raise OSError(ctypes.get_errno(), "ptrace request %d" % request)


class Process:
    """Runs argv from its start; at an exec it stops once."""

    def __init__(self, argv, environment):
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _ptrace(_TRACEME, 0)
                os.execve(argv[0], argv, environment)
            finally:
                os._exit(99)
        try:
            self.wait()
        except Ended as ended:
            raise Refused from ended
        _ptrace(_SETOPTIONS, self.pid, _EXITKILL)
        self.memory = os.open("/proc/%d/mem" % self.pid, os.O_RDWR)

    def wait(self):
        """The signal that it stopped by."""
        _, status = os.waitpid(self.pid, 0)
        if not os.WIFSTOPPED(status):
            raise Ended(status)
        return os.WSTOPSIG(status)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.memory)

    def registers(self):
        buffer = ctypes.create_string_buffer(_LAYOUT.size)
        _ptrace(_GETREGS, self.pid, buffer)
        return dict(zip(NAMES, _LAYOUT.unpack(buffer.raw)))

    def set_registers(self, registers):
        raw = _LAYOUT.pack(*(registers[n] for n in NAMES))
        buffer = ctypes.create_string_buffer(raw, _LAYOUT.size)
        _ptrace(_SETREGS, self.pid, buffer)

    def read(self, address, size):
        return os.pread(self.memory, size, address)

    def write(self, address, data):
        if os.pwrite(self.memory, data, address) != len(data):
            raise OSError("cannot write at %x" % address)

    def word(self, address):
        return struct.unpack("<Q", self.read(address, 8))[0]

    def step(self):
        """One instruction."""
        _ptrace(_SINGLESTEP, self.pid)
        number = self.wait()
        if number != signal.SIGTRAP:
            raise AssertionError("stepped into signal %d" % number)

    def run_to(self, address, number=0):
        """With a signal, runs until the instruction at the address is next."""
        code = self.read(address, 1)
        self.write(address, _INT3)
        _ptrace(_CONT, self.pid, number)
        stop = self.wait()
        self.write(address, code)
        registers = self.registers()
        if stop != signal.SIGTRAP or registers["rip"] != address + 1:
            raise AssertionError("stopped by %d at %x, not at %x" % (
                stop, registers["rip"], address))
        registers["rip"] = address
        self.set_registers(registers)
        return registers

    def run(self):
        """Until it stops; the signal."""
        _ptrace(_CONT, self.pid)
        return self.wait()

    def bias(self, path):
        """What to add to the addresses of a library's file."""
        with open("/proc/%d/maps" % self.pid, encoding="utf-8") as maps:
            for line in maps:
                fields = line.split()
                if fields[-1] == os.path.realpath(path):
                    return int(line.split("-")[0], 16) - int(fields[2], 16)
        raise AssertionError("%s is not loaded" % path)

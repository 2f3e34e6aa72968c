"""watch.py -- runs a program in a cgroup of its own and samples its memory.

PLACE IN THE SYSTEM
  over_time.py and one_figure.py start every program through `watched`. The
  programs (common.h) print "mark NAME" and wait; the memory is read at that
  moment, then they may go on. Between marks it is sampled at an interval.

WHAT IT DECIDES
  The charge is what the kernel counts against a container: memory of a cgroup
  made for the run, in v1 or v2, as root. It is made at the top of the
  hierarchy (in v2 a cgroup with processes of its own cannot have others
  below). Where none can be made there is no charge, and the tables say so.

INVARIANTS
  I1  However a run ends, its process is ended and its cgroup removed.
"""

import errno
import mmap
import os
import select
import signal
import subprocess
import time

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20


def read_text(path):
    with open(path) as f:
        return f.read()


def write_text(path, text):
    with open(path, "w") as f:
        f.write(text)


def touch_huge_pages(mib):
    """Makes the huge pages that the next program gets warm.

    A host takes free huge pages of its guest back within seconds, small ones
    not (mm/page_reporting.c). To touch one then costs 1.4 to 6 ms instead of
    0.1: the host's work, which only allocators that use huge pages would pay.
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, mib * MIB, flags=private) as memory:
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            return  # A kernel without them.
        for at in range(0, mib * MIB, 2 * MIB):
            memory[at] = 1


def memory_hierarchies():
    """[(mount point, version)] of what may have a memory controller."""
    result = []
    for line in read_text("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        if kind == "cgroup" and "memory" in options.split(","):
            result.append((left.split()[4], 1))
        elif kind == "cgroup2":
            result.append((left.split()[4], 2))
    return result


class Group:
    """One cgroup; None of its methods but the constructor may fail softly."""

    FILES = {1: ("memory.usage_in_bytes", "memory.limit_in_bytes",
                 "memory.oom_control"),
             2: ("memory.current", "memory.max", "memory.events")}

    def __init__(self, top, version):
        self.path = os.path.join(top, "tcx-benchmark-%d" % os.getpid())
        self.usage, self.limit, self.events = self.FILES[version]
        self.version = version
        os.mkdir(self.path)
        if not os.path.exists(os.path.join(self.path, self.usage)):
            self.remove()
            raise OSError(errno.ENOTSUP, "no memory controller", self.path)

    def file(self, name):
        return os.path.join(self.path, name)

    def enter(self):
        write_text(self.file("cgroup.procs"), "0")

    def charge_bytes(self):
        return int(read_text(self.file(self.usage)))

    def set_limit(self, limit_bytes):
        write_text(self.file(self.limit), str(limit_bytes))
        if self.version == 2:
            write_text(self.file("memory.swap.max"), "0")

    def kills(self):
        for line in read_text(self.file(self.events)).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def remove(self):
        for _ in range(100):  # The last process may still be on its way out.
            try:
                os.rmdir(self.path)
                return
            except OSError as e:
                if e.errno != errno.EBUSY:
                    raise
                time.sleep(0.05)
        raise OSError(errno.EBUSY, "cannot remove", self.path)


def make_group():
    """A Group, or None where this machine or user cannot have one."""
    for top, version in memory_hierarchies():
        try:
            return Group(top, version)
        except OSError:
            continue
    return None


class Sample:
    """Memory at one moment, in MiB; charge and huge may be None."""

    def __init__(self, pid, group, seconds, detailed):
        self.seconds = seconds
        self.charge = group and group.charge_bytes() / MIB
        self.huge = None
        if detailed:
            fields = {}
            for line in read_text("/proc/%d/smaps_rollup" % pid).splitlines():
                words = line.split()
                if words[-1] == "kB":
                    fields[words[0]] = int(words[1]) / 1024
            self.rss, self.huge = fields["Rss:"], fields["AnonHugePages:"]
        else:
            pages = int(read_text("/proc/%d/statm" % pid).split()[1])
            self.rss = pages * PAGE_BYTES / MIB

    def held(self):
        """What the container pays; the resident size where nobody tells."""
        return self.rss if self.charge is None else self.charge

    def text(self):
        if self.charge is None:
            return "- / %.0f" % self.rss
        return "%.0f / %.0f" % (self.charge, self.rss)


class Run:
    """What a watched program did: samples, marks, figures, how it ended."""

    def __init__(self):
        self.samples = []
        self.marks = []  # (name, Sample)
        self.figures = {}
        self.status = None
        self.killed = False  # by the cgroup's limit
        self.error = ""

    def mark(self, name):
        for got, sample in self.marks:
            if got == name:
                return sample
        raise KeyError(name)

    def after(self, name, seconds):
        """The first sample so long after the mark, or the last there is."""
        begin = self.mark(name)
        if seconds == 0:
            return begin
        for sample in self.samples:
            if sample.seconds >= begin.seconds + seconds:
                return sample
        return self.samples[-1]

    def series(self, name, value):
        """[(seconds since the mark, value of the sample)]"""
        begin = self.mark(name).seconds
        return [(s.seconds - begin, value(s)) for s in self.samples]


def _follow(child, group, run, interval, detailed):
    """Samples until the program closes its output."""
    begin = time.monotonic()
    wanted = begin
    pending = b""

    def sample(in_detail):
        try:
            got = Sample(child.pid, group, time.monotonic() - begin, in_detail)
        except (OSError, KeyError, IndexError):
            return None  # it has just ended
        run.samples.append(got)
        return got

    while True:
        left = max(0, wanted - time.monotonic())
        if not select.select([child.stdout], [], [], left)[0]:
            sample(detailed)
            wanted = time.monotonic() + interval
            continue
        chunk = os.read(child.stdout.fileno(), 4096)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for words in (line.decode().split() for line in lines):
            if words[0] == "figure":
                run.figures[words[1]] = float(words[2])
            elif words[0] == "mark":
                got = sample(True)
                if got is not None:
                    run.marks.append((words[1], got))
                os.write(child.stdin.fileno(), b"\n")


def watched(command, preload=None, cpus=None, interval=0.1, detailed=False,
            limit_bytes=None, variables=None):
    """Runs the command; `detailed` samples huge pages at each interval too."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TCX_")}
    env.pop("LD_PRELOAD", None)
    env.update(variables or {})
    if preload is not None:
        env["LD_PRELOAD"] = preload
    group = make_group()
    run = Run()
    child = None

    def prepare():
        if cpus:
            os.sched_setaffinity(0, cpus)
        if group:
            group.enter()

    try:
        if limit_bytes is not None:
            group.set_limit(limit_bytes)
        child = subprocess.Popen(command, env=env, preexec_fn=prepare,
                                 bufsize=0, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        _follow(child, group, run, interval, detailed)
        run.error = child.stderr.read().decode(errors="replace").strip()
        run.status = child.wait()
        run.killed = bool(group and run.status == -signal.SIGKILL and
                          group.kills() > 0)
    finally:
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()
        if group:
            group.remove()
    return run

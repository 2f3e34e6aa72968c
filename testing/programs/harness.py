"""harness -- runs a real program under glibc's malloc and under tcx.

A test of this folder is a function `work(side)` that runs a program through
`side` and returns a dictionary of results. `main` calls it once per side,
each in its own temporary folder, and compares the two dictionaries. Whatever
a result holds must therefore not depend on time, pids, ports or folders.

PROOF. On the tcx side the library appends a block to TCX_STATS_FILE when a
process exits. `main` asks for at least one block, and for no block that
counts 0 objects; `work` asks for the processes that matter by
`side.expect_served`. A preload that the loader ignores so fails the test.

CLEAN UP. The test makes itself the reaper of all its descendants, so that
servers that detach (postgres backends, nginx workers) die with it.
"""

import ctypes
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SET_UP = "./setup.sh installs it"
PR_SET_CHILD_SUBREAPER = 36
STATS_BLOCK = re.compile(r"^tcx: statistics of pid (\d+)$", re.MULTILINE)
SERVED_LINE = re.compile(r"^tcx: served_objects (\d+)$", re.MULTILINE)


class Failure(Exception):
    """A test that failed, with the one line that says why."""


def need(path):
    """Returns `path` if it is there, else fails naming the set-up script."""
    if not os.path.exists(path):
        raise Failure("%s is missing; %s" % (path, SET_UP))
    return path


def digest(data):
    """The fingerprint by which two outputs are compared."""
    if isinstance(data, str):
        data = data.encode()
    return hashlib.sha256(data).hexdigest()[:16]


def check(condition, message, *values):
    if not condition:
        raise Failure(message % values)


def free_port():
    """A port that was free a moment ago; a server that loses it is retried."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(ready, what, seconds=30):
    """Waits until `ready()` is true."""
    end = time.monotonic() + seconds
    while not ready():
        check(time.monotonic() < end, "%s: not within %d s", what, seconds)
        time.sleep(0.05)


class Side:
    """One of the two runs: a folder, an environment, and the proof."""

    def __init__(self, name, folder, library=None):
        self.name = name
        self.folder = folder
        self.library = None
        self.stats_file = os.path.join(folder, "stats", "tcx.stats")
        self.env = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": folder,
            "TMPDIR": folder,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        os.makedirs(folder)
        os.chmod(folder, 0o755)
        if library:
            self._take_library(library)

    def _take_library(self, library):
        """Copies the library to where any user can read it."""
        self.library = os.path.join(self.folder, "libtcx_under_test.so")
        shutil.copyfile(library, self.library)
        os.chmod(self.library, 0o755)
        # Servers that drop root append too.
        os.mkdir(os.path.dirname(self.stats_file))
        os.chmod(os.path.dirname(self.stats_file), 0o777)
        open(self.stats_file, "w").close()
        os.chmod(self.stats_file, 0o666)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text):
        """Writes a file into the folder and returns its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(text if isinstance(text, bytes) else text.encode())
        return path

    def program_env(self, extra=None, plain=False):
        """The environment of a program; `plain` programs get no preload."""
        env = dict(self.env, **(extra or {}))
        if self.library and not plain:
            env["LD_PRELOAD"] = self.library
            env["TCX_STATS"] = "exit"
            env["TCX_STATS_FILE"] = self.stats_file
        return env

    def as_user(self, user, command, env):
        """The command that runs `command` with `env` as another user.

        Only the command sees the preload. Bazel's sandbox maps root alone,
        so that there is no other user to change to: there a user namespace
        of its own shows root as that user.
        """
        settings = ["%s=%s" % pair for pair in env.items()]
        command = ["/usr/bin/env"] + settings + command
        if os.geteuid() != 0:
            return command
        if _uid_is_mapped(user.pw_uid):
            change = ["/usr/bin/setpriv", "--clear-groups"]
            change += ["--reuid=%d" % user.pw_uid, "--regid=%d" % user.pw_gid]
        else:
            change = ["/usr/bin/unshare", "--user"]
            change += ["--map-user=%d" % user.pw_uid]
            change += ["--map-group=%d" % user.pw_gid]
        return [need(change[0])] + change[1:] + command

    def run(
        self,
        command,
        stdin=b"",
        extra=None,
        plain=False,
        seconds=120,
        user=None,
    ):
        """Runs a program to its end; fails unless it exits with 0."""
        process = self._start(
            command, extra, plain, user, subprocess.PIPE, subprocess.PIPE
        )
        if isinstance(stdin, str):
            stdin = stdin.encode()
        try:
            out, err = process.communicate(stdin, seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failure("%s: not done in %d s" % (command[0], seconds))
        if process.returncode != 0:
            sys.stdout.write((out + err).decode(errors="replace")[-6000:])
            raise Failure(
                "%s: exit status %d (%s)"
                % (" ".join(command)[:200], process.returncode, self.name)
            )
        return out.decode(errors="replace")

    def serve(self, command, extra=None, user=None):
        """Starts a server; its output goes to `server.log`."""
        log = open(self.path("server.log"), "ab")
        return self._start(command, extra, False, user, log, subprocess.DEVNULL)

    def _start(self, command, extra, plain, user, out, pipe):
        need(command[0])
        env = self.program_env(extra, plain)
        if user:
            command, env = self.as_user(user, command, env), dict(self.env)
        return subprocess.Popen(
            command,
            env=env,
            cwd=self.folder,
            stdin=pipe,
            stdout=out,
            stderr=pipe if pipe == subprocess.PIPE else out,
        )

    def stop(self, server, how=None, seconds=60):
        """Ends a server the orderly way, so that its counts get written."""
        if how is not None:
            server.send_signal(how)
        try:
            status = server.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure("server: still alive %d s after its end" % seconds)
        log = self.log_tail()
        check(status == 0, "server: exit status %d\n%s", status, log)

    def log_tail(self):
        try:
            with open(self.path("server.log"), errors="replace") as log:
                return log.read()[-3000:]
        except OSError:
            return ""

    def served(self):
        """The proof: {pid: objects served}, of the tcx side."""
        with open(self.stats_file, errors="replace") as stats:
            text = stats.read()
        heads = list(STATS_BLOCK.finditer(text))
        ends = [head.start() for head in heads[1:]] + [len(text)]
        counts = {}
        for head, end in zip(heads, ends):
            line = SERVED_LINE.search(text, head.end(), end)
            pid = int(head.group(1))
            # A pid may come twice: exec'ed programs keep it.
            if line:
                counts[pid] = counts.get(pid, 0) + int(line.group(1))
            else:
                counts.setdefault(pid, 0)
        return counts

    def expect_served(self, pids=(), processes=1):
        """Fails unless tcx served `pids` and at least `processes` in all."""
        if not self.library:
            return
        counts = self.served()
        for pid in pids:
            check(counts.get(pid, 0) > 0, "tcx did not serve process %d", pid)
        check(
            len(counts) >= processes,
            "tcx served %d processes, expected %d or more",
            len(counts),
            processes,
        )
        for pid, count in counts.items():
            check(count > 0, "tcx served no object in process %d", pid)


def _uid_is_mapped(uid):
    """Can this user namespace change to `uid`?"""
    with open("/proc/self/uid_map") as ranges:
        for line in ranges:
            first, _, count = map(int, line.split())
            if first <= uid < first + count:
                return True
    return False


def _children():
    pids = []
    for task in os.listdir("/proc/self/task"):
        with open("/proc/self/task/%s/children" % task) as children:
            pids += [int(pid) for pid in children.read().split()]
    return pids


def _kill_descendants():
    """Kills what is left; orphans become ours, hence the loop."""
    while True:
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _compare(glibc, tcx):
    for key in sorted(set(glibc) | set(tcx)):
        check(
            glibc.get(key) == tcx.get(key),
            "%s differs: glibc %r, tcx %r",
            key,
            glibc.get(key),
            tcx.get(key),
        )
        print("same %s: %s" % (key, str(tcx[key])[:100]))


def _on_terminate(number, frame):
    raise Failure("ended by signal %d (the test's time is over?)" % number)


def _run_side(work, name, folder, library=None):
    """Runs one side; returns the side, its results and its seconds."""
    side = Side(name, folder, library)
    begin = time.monotonic()
    try:
        results = work(side)
    except Failure:
        print("on the side of %s; log:\n%s" % (name, side.log_tail()))
        raise
    return side, results, time.monotonic() - begin


def _test(work, scratch):
    check(len(sys.argv) == 2, "usage: %s LIBRARY", sys.argv[0])
    library = os.path.abspath(sys.argv[1])
    check(os.path.exists(library), "no library %s", library)
    # Short and open to other users: socket paths, servers without root.
    _, glibc, plain_seconds = _run_side(work, "glibc", scratch + "/glibc")
    side, tcx, seconds = _run_side(work, "tcx", scratch + "/tcx", library)
    side.expect_served()
    _compare(glibc, tcx)
    served = side.served()
    print(
        "PASS: %d processes, %d objects served; glibc %.1f s, tcx %.1f s"
        % (len(served), sum(served.values()), plain_seconds, seconds)
    )


def main(work):
    """Runs the test and exits."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _on_terminate)
    signal.signal(signal.SIGALRM, _on_terminate)
    signal.alarm(280)  # before Bazel's own 300 s, to clean up and say so
    scratch = tempfile.mkdtemp(prefix="tcxp.", dir="/tmp")
    os.chmod(scratch, 0o755)
    status = 1
    try:
        _test(work, scratch)
        status = 0
    except Failure as failure:
        print("FAIL: %s" % failure)
    finally:
        signal.alarm(0)
        _kill_descendants()
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(status)

"""redis_test -- redis-server under redis-benchmark, with BGSAVE's fork.

Debian's redis-server is linked with jemalloc; preloaded, tcx comes before it.
"""

import random
import re
import socket
import subprocess

import harness

SERVER = "/usr/bin/redis-server"
BENCHMARK = "/usr/bin/redis-benchmark"
CONFIG = """
port 0
unixsocket {folder}/redis.sock
dir {folder}
save ""
appendonly no
enable-debug-command yes
lazyfree-lazy-user-del yes
lazyfree-lazy-user-flush yes
"""
LOAD = ["-n", "60000", "-c", "20", "-P", "8", "-r", "20000", "-d", "200"]
LOAD += ["--dbnum", "1", "--csv", "-t"]
LOAD += ["set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset"]


class Client:
    """Just enough of the protocol: commands out, one reply each in."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.replies = self.socket.makefile("rb")

    def send(self, commands):
        """Sends many commands at once and returns their replies."""
        out = bytearray()
        for command in commands:
            out += b"*%d\r\n" % len(command)
            for word in command:
                word = word if isinstance(word, bytes) else str(word).encode()
                out += b"$%d\r\n%b\r\n" % (len(word), word)
        self.socket.sendall(out)
        return [self._reply() for _ in commands]

    def ask(self, *command):
        return self.send([command])[0]

    def _reply(self):
        line = self.replies.readline().rstrip(b"\r\n")
        harness.check(line, "redis-server hung up")
        kind, rest = line[:1], line[1:]
        harness.check(kind != b"-", "redis-server: %r", rest)
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            return self.replies.read(size + 2)[:-2].decode()
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        return rest.decode()


def commands(count):
    """The same data on both sides, of every type, with values that grow,
    shrink and go."""
    rand = random.Random(7)
    for i in range(count):
        key, size = rand.randrange(count // 6), rand.randrange(1, 600)
        yield ("SET", "s:%d" % key, "v" * size)
        yield ("APPEND", "s:%d" % rand.randrange(count // 6), "w" * (size % 90))
        yield ("HSET", "h:%d" % (key % 500), "f%d" % i, "x" * (size % 120))
        yield ("RPUSH", "l:%d" % (key % 300), i, "y" * (size % 70))
        yield ("SADD", "m:%d" % (key % 200), i % 977)
        yield ("ZADD", "z:%d" % (key % 200), i % 1009, "e%d" % (i % 499))
        if i % 5 == 0:
            yield ("DEL", "s:%d" % rand.randrange(count // 6))
            yield ("LTRIM", "l:%d" % (key % 300), 0, 40)
        if i % 997 == 0:
            yield ("UNLINK", "h:%d" % (key % 500))


def load(client):
    batch = []
    for command in commands(20000):
        batch.append(command)
        if len(batch) == 500:
            client.send(batch)
            batch = []
    client.send(batch)


def benchmark(side, client):
    """redis-benchmark in database 1, with a BGSAVE fork in its middle."""
    bench = subprocess.Popen(
        [harness.need(BENCHMARK), "-s", side.path("redis.sock")] + LOAD,
        env=side.program_env(plain=True),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    client.ask("SELECT", 1)
    harness.wait_for(lambda: client.ask("DBSIZE") != "0", "first key")
    client.ask("BGSAVE")
    out = bench.communicate(timeout=120)[0].decode()
    harness.check(bench.returncode == 0, "redis-benchmark failed: %s", out)
    harness.wait_for(
        lambda: "rdb_bgsave_in_progress:0" in client.ask("INFO", "persistence"),
        "end of BGSAVE",
        60,
    )
    status = re.findall(r"rdb_last_bgsave_status:\w+", client.ask("INFO"))
    keys = int(client.ask("DBSIZE"))
    harness.check(keys > 10000, "redis-benchmark left %d keys", keys)
    client.ask("FLUSHDB")
    client.ask("SELECT", 0)
    return {"benchmarks": out.count("\n"), "BGSAVE": status}


def work(side):
    config = side.write("redis.conf", CONFIG.format(folder=side.folder))
    server = side.serve([SERVER, config])
    log = side.log_tail
    harness.wait_for(
        lambda: "ready to accept" in log().lower() or server.poll() is not None,
        "start of redis-server",
    )
    client = Client(side.path("redis.sock"))
    results = benchmark(side, client)
    load(client)
    results["keys"] = client.ask("DBSIZE")
    results["digest"] = client.ask("DEBUG", "DIGEST")
    client.ask("DEBUG", "RELOAD")  # saves, frees and reads all
    results["digest after reload"] = client.ask("DEBUG", "DIGEST")
    client.socket.sendall(b"SHUTDOWN NOSAVE\r\n")
    side.stop(server)
    side.expect_served([server.pid])
    return results


if __name__ == "__main__":
    harness.main(work)

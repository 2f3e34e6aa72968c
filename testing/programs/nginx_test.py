"""nginx_test -- nginx with several workers under wrk.

Requests with and without gzip, pages assembled by SSI, a reload of the
configuration under load: old workers leave, new ones come.
"""

import http.client
import random
import re
import signal
import subprocess

import harness

NGINX = "/usr/sbin/nginx"
WRK = "/usr/bin/wrk"
WORKERS = 3
FILES = 40
LOAD_SECONDS = 2

# nginx empties its environment but for what `env` names.
CONFIG = """
daemon off;
user root root;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/server.log notice;
env LD_PRELOAD;
env TCX_STATS;
env TCX_STATS_FILE;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log combined buffer=32k;
  client_body_temp_path {folder}/t_body;
  proxy_temp_path {folder}/t_proxy;
  fastcgi_temp_path {folder}/t_fastcgi;
  uwsgi_temp_path {folder}/t_uwsgi;
  scgi_temp_path {folder}/t_scgi;
  types {{ text/html html; text/plain txt; }}
  gzip on;
  gzip_types text/plain;
  etag off;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/www;
    location ~ \\.html$ {{ ssi on; }}
  }}
}}
"""


def write_site(side):
    rand = random.Random(11)
    paths = []
    for i in range(FILES):
        count = rand.randrange(9000)
        words = ["w%d" % rand.randrange(3000) for _ in range(count)]
        side.write("www/%d.txt" % i, "site %d\n" % i + " ".join(words))
        paths.append("/%d.txt" % i)
    for i in range(5):
        parts = '<!--#include virtual="/%d.txt" -->\n'
        page = "".join(parts % (i * 7 + k) for k in range(5))
        side.write("www/%d.html" % i, "<html>\n%s</html>\n" % page)
        paths.append("/%d.html" % i)
    return paths


def fetch(port, paths):
    """Bodies by path, plain and gzipped; one connection for all."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    bodies = []
    for path in paths + ["/missing.txt"]:
        for coding in ("identity", "gzip"):
            connection.request("GET", path, headers={"Accept-Encoding": coding})
            answer = connection.getresponse()
            sort = answer.getheader("Content-Encoding")
            bodies.append((path, answer.status, sort, answer.read()))
    connection.close()
    return bodies


def start(side):
    """Starts nginx on a port nobody else got first."""
    for _ in range(5):
        port = harness.free_port()
        text = CONFIG.format(folder=side.folder, port=port, workers=WORKERS)
        config = side.write("nginx.conf", text)
        command = [NGINX, "-p", side.folder, "-c", config]
        server = side.serve(command + ["-e", side.path("server.log")])
        harness.wait_for(
            lambda: server.poll() is not None
            or len(workers_of(server)) == WORKERS,
            "start of nginx",
        )
        if server.poll() is None:
            return server, port
        harness.check("Address already in use" in side.log_tail(), "no nginx")
    raise harness.Failure("nginx found no free port")


def workers_of(server):
    path = "/proc/%d/task/%d/children" % (server.pid, server.pid)
    with open(path) as children:
        return [int(pid) for pid in children.read().split()]


def load(side, port, path, reload_of=None):
    """Lets wrk ask for `path`; fails on any error."""
    coding = "Accept-Encoding: gzip"
    command = [harness.need(WRK), "-t1", "-c16", "-d%ds" % LOAD_SECONDS]
    command += ["-H", coding, "http://127.0.0.1:%d%s" % (port, path)]
    wrk = subprocess.Popen(
        command,
        env=side.program_env(plain=True),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    if reload_of:
        reload_of.send_signal(signal.SIGHUP)
    out = wrk.communicate(timeout=60)[0].decode()
    count = re.search(r"(\d+) requests in", out)
    harness.check(wrk.returncode == 0 and count, "wrk failed: %s", out)
    harness.check(int(count.group(1)) > 0, "no request was served")
    harness.check("Non-2xx" not in out, "wrk met errors: %s", out)


def work(side):
    paths = write_site(side)
    server, port = start(side)
    first = workers_of(server)
    results = {"bodies": harness.digest(repr(fetch(port, paths)))}
    load(side, port, "/3.txt")
    load(side, port, "/2.html", reload_of=server)
    harness.wait_for(
        lambda: not set(first) & set(workers_of(server)), "end of old workers"
    )
    second = workers_of(server)
    results["bodies after reload"] = harness.digest(repr(fetch(port, paths)))
    side.stop(server, signal.SIGQUIT)
    side.expect_served([server.pid] + first + second, 2 * WORKERS + 1)
    return results


if __name__ == "__main__":
    harness.main(work)

"""postgres_test -- a postgres server under pgbench, with parallel queries.

postgres refuses to run as root, so that its programs run as user postgres;
initdb and the server (with every backend) are preloaded, clients are not.
"""

import os
import pwd
import signal

import harness

BIN = "/usr/lib/postgresql/15/bin/"
CONFIG = """
listen_addresses = ''
unix_socket_directories = '{folder}/pg'
fsync = off
jit = off
shared_buffers = 64MB
max_parallel_workers_per_gather = 2
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
autovacuum_naptime = 1s
"""

# The seed and the number of transactions are fixed, and additions commute:
# balances end the same on both sides, in whatever order they were made.
BENCH = ["-c", "4", "-j", "2", "-t", "700", "--random-seed=42"]

BALANCED = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts) =
         (SELECT sum(delta) FROM pgbench_history),
       (SELECT sum(tbalance) FROM pgbench_tellers) =
         (SELECT sum(delta) FROM pgbench_history),
       (SELECT sum(bbalance) FROM pgbench_branches) =
         (SELECT sum(delta) FROM pgbench_history),
       (SELECT count(*) FROM pgbench_history);
"""
QUERIES = """
SELECT md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid))
  FROM pgbench_accounts;
SELECT count(*), md5(string_agg(j::text, '' ORDER BY k)) FROM (
  SELECT aid % 5003 AS k, jsonb_agg(jsonb_build_object('a', aid, 'b',
    repeat('x', aid % 50)) ORDER BY aid) AS j
  FROM pgbench_accounts GROUP BY 1) AS t;
SELECT count(*), sum(a.abalance - b.abalance) FROM pgbench_accounts a
  JOIN pgbench_accounts b ON a.aid = b.aid * 2 AND a.bid >= b.bid;
SELECT sum(length(w)), count(DISTINCT w) FROM pgbench_accounts,
  regexp_split_to_table(aid || ' ' || filler || bid, '\\s+') AS w
  WHERE aid < 20000;
CREATE INDEX ON pgbench_accounts (abalance, filler);
SELECT aid, abalance FROM pgbench_accounts ORDER BY 2 DESC, 1 LIMIT 100;
"""


def database_user():
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise harness.Failure("no user postgres; " + harness.SET_UP)


def work(side):
    user = database_user()
    home, data = side.path("pg"), side.path("pg", "data")
    os.mkdir(home)
    give_to(home, user)
    init = [BIN + "initdb", "-D", data, "-U", "tcx", "-A", "trust"]
    init += ["--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C"]
    side.run(init, user=user)
    config = side.write("postgresql.conf", CONFIG.format(folder=side.folder))
    server = side.serve(
        [BIN + "postgres", "-D", data, "-c", "config_file=" + config], user=user
    )
    harness.wait_for(
        lambda: server.poll() is not None
        or "ready to accept" in side.log_tail(),
        "start of postgres",
    )
    results = measure(side, home)
    side.stop(server, signal.SIGINT)  # fast: ends all sessions
    # The launchers exec, so that the pid is the postmaster's own.
    side.expect_served([server.pid], 20)
    return results


def give_to(path, user):
    """Makes `path` writable for `user`, who has no entry in the sandbox."""
    if os.geteuid() != 0:
        return
    try:
        os.chown(path, user.pw_uid, user.pw_gid)
    except OSError:
        pass  # There root is shown as that user: it is the owner already.


def measure(side, home):
    to = ["-h", home, "-U", "tcx", "postgres"]
    psql = ["/usr/bin/psql", "-XAtq", "-v", "ON_ERROR_STOP=1"]
    pgbench = BIN + "pgbench"
    side.run([pgbench, "-i", "-s", "2", "-q"] + to, plain=True)
    side.run([pgbench] + BENCH + to, plain=True)
    balanced = side.run(psql + to, BALANCED, plain=True).strip()
    harness.check(balanced == "t|t|t|2800", "unbalanced: %s", balanced)
    out = side.run(psql + to, QUERIES, plain=True)
    return {"balances": balanced, "queries": harness.digest(out)}


if __name__ == "__main__":
    harness.main(work)

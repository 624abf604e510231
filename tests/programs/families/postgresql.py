# SPDX-License-Identifier: BSD-2-Clause
"""PostgreSQL, a process for each connection, with pgbench and psql; as a user without privileges, in its own folder."""
import atexit
import functools
import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from lab import NOBODY, Failure, Skip, as_user, free_port, need, need_root
from registry import each_mode, test

ROWS = 40000


def binary(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    if not found:
        raise Skip(f"{name} is not installed")
    return found[-1]


@functools.cache
def fresh_data():
    """A new database's folder, to be copied."""
    folder = tempfile.mkdtemp(prefix="nn-postgresql-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chown(folder, NOBODY, NOBODY)
    made = subprocess.run(as_user(NOBODY, binary("initdb"), "-D", folder, "-U", "tester", "-A", "trust", "--no-sync", "--locale=C"),
                          capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    if made.returncode:
        raise Failure(made.stderr)
    return folder


def database(lab, shimmed, *options):
    """A new one; (port, the postmaster)."""
    need("psql", "pgbench", "setpriv")
    need_root()
    port, data = free_port(), lab.path("data")
    subprocess.run(["cp", "-a", fresh_data(), data], check=True)
    settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=40", "shared_buffers=32MB",
                "log_min_messages=error", *options]
    process = lab.start(lab.as_nobody([binary("postgres"), "-D", data, "-p", str(port)] + [w for s in settings for w in ("-c", s)]),
                        shimmed, "server", stdout=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while subprocess.run([binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
        if time.monotonic() > end or process.poll() is not None:
            raise Failure("PostgreSQL does not start " + lab.errors())
        time.sleep(0.05)
    return port, process


def psql(lab, port, shimmed, *commands, **more):
    words = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", f"host=127.0.0.1 port={port} user=tester dbname=postgres"]
    return lab.run(words + [w for c in commands for w in ("-c", c)], shimmed, **more)


def pgbench(lab, port, shimmed, *words):
    text = lab.run(["pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "tester", *words, "postgres"], shimmed)
    if "-i" not in words and (not re.search(r"actually processed: [1-9]", text) or "failed transactions: 0 " not in text):
        raise Failure(text)


def copied(lab, port, shimmed):
    """A table in and out again, some MiB each, and single values of many sizes."""
    rows = "".join(f"{i}\t{hashlib.sha256(str(i).encode()).hexdigest() * (i % 5)}\n" for i in range(ROWS))
    with open(lab.path("rows"), "w", encoding="ascii") as file:
        file.write(rows)
    sizes = [1 << n for n in range(0, 22, 3)]
    text = psql(lab, port, shimmed, "CREATE TABLE wide (id int, what text)", *[f"SELECT repeat('x', {size})" for size in sizes],
                f"\\copy wide FROM '{lab.path('rows')}'", f"\\copy (SELECT * FROM wide ORDER BY id) TO '{lab.path('rows-back')}'")
    if [len(line) for line in text.split()] != sizes:
        raise Failure("psql: values have other sizes than asked for")
    with open(lab.path("rows-back"), encoding="ascii") as file:
        if file.read() != rows:
            raise Failure("what was copied out is not what was copied in")


def work(lab, server, client, *options):
    port, process = database(lab, server, *options)
    pgbench(lab, port, client, "-i", "-q")
    pgbench(lab, port, client, "-n", "-c8", "-j2", "-t100")
    pgbench(lab, port, client, "-n", "-c4", "-S", "-Mprepared", "-t500")
    pgbench(lab, port, client, "-n", "-c2", "-S", "-C", "-t50")
    balance = psql(lab, port, client, "SELECT (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT sum(delta) FROM pgbench_history),"
                   " (SELECT count(*) FROM pgbench_history)")
    if balance != "0|800\n":
        raise Failure(f"the accounts do not add up: {balance}")
    copied(lab, port, client)
    lab.stop(process, signal.SIGINT)
    lab.judge(server, client)


@each_mode("postgresql")
def postgresql(lab, server, client):
    work(lab, server, client)


@test("postgresql-cancel")
def cancel(lab):
    """psql asks by another connection that its query be ended, and is told so on the first."""
    port, process = database(lab, True)
    query = "SELECT count(*), pg_sleep(30) FROM generate_series(1, 1000)"
    many = [f"SELECT {i}" for i in range(20)]
    client = lab.start(["psql", "-XqAt", f"host=127.0.0.1 port={port} user=tester dbname=postgres"]
                       + [w for c in (*many, query) for w in ("-c", c)], True, "client", stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 10
    while "1" not in psql(lab, port, False, "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"):
        if time.monotonic() > end:
            raise Failure("the query is not seen " + lab.errors())
        time.sleep(0.05)
    client.send_signal(signal.SIGINT)
    try:
        text, _ = client.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        raise Failure("psql does not cancel\n" + lab.stacks(client)) from None
    # It reads no more commands then.
    if text.split() != [str(i) for i in range(20)] or "canceling statement due to user request" not in lab.errors():
        raise Failure(f"psql: {text}{lab.errors()}")
    lab.stop(process, signal.SIGINT)
    lab.require_switched(sides=("client",), tcp_share=0.5)

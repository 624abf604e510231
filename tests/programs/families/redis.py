# SPDX-License-Identifier: BSD-2-Clause
"""redis with redis-benchmark and redis-cli; with a replica, and children that save what it has while it serves."""
import os
import re
import subprocess
import time

from lab import Failure, free_port, need
from registry import each_mode


@each_mode("redis")
def redis(lab, server, client):
    need("redis-server", "redis-benchmark", "redis-cli")
    port = free_port()
    process = lab.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                         "--dir", lab.folder], server, "server", stdout=subprocess.DEVNULL)
    lab.await_port(port)
    for more in ("-c 1 -n 5000", "-c 20 -n 20000", "-c 8 -n 50000 -P 16", "-c 4 -n 2000 -d 100000"):
        text = lab.run(["redis-benchmark", "-p", str(port), "-q", "-t", "set,get"] + more.split(), client)
        if text.count("requests per second") < 2 or "rror" in text:
            raise Failure(text)
    script = lab.path("script")
    with open(script, "w", encoding="ascii") as file:
        file.write("".join(f"SET key{i} {'v' * (i * 37)}\nSTRLEN key{i}\n" for i in range(300)))
    text = lab.run(["sh", "-c", f"redis-cli -p {port} < {script}"], client)
    if text.split() != [w for i in range(300) for w in ("OK", str(i * 37))]:
        # SET with an empty value is an error in both cases
        got = [w for w in text.split() if w.isdigit()]
        if got[1:] != [str(i * 37) for i in range(1, 300)][-len(got[1:]):]:
            raise Failure("redis-cli: " + text[-300:])
    lab.run(["redis-cli", "-p", str(port), "shutdown", "nosave"], False)
    process.wait(10)
    lab.judge(server, client)


def cli(port, *words):
    done = subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise Failure(f"redis-cli {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def saving(lab, shimmed, side, name, *options):
    """A redis with a folder and an append-only file; (port, process)."""
    port = free_port()
    folder = lab.path(name)
    os.makedirs(folder, exist_ok=True)
    process = lab.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir", folder,
                         "--appendfsync", "no", "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0", *options], shimmed,
                        side, stdout=subprocess.DEVNULL)
    lab.await_port(port)
    return port, process


def until(what, true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.05)


@each_mode("redis-replica")
def replica(lab, server, client):
    """A primary; its clients are redis-benchmark and a replica that comes in the midst of the load, when the primary forks to save."""
    need("redis-server", "redis-benchmark", "redis-cli")
    port, primary = saving(lab, server, "server", "primary")
    cli(port, "debug", "populate", "20000", "key", "300")
    load = lab.start(["redis-benchmark", "-p", str(port), "-q", "-t", "set,incr,lpush,sadd,hset,zadd,mset", "-c", "8", "-n", "8000", "-r", "5000",
                      "-d", "300", "-P", "4"], client, "client", stdout=subprocess.PIPE, text=True)
    second, process = saving(lab, client, "client", "replica", "--replicaof", "127.0.0.1", str(port), "--repl-diskless-load", "swapdb")
    for fork in ("bgsave", "bgrewriteaof", "bgsave"):
        until(fork, lambda: not re.search("(rdb_bgsave|aof_rewrite)(_in_progress|_scheduled):1", cli(port, "info", "persistence")))
        cli(port, fork)
    try:
        text, _ = load.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        raise Failure("redis-benchmark hangs\n" + lab.stacks(load)) from None
    if text.count("requests per second") < 7 or "rror" in text:
        raise Failure(text)
    until("the children end", lambda: not re.search("(rdb_bgsave|aof_rewrite)(_in_progress|_scheduled):1", cli(port, "info", "persistence")))
    about = cli(port, "info", "persistence")
    if "rdb_last_bgsave_status:ok" not in about or "aof_last_bgrewrite_status:ok" not in about:
        raise Failure(about)
    digest = cli(port, "debug", "digest")
    until("the replica has all", lambda: cli(second, "debug", "digest") == digest)
    for each in (second, port):
        cli(each, "shutdown", "nosave")
    for each in (process, primary):
        each.wait(10)
    lab.judge(server, client)
    again, process = saving(lab, False, "server", "primary")
    until("it has loaded what it saved", lambda: "\nloading:0" in cli(again, "info", "persistence"))
    if cli(again, "debug", "digest") != digest:
        raise Failure("what the primary has saved is not what it had")

# SPDX-License-Identifier: BSD-2-Clause
"""Servers and clients of peers.py: threads, forks, event loops; other users, namespaces and addresses."""
import functools
import os
import subprocess

from lab import Failure, need, need_root
from registry import PEERS, each_mode, test


def python_pair(lab, server, client, kind):
    port, process = lab.server(PEERS + ["serve", kind], server)
    lab.run(PEERS + ["ask", "127.0.0.1", str(port)], client)
    lab.stop(process)
    lab.judge(server, client)


for each in ("threading", "forking", "asyncio", "selectors", "crew"):
    each_mode("python-" + each)(functools.partial(python_pair, kind=each))


def python_both(lab, kind, address="127.0.0.1", server=PEERS, client=PEERS, **shares):
    port, process = lab.server(server + ["serve", kind, address], True)
    lab.run(client + ["ask", address, str(port)], True)
    lab.stop(process)
    lab.require_switched(**shares)


for each in ("prefork", "reuseport", "handover"):
    test("python-" + each)(functools.partial(python_both, kind=each))
# What the heirs send and receive goes by TCP.
test("python-subprocess")(functools.partial(python_both, kind="subprocess", tcp_share=0.75))
test("python-early", early=True)(functools.partial(python_both, kind="threading"))


@test("python-arena-directory")
def arena_directory(lab):
    """Memory from a directory: both ends configured with the same one."""
    lab.variables["NOTNETS_ARENA"] = "/dev/shm"
    python_both(lab, kind="threading")


def flooded(lab, kind):
    """Anybody may ring, as often as the doorbells' queues take it; nobody sleeps on for that."""
    lab.variables["NOTNETS_SPIN"] = "0"
    port, process = lab.server(PEERS + ["serve", kind], True)
    flooder = lab.start(PEERS + ["flood"], False, "server", stdout=subprocess.PIPE, text=True)
    lab.run(PEERS + ["ask", "127.0.0.1", str(port), "8", "300", "50"], True, seconds=45)
    lab.stop(flooder)
    filled = int(flooder.stdout.read())
    lab.stop(process)
    lab.require_switched()
    if lab.shim and filled < 100:
        raise Failure(f"doorbells were full only {filled} times")


for each in ("threading", "asyncio", "crew"):
    test("flooded-doorbells-" + each)(functools.partial(flooded, kind=each))
test("python-ipv6")(functools.partial(python_both, kind="threading", address="::1"))
test("python-asyncio-ipv6")(functools.partial(python_both, kind="asyncio", address="::1"))
test("python-127.0.0.2")(functools.partial(python_both, kind="threading", address="127.0.0.2"))


def peers_of_nobody(lab):
    return lab.as_nobody([PEERS[0], lab.lend(PEERS[1])])


@test("server-of-another-user")
def other_user(lab):
    python_both(lab, "threading", server=peers_of_nobody(lab))


@test("client-of-another-user")
def other_user_client(lab):
    python_both(lab, "asyncio", client=peers_of_nobody(lab))


@test("server-in-other-namespaces")
def other_namespaces(lab):
    """Other mount, pid, ipc and uts namespaces, the same network: as containers of a pod."""
    need("unshare")
    need_root()
    command = ["unshare", "-m", "-p", "-i", "-u", "-f", "--kill-child=TERM", "--mount-proc"] + PEERS + ["serve", "threading"]
    port, process = lab.server(command, True)
    lab.run(PEERS + ["ask", "127.0.0.1", str(port)], True)
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
        for pid in children.read().split():
            os.kill(int(pid), 15)
    lab.stop(process)
    lab.require_switched()


@test("short-connections")
def short_connections(lab):
    """One request each: they never pay for a rendezvous."""
    port, process = lab.server(PEERS + ["serve", "threading"], True)
    lab.run(PEERS + ["short", "127.0.0.1", str(port), "200"], True)
    lab.stop(process)
    lab.require_plain()


def many(lab, count):
    port, process = lab.server(["sh", "-c", 'ulimit -n 30000 2>/dev/null || ulimit -n $(ulimit -Hn); exec "$@"', "sh"]
                               + PEERS + ["serve", "asyncio"], True)
    lab.run(["sh", "-c", 'ulimit -n 30000 2>/dev/null || ulimit -n $(ulimit -Hn); exec "$@"', "sh"]
            + PEERS + ["many", "127.0.0.1", str(port), str(count)], True, seconds=120)
    lab.stop(process)
    lab.require_switched(tcp_share=0.75)
    for side in ("server", "client"):
        if lab.shim and lab.total(side, "streams") < count:
            raise Failure(f"{side}: {lab.total(side, 'streams')} of {count} streams")


test("many-1000", early=True)(functools.partial(many, count=1000))
test("many-8000", early=True, full=True)(functools.partial(many, count=8000))

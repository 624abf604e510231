# SPDX-License-Identifier: BSD-2-Clause
"""What streams cost while nobody sends, and which calls the kernel still sees."""
import functools
import os
import re
import subprocess
import time

from lab import Failure, need
from registry import PEERS, test


def cost(pid):
    """(CPU milliseconds, voluntary context switches) of all threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    switches = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            switches += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", file.read(), re.M)[1])
    return (int(fields[11]) + int(fields[12])) * 1000 // os.sysconf("SC_CLK_TCK"), switches


def idle(lab, kind, served):
    port, server = lab.server(PEERS + ["serve", served], True)
    client = lab.start(PEERS + ["hold", "127.0.0.1", str(port), kind], True, "client", stdout=subprocess.PIPE, text=True)
    if client.stdout.readline() != "READY\n":
        raise Failure("the client is not ready " + lab.errors())
    time.sleep(0.3)
    before = [cost(p.pid) for p in (server, client)]
    time.sleep(2)
    after = [cost(p.pid) for p in (server, client)]
    for name, a, b in zip(("server", "client"), before, after):
        # socketserver itself looks up ten times a second
        allowed = 30 if served == "threading" and name == "server" else 4
        if b[0] - a[0] > 20 or b[1] - a[1] > allowed:
            raise Failure(f"the idle {name} used {b[0] - a[0]} ms of CPU and woke {b[1] - a[1]} times in 2 s")
    lab.stop(client)
    lab.stop(server)
    lab.require_switched()


test("idle-recv")(functools.partial(idle, kind="recv", served="threading"))
test("idle-epoll")(functools.partial(idle, kind="epoll", served="asyncio"))


@test("strace-sees-no-payload")
def strace(lab):
    need("strace")
    rounds = 3000
    port, server = lab.server(PEERS + ["serve", "threading"], True)
    calls, environment = lab.path("calls"), lab.environment(True, "client")
    own = [f"-E{k}={v}" for k, v in environment.items() if k.startswith(("NOTNETS_", "LD_PRELOAD"))]
    lab.run(["strace", "-f", "-e", "trace=sendto,recvfrom,sendmsg,recvmsg", "-o", calls] + own
            + PEERS + ["pingpong", "127.0.0.1", str(port), str(rounds)], False)
    lab.stop(server)
    with open(calls, encoding="utf-8", errors="replace") as file:
        # A doorbell is rung with no byte.
        payload = [line for line in file if re.search(r"\) += [1-9]\d*$", line)]
    if lab.shim and len(payload) > rounds / 10:
        raise Failure(f"{len(payload)} payload calls for {rounds} messages, the last: {payload[-1]}")
    lab.require_switched()

# SPDX-License-Identifier: BSD-2-Clause
"""Programs that are looked at: strace, gdb and valgrind, attached in the midst or from the start."""
import re
import subprocess
import time

from lab import Failure, need
from families.nginx import curl, nginx
from registry import PEERS, test


def watched(lab, watch, times):
    """A conversation, in whose midst `watch` is called with each end's process in turn."""
    port, server = lab.server(PEERS + ["serve", "threading"], True)
    client = lab.start(PEERS + ["ask", "127.0.0.1", str(port), "2", "4000", "60000"], True, "client")
    time.sleep(0.5)
    seen = 0
    for i in range(times):
        process = (client, server)[i % 2]
        try:
            watch(process.pid)
            seen += 1
        except Failure:
            if process.poll() is None:
                raise
    try:
        status = client.wait(60)
    except subprocess.TimeoutExpired:
        raise Failure("the client hangs\n" + lab.stacks(client)) from None
    if status:
        raise Failure(f"the client: status {status} " + lab.errors())
    if seen < 2:
        raise Failure("the conversation was over too soon")
    lab.stop(server)
    lab.require_switched()


@test("strace-attached")
def strace(lab):
    need("strace")

    def watch(pid):
        tracer = lab.start(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid)], False, "tracer")
        time.sleep(0.4)
        lab.stop(tracer, 2)
    watched(lab, watch, 4)


@test("gdb-attached")
def gdb(lab):
    """It stops the process, shows every thread's stack, steps a little, and lets it go on."""
    need("gdb")

    def watch(pid):
        done = subprocess.run(["gdb", "-nx", "-batch", "-p", str(pid), "-ex", "set debuginfod enabled off", "-ex", "thread apply all backtrace 3",
                               "-ex", "stepi", "-ex", "detach"], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        if "detached" not in done.stdout:
            raise Failure(f"gdb: {done.stdout[-500:]}{done.stderr[-500:]}")
    watched(lab, watch, 2)


@test("gdb-from-the-start")
def gdb_start(lab):
    need("gdb")
    port, server = lab.server(PEERS + ["serve", "threading"], True)
    own = [w for k, v in lab.environment(True, "client").items() if k.startswith(("NOTNETS_", "LD_PRELOAD"))
           for w in ("-ex", f"set environment {k} {v}")]
    text = lab.run(["gdb", "-nx", "-batch", *own, "-ex", "set startup-with-shell off", "-ex", "run", "--args", *PEERS, "ask", "127.0.0.1",
                    str(port), "3", "60"], False)
    if "exited normally" not in text:
        raise Failure(text[-800:])
    lab.stop(server)
    lab.require_switched()


@test("valgrind")
def valgrind(lab):
    """It has no address space to spare and runs one thread at a time; memory that the shim or curl uses is as it should be."""
    need("valgrind")
    ports, process = nginx(lab, True, sendfile="off")
    curl(lab, ports[0], True, count=40, command=["valgrind", "-q", "--error-exitcode=33", "--undef-value-errors=no", "curl"])
    lab.stop(process)
    if re.search("^==", lab.errors(), re.M):
        raise Failure(lab.errors())
    lab.require_switched()

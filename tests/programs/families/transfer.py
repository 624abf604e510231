# SPDX-License-Identifier: BSD-2-Clause
"""Bulk: rsync with its daemon, and iperf3."""
import hashlib
import json
import os
import random
import subprocess
import time

from lab import Failure, free_port, need
from registry import each_mode

RSYNCD = """
use chroot = no
uid = 0
gid = 0
log file = {folder}/rsyncd.log
[tree]
path = {folder}/there
read only = no
"""


def tree(folder, files, seed):
    """A tree of files from nothing to some MiB."""
    dice = random.Random(seed)
    for i in range(files):
        path = os.path.join(folder, *(str(dice.randrange(5)) for _ in range(i % 4)), f"file{i}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(dice.randbytes(dice.choice((0, 1, 700, 40000, dice.randrange(1 << 21)))))


def sums(folder):
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


@each_mode("rsync")
def rsync(lab, server, client):
    """Both ends fork as soon as they know what to do, and hold the connection in both processes: what was not up by then stays on TCP."""
    need("rsync")
    port = free_port()
    tree(lab.path("here"), 120, 1)
    os.mkdir(lab.path("there"))
    with open(lab.path("rsyncd.conf"), "w", encoding="ascii") as file:
        file.write(RSYNCD.format(folder=lab.folder))
    process = lab.start(["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}", "--config=" + lab.path("rsyncd.conf")],
                        server, "server")
    lab.await_port(port)
    url = f"rsync://127.0.0.1:{port}/tree/"

    def copy(source, target, *more):
        lab.run(["rsync", "-a", "--timeout=20", "--checksum", *more, source + "/", target], client)
    copy(lab.path("here"), url)
    copy(url, lab.path("back"))
    tree(lab.path("here"), 30, 2)  # some files become others
    copy(lab.path("here"), url, "--delete", "-z")
    copy(url, lab.path("back"), "--delete", "--no-whole-file")
    if not sums(lab.path("here")) == sums(lab.path("there")) == sums(lab.path("back")):
        raise Failure("the trees differ")
    lab.stop(process)
    if not (server and client):
        lab.judge(server, client)


def measure(lab, port, shimmed, words):
    """What iperf3 reports. Its server may still be busy with the end of the test before."""
    for _ in range(20):
        process = lab.start(["iperf3", "-c", "127.0.0.1", "-p", str(port), "-J", *words], shimmed, "client", stdout=subprocess.PIPE, text=True)
        try:
            text, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            raise Failure(f"iperf3 {' '.join(words)} hangs\n{lab.stacks(process)}") from None
        report = json.loads(text)
        if "busy" not in report.get("error", ""):
            break
        time.sleep(0.1)
    if process.returncode or "error" in report:
        raise Failure(f"iperf3 {' '.join(words)}: {report.get('error')} {lab.errors()}")
    return report


@each_mode("iperf3")
def iperf3(lab, server, client):
    need("iperf3")
    port = free_port()
    process = lab.start(["iperf3", "-s", "-p", str(port)], server, "server", stdout=subprocess.DEVNULL)
    lab.await_port(port)
    for words in ("-n 300M", "-R -n 300M", "-P 3 -n 100M", "--bidir -t 1", "-l 200 -n 2M", "-b 50M -n 3M"):
        report = measure(lab, port, client, words.split())
        sent, received = report["end"]["sum_sent"]["bytes"], report["end"]["sum_received"]["bytes"]
        if not sent or not received or received > sent:
            raise Failure(f"iperf3 {words}: {sent} sent, {received} received")
    lab.stop(process)
    lab.judge(server, client)

# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's own short cut: sock_ops and sk_msg programs on a cgroup that exists only during the run.

The loader (sockmap.c) holds the programs; they vanish when it ends, however it ends.
"""
import os
import subprocess

from bench.peers.base import Evidence, Fault, Peer
from bench.report.processes import own_process


class Sockmap(Peer):
    name = "sockmap"
    what = "TCP with sock_ops and sk_msg redirect between the sockets (eBPF; needs root)"
    roots = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")

    def __init__(self, build):
        super().__init__(build)
        self.loader = os.path.join(build, "bench", "sockmap")
        self.process = self.cgroup = None
        self.before = 0

    def missing(self):
        if not os.path.exists(self.loader):
            return "its loader was not built (needs clang, bpftool and libbpf-dev)"
        if os.geteuid() != 0:
            return "needs root"
        root = next((r for r in self.roots if os.path.exists(os.path.join(r, "cgroup.procs"))), None)
        if not root:
            return "no cgroup2 file system is mounted"
        self.cgroup = os.path.join(root, f"notnets-bench-{os.getpid()}")
        try:
            os.mkdir(self.cgroup)
        except OSError as error:
            self.cgroup = None
            return f"cannot make a cgroup: {error}"
        self.process = own_process([self.loader, self.cgroup], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            reason = self.process.stderr.read().strip().splitlines()
            self.close()
            return "cannot be loaded: " + (reason[-1] if reason else "no reason given")
        return None

    def enter(self):
        with open(os.path.join(self.cgroup, "cgroup.procs"), "w", encoding="ascii") as f:
            f.write("0")

    def _redirected(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def begin(self):
        self.before = self._redirected()

    def evidence(self, folder, workload):
        if self._redirected() == self.before:
            raise Fault("nothing was redirected")
        return Evidence()

    def close(self):
        if self.process:
            self.process.stdin.close()      # the loader ends with its input
            self.process.wait(5)
            self.process = None
        if self.cgroup:
            os.rmdir(self.cgroup)
            self.cgroup = None

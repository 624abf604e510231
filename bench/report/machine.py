# SPDX-License-Identifier: BSD-2-Clause
"""What the machine did during a measurement: our own processes, everybody else's, and the hypervisor.

A figure is only worth something if the machine was ours. Two snapshots of /proc around a measurement give the CPU
time of each process tree we started, the CPU time of all other processes, and the time the hypervisor stole.
The kernel keeps per-process times exactly, so the sum over other processes is preferred; what /proc/stat holds
beyond what any visible process used (other containers of the same kernel) is sampled by the tick and counts only
where it is large.
"""
import os

TICK = os.sysconf("SC_CLK_TCK")
FOREIGN_LIMIT = 0.10    # cores that others may take before a measurement is repeated
HIDDEN_LIMIT = 0.30     # the same for what only /proc/stat knows, which is a sample and wrong by some ticks
STEAL_LIMIT = 0.02      # cores the hypervisor may steal
KERNEL_PARENT = 2       # kthreadd: kernel threads work for whoever makes them work, here: for us


def _processes():
    """pid -> (parent, CPU ticks with those of ended children)."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue    # ended meanwhile: its parent has its time now
        found[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    return found


def _tree(processes, root):
    tree, grown = {root}, True
    while grown:
        grown = False
        for pid, (parent, _) in processes.items():
            if parent in tree and pid not in tree:
                tree.add(pid)
                grown = True
    return tree


class Snapshot:
    """The machine at one moment. `server` is the pid whose tree is one end of the measurement, or None."""

    def __init__(self, server=None):
        processes = _processes()
        own = _tree(processes, os.getpid())
        self.own = self.seconds_of(processes, own)
        self.foreign = self.seconds_of(processes, {
            pid for pid, (parent, _) in processes.items()
            if pid not in own and KERNEL_PARENT not in (pid, parent)})
        self.server = self.seconds_of(processes, _tree(processes, server)) if server else 0.0
        with open("/proc/stat", encoding="ascii") as f:
            ticks = [int(field) / TICK for field in f.readline().split()[1:9]]
        self.busy = sum(ticks[0:3])
        self.steal = ticks[7]

    @staticmethod
    def seconds_of(processes, pids):
        return sum(processes[pid][1] for pid in pids if pid in processes) / TICK


def disturbance(before, after, seconds):
    """The cores that something else took between two snapshots, where that spoils a measurement; otherwise 0."""
    foreign = (after.foreign - before.foreign) / seconds
    hidden = (after.busy - before.busy - (after.own - before.own)) / seconds
    steal = (after.steal - before.steal) / seconds
    if foreign > FOREIGN_LIMIT or hidden > HIDDEN_LIMIT or steal > STEAL_LIMIT:
        return max(foreign, hidden) + steal
    return 0.0

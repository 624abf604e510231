# SPDX-License-Identifier: BSD-2-Clause
"""A run of rounds: within each round every peer is measured once, in an order that rotates from round to round."""
import collections
import contextlib
import statistics
import subprocess
import sys

from bench.peers import PEERS
from bench.peers.base import Fault
from bench.report.measure import measure
from bench.report.processes import adopt_orphans, end_orphans


class Series:
    """All rounds of one workload and one peer."""

    def __init__(self, workload, peer):
        self.workload, self.peer = workload, peer
        self.measurements = []
        self.faults = []
        self.repeats = 0
        self.disturbed = 0      # measurements kept although they were disturbed to the last

    def values(self, metric):
        return [m.values[metric.name] for m in self.measurements if metric.name in m.values]

    def median(self, metric):
        values = self.values(metric)
        return statistics.median(values) if values else None

    def evidence(self, name):
        values = [getattr(m.evidence, name) for m in self.measurements]
        return statistics.median_low(values) if values and None not in values else None

    def cpu_us_each(self):
        """CPU of both ends per operation."""
        values = [m.cpu_us / m.operations for m in self.measurements if m.operations]
        return statistics.median(values) if values else None


class Session:
    """The peers of a run and how its measurements are made; a context manager that leaves nothing behind."""

    def __init__(self, peers, build, seconds, rounds, repeats, progress=None, writer=None):
        self.build, self.seconds, self.rounds, self.repeats = build, seconds, rounds, repeats
        self.progress, self.writer = progress, writer
        self.names = peers
        self.peers = {}
        self.skipped = {}       # peer name -> why
        self.rates = {}         # (workload, peer) -> rate, for loads that are counted

    def __enter__(self):
        adopt_orphans()
        for name in self.names:
            peer = PEERS[name](self.build)
            reason = peer.missing()
            if reason:
                self.skipped[name] = reason
            else:
                self.peers[name] = peer
        return self

    def __exit__(self, *_):
        for peer in self.peers.values():
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                peer.close()
        end_orphans()

    def run(self, workload):
        """All rounds of a workload: peer name -> Series."""
        series = {name: Series(workload, peer) for name, peer in self.peers.items()
                  if peer.family in workload.families and name not in workload.without}
        for index in range(self.rounds):
            order = collections.deque(series.values())
            order.rotate(-index)
            for one in order:
                if self.progress:
                    self.progress(workload, one.peer, index)
                self._measure(one, index)
        return series

    def _measure(self, series, index):
        workload, peer = series.workload, series.peer
        key = (workload.name, peer.name)
        try:
            if workload.counted and key not in self.rates:
                self.rates[key] = measure(workload, peer, self.build, self.seconds).values["rate"]
            found = measure(workload, peer, self.build, self.seconds, self.rates.get(key))
            for _ in range(self.repeats):
                if not found.disturbed:
                    break
                series.repeats += 1
                again = measure(workload, peer, self.build, self.seconds, self.rates.get(key))
                found = min(found, again, key=lambda m: m.disturbed)
        except Fault as fault:
            series.faults.append(str(fault))
            return
        series.disturbed += bool(found.disturbed)
        series.measurements.append(found)
        if workload.counted:
            self.rates[key] = found.values["rate"]
        if self.writer:
            self.writer.write(workload, peer, index, found)


def progress_line(text):
    """Show what is going on where a human looks; an empty text clears the line."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()

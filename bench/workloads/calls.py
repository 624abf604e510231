# SPDX-License-Identifier: BSD-2-Clause
"""What the library costs where it does nothing (calls.c): no network at all, so `tcp` is the program without it."""
import os

from bench.workloads.base import Metric, Workload

EACH = Metric("each", "ns", "lower")


class Calls(Workload):
    program = "calls.c"
    built = ("calls",)
    families = ("tcp",)
    metrics = (EACH,)
    without = ("sockmap",)
    may_stay = True

    def __init__(self, kind, what):
        self.name, self.kind, self.what = "calls-" + kind, kind, what

    def server(self, place):
        return None

    def load(self, place, seconds, rate):
        return [os.path.join(place.build, "bench/calls"), self.kind, str(seconds)]


WORKLOADS = (
    Calls("write", "write to /dev/null, ns a call"),
    Calls("read", "read from /dev/null, ns a call"),
    Calls("pipe", "write and read a byte through a pipe, ns a call"),
    Calls("unix", "send and recv a byte through a Unix datagram pair, ns a call"),
    Calls("poll", "poll one pipe, ns a call"),
    Calls("start", "posix_spawn of /bin/true, and wait for its end, ns"),
)

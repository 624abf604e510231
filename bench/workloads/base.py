# SPDX-License-Identifier: BSD-2-Clause
"""What every workload says about itself: the two programs, how to start them, and how to read the load's output."""
import dataclasses
import json
import os
import shutil


@dataclasses.dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    better: str     # "higher" or "lower"

    def ratio(self, value, base):
        """How many times better `value` is than `base`."""
        if not value or not base:
            return None
        return value / base if self.better == "higher" else base / value


RATE = Metric("rate", "1/s", "higher")
GIGABYTES = Metric("gigabytes", "GB/s", "higher")
P50 = Metric("p50", "us", "lower")
P99 = Metric("p99", "us", "lower")


@dataclasses.dataclass
class Place:
    """Where one measurement takes place: its own folder, a free port, and what was built."""
    family: str         # "tcp", "uds" or "limit"
    folder: str
    port: int
    build: str

    @property
    def path(self):
        return os.path.join(self.folder, "socket")

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path


class Workload:
    """One load on one server. Subclasses give the commands; nothing here knows who carries the bytes."""
    name = ""
    program = ""            # for the table: what runs
    what = ""               # for the table: with what load
    families = ("tcp", "uds")
    metrics = (RATE, P50, P99)      # the first is the one that is compared
    commands = ()           # programs that must be installed
    built = ()              # programs below build/bench
    counted = False         # the load runs for a number of requests, not for a time: needs a pilot
    without = ()            # peers that carry nothing of it
    may_stay = False        # connections may be too short to be switched

    def missing(self, build):
        """In words, what this workload lacks here; None if nothing."""
        lacking = [c for c in self.commands if not find_program(c)]
        lacking += [b for b in self.built if not os.path.exists(os.path.join(build, "bench", b))]
        return "not found: " + ", ".join(lacking) if lacking else None

    def server(self, place):
        """The server's command, or None where there is only a load."""
        raise NotImplementedError

    def load(self, place, seconds, rate):
        """The load's command; `rate` is an earlier figure (None in a pilot) for loads that are counted."""
        raise NotImplementedError

    def parse(self, text):
        """Values by metric name from what the load printed. Default: the last line is JSON."""
        return json.loads(text.strip().splitlines()[-1])


def find_program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

# SPDX-License-Identifier: BSD-2-Clause
"""What a peer is: an address family, what to do around a measurement, and the evidence that it carried the bytes."""
import dataclasses


class Fault(Exception):
    """A measurement that gave no figure, and why, in plain words."""


@dataclasses.dataclass
class Evidence:
    streams: int = 0            # connections that carried their bytes otherwise than by TCP
    ring_bytes: int = 0
    tcp_bytes: int | None = None    # None: nobody counted
    details: dict = dataclasses.field(default_factory=dict)     # whatever else the peer counted, for people


class Peer:
    name = ""
    what = ""
    family = "tcp"

    def __init__(self, build):
        self.build = build

    def missing(self):
        """In words, why this peer cannot be used here; None if it can."""
        return None

    def environment(self, folder):
        """Variables both ends get, for a measurement whose files live in `folder`."""
        return {}

    def enter(self):
        """Runs in every started process between fork and exec."""

    def begin(self):
        """Called before the server starts."""

    def evidence(self, folder, workload):
        """Called after both ends have ended. Raises Fault if the peer did not do its work."""
        return Evidence()

    def close(self):
        """Called once, at the end of the run."""

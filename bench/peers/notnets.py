# SPDX-License-Identifier: BSD-2-Clause
"""The shim at both ends, with the proof from its own reports that the bytes went through rings."""
import collections
import json
import os

from bench.peers.base import Evidence, Fault, Peer


COUNTERS = ("connections", "switched_up", "switched_down", "doorbells_rung", "doorbells_heard", "spins", "spin_hits",
            "sleeps")


class NotNets(Peer):
    name = "notnets"
    what = "the same programs as tcp with libnotnets_shim.so at both ends"

    @property
    def library(self):
        return os.path.abspath(os.path.join(self.build, "libnotnets_shim.so"))

    def missing(self):
        return None if os.path.exists(self.library) else f"{self.library} is not built"

    def environment(self, folder):
        return {"LD_PRELOAD": self.library, "NOTNETS_REPORT": self._report(folder)}

    @staticmethod
    def _report(folder):
        return os.path.join(folder, "report.json")

    def evidence(self, folder, workload):
        try:
            with open(self._report(folder), encoding="utf-8") as f:
                reports = [json.loads(line) for line in f if line.strip()]
        except (OSError, ValueError) as error:
            raise Fault(f"no usable report: {error}") from error

        def total(key):
            return sum(report.get(key, 0) for report in reports)
        reasons = collections.Counter()
        for report in reports:
            reasons.update(report.get("reasons", {}))
        # Every stream is in the report of each of its ends, every byte sent at one end and received at the other.
        evidence = Evidence(streams=(total("streams") + 1) // 2,
                            ring_bytes=max(total("tx_ring"), total("rx_ring")),
                            tcp_bytes=max(total("tx_tcp"), total("rx_tcp")),
                            details={**{key: total(key) for key in COUNTERS}, **reasons})
        if not workload.may_stay and (not total("switched_up") or not evidence.ring_bytes):
            raise Fault("nothing was switched" + (": " + "; ".join(sorted(reasons)) if reasons else ""))
        return evidence

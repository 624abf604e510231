# SPDX-License-Identifier: BSD-2-Clause
"""The peers that need nothing: TCP as it is, AF_UNIX where the programs can, and the limit of shared memory."""
import os

from bench.peers.base import Peer


class Limit(Peer):
    name = family = "limit"
    what = "bare shared memory, both sides spinning (a program of its own)"

    def missing(self):
        return None if len(os.sched_getaffinity(0)) > 1 else "needs two CPUs"


class Tcp(Peer):
    name = family = "tcp"
    what = "TCP over loopback"


class Uds(Peer):
    name = family = "uds"
    what = "AF_UNIX, where both programs can"

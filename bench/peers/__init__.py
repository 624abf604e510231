# SPDX-License-Identifier: BSD-2-Clause
"""Who carries the bytes. PEERS holds the class of every peer by name, in the order of the tables."""
from bench.peers.notnets import NotNets
from bench.peers.plain import Limit, Tcp, Uds
from bench.peers.sockmap import Sockmap

PEERS = {p.name: p for p in (Limit, Tcp, Uds, Sockmap, NotNets)}

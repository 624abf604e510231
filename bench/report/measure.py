# SPDX-License-Identifier: BSD-2-Clause
"""One measurement: start the server, run the load, end both, read what they say."""
import dataclasses
import os
import shutil
import tempfile
import time

from bench.peers.base import Evidence, Fault
from bench.report.machine import Snapshot, disturbance
from bench.report.processes import end, free_port, own_process, wait_listening, wait_usage
from bench.workloads.base import Place


@dataclasses.dataclass
class Measurement:
    values: dict        # by metric name
    evidence: Evidence
    cpu_us: int         # both ends
    operations: float   # about how many there were
    disturbed: float    # cores that something else took, 0 if it was quiet


def _tail(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        lines = f.read().strip().splitlines()
    return lines[-1][:300] if lines else "no output"


def measure(workload, peer, build, seconds, rate=None):
    """Measure once. Raises Fault, in plain words, where there is no figure."""
    folder = tempfile.mkdtemp(prefix="notnets-bench-")
    place = Place(peer.family, folder, free_port(), build)
    # Whoever calls may have the shim preloaded already; plain TCP must stay plain.
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "NOTNETS_REPORT")}
    environment.update(peer.environment(folder))
    server = load = None
    try:
        with open(os.path.join(folder, "server.out"), "wb") as server_out, \
                open(os.path.join(folder, "load.out"), "wb") as load_out, \
                open(os.path.join(folder, "load.err"), "wb") as load_err:
            peer.begin()
            command = workload.server(place)
            if command:
                server = own_process(command, peer.enter, env=environment, stdin=-3, stdout=server_out, stderr=-2)
                if not wait_listening(place, server):
                    raise Fault("the server does not listen: " + _tail(server_out.name))
            before, began = Snapshot(server and server.pid), time.monotonic()
            load = own_process(workload.load(place, seconds, rate), peer.enter, env=environment, stdin=-3,
                               stdout=load_out, stderr=load_err)
            cpu = wait_usage(load, 5 * seconds + 10)
            elapsed, after = time.monotonic() - began, Snapshot(server and server.pid)
        if cpu is None:
            raise Fault("the load did not end in time")
        if load.returncode:
            raise Fault(f"the load ended with {load.returncode}: {_tail(load_err.name)}")
        if server and server.poll() is not None:
            raise Fault(f"the server ended by itself with {server.returncode}: {_tail(server_out.name)}")
        if not end(server):
            raise Fault("the server did not end when asked to")
        with open(load_out.name, encoding="utf-8", errors="replace") as f:
            text = f.read()
        try:
            parsed = workload.parse(text)
            values = {metric.name: parsed[metric.name] for metric in workload.metrics}
        except (ValueError, KeyError, AttributeError, IndexError) as error:
            raise Fault(f"the load printed something else: {error!r}"[:300]) from error
        return Measurement(values, peer.evidence(folder, workload),
                           round((cpu + after.server - before.server) * 1e6), parsed["rate"] * elapsed,
                           disturbance(before, after, elapsed))
    finally:
        for process in (load, server):
            end(process, 1)
        shutil.rmtree(folder, ignore_errors=True)

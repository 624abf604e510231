# SPDX-License-Identifier: BSD-2-Clause
"""redis-server under redis-benchmark, which counts requests: a pilot run says how many fill the time."""
import csv

from bench.workloads.base import P50, P99, RATE, Workload

PILOT = 3000


class Redis(Workload):
    program = "redis"
    commands = ("redis-server", "redis-benchmark")
    counted = True

    def __init__(self, name, connections, pipeline=1):
        self.name, self.connections, self.pipeline = name, connections, pipeline
        self.what = f"redis-benchmark SET -c{connections}" + (f" -P{pipeline}" if pipeline > 1 else "")

    def server(self, place):
        where = ["--port", "0", "--unixsocket", place.path] if place.family == "uds" else \
            ["--port", str(place.port), "--bind", "127.0.0.1"]
        return ["redis-server", *where, "--save", "", "--appendonly", "no", "--daemonize", "no",
                "--loglevel", "warning", "--dir", place.folder]

    def load(self, place, seconds, rate):
        where = ["-s", place.path] if place.family == "uds" else ["-h", "127.0.0.1", "-p", str(place.port)]
        requests = PILOT * self.pipeline if rate is None else max(PILOT, int(rate * seconds))
        return ["redis-benchmark", *where, "-t", "set", "-d", "64", "-c", str(self.connections),
                "-P", str(self.pipeline), "-n", str(requests), "--csv"]

    def parse(self, text):
        rows = list(csv.DictReader(line for line in text.splitlines() if line.startswith('"')))
        row = rows[-1]
        return {"rate": float(row["rps"]), "p50": float(row["p50_latency_ms"]) * 1e3,
                "p99": float(row["p99_latency_ms"]) * 1e3}


WORKLOADS = (Redis("redis-c1", 1), Redis("redis-c50", 50), Redis("redis-pipeline", 50, pipeline=16))

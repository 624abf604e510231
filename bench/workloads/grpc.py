# SPDX-License-Identifier: BSD-2-Clause
"""gRPC C++: a synchronous server and client (grpc/) over the distribution's unmodified library."""
import os

from bench.workloads.base import P50, P99, RATE, Workload


class Grpc(Workload):
    program = "gRPC C++"
    built = ("grpc-server", "grpc-client")

    def __init__(self, name, what, mode, metrics):
        self.name, self.what, self.mode, self.metrics = name, what, mode, metrics

    @staticmethod
    def _address(place):
        return f"unix:{place.path}" if place.family == "uds" else f"127.0.0.1:{place.port}"

    def server(self, place):
        return [os.path.join(place.build, "bench/grpc-server"), self._address(place)]

    def load(self, place, seconds, rate):
        return [os.path.join(place.build, "bench/grpc-client"), self._address(place), self.mode, str(seconds)]


WORKLOADS = (
    Grpc("grpc-unary", "unary, 64 B, one call at a time", "unary", (RATE, P50, P99)),
    Grpc("grpc-stream", "server streaming, 64 B messages", "stream", (RATE,)),
)

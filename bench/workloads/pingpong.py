# SPDX-License-Identifier: BSD-2-Clause
"""The smallest programs that use sockets (pingpong.c), and the limit of shared memory beside them (peers/limit.c)."""
import os

from bench.workloads.base import GIGABYTES, P50, P99, RATE, Workload


class Pingpong(Workload):
    program = "pingpong.c"
    built = ("pingpong", "limit")

    def __init__(self, name, what, mode, size, connections=1, limit=None, metrics=(RATE, P50, P99), idle=0):
        self.name, self.what, self.metrics = name, what, metrics
        self.mode, self.size, self.connections, self.limit = mode, size, connections, limit
        self.families = ("limit", "tcp", "uds") if limit else ("tcp", "uds")
        self.may_stay = mode == "short"
        self.idle = idle

    def _command(self, place, role):
        where = ["--unix", place.path] if place.family == "uds" else ["--port", str(place.port)]
        return [os.path.join(place.build, "bench/pingpong"), role, *where, "--mode", self.mode, "--size", str(self.size)]

    def server(self, place):
        return None if place.family == "limit" else self._command(place, "serve")

    def load(self, place, seconds, rate):
        if place.family == "limit":
            return [os.path.join(place.build, "bench/limit"), "--mode", self.limit, "--size", str(self.size),
                    "--seconds", str(seconds)]
        return self._command(place, "load") + ["--seconds", str(seconds), "--connections", str(self.connections),
                                              "--idle", str(self.idle)]


WORKLOADS = (
    Pingpong("pingpong", "64 B, blocking send and recv", "blocking", 64, limit="pingpong"),
    Pingpong("pingpong-epoll", "64 B, edge-triggered epoll", "epoll", 64, limit="pingpong"),
    Pingpong("pingpong-epoll-c16", "64 B, edge-triggered epoll, 16 connections", "epoll", 64, connections=16),
    Pingpong("pingpong-idle-1000", "64 B, edge-triggered epoll, 1000 idle connections beside it", "epoll", 64, idle=1000),
    Pingpong("oneway-64", "64 B writes, one way", "stream", 64, limit="stream", metrics=(RATE,)),
    Pingpong("bulk-1m", "1 MiB writes, one way", "stream", 1 << 20, limit="stream", metrics=(GIGABYTES,)),
    Pingpong("short", "connect, 64 B echo, close", "short", 64),
)

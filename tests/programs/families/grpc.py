# SPDX-License-Identifier: BSD-2-Clause
"""gRPC C++."""
import os
import subprocess

from lab import Skip, free_port
from registry import BUILD, each_mode


@each_mode("grpc")
def grpc(lab, server, client):
    programs = [os.path.join(BUILD, "bench", name) for name in ("grpc-server", "grpc-client")]
    if not all(map(os.path.exists, programs)):
        raise Skip("build/bench/grpc-server is not built")
    port = free_port()
    process = lab.start([programs[0], f"127.0.0.1:{port}"], server, "server", stdout=subprocess.DEVNULL)
    lab.await_port(port)
    for kind in ("unary", "stream"):
        lab.run([programs[1], f"127.0.0.1:{port}", kind, "1"], client)
    lab.stop(process)
    lab.judge(server, client)

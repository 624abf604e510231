# SPDX-License-Identifier: BSD-2-Clause
"""memcached: one thread accepts, others serve; with the client of clients/memcache.py."""
import os
import subprocess

from lab import free_port, need
from registry import HERE, each_mode

CLIENT = ["/usr/bin/python3", os.path.join(HERE, "clients/memcache.py")]


@each_mode("memcached")
def memcached(lab, server, client):
    need("memcached")
    port = free_port()
    process = lab.start(["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "3", "-m", "200", "-I", "8m"],
                        server, "server", stdout=subprocess.DEVNULL)
    lab.await_port(port)
    lab.run(CLIENT + [str(port), "6", str(4 << 20)], client)
    lab.stop(process)
    lab.judge(server, client)

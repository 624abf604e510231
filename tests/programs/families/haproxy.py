# SPDX-License-Identifier: BSD-2-Clause
"""haproxy between nginx and its clients: HTTP, plain TCP, and TCP by splice(2). It is the server's side of the tests' names, those at
both its ends are the client's."""
import re
import signal
import subprocess

from lab import Failure, free_port, need
from families.nginx import curl, nginx
from registry import each_mode, test

CONFIG = """
global
    maxconn 500
    nbthread {threads}
    {tune}
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    {splice}
frontend http
    mode http
    bind 127.0.0.1:{port}
    default_backend http
backend http
    mode http
    http-reuse always
    server s 127.0.0.1:{upstream}
listen tcp
    mode tcp
    bind 127.0.0.1:{port2}
    server s 127.0.0.1:{upstream}
"""


def haproxy(lab, shimmed, upstream, splice="", threads=2, tune=""):
    need("haproxy")
    ports = [free_port(), free_port()]
    with open(lab.path("haproxy.cfg"), "w", encoding="ascii") as file:
        file.write(CONFIG.format(port=ports[0], port2=ports[1], upstream=upstream, threads=threads, splice=splice, tune=tune))
    process = lab.start(["haproxy", "-db", "-q", "-f", lab.path("haproxy.cfg")], shimmed, "server", stdout=subprocess.DEVNULL)
    for port in ports:
        lab.await_port(port)
    return ports, process


def work(lab, server, client, **options):
    need("wrk")
    upstream, origin = nginx(lab, client, side="client", sendfile="off")
    ports, process = haproxy(lab, server, upstream[0], **options)
    for port in ports:
        curl(lab, port, client)
    text = lab.run(["wrk", "-t1", "-c8", "-d1s", f"http://127.0.0.1:{ports[0]}/hello"], client)
    if "Socket errors" in text or "Non-2xx" in text or not re.search(r"[1-9]\d* requests in", text):
        raise Failure(text)
    lab.stop(process, signal.SIGUSR1)  # SIGTERM kills it
    lab.stop(origin)


@each_mode("haproxy")
def plain(lab, server, client):
    work(lab, server, client)
    lab.judge(server, client)


@test("haproxy-splice")
def spliced(lab):
    """What it moves by splice(2) goes by TCP; all arrives."""
    work(lab, True, True, splice="option splice-request\n    option splice-response", threads=1)
    lab.require_switched(tcp_share=1)

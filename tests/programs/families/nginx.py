# SPDX-License-Identifier: BSD-2-Clause
"""nginx with curl, wrk and h2load: sendfile, HTTP/2, as a proxy; reloaded."""
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time

from lab import Failure, adopt_orphans, await_end, children_of, free_port, need, pid_in
from registry import each_mode, test


NGINX = """
worker_processes 2; user root; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile {sendfile}; keepalive_requests 10000000; client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{ listen 127.0.0.1:{port}; root {folder}/www; location = /hello {{ return 200 "hello\\n"; }} }}
    server {{ listen 127.0.0.1:{port2} http2; root {folder}/www; location = /hello {{ return 200 "hello\\n"; }} }}
    server {{ listen 127.0.0.1:{port3}; location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1;
             proxy_set_header Connection ""; }} }}
}}
"""


def documents(lab):
    """A small and a large file to be served, which `curl` knows."""
    os.mkdir(lab.path("www"))
    for name, size in (("small", 3000), ("big", 30 << 20)):
        with open(lab.path("www/" + name), "wb") as file:
            block = hashlib.sha256(name.encode()).digest() * 100
            file.write((block * (size // len(block) + 1))[:size])


def nginx(lab, shimmed, sendfile="on", side="server", head=""):
    """nginx with two workers; the ports for HTTP, HTTP/2 and its proxy, and the master process."""
    need("nginx")
    ports = [free_port() for _ in range(3)]
    documents(lab)
    with open(lab.path("nginx.conf"), "w", encoding="ascii") as file:
        file.write((head or "daemon off;") + NGINX.format(folder=lab.folder, port=ports[0], port2=ports[1], port3=ports[2], sendfile=sendfile))
    process = lab.start([shutil.which("nginx"), "-p", lab.folder, "-c", lab.path("nginx.conf"), "-e", lab.path("error.log")], shimmed,
                        side, stdout=subprocess.DEVNULL)
    for port in ports:
        lab.await_port(port)
    return ports, process


def curl(lab, port, shimmed, count=150, command=("curl",)):
    """Many requests on one connection, then a large file; all compared."""
    need("curl")
    with open(lab.path("curlrc"), "w", encoding="ascii") as file:
        for i in range(count):
            file.write(f'url = "http://127.0.0.1:{port}/small"\noutput = "{lab.path("got")}-{i % 7}"\n')
        file.write(f'url = "http://127.0.0.1:{port}/big"\noutput = "{lab.path("got-big")}"\n')
        for i in range(20):
            file.write(f'url = "http://127.0.0.1:{port}/small"\noutput = "{lab.path("got")}-{i % 7}"\n')
    lab.run([*command, "-sS", "--fail", "-K", lab.path("curlrc")], shimmed)
    for name in ["big"] + list(range(7)):
        with open(lab.path(f"got-{name}"), "rb") as got, open(lab.path("www/" + ("big" if name == "big" else "small")), "rb") as sent:
            if hashlib.sha256(got.read()).digest() != hashlib.sha256(sent.read()).digest():
                raise Failure(f"what curl got ({name}) is not what nginx has")


@each_mode("nginx-curl")
def nginx_curl(lab, server, client):
    ports, process = nginx(lab, server)
    curl(lab, ports[0], client)
    lab.stop(process)
    # sendfile goes its own way on TCP if it must: only that something was switched is asked for here
    lab.judge(server, client, **({"tcp_share": 1} if server and client else {}))


@test("nginx-curl-no-sendfile")
def nginx_curl_no_sendfile(lab):
    ports, process = nginx(lab, True, sendfile="off")
    curl(lab, ports[0], True)
    lab.stop(process)
    lab.require_switched()


@test("nginx-proxy")
def nginx_proxy(lab):
    """A stream at each side of a proxy, both of one process."""
    ports, process = nginx(lab, True, sendfile="off")
    curl(lab, ports[2], True)
    lab.stop(process)
    lab.require_switched(tcp_share=0.6)  # the upstream connections are short


@each_mode("nginx-wrk")
def nginx_wrk(lab, server, client):
    need("wrk")
    ports, process = nginx(lab, server)
    text = lab.run(["wrk", "-t2", "-c16", "-d1s", f"http://127.0.0.1:{ports[0]}/hello"], client)
    if "Socket errors" in text or "Non-2xx" in text or not re.search(r"[1-9]\d* requests in", text):
        raise Failure(text)
    lab.stop(process)
    lab.judge(server, client)


@each_mode("nginx-h2load")
def nginx_h2load(lab, server, client):
    need("h2load")
    ports, process = nginx(lab, server)
    for path, count in (("hello", 20000), ("small", 5000), ("big", 4)):
        text = lab.run(["h2load", f"-n{count}", f"-c{min(8, count)}", "-m8", f"http://127.0.0.1:{ports[1]}/{path}"], client)
        if f"{count} succeeded, 0 failed" not in text:
            raise Failure(text)
    lab.stop(process)
    lab.judge(server, client)


def under_load(lab, port, change, client=True):
    """wrk, in whose midst `change` happens. nginx ends idle connections then, which wrk counts as socket errors."""
    need("wrk")
    load = lab.start(["wrk", "-t1", "-c8", "-d2s", f"http://127.0.0.1:{port}/hello"], client, "client", stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    change()
    try:
        text, _ = load.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        raise Failure("wrk hangs\n" + lab.stacks(load)) from None
    if not re.search(r"[1-9]\d* requests in", text) or "Non-2xx" in text or re.search("(connect|timeout) [1-9]", text):
        raise Failure(text)


@each_mode("nginx-reload")
def nginx_reload(lab, server, client):
    """New workers inherit the listener while the old ones finish their streams."""
    ports, process = nginx(lab, server)
    old = children_of(process.pid)

    def reload():
        process.send_signal(signal.SIGHUP)
        for pid in old:
            await_end(pid)
    under_load(lab, ports[0], reload, client)
    curl(lab, ports[0], client)
    lab.stop(process)
    lab.judge(server, client, **({"tcp_share": 1} if server and client else {}))


def upgrade(lab, head, stays):
    """nginx starts its own program anew, which gets the listeners by their numbers, and then the old one ends."""
    adopt_orphans()
    ports, process = nginx(lab, True, sendfile="off", head=head)
    process.wait(10)
    path = lab.path("nginx.pid")
    old, new = pid_in(path), 0

    def replace():
        nonlocal new
        os.kill(old, signal.SIGUSR2)
        new = pid_in(path, other_than=old)
        end = time.monotonic() + 10
        while not children_of(new):
            if time.monotonic() > end:
                raise Failure("the new nginx has no workers")
            time.sleep(0.02)
        os.kill(old, signal.SIGQUIT)
        await_end(old)
    under_load(lab, ports[0], replace)
    before = lab.total("server", "streams")
    curl(lab, ports[0], True)
    os.kill(new, signal.SIGTERM)
    await_end(new)
    lab.require_switched(tcp_share=0.25 if stays else 1)
    if lab.shim and stays != (lab.total("server", "streams") > before):
        raise Failure(f"the new nginx has{' no' if stays else ''} streams")


@test("nginx-upgrade")
def nginx_upgrade(lab):
    """It drops its environment, unless it is told what to keep."""
    upgrade(lab, "daemon on; env LD_PRELOAD; env NOTNETS_REPORT;", stays=True)


@test("nginx-upgrade-unshimmed")
def nginx_upgrade_unshimmed(lab):
    upgrade(lab, "daemon on;", stays=False)

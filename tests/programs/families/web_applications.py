# SPDX-License-Identifier: BSD-2-Clause
"""gunicorn and uvicorn, which fork or spawn their workers, and php-fpm behind nginx."""
import functools
import glob
import importlib.util
import os
import subprocess
import time

from lab import Failure, Skip, free_port, need
from registry import HERE, each_mode, test

CLIENTS = os.path.join(HERE, "clients")
POST = ["/usr/bin/python3", os.path.join(CLIENTS, "post.py")]


def application(lab, server, client, command, module=None):
    if module and not importlib.util.find_spec(module):
        raise Skip(f"Python's {module} is not installed")
    if command[0] != "/usr/bin/python3":
        need(command[0])
    port = free_port()
    process = lab.start([w.format(port=port) for w in command], server, "server", stdout=subprocess.DEVNULL)
    lab.await_port(port)
    lab.run(POST + [str(port), "4", "40", "200000"], client)
    lab.stop(process)
    lab.judge(server, client)


GUNICORN = ["gunicorn", "--chdir", CLIENTS, "-b", "127.0.0.1:{port}", "--keep-alive", "20", "--graceful-timeout", "3", "application:wsgi"]
UVICORN = ["/usr/bin/python3", "-m", "uvicorn", "--app-dir", CLIENTS, "--port", "{port}", "--log-level", "error", "application:asgi"]
each_mode("gunicorn")(functools.partial(application, command=GUNICORN + ["-w", "3", "-k", "gthread", "--threads", "4"]))
each_mode("uvicorn")(functools.partial(application, command=UVICORN, module="uvicorn"))


@test("uvicorn-workers")
def uvicorn_workers(lab):
    """New processes that get the listener by its number."""
    application(lab, True, True, UVICORN + ["--workers", "2"], module="uvicorn")


@test("gunicorn-reload")
def gunicorn_reload(lab):
    """On SIGHUP new workers serve, while the old ones finish what they have."""
    need("gunicorn")
    port = free_port()
    process = lab.start([w.format(port=port) for w in GUNICORN] + ["-w", "2", "-k", "gthread", "--threads", "4"], True, "server",
                        stdout=subprocess.DEVNULL)
    lab.await_port(port)
    for _ in range(2):
        lab.run(POST + [str(port), "4", "20", "100000"], True)
        process.send_signal(1)
        time.sleep(0.5)
        lab.await_port(port)
    lab.run(POST + [str(port), "4", "20", "100000"], True)
    lab.stop(process)
    lab.require_switched()


# ---- PHP -------------------------------------------------------------------------------------------------------------

FPM = """
[global]
error_log = {folder}/fpm.log
daemonize = no
process_control_timeout = 5s
[www]
user = root
listen = 127.0.0.1:{fpm}
pm = static
pm.max_children = 3
"""
NGINX = """
daemon off; worker_processes 1; user root; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 1000000; client_max_body_size 10m; client_body_temp_path {folder}/t1; fastcgi_temp_path {folder}/t3;
    proxy_temp_path {folder}/t2; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    upstream php {{ server 127.0.0.1:{fpm}; keepalive 3; keepalive_requests 1000000; }}
    server {{ listen 127.0.0.1:{port}; location / {{ fastcgi_pass php; fastcgi_keep_conn on; fastcgi_param SCRIPT_FILENAME {folder}/a.php;
        fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param REQUEST_URI $uri;
        fastcgi_param CONTENT_TYPE $content_type; }} }}
}}
"""
PHP = """<?php
$body = $_SERVER["REQUEST_METHOD"] == "POST" ? file_get_contents("php://input") : null;
$answer = $body === null ? str_repeat("x", (int)ltrim($_SERVER["REQUEST_URI"], "/")) : hash("sha256", $body, true) . strrev($body);
header("Content-Type: application/octet-stream");
header("Content-Length: " . strlen($answer));
echo $answer;
"""


@each_mode("php-fpm")
def php_fpm(lab, server, client):
    """nginx is the client of php-fpm."""
    fpm = sorted(glob.glob("/usr/sbin/php-fpm*"))
    if not fpm:
        raise Skip("php-fpm is not installed")
    need("nginx")
    ports = {"port": free_port(), "fpm": free_port()}
    for name, text in (("fpm.conf", FPM), ("nginx.conf", NGINX)):
        with open(lab.path(name), "w", encoding="ascii") as file:
            file.write(text.format(folder=lab.folder, **ports))
    with open(lab.path("a.php"), "w", encoding="ascii") as file:
        file.write(PHP)
    process = lab.start([fpm[-1], "-n", "-R", "-F", "-y", lab.path("fpm.conf")], server, "server", stdout=subprocess.DEVNULL)
    lab.await_port(ports["fpm"])
    web = lab.start(["nginx", "-p", lab.folder, "-c", lab.path("nginx.conf"), "-e", lab.path("error.log")], client, "client",
                    stdout=subprocess.DEVNULL)
    lab.await_port(ports["port"])
    lab.run(POST + [str(ports["port"]), "3", "30", "200000"], False)
    lab.stop(web)
    lab.stop(process, 3)
    for side, shimmed in (("server", server), ("client", client)):
        if shimmed and lab.shim and not lab.reports(side):
            raise Failure(f"no report of the {side}")
    if server and client:
        # What the clients of nginx send is plain TCP.
        lab.require_switched(("server",))
        lab.require_switched(("client",), tcp_share=0.9)
    else:
        lab.require_plain()

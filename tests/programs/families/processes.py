# SPDX-License-Identifier: BSD-2-Clause
"""How programs are started and run: socket activation, daemons that close all descriptors, set-user-ID programs."""
import functools
import os
import shutil
import signal
import subprocess

from lab import NOBODY, Failure, Skip, adopt_orphans, as_user, await_end, free_port, need, need_root
from families.nginx import curl, nginx
from families.web_applications import CLIENTS, POST
from registry import PEERS, each_mode, test

ACTIVATE = ["/usr/bin/python3", os.path.join(CLIENTS, "activate.py")]


@each_mode("socket-activation")
def activation(lab, server, client):
    """A launcher without connections becomes the server."""
    port, process = lab.server(ACTIVATE + PEERS + ["serve", "activated"], server)
    lab.run(PEERS + ["ask", "127.0.0.1", str(port)], client)
    lab.stop(process)
    lab.judge(server, client)


def activation_each(lab, launcher):
    """The launcher accepts, and a new program gets the connection: with the shim in both, or in the new program alone."""
    unset = [] if launcher else ["env", "-u", "LD_PRELOAD"]
    again = [] if launcher else ["env"] + [f"{k}={v}" for k, v in lab.environment(True, "server").items()
                                           if k.startswith(("NOTNETS_", "LD_PRELOAD"))]
    port, process = lab.server(unset + ACTIVATE + ["-a"] + again + PEERS + ["serve", "accepted"], launcher)
    lab.run(PEERS + ["ask", "127.0.0.1", str(port)], True)
    lab.stop(process)
    if not launcher:  # the program has a connection that it has neither made nor accepted
        lab.require_plain()
    if lab.shim and not (lab.reports("server") and lab.reports("client")):
        raise Failure("a report is missing")


test("socket-activation-each")(functools.partial(activation_each, launcher=True))
test("socket-activation-each-plain-launcher")(functools.partial(activation_each, launcher=False))


@test("socket-activation-gunicorn")
def activation_gunicorn(lab):
    need("gunicorn")
    port, process = lab.server(ACTIVATE + ["gunicorn", "--chdir", CLIENTS, "-k", "gthread", "--threads", "4", "--keep-alive", "20",
                                           "--graceful-timeout", "3", "application:wsgi"], True)
    lab.run(POST + [str(port), "3", "40", "100000"], True)
    lab.stop(process)
    lab.require_switched()


# ---- daemons ---------------------------------------------------------------------------------------------------------

@each_mode("daemon")
def daemon(lab, server, client):
    """It forks twice, and closes every descriptor there can be."""
    adopt_orphans()
    port, process = lab.server(PEERS + ["serve", "daemon"], server)
    pid = int(process.stdout.readline())
    lab.await_port(port)
    lab.run(PEERS + ["ask", "127.0.0.1", str(port)], client)
    os.kill(pid, signal.SIGTERM)
    await_end(pid)
    lab.judge(server, client)


@test("closes-what-it-does-not-know")
def closing(lab):
    """In the midst of a connection that is up; all arrives, whichever way."""
    port, process = lab.server(PEERS + ["serve", "closing"], True)
    for _ in range(3):
        lab.run(PEERS + ["ask", "127.0.0.1", str(port), "1", "80", "100000"], True)
    lab.stop(process)
    lab.require_switched(tcp_share=1)


@each_mode("redis-daemon")
def redis_daemon(lab, server, client):
    need("redis-server", "redis-benchmark", "redis-cli")
    adopt_orphans()
    port = free_port()
    process = lab.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "yes", "--pidfile",
                         lab.path("redis.pid"), "--dir", lab.folder], server, "server", stdout=subprocess.DEVNULL)
    process.wait(10)
    lab.await_port(port)
    text = lab.run(["redis-benchmark", "-p", str(port), "-q", "-t", "set,get", "-c", "4", "-n", "4000", "-d", "500"], client)
    if text.count("requests per second") < 2 or "rror" in text:
        raise Failure(text)
    with open(lab.path("redis.pid"), encoding="ascii") as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGTERM)
    await_end(pid)
    lab.judge(server, client)


# ---- set-user-ID -----------------------------------------------------------------------------------------------------

def set_user_id(lab, program):
    """A copy of a program that runs as its owner, root, whoever starts it."""
    need("setpriv")
    need_root()
    if os.statvfs(lab.folder).f_flag & os.ST_NOSUID:
        raise Skip(f"{lab.folder} is mounted nosuid")
    if lab.shim:
        lab.shim = lab.lend(lab.shim)
    copy = lab.lend(os.path.realpath(shutil.which(program)))
    os.chmod(copy, 0o4755)
    return as_user(NOBODY, copy)


def nothing_of(lab, side, program):
    """The loader has ignored the preload: nobody but setpriv, which becomes the program, has reported."""
    for report in lab.reports(side):
        if report["program"] == program:
            raise Failure(f"{program} has loaded the shim: {report}")


@test("set-user-id-client")
def set_user_id_client(lab):
    ports, process = nginx(lab, True)
    program = set_user_id(lab, "curl")
    curl(lab, ports[0], True, command=program)
    lab.stop(process)
    nothing_of(lab, "client", "curl")
    lab.require_plain()


@test("set-user-id-server")
def set_user_id_server(lab):
    program = set_user_id(lab, "/usr/bin/python3")
    port, process = lab.server(program + [lab.lend(PEERS[1]), "serve", "threading"], True)
    lab.run(PEERS + ["ask", "127.0.0.1", str(port)], True)
    lab.stop(process)
    nothing_of(lab, "server", os.path.basename(program[-1])[:15])
    lab.require_plain()
    if lab.shim and not lab.reports("client"):
        raise Failure("no report of the client")

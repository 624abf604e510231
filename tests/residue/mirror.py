#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A program that looks into the mirror: what it sees of itself must not depend on the library.

    mirror.py serve           prints "PORT n", serves one client, then prints what it sees
    mirror.py ask PORT        talks to it until both directions are surely up, then prints what it sees
    mirror.py room PORT       talks to it, then prints how many MiB of address space it can have at once
    mirror.py lock PORT FLAGS FIRST   calls mlockall before it talks (FIRST 1) or afterwards, then prints how many MiB of memory it has
    mirror.py hold PORT       talks to it, prints "READY", and stays until it is killed
    mirror.py child           prints what a program sees that one of these has started

What is seen is one line of JSON: {"same": {...}, "fds": [...]}; `same` must be the same with and without the library.
"""
import ctypes
import json
import locale
import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys

ROUNDS = 60
libc = ctypes.CDLL(None, use_errno=True)


def status():
    """Of the process as the kernel shows it: threads, signals, masks, rights."""
    wanted = ("Umask", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "NoNewPrivs", "Seccomp")
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        pairs = (line.split(":", 1) for line in file)
        return {k: v.strip() for k, v in pairs if k in wanted}


def numbers(sock):
    """The numbers that calls hand out, all kinds of them."""
    found = []

    def take(fd):
        found.append(fd)
        return fd
    take(os.open("/dev/null", os.O_RDONLY))
    found.extend(os.pipe())
    take(os.dup(sock.fileno()))
    take(os.memfd_create("mirror"))
    take(os.eventfd(0))
    take(libc.epoll_create1(0))
    one, two = socket.socketpair()
    found += [one.detach(), two.detach()]
    for fd in found:
        os.close(fd)
    return found


def untouched_errno(sock):
    """Calls that succeed leave errno alone."""
    buffer = ctypes.create_string_buffer(8)
    seen = []
    for call in (lambda: libc.send(sock.fileno(), b"e", 1, 0), lambda: libc.recv(sock.fileno(), buffer, 1, 0),
                 lambda: libc.write(sock.fileno(), b"e", 1), lambda: libc.read(sock.fileno(), buffer, 1)):
        ctypes.set_errno(77)
        result = call()
        seen.append((result, ctypes.get_errno()))
    return seen


def no_child():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return "none"


def limits():
    names = ("NOFILE", "NPROC", "AS", "DATA", "STACK", "CORE", "FSIZE", "MEMLOCK", "SIGPENDING", "MSGQUEUE", "RTPRIO", "NICE")
    return {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}


def environment():
    """All of it but what tells the two runs apart."""
    return {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "NOTNETS_REPORT", "NOTNETS_ARENA")}


def text_of(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def fds():
    """Number, inheritable or not, and kind of all open descriptors, but the one that lists them."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink("/proc/self/fd/" + name)
            flags = os.get_inheritable(int(name))
        except OSError:
            continue
        found.append((int(name), flags, kind.split(":")[0] if ":" in kind else "file"))
    return sorted(found)


def see(sock, **more):
    seen = {"status": status(), "limits": limits(), "environment": environment(), "locale": locale.setlocale(locale.LC_ALL),
            "children": no_child(), "groups": os.getgroups(),
            "timers": text_of("/proc/self/timers"), "name": text_of("/proc/self/comm"), "nice": os.nice(0),
            "dumpable": libc.prctl(3, 0, 0, 0, 0), **more}
    if sock:
        seen["numbers"] = numbers(sock)
        seen["child"] = json.loads(subprocess.run([sys.executable, __file__, "child"], capture_output=True, check=True).stdout)
    print(json.dumps({"same": seen, "fds": fds()}), flush=True)


def talk(sock, first):
    for _ in range(ROUNDS):
        if first:
            sock.sendall(b"x" * 100)
        size = 0
        while size < 100:
            size += len(sock.recv(100 - size))
        if not first:
            sock.sendall(b"x" * 100)


def serve():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print("PORT", listener.getsockname()[1], flush=True)
        sock, _ = listener.accept()
        talk(sock, False)
        errno = untouched_errno(sock)
        see(sock, errno=errno)
        sock.sendall(b"!")
        sock.recv(1)


def connected(port):
    sock = socket.create_connection(("127.0.0.1", port))
    talk(sock, True)
    return sock, untouched_errno(sock)


def ask(port):
    sock, errno = connected(port)
    ready = select.select([sock], [], [], 30)[0] == [sock]
    see(sock, errno=errno, ready=ready)
    sock.sendall(b"!")
    sock.recv(1)


def room(port):
    sock, _ = connected(port)
    low, high = 0, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        try:
            mmap.mmap(-1, middle << 20).close()
            low = middle
        except OSError:
            high = middle
    print(json.dumps({"MiB": low}), flush=True)
    sock.sendall(b"!")


def lock(port, flags, first):
    if first and libc.mlockall(flags):
        raise OSError(ctypes.get_errno(), "mlockall")
    sock, _ = connected(port)
    if not first and libc.mlockall(flags):
        raise OSError(ctypes.get_errno(), "mlockall")
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        facts = dict(line.split(":", 1) for line in file)
    print(json.dumps({"MiB": int(facts["VmRSS"].split()[0]) >> 10, "locked": int(facts["VmLck"].split()[0]) >> 10}), flush=True)
    sock.sendall(b"!")


def hold(port):
    connected(port)
    print("READY", flush=True)
    signal.pause()


def child():
    """Of the descriptors those that the parent may have left to it."""
    print(json.dumps({"fds": [f for f in fds() if f[0] > 2], "status": status()}))


if __name__ == "__main__":
    {"serve": serve, "ask": ask, "room": room, "lock": lock, "hold": hold, "child": child}[sys.argv[1]](*map(int, sys.argv[2:]))

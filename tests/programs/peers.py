#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Servers and clients of the program tests, as a Python programmer would write them.

    peers.py serve KIND [ADDRESS]     prints "PORT n"; ends, orderly, on SIGTERM
    peers.py ask ADDRESS PORT [CONNECTIONS [MESSAGES [MAX_BYTES]]]
    peers.py many ADDRESS PORT STREAMS
    peers.py pingpong ADDRESS PORT ROUNDS
    peers.py hold ADDRESS PORT KIND   some traffic, then prints "READY", and idles until SIGTERM
    peers.py short ADDRESS PORT CONNECTIONS
    peers.py flood                    fills doorbells as anybody can, until SIGTERM; prints how often it filled one

A message is 8 bytes of length and so many bytes; the reply is the SHA-256 of them, and they themselves, reversed.
"""
import asyncio
import hashlib
import os
import random
import select
import selectors
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def reply_to(body):
    return hashlib.sha256(body).digest() + body[::-1]


def receive(sock, size):
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 18))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def converse(sock):
    """Serves one connection to its end."""
    try:
        while True:
            (size,) = struct.unpack("!Q", receive(sock, 8))
            sock.sendall(reply_to(receive(sock, size)))
    except EOFError:
        pass
    finally:
        sock.close()


# ---- servers ---------------------------------------------------------------------------------------------------------

def listen(address, port=0, reuseport=False, backlog=1024):
    sock = socket.socket(family_of(address))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuseport:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock


def announce(port):
    print("PORT", port, flush=True)


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        converse(self.request)


def serve_socketserver(base, address):
    class Server(base):
        address_family = family_of(address)
        daemon_threads = True
        request_queue_size = 128
    with Server((address, 0), Handler) as server:
        announce(server.server_address[1])
        server.serve_forever(0.1)


def serve_asyncio(address):
    async def talk(reader, writer):
        try:
            while True:
                (size,) = struct.unpack("!Q", await reader.readexactly(8))
                writer.write(reply_to(await reader.readexactly(size)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(talk, address, 0, backlog=4096)
        announce(server.sockets[0].getsockname()[1])
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
    asyncio.run(main())


def serve_selectors(address):
    """One thread, one selector, byte echo of whole messages."""
    listener = listen(address)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    announce(listener.getsockname()[1])
    while True:
        for key, events in selector.select():
            if key.data is None:
                sock, _ = listener.accept()
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ, [bytearray(), bytearray()])
                continue
            sock, (got, send) = key.fileobj, key.data
            if events & selectors.EVENT_READ:
                try:
                    part = sock.recv(1 << 17)
                except BlockingIOError:
                    part = None
                if part == b"":
                    selector.unregister(sock)
                    sock.close()
                    continue
                got += part or b""
                while len(got) >= 8 and len(got) >= 8 + struct.unpack("!Q", got[:8])[0]:
                    size = 8 + struct.unpack("!Q", got[:8])[0]
                    send += reply_to(bytes(got[8:size]))
                    del got[:size]
            if send:
                try:
                    del send[:sock.send(send)]
                except BlockingIOError:
                    pass
            selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if send else 0), key.data)


def serve_crew(address):
    """Four threads sleep in one epoll set, edge-triggered, and take one event at a time. A socket that two of them are told of is
    served by one after the other."""
    listener = listen(address)
    crew = select.epoll()
    once = select.EPOLLIN | select.EPOLLET | select.EPOLLONESHOT
    conversations = {}

    def serve(fd):
        sock, got, turn = conversations[fd]
        with turn:
            if sock.fileno() == fd:
                go_on(sock, got)

    def go_on(sock, got):
        try:
            while True:
                part = sock.recv(1 << 16)
                if not part:
                    sock.close()
                    return
                got += part
                while len(got) >= 8 and len(got) >= 8 + struct.unpack("!Q", got[:8])[0]:
                    size = 8 + struct.unpack("!Q", got[:8])[0]
                    sock.setblocking(True)
                    sock.sendall(reply_to(bytes(got[8:size])))
                    sock.setblocking(False)
                    del got[:size]
        except BlockingIOError:
            crew.modify(sock, once)
        except ConnectionError:
            sock.close()

    def worker():
        while True:
            for fd, _ in crew.poll(-1, 1):
                serve(fd)
    for _ in range(4):
        threading.Thread(target=worker, daemon=True).start()
    announce(listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        sock.setblocking(False)
        conversations[sock.fileno()] = sock, bytearray(), threading.Lock()
        crew.register(sock, once)


def children_until_term(make, count):
    children = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            make()
            os._exit(0)
        children.append(pid)

    def stop(*_):
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        for pid in children:
            os.waitpid(pid, 0)
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    return children


def accept_loop(listener):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=converse, args=(sock,), daemon=True).start()


def serve_prefork(address):
    """The parent listens, the children accept."""
    listener = listen(address)
    children_until_term(lambda: accept_loop(listener), 3)
    announce(listener.getsockname()[1])
    while True:
        signal.pause()


def serve_reuseport(address):
    with socket.socket(family_of(address)) as sock:  # bound only, so that it takes no connections
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, 0))
        port = sock.getsockname()[1]
        children_until_term(lambda: accept_loop(listen(address, port, True)), 3)
        time.sleep(0.5)
    announce(port)
    while True:
        signal.pause()


def serve_handover(address):
    """One thread accepts, another serves."""
    listener = listen(address)
    announce(listener.getsockname()[1])
    ready = threading.Semaphore(0)
    queue = []

    def worker():
        while True:
            ready.acquire()
            converse(queue.pop(0))
    for _ in range(8):
        threading.Thread(target=worker, daemon=True).start()
    while True:
        sock, _ = listener.accept()
        queue.append(sock)
        ready.release()


def serve_subprocess(address):
    """The first messages are served here; then a new program gets the connection as its input and output."""
    def begin(sock, close_fds):
        for _ in range(30):
            (size,) = struct.unpack("!Q", receive(sock, 8))
            sock.sendall(reply_to(receive(sock, size)))
        with sock:
            subprocess.run([sys.executable, __file__, "inherited"], stdin=sock, stdout=sock, close_fds=close_fds, check=True)
    listener = listen(address)
    announce(listener.getsockname()[1])
    close_fds = True
    listener.settimeout(0.2)  # SIGTERM may come to a thread that ends just now; the handler runs in this one
    while True:
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            continue
        threading.Thread(target=begin, args=(sock, close_fds), daemon=True).start()
        close_fds = not close_fds  # without, it is posix_spawn instead of vfork


def serve_activated(_):
    """The listener is descriptor 3, as systemd passes it."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise SystemExit("nobody has passed a listener")
    accept_loop(socket.socket(fileno=3))


def serve_accepted(_):
    """The connection is descriptor 3, as systemd passes it to a service for each connection (Accept=yes)."""
    converse(socket.socket(fileno=3))


def serve_daemon(address):
    """Leaves its parent and its session, and closes all descriptors, as daemons do; then it listens. Says what it is before."""
    with listen(address) as sock:
        port = sock.getsockname()[1]
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os.write(1, b"PORT %d\n" % port + os.read(reading, 20) + b"\n")
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(writing, b"%d" % os.getpid())
    os.chdir("/")
    for fd in range(os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 16 else 1 << 16):
        try:
            os.close(fd)
        except OSError:
            pass
    os.open("/dev/null", os.O_RDWR)
    os.dup(0)
    os.dup(0)
    listener = listen(address, port)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=converse, args=(sock,), daemon=True).start()


def serve_closing(address):
    """After some messages of each connection it closes every descriptor that it knows nothing of."""
    def talk(sock):
        try:
            for number in range(1 << 30):
                (size,) = struct.unpack("!Q", receive(sock, 8))
                sock.sendall(reply_to(receive(sock, size)))
                if number == 30:
                    for fd in {int(name) for name in os.listdir("/proc/self/fd")} - {s.fileno() for s in known} - {0, 1, 2}:
                        try:
                            os.close(fd)
                        except OSError:
                            pass
        except EOFError:
            sock.close()
    listener = listen(address)
    known = [listener]
    announce(listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        known.append(sock)
        talk(sock)
        known.remove(sock)


SERVERS = {
    "threading": lambda a: serve_socketserver(socketserver.ThreadingTCPServer, a),
    "forking": lambda a: serve_socketserver(socketserver.ForkingTCPServer, a),
    "asyncio": serve_asyncio, "selectors": serve_selectors, "prefork": serve_prefork, "reuseport": serve_reuseport,
    "handover": serve_handover, "subprocess": serve_subprocess, "crew": serve_crew,
    "activated": serve_activated, "accepted": serve_accepted, "daemon": serve_daemon, "closing": serve_closing,
}


# ---- clients ---------------------------------------------------------------------------------------------------------

def exchange(sock, body):
    sock.sendall(struct.pack("!Q", len(body)) + body)
    answer = receive(sock, 32 + len(body))
    if answer != reply_to(body):
        raise SystemExit(f"the reply to {len(body)} bytes is wrong")


def ask(address, port, connections=4, messages=60, most=300000):
    errors = []

    def one(number):
        dice = random.Random(number)
        try:
            with socket.create_connection((address, port), timeout=30) as sock:
                for _ in range(messages):
                    exchange(sock, dice.randbytes(dice.randrange(dice.choice((20, 3000, most)))))
        except BaseException as error:  # noqa: B902: whatever it is, the main thread has to know
            errors.append(repr(error))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise SystemExit("; ".join(errors))


def many(address, port, count):
    """So many streams at once, each with a little traffic, in no order."""
    dice = random.Random(1)
    socks = []
    for _ in range(count):
        socks.append(socket.create_connection((address, port), timeout=30))
    for _ in range(12):
        dice.shuffle(socks)
        for at in range(0, count, 50):
            for sock in socks[at:at + 50]:
                sock.sendall(struct.pack("!Q", 5) + b"hello")
            for sock in socks[at:at + 50]:
                if receive(sock, 37) != reply_to(b"hello"):
                    raise SystemExit("a reply is wrong")
    for sock in socks:
        sock.close()


def pingpong(address, port, rounds):
    with socket.create_connection((address, port)) as sock:
        for _ in range(rounds):
            exchange(sock, b"x" * 50)


def hold(address, port, kind):
    sock = socket.create_connection((address, port))
    for _ in range(50):
        exchange(sock, b"x" * 100)
    if kind == "epoll":
        selector = selectors.DefaultSelector()
        selector.register(sock, selectors.EVENT_READ)
    print("READY", flush=True)
    if kind == "epoll":
        selector.select()
    else:
        sock.recv(1)


def short(address, port, count):
    for _ in range(count):
        with socket.create_connection((address, port)) as sock:
            exchange(sock, b"hello")


def flood():
    """Fills every doorbell of this network namespace, and rests a little, so that some are full while nobody sends to them."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    filled = 0

    def stop(*_):
        print(filled, flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, stop)
    while True:
        with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
            names = [line.split()[-1] for line in file if "@notnets1/w/" in line]
        for name in names:
            try:
                while True:
                    sock.sendto(b"", socket.MSG_DONTWAIT, "\0" + name[1:])
            except BlockingIOError:
                filled += 1
            except OSError:
                pass
        time.sleep(0.003)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    what, *words = sys.argv[1:]
    if what == "serve":
        SERVERS[words[0]](words[1] if len(words) > 1 else "127.0.0.1")
    elif what == "inherited":
        converse(socket.socket(fileno=os.dup(0)))
    elif what == "flood":
        flood()
    elif what == "hold":
        hold(words[0], int(words[1]), words[2])
    else:
        {"ask": ask, "many": many, "pingpong": pingpong, "short": short}[what](words[0], *map(int, words[1:]))


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A client of memcached's text protocol, that checks every answer: memcache.py PORT CONNECTIONS MAX_BYTES

Each connection, in a thread of its own, sets values of many sizes, gets them back one by one and many at once, counts,
and sends commands without waiting for the answers to those before.
"""
import random
import socket
import sys
import threading


class Connection:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.sock.makefile("rb")

    def line(self):
        return self.file.readline().removesuffix(b"\r\n")

    def command(self, text, data=None):
        self.sock.sendall(text.encode() + b"\r\n" + (data + b"\r\n" if data is not None else b""))

    def ask(self, text, data=None):
        self.command(text, data)
        return self.line()

    def values(self):
        found = {}
        while (line := self.line()) != b"END":
            _, key, _, size = line.split()
            found[key.decode()] = self.file.read(int(size))
            if self.file.read(2) != b"\r\n":
                raise ValueError("no end of line after a value")
        return found


def expect(got, wanted):
    if got != wanted:
        raise ValueError(f"{str(got)[:100]} instead of {str(wanted)[:100]}")


def talk(port, number, most):
    memcached, dice = Connection(port), random.Random(number)
    kept = {}
    for size in [0, 1, 1023, 1024, 1025, 65535, 65536, most] + [dice.randrange(dice.choice((30, 2000, 100000))) for _ in range(80)]:
        key = f"k{number}-{len(kept)}"
        kept[key] = dice.randbytes(size)
        expect(memcached.ask(f"set {key} 0 0 {size}", kept[key]), b"STORED")
        memcached.command(f"get {key}")
        expect(memcached.values(), {key: kept[key]})
    for _ in range(5):
        keys = dice.sample(sorted(kept), 20)
        memcached.command("get " + " ".join(keys))
        expect(memcached.values(), {key: kept[key] for key in keys})
    expect(memcached.ask(f"set n{number} 0 0 1", b"0"), b"STORED")
    for i in range(1, 301):
        expect(memcached.ask(f"incr n{number} {i}"), str(i * (i + 1) // 2).encode())
    for _ in range(200):
        memcached.command(f"incr n{number} 1")
    expect([memcached.line() for _ in range(200)], [str(45150 + i).encode() for i in range(1, 201)])
    for key in kept:
        expect(memcached.ask("delete " + key), b"DELETED")
    expect(memcached.ask("nonsense"), b"ERROR")
    memcached.command("quit")
    expect(memcached.file.read(), b"")


def main():
    port, connections, most = map(int, sys.argv[1:])
    errors = []

    def one(number):
        try:
            talk(port, number, most)
        except BaseException as error:  # noqa: B902: whatever it is, the main thread has to know
            errors.append(repr(error))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise SystemExit("; ".join(errors))


if __name__ == "__main__":
    main()

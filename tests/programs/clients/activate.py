#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Socket activation as systemd does it: activate.py [-a] COMMAND...

Listens, says "PORT n", and with the first connection becomes COMMAND, whose descriptor 3 is the listener; with -a starts one COMMAND for
each connection, whose descriptor 3 is the connection.
"""
import os
import select
import signal
import socket
import sys


def become(command, sock):
    fd = sock.fileno()
    if fd != 3:
        os.dup2(fd, 3)
    os.set_inheritable(3, True)
    os.closerange(4, 1024)
    os.execvpe(command[0], command, dict(os.environ, LISTEN_FDS="1", LISTEN_PID=str(os.getpid())))


def main():
    each = sys.argv[1] == "-a"
    command = sys.argv[1 + each:]
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    print("PORT", listener.getsockname()[1], flush=True)
    select.select([listener], [], [])
    if not each:
        become(command, listener)
    children = []

    def stop(*_):
        for pid in children:
            os.waitpid(pid, 0)
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    while True:
        sock, _ = listener.accept()
        pid = os.fork()
        if not pid:
            become(command, sock)
        children.append(pid)
        sock.close()


if __name__ == "__main__":
    main()

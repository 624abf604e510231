# SPDX-License-Identifier: BSD-2-Clause
"""Starting processes so that none is ever left behind, and ending exactly those that were started.

Every child dies with the runner (PR_SET_PDEATHSIG), has a session of its own (Ctrl-C reaches only the runner, which
then ends its children in order), and the runner adopts orphans (PR_SET_CHILD_SUBREAPER), such as the worker of a server
whose master was killed.
"""
import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None)


def adopt_orphans():
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))


def own_process(command, enter=None, **options):
    def prepare():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if enter:
            enter()
    return subprocess.Popen(command, start_new_session=True, preexec_fn=prepare, **options)


def wait_usage(process, seconds):
    """Wait for a process's end and return its CPU seconds, children included; None if it took too long."""
    with contextlib.closing(_Pidfd(process.pid)) as pidfd:
        if not select.select([pidfd], [], [], seconds)[0]:
            return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


class _Pidfd:
    def __init__(self, pid):
        self.fd = os.pidfd_open(pid)

    def fileno(self):
        return self.fd

    def close(self):
        os.close(self.fd)


def end(process, seconds=5):
    """Ask a process to end; after `seconds` make it. Returns whether it ended when asked."""
    if process is None or process.returncode is not None:
        return True
    process.terminate()
    if wait_usage(process, seconds) is not None:
        return True
    process.kill()
    process.wait()
    return False


def end_orphans():
    """End what is still below us: all of it was started by what we started."""
    for _ in range(50):
        children = _children(os.getpid())
        if not children:
            return
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _children(parent):
    with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as f:
        return [int(pid) for pid in f.read().split()]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(place):
    """Whether somebody listens at the place; found in /proc, so that the server sees no connection of ours."""
    if place.family == "uds":
        with open("/proc/net/unix", encoding="utf-8") as f:
            return any(line.endswith(" " + place.path + "\n") and line.split()[3] == "00010000" for line in f)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as f:
            for line in f:
                fields = line.split()
                if fields[3] == "0A" and fields[1].endswith(f":{place.port:04X}"):
                    return True
    return False


def wait_listening(place, process, seconds=5):
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        if listening(place):
            return True
        time.sleep(0.01)
    return False

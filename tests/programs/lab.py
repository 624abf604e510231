# SPDX-License-Identifier: BSD-2-Clause
"""What a program test needs: processes with or without the shim, an end to all of them, and what their reports say."""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


NOBODY = 65534


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def need_root():
    if os.geteuid():
        raise Skip("needs root")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def as_user(number, *command):
    return ["setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups", *command]


def adopt_orphans():
    """From now on this process is the parent of those that leave theirs, and Lab.finish() ends them."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def pid_in(path, other_than=None, seconds=10):
    """The process ID in a file, when it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with open(path, encoding="ascii") as file:
                pid = int(file.read())
            if pid != other_than:
                return pid
        except (OSError, ValueError):
            pass
        time.sleep(0.02)
    raise Failure(f"{path} does not tell a process")


def await_end(pid, seconds=10):
    end = time.monotonic() + seconds
    while os.path.exists(f"/proc/{pid}"):
        try:
            os.waitpid(pid, os.WNOHANG)  # one that was adopted
        except ChildProcessError:
            pass
        if time.monotonic() > end:
            raise Failure(f"process {pid} does not end")
        time.sleep(0.02)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


class Lab:
    """One test's processes. `early`: switch as soon as can be, instead of when it pays."""

    def __init__(self, shim, name, early=False):
        self.shim, self.name = shim, name
        self.folder = tempfile.mkdtemp(prefix="nn-programs-")
        os.chmod(self.folder, 0o777)
        self.processes = []
        self.variables = {"NOTNETS_AFTER_CALLS": "0", "NOTNETS_AFTER_BYTES": "0"} if early else {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def lend(self, path):
        """A copy of a file that every user may read. Only its owner may see into a repository in root's home."""
        copy = self.path(os.path.basename(path))
        shutil.copyfile(path, copy)
        os.chmod(copy, 0o755)
        return copy

    def as_nobody(self, command):
        """The command as another user runs it; what the test starts has a shim that this user may read."""
        need("setpriv")
        need_root()
        if self.shim and not self.shim.startswith(self.folder):
            self.shim = self.lend(self.shim)
        return as_user(NOBODY, *command)

    def environment(self, shimmed, side):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NOTNETS_") and k != "LD_PRELOAD"}
        if shimmed and self.shim:
            report = self.path("report-" + side)
            with open(report, "a", encoding="utf-8"):
                os.chmod(report, 0o666)
            environment.update({"LD_PRELOAD": self.shim, "NOTNETS_REPORT": report, **self.variables})
        return environment

    def start(self, command, shimmed, side, **more):
        """Starts a process of `side` ("server" or "client")."""
        errors = open(self.path("stderr"), "ab")
        more.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(command, env=self.environment(shimmed, side), stderr=errors,
                                   cwd=self.folder, start_new_session=True, **more)
        errors.close()
        self.processes.append(process)
        return process

    def server(self, command, shimmed):
        """Starts a server that announces itself; its port."""
        process = self.start(command, shimmed, "server", stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        if not line.startswith("PORT "):
            raise Failure(f"the server did not start: {line}{self.errors()}")
        return int(line.split()[1]), process

    @staticmethod
    def await_port(port, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failure(f"nothing listens on port {port}")

    def run(self, command, shimmed, seconds=60, expect=0):
        """Runs a client to its end; its output."""
        process = self.start(command, shimmed, "client", stdout=subprocess.PIPE, text=True)
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{command[0]} {' '.join(command[1:3])} hangs: no end after {seconds} s\n{self.stacks(process)}") from None
        if process.returncode != expect:
            raise Failure(f"{' '.join(command[:4])}: status {process.returncode}\n{output[-500:]}{self.errors()}")
        return output

    def stacks(self, process):
        """Where the threads of a process that hangs, and of the others, wait."""
        lines = []
        for each in self.processes:
            try:
                for task in os.listdir(f"/proc/{each.pid}/task"):
                    with open(f"/proc/{each.pid}/task/{task}/wchan", encoding="ascii") as file:
                        mark = "*" if each is process else " "
                        lines.append(f"{mark} {each.args[0]} {each.pid}/{task} waits in {file.read()}")
            except OSError:
                pass
        return "\n".join(lines[:30])

    def errors(self):
        try:
            with open(self.path("stderr"), encoding="utf-8", errors="replace") as file:
                return file.read()[-1500:]
        except OSError:
            return ""

    def stop(self, process, number=signal.SIGTERM, seconds=10):
        """Ends a process the orderly way, so that it writes its report."""
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise Failure(f"{process.args[0]} does not end on signal {number}\n{self.stacks(process)}") from None

    def finish(self):
        for process in reversed(self.processes):
            try:
                self.stop(process)
            except Failure:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            if process.stdout:
                process.stdout.close()
        while orphans := children_of(os.getpid()):  # those of an orphan come when it has ended
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def clean(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def reports(self, side):
        found = []
        try:
            with open(self.path("report-" + side), encoding="utf-8") as file:
                for line in file:
                    found.append(json.loads(line))
        except OSError:
            pass
        except ValueError as error:
            raise Failure(f"a report of the {side} is no JSON: {error}: {line}") from None
        return found

    def total(self, side, key):
        return sum(r.get(key, 0) for r in self.reports(side))

    def require_switched(self, sides=("server", "client"), tcp_share=0.25):
        """Both directions were switched, and what TCP carried was only the beginning."""
        if not self.shim:
            return
        for side in sides:
            reports = self.reports(side)
            if not reports:
                raise Failure(f"no report of the {side}")
            sums = {k: self.total(side, k) for k in
                    ("connections", "streams", "switched_up", "tx_ring", "rx_ring", "tx_tcp", "rx_tcp")}
            if not sums["switched_up"] or not sums["tx_ring"] or not sums["rx_ring"]:
                reasons = [r.get("reasons") for r in reports if r.get("connections")]
                raise Failure(f"{side}: nothing was switched: {sums} {reasons}")
            for way in ("tx", "rx"):
                ring, tcp = sums[way + "_ring"], sums[way + "_tcp"]
                if tcp > tcp_share * (ring + tcp):
                    raise Failure(f"{side}: TCP carried {tcp} of {ring + tcp} bytes ({way}): {sums}")

    def require_plain(self, sides=("server", "client")):
        """Nothing was switched, whoever had the shim."""
        for side in sides:
            for report in self.reports(side):
                if report.get("switched_up") or report.get("tx_ring") or report.get("rx_ring") or report.get("streams"):
                    raise Failure(f"{side}: something was switched: {report}")

    def judge(self, server, client, **more):
        if server and client:
            self.require_switched(**more)
        else:
            self.require_plain()
            for side, shimmed in (("server", server), ("client", client)):
                if shimmed and self.shim and not self.reports(side):
                    raise Failure(f"no report of the {side}")

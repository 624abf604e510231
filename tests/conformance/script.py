# SPDX-License-Identifier: BSD-2-Clause
"""The language of the scripts, and how one is played.

    == NAME                     begins a script
    limit TEXT                  a documented limit: a difference is reported as skipped, agreement as a failure
    expect any                  need not switch (default: `expect switched`, checked in the shim's own reports)
    strict                      outcomes that random switches may change: not played with CHAOS
    pair A:c B:s [ADDRESS]      B listens, A connects c, B accepts s
    warm A:c B:s [ROUNDS]       bytes to and fro, so that both directions are switched
    ACTOR OP ARGUMENT...        one operation (ops_*.c); the step ends when it has returned
    ACTOR OP ARGUMENT... &      it must block: the outcome tells whether it did. Collect with `ACTOR ?`
    ACTOR OP ARGUMENT... &&     start it, whether or not it blocks. Collect with `ACTOR ?`
    ... ~                       the outcome does not matter
    ... -> VAR                  keep the private part of the outcome; `$VAR` inserts it later
    ... = VAR                   the private part must be what VAR holds
    kill P SIGNAL, gone P, sleep MS

An actor is a thread: its first letter names the process (A and B are there from the start, forked children take the
name they are given), so A and A2 are two threads of one process. A and B share a Unix socket under the name u.
"""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PLAYER = None
STEP_SECONDS = 8
BLOCK_SECONDS = 0.03


class Script:
    def __init__(self, name):
        self.name = name
        self.lines = []
        self.expect = "switched"
        self.strict = False
        self.limit = ""


def parse_file(path):
    item = None
    with open(path, encoding="ascii") as file:
        for line in file:
            line = line.split("# ")[0].strip()
            if line.startswith("== "):
                if item:
                    yield item
                item = Script(line[3:])
            elif line.startswith("expect "):
                item.expect = line[7:]
            elif line.startswith("limit "):
                item.limit = line[6:]
            elif line == "strict":
                item.strict = True
            elif line and not line.startswith("#"):
                item.lines.append(line)
    if item:
        yield item


class Broken(Exception):
    pass


class Play:
    """One run of a script; `trace` is a list of (step, outcome)."""

    def __init__(self, item, shim, chaos):
        self.trace, self.stderr, self.reports = [], [], []
        self.broken = ""
        self.links, self.pids, self.buffers = {}, {}, {}
        self.answers, self.open_steps, self.vars = {}, {}, {}
        self.serial = 0
        self.folder = tempfile.mkdtemp(prefix="nn-conformance-")
        self.children = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.folder + "/control")
        self.listener.listen(8)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NOTNETS_") and k != "LD_PRELOAD"}
        if shim:
            environment.update(LD_PRELOAD=shim, NOTNETS_AFTER_CALLS="0", NOTNETS_AFTER_BYTES="0",
                NOTNETS_REPORT=self.folder + "/report")
            for name in ("NOTNETS_LOG", "NOTNETS_ARENA", "NOTNETS_RING_MAX", "NOTNETS_SPIN"):
                if name in os.environ:
                    environment[name] = os.environ[name]
            if chaos:
                environment["NOTNETS_CHAOS"] = str(chaos)
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            for name, end in zip("AB", pair):
                with open(self.folder + "/stderr", "ab") as errors:
                    self.children.append(subprocess.Popen(
                        [PLAYER, self.folder + "/control", name, f"u={end.fileno() + 500}"],
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment,
                        close_fds=True, pass_fds=(self.high(end),)))
                self.greet(name)
            self.close_high()
            for end in pair:
                end.close()
            for line in item.lines:
                self.step(line)
            for actor in list(self.open_steps):
                raise Broken(f"{actor} has a step that was not collected")
        except Broken as error:
            self.broken = str(error)
        finally:
            self.finish()

    # Inherited descriptors sit at numbers that no other allocation of the player meets.
    def high(self, end):
        self.highs = getattr(self, "highs", [])
        number = end.fileno() + 500
        os.dup2(end.fileno(), number, inheritable=False)
        self.highs.append(number)
        return number

    def close_high(self):
        for number in self.highs:
            os.close(number)

    def greet(self, name):
        """Waits until the process `name` has said hello."""
        end = time.monotonic() + STEP_SECONDS
        self.listener.settimeout(0.25)
        while time.monotonic() < end:
            try:
                link, _ = self.listener.accept()
                break
            except TimeoutError:
                if any(c.poll() not in (None, 0, -9) for c in self.children):
                    raise Broken("a player ended: " + str([c.returncode for c in self.children]))
        else:
            raise Broken(f"{name} has not started")
        link.settimeout(STEP_SECONDS)
        line = b""
        while not line.endswith(b"\n"):
            got = link.recv(1)
            if not got:
                raise Broken(f"{name} has ended at once")
            line += got
        _, who, pid = line.decode().split()
        if who != name:
            raise Broken(f"{who} came instead of {name}")
        self.links[name], self.pids[name], self.buffers[name] = link, int(pid), b""

    def read(self, seconds):
        """Takes in what the players have to say; False when nothing came."""
        links = {link: name for name, link in self.links.items() if link}
        ready = select.select(list(links), [], [], seconds)[0] if links else []
        for link in ready:
            name = links[link]
            try:
                data = link.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                link.close()
                self.links[name] = None
                continue
            *lines, self.buffers[name] = (self.buffers[name] + data).split(b"\n")
            for line in lines:
                number, _, outcome = line.decode().partition(" ")
                self.answers[number] = outcome
        return bool(ready)

    def await_answer(self, number, process, seconds):
        end = time.monotonic() + seconds
        while number not in self.answers:
            left = end - time.monotonic()
            if left <= 0:
                return None
            if not self.links.get(process):
                return "process has ended"
            self.read(left)
        return self.answers.pop(number)

    def send(self, actor, words):
        self.serial += 1
        link = self.links.get(actor[0])
        if not link:
            ends = [c.poll() for c in self.children]
            raise Broken(f"{actor[0]} has ended (statuses {ends}) before: {words}")
        try:
            link.sendall(f"{self.serial} {actor} {words}\n".encode())
        except OSError:
            pass
        return str(self.serial)

    def note(self, step, outcome):
        if "SCRIPT-ERROR" in outcome:
            raise Broken(f"{step}: {outcome}")
        self.trace.append((step, outcome.rstrip()))

    def collect(self, step, actor, number):
        outcome = self.await_answer(number, actor[0], STEP_SECONDS)
        if outcome is None:
            raise Broken(f"{step}: hangs; TIMEOUT after {STEP_SECONDS} s")
        return outcome

    def step(self, line):
        line = re.sub(r"\$(\w+)", lambda m: self.vars.get(m[1], m[0]), line)
        shown = re.sub(r"(\S+ f?connect \S+ \S+|reuseport) [1-9]\d*", r"\1 PORT", line)
        words = line.split()
        if words[0] == "pair":
            self.pair(words[1:])
        elif words[0] == "warm":
            self.warm(words[1:])
        elif words[0] == "sleep":
            time.sleep(int(words[1]) / 1000)
        elif words[0] == "kill":
            os.kill(self.pids[words[1]], getattr(signal, "SIG" + words[2]))
        elif words[0] == "gone":
            end = time.monotonic() + STEP_SECONDS
            while self.links.get(words[1]) and time.monotonic() < end:
                self.read(0.1)
            self.note(shown, "still there" if self.links.get(words[1]) else "gone")
            for actor in [a for a in self.open_steps if a[0] == words[1]]:
                del self.open_steps[actor]
            for child in self.children:
                if child.pid == self.pids[words[1]]:
                    child.wait(STEP_SECONDS)
        elif words[1] == "?":
            number = self.open_steps.pop(words[0])
            self.note(shown, self.collect(line, words[0], number).partition("#")[0])
        else:
            self.operation(line, shown, words)

    def operation(self, line, shown, words):
        actor, text = words[0], line.partition(" ")[2]
        mode = ""
        if match := re.search(r" (&&|&|~|-> (\w+)|= (\w+))$", text):
            mode, text = match[1], text[:match.start()]
        if words[1] == "tkill":
            text = f"tkill {int(getattr(signal, 'SIG' + words[2]))}"
        number = self.send(actor, text)
        if words[1] == "exec":
            old = self.links.pop(actor[0])  # closing it now would end the player before it execs
            self.greet(words[2])
            old.close()
            return
        if mode == "&":
            outcome = self.await_answer(number, actor[0], BLOCK_SECONDS)
            if outcome is None:
                self.open_steps[actor] = number
                self.note(shown, "blocks")
            else:
                self.answers[number] = outcome
                self.open_steps[actor] = number
                self.note(shown, "does not block")
            return
        if mode == "&&":
            self.open_steps[actor] = number
            return
        outcome, _, private = self.collect(line, actor, number).partition("#")
        if words[1] == "fork":
            self.greet(words[2])
        if mode == "~":
            outcome = "whatever"
        if mode.startswith("->"):
            self.vars[mode[3:]] = private
        elif mode.startswith("="):
            outcome += " same" if private == self.vars.get(mode[2:]) else f" {private} instead of {self.vars.get(mode[2:])}"
        self.note(shown, outcome)

    def ask(self, actor, text):
        outcome = self.collect(f"{actor} {text}", actor, self.send(actor, text))
        self.note(re.sub(r"(connect \S+ \S+) \d+", r"\1 PORT", f"{actor} {text}"), outcome.partition("#")[0])
        return outcome.partition("#")[2]

    def pair(self, words):
        (actor, name), (other, accepted) = words[0].split(":"), words[1].split(":")
        address = words[2] if len(words) > 2 else "127.0.0.1"
        wildcard = address if ":" not in address or "." not in address else "::"
        port = self.ask(other, f"listen tmp {wildcard}")
        self.ask(actor, f"connect {name} {address} {port}")
        self.ask(other, f"accept tmp {accepted}")
        self.ask(other, "close tmp")

    def warm(self, words):
        (actor, name), (other, accepted) = words[0].split(":"), words[1].split(":")
        rounds = words[2] if len(words) > 2 else "40"
        second = self.send(other, f"warm {accepted} 0 {rounds}")
        first = self.send(actor, f"warm {name} 1 {rounds}")
        for who, number in ((actor, first), (other, second)):
            self.note(f"{who} warm", self.collect("warm " + " ".join(words), who, number))

    def finish(self):
        for link in self.links.values():
            if link:
                link.close()
        self.listener.close()
        for child in self.children:
            try:
                child.wait(3)
            except subprocess.TimeoutExpired:
                if not self.broken:
                    self.broken = f"process {child.pid} does not end"
                child.kill()
                child.wait()
            if child.returncode not in (0, -9, 7) and not self.broken:
                self.broken = f"a player ended with status {child.returncode}"
        for pid in self.pids.values():
            if pid not in [c.pid for c in self.children]:
                self.end_stray(pid)
        for name in ("report", "stderr"):
            try:
                with open(self.folder + "/" + name, encoding="utf-8", errors="replace") as file:
                    lines = file.read().splitlines()
            except OSError:
                continue
            if name == "stderr":
                self.stderr = ["  stderr: " + line for line in lines[-12:]]
            else:
                for line in lines:
                    try:
                        self.reports.append(json.loads(line))
                    except ValueError:
                        self.broken = self.broken or "a report is no JSON: " + line[:200]
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def end_stray(pid):
        """A forked child ends by itself when its control connection does; one that hangs is killed."""
        for _ in range(100):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if b"player" not in file.read():
                        return
            except OSError:
                return
            time.sleep(0.01)
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass

    def switched(self):
        return (sum(r.get("switched_up", 0) for r in self.reports) > 0
            and any(r.get("tx_ring", 0) > 0 for r in self.reports)
            and any(r.get("rx_ring", 0) > 0 for r in self.reports))


def play(item, shim, chaos):
    return Play(item, shim, chaos)

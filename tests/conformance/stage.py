# SPDX-License-Identifier: BSD-2-Clause
"""Where scripts are played: a conductor (conductor.c) with its folder. A sitting is what the same two processes play."""
import json
import os
import shutil
import signal
import subprocess
import tempfile

import script

PASSED_ON = ("NOTNETS_LOG", "NOTNETS_ARENA", "NOTNETS_RING_MIN", "NOTNETS_RING_MAX", "NOTNETS_SPIN")


class Play:
    """What came of one script: `trace`, or why there is none that could be compared (`broken`)."""

    def __init__(self, trace, broken=""):
        self.trace, self.broken = trace, broken


class Stage:
    def __init__(self, build, shim):
        """Kernel TCP alone if `shim` is None."""
        self.shim = shim
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="nn-conformance-", dir=memory)
        programs = os.path.abspath(os.path.join(build, "tests/conformance"))
        clean = {k: v for k, v in os.environ.items() if not k.startswith("NOTNETS_") and k != "LD_PRELOAD"}
        self.conductor = subprocess.Popen([programs + "/conductor", self.folder, programs + "/player"], env=clean,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1 << 16, process_group=0)
        self.sitting = False
        self.reports, self.stderr, self.broken = [], [], ""

    def ask(self, text):
        """The conductor's answers to one command, and what is wrong."""
        self.conductor.stdin.write(text.encode())
        self.conductor.stdin.flush()
        answers = {}
        for line in self.conductor.stdout:
            word, _, rest = line.decode(errors="replace").rstrip("\n").partition(" ")
            if word == "ok":
                return answers, ""
            if word == "broken":
                return answers, rest or "broken"
            answers[int(word)] = rest
        return answers, "the conductor has ended"

    def begin(self, chaos=0, environment=()):
        words = []
        if self.shim:
            words = [f"LD_PRELOAD={self.shim}", "NOTNETS_AFTER_CALLS=0", "NOTNETS_AFTER_BYTES=0",
                f"NOTNETS_REPORT={self.folder}/report"]
            words += [f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]
            words += [f"NOTNETS_CHAOS={chaos}"] if chaos else []
            words += environment
        self.sitting, self.broken = True, ""
        for name in ("report", "stderr"):
            if os.path.exists(self.folder + "/" + name):
                os.unlink(self.folder + "/" + name)
        self.broken = self.ask("begin " + " ".join(words) + "\n")[1]

    def play(self, program, seconds=8):
        if self.broken:
            return Play([], self.broken)
        text = f"play {len(program.instructions)} {seconds}\n" + "\n".join(program.instructions) + "\n"
        outcomes, self.broken = self.ask(text)
        try:
            return Play(program.trace(outcomes), self.broken)
        except script.Invalid as error:
            return Play([], str(error))

    def between(self):
        """Two scripts of one sitting have nothing in common but the processes."""
        if not self.broken:
            _, self.broken = self.ask("play 3\nnothing 0\ndirect 0 0 reset\ndirect 1 0 reset\n")

    def end(self):
        """Ends the sitting: `reports` of the shims, last words on `stderr`, and whether it ended well."""
        if not self.sitting:
            return
        self.sitting = False
        broken = self.ask("end\n")[1]
        self.broken = self.broken or broken
        self.reports, self.stderr = [], []
        for line in self.lines("report"):
            try:
                self.reports.append(json.loads(line))
            except ValueError:
                self.broken = self.broken or "a report is no JSON: " + line[:200]
        self.stderr = ["  stderr: " + line for line in self.lines("stderr")[-12:]]

    def lines(self, name):
        try:
            with open(self.folder + "/" + name, encoding="utf-8", errors="replace") as file:
                return file.read().splitlines()
        except OSError:
            return []

    def close(self):
        self.end()
        self.conductor.stdin.close()
        try:
            self.conductor.wait(10)
        except subprocess.TimeoutExpired:
            self.conductor.send_signal(signal.SIGKILL)
            self.conductor.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def switched(self):
        """How many directions have gone up, by all reports of the sitting; 0 unless bytes went both ways through rings."""
        if not any(r.get("tx_ring", 0) for r in self.reports) or not any(r.get("rx_ring", 0) for r in self.reports):
            return 0
        return sum(r.get("switched_up", 0) for r in self.reports)

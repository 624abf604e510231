# SPDX-License-Identifier: BSD-2-Clause
"""Plays scripts on both stages and says whether they tell the same story.

TCP may answer in more than one way: its own threads, timers and interrupts have a part in it. What the shim answered is then
one of the answers that TCP gives to the very same script, from its first step to its last; nothing else is forgiven.
"""
import script
import stage

SECOND_OPINIONS = 3


class Verdict:
    def __init__(self, word, lines=(), twofold="", fault="shim"):
        self.word, self.lines = word, list(lines)
        self.twofold = twofold  # the step that TCP answered in more than one way
        self.fault = fault      # of a failure: "script", if it is none of the shim's

    def failed(self):
        return self.word != "ok"


def first_difference(tcp, shim):
    for i, (a, b) in enumerate(zip(tcp, shim)):
        if a != b:
            before = tcp[max(0, i - 8):i]
            return [f"  {step} -> {outcome}" for step, outcome in before] + [
                f"  {a[0]}", f"    TCP:  {a[1]}", f"    shim: {b[1]}"]
    return [f"  TCP ends after {len(tcp)} steps, the shim after {len(shim)}"]


def step_of_difference(tcp, shim):
    return next((a[0] for a, b in zip(tcp, shim) if a != b), "end")


class Judge:
    def __init__(self, build, shim):
        self.build = build
        self.tcp = stage.Stage(build, None)
        self.other = stage.Stage(build, shim)

    def close(self):
        self.tcp.close()
        self.other.close()

    def sitting(self, items, chaos, environment=(), seconds=8):
        """Verdicts on scripts that are played by the same processes, up to the first that fails, and on the sitting as a
        whole: (verdicts, verdict)."""
        verdicts, wanted = [], 0
        self.tcp.begin()
        self.other.begin(chaos, environment)
        for number, item in enumerate(items):
            if number:
                self.tcp.between()
                self.other.between()
            verdicts.append(self.script(items[:number + 1], item, seconds))
            if any(" exec " in line for line in item.lines):
                wanted = 0  # what the image before had counted is gone
            wanted += item.expect == "switched"
            if verdicts[-1].failed():
                break
        self.tcp.end()
        self.other.end()
        if verdicts[-1].failed():
            verdicts[-1].lines += self.other.stderr
            return verdicts, Verdict("ok")
        if self.tcp.broken or self.other.broken:
            return verdicts, Verdict("not ok", ["  at the end: " + (self.tcp.broken or self.other.broken)] + self.other.stderr)
        if self.other.shim and wanted and self.other.switched() < wanted:
            return verdicts, Verdict("not ok", [f"  nothing was switched: {self.other.reports}"])
        return verdicts, Verdict("ok")

    def script(self, played, item, seconds):
        """A verdict on the last of the scripts that were `played` in this sitting."""
        try:
            program = script.Program(item)
        except script.Invalid as error:
            return Verdict("not ok", [f"  the script is wrong: {error}"], fault="script")
        tcp = self.tcp.play(program, seconds)
        if tcp.broken:
            return Verdict("not ok", ["  the script fails on TCP itself: " + tcp.broken], fault="script")
        other = self.other.play(program, seconds)
        if other.broken:
            return Verdict("not ok", ["  with the shim: " + other.broken] + [f"  {s} -> {o}" for s, o in other.trace[-6:]])
        told = [f"  {s} -> {o}" for s, o in tcp.trace]
        if tcp.trace == other.trace:
            return Verdict("ok", told)
        if self.is_tcps(played, other.trace):
            return Verdict("ok", told, step_of_difference(tcp.trace, other.trace))
        return Verdict("not ok", first_difference(tcp.trace, other.trace))

    def is_tcps(self, played, trace):
        """Does TCP give this answer, too? It plays all that came before again, in a sitting of its own."""
        with Once(self.build) as tcp:
            for _ in range(SECOND_OPINIONS):
                tcp.begin()
                for item in played:
                    last = tcp.play(script.Program(item))
                    tcp.between()
                tcp.end()
                if last.trace == trace:
                    return True
        return False


class Once:
    """A stage of plain TCP for the time of a block."""

    def __init__(self, build):
        self.build = build

    def __enter__(self):
        self.stage = stage.Stage(self.build, None)
        return self.stage

    def __exit__(self, *_):
        self.stage.close()

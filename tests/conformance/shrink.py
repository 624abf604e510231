# SPDX-License-Identifier: BSD-2-Clause
"""Makes a script that fails as short as it gets: lines are left out, more at a time first, while it still fails on the shim
and stays a valid script on kernel TCP (delta debugging)."""
import re
import time

import script

SECONDS = 2  # longest step of a script that is being tried
TRIES_BY_CHANCE = 8
PATIENCE = 60  # seconds for one script: what hangs takes SECONDS each time


def tidy(lines):
    """Without steps that make no sense any more: collecting what has not begun, and what is never collected."""
    while True:
        open_steps, kept, dropped = {}, [], set()
        for number, line in enumerate(lines):
            words = line.split()
            actor = words[0]
            if words[0] in ("pair", "again", "warm", "sleep", "kill"):
                continue
            if words[0] == "gone":
                for a in [a for a in open_steps if a[0] == words[1]]:
                    del open_steps[a]
            elif words[1] == "?":
                if actor not in open_steps:
                    dropped.add(number)
                open_steps.pop(actor, None)
            elif words[1] in ("!", "tkill", "cancel"):
                if actor not in open_steps:
                    dropped.add(number)
            elif line.endswith(("&", "&&")):
                if actor in open_steps:
                    dropped.add(number)
                else:
                    open_steps[actor] = number
            elif actor in open_steps and words[1] != "exec":
                dropped.add(number)
        dropped |= set(open_steps.values())
        if not dropped:
            return lines
        lines = [line for number, line in enumerate(lines) if number not in dropped]


class Shrinker:
    def __init__(self, judge, item, chaos):
        self.judge, self.item, self.chaos = judge, item, chaos
        self.known = {}
        self.end = time.monotonic() + PATIENCE

    def fails(self, lines):
        """The verdict if these lines fail by the shim's fault, else None."""
        lines = tidy(lines)
        key = "\n".join(lines)
        if key not in self.known and time.monotonic() > self.end:
            return None
        if key not in self.known:
            self.known[key] = self.try_out(lines)
        return self.known[key]

    def try_out(self, lines):
        candidate = self.item.same_with(lines)
        for _ in range(TRIES_BY_CHANCE if self.chaos else 1):
            verdicts, whole = self.judge.sitting([candidate], self.chaos, candidate.environment, SECONDS)
            verdict = verdicts[0] if verdicts[0].failed() else whole
            if verdict.failed():
                return verdict if verdict.fault == "shim" else None
        return None

    def shrink(self):
        """(lines, verdict) of the shortest script found; None if it does not even fail by itself."""
        lines = self.item.lines
        if not self.fails(lines) and not self.fails(lines):
            return None
        lines = self.leave_out(tidy(lines))
        lines = self.simplify(lines)
        return lines, self.fails(lines)

    def leave_out(self, lines):
        portion = len(lines) // 2
        while portion:
            at = len(lines)
            while at > 0:
                fewer = tidy(lines[:max(0, at - portion)] + lines[at:])
                if len(fewer) < len(lines) and self.fails(fewer):
                    lines = fewer
                at = min(at - portion, len(lines))
            portion //= 2
        return lines

    def simplify(self, lines):
        """Plain names and numbers, where they do not matter."""
        for pattern, plain in ((r"^([A-Z])\d+ ", r"\1 "), (r" (::1|::ffff:127.0.0.1|127.0.0.[12])$", ""),
                (r"^(warm \S+ \S+) \d+$", r"\1"), (r"@\d+", "@1"), (r" (NOSIGNAL|EOR|DONTWAIT|0)$", "")):
            for number, line in enumerate(lines):
                other = lines[:number] + [re.sub(pattern, plain, line)] + lines[number + 1:]
                if other != lines and tidy(other) == other and self.fails(other):
                    lines = other
        return lines


def as_text(item, lines):
    """Ready to be pasted into a *.script file."""
    head = [f"== {item.name}"] + ([f"with {' '.join(item.environment)}"] if item.environment else []) + ["expect any"]
    return head + lines


def report(judge, item, chaos):
    """Lines to print of a script that failed."""
    try:
        short = Shrinker(judge, item, chaos).shrink()
    except script.Invalid as error:
        return [f"  cannot be shrunk: {error}"]
    if not short:
        return ["  does not fail by itself"]
    lines, verdict = short
    return ["  shrunk:"] + ["    " + line for line in as_text(item, lines)] + ["  which says:"] + verdict.lines

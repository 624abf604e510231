# SPDX-License-Identifier: BSD-2-Clause
"""The language of the scripts, and what becomes of one before it is played.

    == NAME                     begins a script
    limit TEXT                  a documented limit: a difference is reported as skipped, agreement as a failure
    expect any                  need not switch (default: `expect switched`, checked in the shim's own reports)
    strict                      outcomes that random switches may change: not played with CHAOS
    with NAME=VALUE...          what the shim finds in its environment
    pair A:c B:s [ADDRESS]      B listens, A connects c, B accepts s
    again A:c B:s [ADDRESS]     the same with the socket that A has
    warm A:c B:s [ROUNDS]       bytes to and fro, so that both directions are switched
    ACTOR OP ARGUMENT...        one operation (ops_*.c); the step ends when it has returned
    ACTOR OP ARGUMENT... &      it must block: the outcome tells whether it did. Collect with `ACTOR ?`
    ACTOR OP ARGUMENT... &&     start it, whether or not it blocks. Collect with `ACTOR ?`
    ACTOR !                     does what it has started block (again)?
    ... ~                       the outcome does not matter
    ... %NAME                   the outcomes of the steps %NAME may come in any order: one of several threads gets something
    ... -> VAR                  keep the private part of the outcome; `$VAR` inserts it later
    ... = VAR                   the private part must be what VAR holds
    kill P SIGNAL, gone P, sleep MS

An actor is a thread: its first letter names the process (A and B are there from the start, forked children take the
name they are given), so A and A2 are two threads of one process. A and B share a Unix socket under the name u.
"""
import re
import signal

MODE = re.compile(r" (&&|&|~|%(\w+)|-> (\w+)|= (\w+))$")


class Script:
    def __init__(self, name, lines=()):
        self.name = name
        self.lines = list(lines)
        self.expect = "switched"
        self.strict = False
        self.limit = ""
        self.environment = []

    def same_with(self, lines):
        """The same script of other lines."""
        other = Script(self.name, lines)
        other.expect, other.strict, other.environment = "any", self.strict, self.environment
        return other


def parse(lines):
    item = None
    for line in lines:
        line = line.split("# ")[0].strip()
        if line.startswith("== "):
            if item:
                yield item
            item = Script(line[3:])
        elif line.startswith("expect "):
            item.expect = line[7:]
        elif line.startswith("limit "):
            item.limit = line[6:]
        elif line.startswith("with "):
            item.environment = line[5:].split()
        elif line == "strict":
            item.strict = True
        elif line and not line.startswith("#"):
            item.lines.append(line)
    if item:
        yield item


def parse_file(path):
    with open(path, encoding="ascii") as file:
        yield from parse(file)


class Invalid(Exception):
    """A mistake in the script itself."""


class Note:
    """What is compared of one step: the outcome of instruction `index`."""

    def __init__(self, shown, index, mode="", word=""):
        self.shown, self.index, self.mode, self.word = shown, index, mode, word


class Program:
    """A script as the conductor takes it (`instructions`), and what to make of the outcomes (`notes`)."""

    def __init__(self, item):
        self.instructions, self.notes = ["nothing 0"], []
        self.open_steps, self.vars = {}, {}
        self.blocked = set()
        for line in item.lines:
            try:
                self.line(line)
                self.settle()
            except (KeyError, IndexError, ValueError) as error:
                raise Invalid(f"{line}: {error!r}") from error
        if self.open_steps:
            raise Invalid(f"{', '.join(self.open_steps)}: a step that was not collected")

    def settle(self):
        """Whom the last step has woken is let run: what happens next must not be able to change what it finds."""
        for index in self.open_steps.values():
            if index in self.blocked:
                self.emit(f"settle {index}")

    def emit(self, instruction):
        self.instructions.append(instruction)
        return len(self.instructions) - 1

    def act(self, how, actor, text):
        return self.emit(f"{how} {ord(actor[0]) - 65} {int(actor[1:] or 0)} {text}")

    def line(self, line):
        words = line.split()
        if words[0] == "pair":
            self.pair(words[1:])
        elif words[0] == "again":
            self.again(words[1:])
        elif words[0] == "warm":
            self.warm(words[1:])
        elif words[0] == "sleep":
            self.emit(f"sleep {int(words[1])}")
        elif words[0] == "kill":
            self.emit(f"kill {ord(words[1]) - 65} {int(getattr(signal, 'SIG' + words[2]))}")
        elif words[0] == "gone":
            self.notes.append(Note(line, self.emit(f"gone {ord(words[1]) - 65}")))
            for actor in [a for a in self.open_steps if a[0] == words[1]]:
                del self.open_steps[actor]
        elif words[1] == "?":
            index, mode, word = self.open_steps.pop(words[0]), "", ""
            if match := MODE.search(line):
                mode, word = match[1], match[2] or match[3] or match[4]
            self.emit(f"collect {index}")
            self.note(line, index, mode, word)
        elif words[1] == "!":
            self.notes.append(Note(line, self.emit(f"watch {self.open_steps[words[0]]}")))
        else:
            self.operation(line, words)

    def note(self, line, index, mode, word):
        if mode.startswith("->"):
            self.vars[word] = index
            mode = ""
        self.notes.append(Note(line, index, mode[:1], self.vars[word] if mode.startswith("=") else word))

    def operation(self, line, words):
        actor, text = words[0], line.partition(" ")[2]
        mode = word = ""
        if match := MODE.search(" " + text):
            mode, text = match[1], text[:match.start() - 1]
            word = match[2] or match[3] or match[4]
        text = re.sub(r"\$(\w+)", lambda m: f"{{{self.vars[m[1]]}}}" if m[1] in self.vars else m[0], text)
        if words[1] in ("tkill", "cancel"):
            number = f" {int(getattr(signal, 'SIG' + words[2]))}" if words[1] == "tkill" else ""
            self.note(line, self.act("direct", actor, words[1] + number), mode, word)
        elif words[1] == "exec":
            self.act("start", actor, text)
            self.emit(f"greet {ord(words[2]) - 65}")
        elif mode in ("&", "&&"):
            if actor in self.open_steps:
                raise ValueError("busy")
            self.open_steps[actor] = self.act("start", actor, text)
            if mode == "&":
                self.blocked.add(self.open_steps[actor])
                self.notes.append(Note(line, self.emit(f"watch {self.open_steps[actor]}")))
        else:
            if actor in self.open_steps:
                raise ValueError("busy")
            self.note(line, self.act("run", actor, text), mode, word)
            if words[1] == "fork":
                self.emit(f"greet {ord(words[2]) - 65}")

    def ask(self, actor, text, shown=None):
        index = self.act("run", actor, text)
        self.notes.append(Note(f"{actor} {shown or text}", index))
        return index

    def again(self, words):
        self.pair(words, "reconnect")

    def pair(self, words, connect="connect"):
        (actor, name), (other, accepted) = words[0].split(":"), words[1].split(":")
        address = words[2] if len(words) > 2 else "127.0.0.1"
        wildcard = address if ":" not in address or "." not in address else "::"
        port = self.ask(other, f"listen tmp {wildcard}")
        self.ask(actor, f"{connect} {name} {address} {{{port}}}", f"{connect} {name} {address} PORT")
        self.ask(other, f"accept tmp {accepted}")
        self.ask(other, "close tmp")

    def warm(self, words):
        (actor, name), (other, accepted) = words[0].split(":"), words[1].split(":")
        rounds = words[2] if len(words) > 2 else "40"
        second = self.act("start", other, f"warm {accepted} 0 {rounds}")
        self.ask(actor, f"warm {name} 1 {rounds}")
        self.emit(f"collect {second}")
        self.notes.append(Note(f"{other} warm", second))

    def trace(self, outcomes):
        """[(step, outcome)] as far as the outcomes go. Raises Invalid where a player did not understand its step."""
        found, groups = [], {}
        for note in self.notes:
            if note.index not in outcomes:
                break
            outcome, _, private = outcomes[note.index].partition("#")
            if "SCRIPT-ERROR" in outcome:
                raise Invalid(f"{note.shown}: {outcome}")
            if note.mode == "~":
                outcome = "whatever"
            elif note.mode == "=":
                kept = outcomes.get(note.word, "").partition("#")[2]
                outcome += " same" if private == kept else f" {private} instead of {kept}"
            elif note.mode == "%":
                groups.setdefault(note.word, []).append(len(found))
            found.append((note.shown, outcome.rstrip()))
        for members in groups.values():
            outcomes = sorted(found[i][1] for i in members)
            for i, outcome in zip(members, outcomes):
                found[i] = (found[i][0], outcome)
        return found

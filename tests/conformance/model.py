# SPDX-License-Identifier: BSD-2-Clause
"""What a generated script has done so far: connections, their bytes, who holds them, and who sleeps on them.

The model is there so that no step hangs and every outcome is TCP's only one. It does not predict outcomes, kernel TCP does
that; so it only knows what decides whether a call must return: bytes that wait, ends, non-blocking descriptors, sleepers.
"""
import os
import random


class End:
    """One end of a connection; `waiting` bytes lie there unread."""

    def __init__(self, process, fd):
        self.refs = [(process, fd)]  # who has it under which name
        self.peer = None
        self.waiting = 0
        self.shut = self.shut_rd = False
        self.closed = False    # nobody has it any more
        self.reset = False     # a reset came, or may have come: no call waits any more
        self.nonblocking = False
        self.timeout = False   # SO_RCVTIMEO is set
        self.lowat = 1
        self.full = None       # the variable that knows what fills the direction from here
        self.warmed = False
        self.witnesses = set()  # processes that have counted what it did since then
        self.kept_on_tcp = False  # a call that needs TCP came before it was up
        self.reader = None     # the Sleeper that waits for something to come
        self.sets = []         # (process, set, name), edges or not
        self.edges = False     # an edge-triggered set has it

    def ended(self):
        """Nothing more comes after the waiting bytes."""
        return self.peer.shut or self.peer.closed or self.reset or self.shut_rd

    def can_send(self):
        return not self.shut and not self.closed and not self.peer.closed and not self.reset and not self.peer.shut_rd \
            and not self.full

    def quiet(self):
        """Both directions stand still and nobody sleeps: what is done to a descriptor now tears nothing."""
        return not self.waiting and not self.peer.waiting and not self.full and not self.peer.full \
            and not self.reader and not self.peer.reader


class Sleeper:
    """A step that blocks: collected by `actor ?`, and then `takes` bytes are gone."""

    def __init__(self, actor, end, takes, restarts):
        self.actor, self.end, self.takes = actor, end, takes
        self.restarts = restarts  # a signal with SA_RESTART lets it sleep on


class Model:
    def __init__(self, seed, tolerant, limit):
        self.dice = random.Random(seed)
        self.tolerant = tolerant  # random switches: only outcomes they cannot change
        self.limit = limit        # bytes on their way in one direction: less than the smallest buffer takes
        # spliceout takes the direction down, which an edge-triggered set may see as one edge more than TCP has: a script has
        # the one or the other.
        self.moves_down = seed % 2 == 0
        self.lines, self.names = [], 0
        self.ends = []
        self.processes = ["A", "B"]
        self.handlers = {}      # process: None, "" or "restart", of SIGUSR1
        self.others = {}        # process: [(name, kind)]: pipes, eventfds, timers
        self.sets = {}          # (process, set): "level" or "edge"
        self.ends_sitting = False
        # Differences that are known and not mended yet: OPEN=1 has scripts run into them.
        self.open_questions = os.environ.get("OPEN") == "1"
        self.inq = False        # somebody has asked for TCP_INQ
        self.next_process = "C"

    # ---- small things

    def add(self, text):
        self.lines.append(text)

    def name(self, letter):
        self.names += 1
        return f"{letter}{self.names}"

    def chance(self, p):
        return self.dice.random() < p

    def size(self, most):
        return min(most, self.dice.choice((1, 2, 7, 60, 700, self.limit // 5, self.limit // 3)) + self.dice.randrange(3))

    def data(self, size):
        return f"{size}@{self.dice.randrange(1000)}" if size else "''"

    def ref(self, end):
        """(actor, name) to do something with the end now; any thread that does not sleep."""
        process, fd = self.dice.choice(end.refs)
        return self.awake(process), fd

    def awake(self, process):
        busy = {e.reader.actor for e in self.ends if e.reader}
        free = [a for a in (process, process, process + "1", process + "2", process + "3") if a not in busy]
        return self.dice.choice(free)

    def asleep(self, process):
        """A name for a thread that will sleep."""
        busy = {e.reader.actor for e in self.ends if e.reader}
        return next(process + str(n) for n in (7, 8, 9, 6) if process + str(n) not in busy)

    def open_ends(self):
        return [end for end in self.ends if not end.closed]

    # ---- connections

    def connect(self):
        a, b = End("A", self.name("c")), End("B", self.name("s"))
        if self.chance(0.3):
            a.refs, b.refs = [("B", a.refs[0][1])], [("A", b.refs[0][1])]
        if self.chance(0.05):
            b.refs = [(a.refs[0][0], b.refs[0][1])]  # both ends in one process
        if not all(process in self.processes for end in (a, b) for process, _ in end.refs):
            return
        a.peer, b.peer = b, a
        address = self.dice.choice(("127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.2"))
        (p, c), (q, s) = a.refs[0], b.refs[0]
        self.add(f"pair {p}:{c} {q}{'5' if p == q else ''}:{s} {address}")
        self.ends += [a, b]
        if self.chance(0.75):
            self.warm(a)

    def warm(self, end, rounds=None):
        other = end.peer
        if not end.quiet() or not other.quiet() or not end.can_send() or not other.can_send():
            return
        if end.lowat > 1 or other.lowat > 1 or end.timeout or other.timeout:
            return
        (p, fd), (q, peer_fd) = self.dice.choice(end.refs), self.dice.choice(other.refs)
        rounds = rounds or self.dice.choice((2, 5, 8, 12, 20))
        self.add(f"warm {p}:{fd} {q}{'5' if p == q else ''}:{peer_fd} {rounds}")
        # Each end must have looked for the other some calls long.
        if rounds >= 12 and len(end.refs) == len(other.refs) == 1:
            end.warmed = other.warmed = True
            end.witnesses |= {p, q}

    # ---- what happens to the ends

    def wake(self, end):
        """Something has come that ends the sleep of the end's reader."""
        if end.reader:
            reader, end.reader = end.reader, None
            self.add(f"{reader.actor} ?")
            end.waiting -= min(reader.takes, end.waiting)

    def drop(self, end, process, fd):
        """A reference is gone; the last one ends the connection, by a reset if something is unread."""
        end.refs.remove((process, fd))
        if end.refs or end.closed:
            return
        end.closed = True
        peer = end.peer
        if end.waiting or end.reset:
            peer.reset = True
        if end.full:
            peer.reset = True
        if peer.peer is end:
            self.wake(peer)

    def dropped_by(self, process):
        """The process is gone with all that it held."""
        for end in self.ends:
            for ref in [r for r in end.refs if r[0] == process]:
                self.drop(end, *ref)
            end.sets = [s for s in end.sets if s[0] != process]
        self.processes.remove(process)
        self.others.pop(process, None)
        for key in [k for k in self.sets if k[0] == process]:
            del self.sets[key]

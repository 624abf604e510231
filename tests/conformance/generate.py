# SPDX-License-Identifier: BSD-2-Clause
"""Scripts from a seed: random operations on one or two connections, with a model of what may block.

The model knows how many bytes wait at each end and which directions have ended, so that a step that must return never
blocks, and one that must block is marked so. Sizes stay far below what the smallest buffer takes. With `tolerant` (random
switches) only such reads are made whose outcome a switch cannot change: those that wait for all they ask for.
"""
import random

import script

LIMIT = 24000  # bytes on their way in one direction


class End:
    """One end of a connection; `waiting` bytes lie there unread."""

    def __init__(self, process, fd):
        self.process, self.fd = process, fd
        self.peer = None
        self.waiting = 0
        self.shut = self.closed = self.warmed = False
        self.kept_on_tcp = False  # a call that needs TCP came before the warm-up
        self.set = None  # name of an epoll set that has it
        self.other_fds = []

    def ended(self):
        """Nothing more comes after the waiting bytes."""
        return self.peer.shut or self.peer.closed

    def can_send(self):
        return not self.shut and not self.closed and not self.peer.closed


class Maker:
    def __init__(self, seed, tolerant):
        self.dice = random.Random(seed)
        self.tolerant = tolerant
        # spliceout takes the direction down, which an edge-triggered set may see as one edge more than TCP has: a script has
        # the one or the other.
        self.moves_down = seed % 2 == 0
        self.lines, self.names = [], 0
        self.ends = []

    def add(self, text):
        self.lines.append(text)

    def name(self, letter):
        self.names += 1
        return f"{letter}{self.names}"

    def size(self, most):
        return min(most, self.dice.choice((1, 2, 7, 60, 700, 5000, 9000)) + self.dice.randrange(3))

    def connect(self):
        a, b = End("A", self.name("c")), End("B", self.name("s"))
        if self.dice.random() < 0.3:
            a.process, b.process = "B", "A"
        a.peer, b.peer = b, a
        address = self.dice.choice(("127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.2"))
        self.add(f"pair {a.process}:{a.fd} {b.process}:{b.fd} {address}")
        self.ends += [a, b]
        if self.dice.random() < 0.75:
            self.warm(a)

    def warm(self, end):
        if end.waiting or end.peer.waiting or not end.can_send() or not end.peer.can_send():
            return
        self.add(f"warm {end.process}:{end.fd} {end.peer.process}:{end.peer.fd}")
        end.warmed = end.peer.warmed = True

    def any_fd(self, end):
        return self.dice.choice([end.fd] * 3 + end.other_fds)

    # ---- steps

    def send(self, end):
        room = LIMIT - end.peer.waiting
        if not end.can_send() or room < 1:
            return
        size, fd = self.size(room), self.any_fd(end)
        data = f"{size}@{self.dice.randrange(1000)}"
        if end.process == "A" and self.dice.random() < 0.5 or self.dice.random() < 0.3:
            self.blocked_reader(end)
        kind = self.dice.randrange(9)
        if kind == 8 and size * 3 <= room:
            self.add(f"{end.process} sendmmsg {fd} {data}")
            size *= 3
        elif kind == 7 and self.dice.random() < 0.4:
            call = self.dice.choice(("sendfile", "spliceout" if self.moves_down else "sendfile"))
            self.add(f"{end.process} {call} {fd} {data}")
            end.kept_on_tcp |= call == "spliceout" and not end.warmed
        elif kind == 6:
            self.add(f"{end.process} sendto {fd} {data}")
        elif kind in (4, 5):
            self.add(f"{end.process} {self.dice.choice(('write', 'writev'))} {fd} {data}")
        elif kind == 3:
            self.add(f"{end.process} sendmsg {fd} {data} {self.dice.choice(('0', 'NOSIGNAL', 'DONTWAIT'))}")
        else:
            self.add(f"{end.process} send {fd} {data} {self.dice.choice(('0', 'NOSIGNAL', 'DONTWAIT'))}")
        end.peer.waiting += size
        if self.reader:
            self.finish_reader()

    reader = None

    def blocked_reader(self, sender):
        """A thread of the peer waits for the bytes that are about to be sent."""
        end = sender.peer
        if end.waiting or end.ended() or end.closed or self.reader:
            return
        actor = end.process + "7"
        kind = self.dice.randrange(4)
        if kind == 0:
            self.add(f"{actor} poll 3000 {end.fd}:IN &")
        elif kind == 1 and end.set:
            self.add(f"{actor} wait {end.set} 3000 &")
            if end.set.startswith("ET") or self.tolerant:
                self.lines.pop()
                return
        elif kind == 2:
            self.add(f"{actor} select 3000 in={end.fd} &")
        else:
            self.add(f"{actor} recv {end.fd} 1 &")
            self.reader = (actor, end, 1)
            return
        self.reader = (actor, end, 0)

    def finish_reader(self):
        actor, end, took = self.reader
        self.add(f"{actor} ?")
        end.waiting -= took
        self.reader = None

    def receive(self, end):
        if end.closed:
            return
        fd, who = self.any_fd(end), end.process
        if not end.waiting:
            if end.ended():
                self.add(f"{who} recv {fd} {self.size(99)}")
            else:
                self.add(f"{who} recv {fd} {self.size(5000)} DONTWAIT")
            return
        size = self.size(end.waiting) if self.dice.random() < 0.8 else end.waiting
        if self.tolerant:
            self.add(f"{who} recv {fd} {size} WAITALL")
            end.waiting -= size
            return
        asked = size if self.dice.random() < 0.7 else size + self.dice.randrange(100)
        kind = self.dice.randrange(9)
        if kind == 0:
            self.add(f"{who} recv {fd} {asked} PEEK")
            return
        took = min(asked, end.waiting)
        if kind in (1, 2):
            self.add(f"{who} recv {fd} {took} WAITALL")
        elif kind == 3:
            self.add(f"{who} {self.dice.choice(('read', 'readv', 'readchk'))} {fd} {asked}")
        elif kind == 4:
            self.add(f"{who} recvmsg {fd} {asked} {self.dice.choice(('0', 'DONTWAIT'))}")
        elif kind == 5:
            self.add(f"{who} recvfrom {fd} {asked}")
        elif kind == 6 and self.dice.random() < 0.3:
            self.add(f"{who} splicein {fd} {min(asked, 4000)}")
            took = None
        else:
            self.add(f"{who} recv {fd} {asked} {self.dice.choice(('0', 'DONTWAIT'))}")
        if took is None:
            # how much splice moves is the kernel's business: take all that is left
            self.lines.pop()
            took = 0
        end.waiting -= took

    def look(self, end):
        if end.closed:
            return
        fd, who = self.any_fd(end), end.process
        kind = self.dice.randrange(6)
        if kind == 0:
            self.add(f"{who} inq {fd}")
        elif kind == 1:
            self.add(f"{who} poll 0 {fd}:{self.dice.choice(('IN', 'IN|OUT', 'IN|OUT|RDHUP', 'OUT', 'RDHUP', 'RDNORM|WRNORM'))}")
        elif kind == 2:
            self.add(f"{who} {self.dice.choice(('select', 'pselect'))} 0 in={fd} out={fd}")
        elif kind == 3 and end.waiting:
            self.add(f"{who} recv {fd} 1 PEEK")
        elif kind == 4:
            self.add(f"{who} get {fd} ERROR")
        elif end.set and not ((self.tolerant or self.moves_down) and end.set.startswith("ET")):
            self.add(f"{who} wait {end.set} 0")

    def register(self, end):
        if end.closed:
            return
        if not end.set:
            # Going up may be an edge of its own, so edges are asked of streams that are up.
            edge = end.warmed and self.dice.random() < 0.6
            end.set = self.name("ET" if edge else "EL")
            events = self.dice.choice(("IN", "IN|RDHUP", "IN|OUT", "IN|OUT|RDHUP"))
            self.add(f"{end.process} epoll {end.set}")
            self.add(f"{end.process} ctl {end.set} add {end.fd} {events}{'|ET' if edge else ''}")
        else:
            edge = "|ET" if end.set.startswith("ET") else ""
            events = self.dice.choice(("IN", "OUT", "IN|OUT", "RDHUP", "0", "IN|ONESHOT"))
            self.add(f"{end.process} ctl {end.set} mod {end.fd} {events}{edge}")

    def duplicate(self, end):
        if end.closed:
            return
        if end.other_fds and self.dice.random() < 0.5:
            self.add(f"{end.process} close {end.other_fds.pop()}")
        elif not end.set:
            end.other_fds.append(self.name("d"))
            self.add(f"{end.process} dup {end.fd} {end.other_fds[-1]}")

    def shut(self, end):
        if end.closed or end.shut or end.peer.closed:
            return
        self.add(f"{end.process} shutdown {end.fd} WR")
        end.shut = True

    def close(self, end):
        """Only with all read: what a reset does to bytes on their way is not certain on TCP itself."""
        if end.closed or end.waiting or end.peer.waiting and self.dice.random() < 0.5:
            return
        for fd in end.other_fds:
            self.add(f"{end.process} close {fd}")
        self.add(f"{end.process} close {end.fd}")
        end.other_fds, end.closed, end.set = [], True, None

    def make(self, steps):
        self.connect()
        if self.dice.random() < 0.3:
            self.connect()
        table = [(self.send, 30), (self.receive, 30), (self.look, 22), (self.register, 6), (self.duplicate, 4),
                 (self.warm, 3), (self.shut, 2), (self.close, 1)]
        for _ in range(steps):
            step = self.dice.choices([t[0] for t in table], [t[1] for t in table])[0]
            step(self.dice.choice(self.ends))
        for end in self.ends:
            self.warm(end)
        for end in self.dice.sample(self.ends, len(self.ends)):
            if not end.closed:
                if end.waiting:
                    self.add(f"{end.process} recvall {end.fd} {end.waiting}")
                    end.waiting = 0
                self.receive(end)
                self.look(end)
        for end in self.dice.sample(self.ends, len(self.ends)):
            self.close(end)
            self.receive(end.peer)
            self.look(end.peer)


def sitting_size(seed):
    """How many scripts, from `seed` on, the same processes play. Some start with fresh ones: that is behaviour, too."""
    return random.Random(-seed).choice((1, 1, 2, 8, 16))


def make(seed, tolerant=False):
    maker = Maker(seed, tolerant)
    maker.make(maker.dice.randrange(15, 45))
    item = script.Script(f"seed-{seed}")
    item.lines = maker.lines
    item.expect = "switched" if any(end.warmed and not end.kept_on_tcp and not end.peer.kept_on_tcp for end in maker.ends) else "any"
    return item

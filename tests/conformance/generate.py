# SPDX-License-Identifier: BSD-2-Clause
"""Scripts from a seed: random moves (moves_*.py) on a model of what may block (model.py).

With `tolerant` (random switches) only such reads are made whose outcome a switch cannot change: those that wait for all they
ask for. A recv that finds the end of a segment may return less than there is, as on TCP where more has just come.
"""
import random

import model
import moves_bytes
import moves_life
import moves_process
import moves_ready
import script

MOVES = moves_bytes.MOVES + moves_ready.MOVES + moves_life.MOVES + moves_process.MOVES
# What the shim finds in its environment, and how many bytes may then be on their way in one direction.
SETTINGS = (([], 24000), ([], 24000), ([], 24000), (["NOTNETS_SPIN=0"], 24000),
    (["NOTNETS_RING_MIN=4K", "NOTNETS_RING_MAX=4K"], 3000), (["NOTNETS_RING_MIN=8K", "NOTNETS_RING_MAX=64K"], 7000))
BLOCK = 16


class Plan:
    """What a block of seeds shares: its setting, and how many of its scripts the same processes play. Some start with
    fresh ones: that is behaviour, too."""

    def __init__(self, seed):
        self.first = seed - seed % BLOCK
        dice = random.Random(-self.first - 1)
        self.environment, self.limit = dice.choice(SETTINGS)
        self.size = dice.choice((1, 4, 8, 16))

    def sitting_end(self, seed):
        """The seed after the last of the sitting that `seed` is in."""
        return seed - (seed - self.first) % self.size + self.size


def finish(m):
    """All that is left is read, and all that is open is closed."""
    for end in m.open_ends():
        if end.reader and not end.peer.closed:
            process, fd = m.dice.choice(end.peer.refs)
            m.add(f"{m.awake(process)} shutdown {fd} WR")
            end.peer.shut = True
            m.wake(end)
    for end in m.dice.sample(m.ends, len(m.ends)):
        if not end.closed and not end.reader and end.lowat == 1:
            if end.waiting and not end.reset:
                m.add("{0} gather {1} {2}".format(*m.ref(end), end.waiting))
                end.waiting = 0
            moves_bytes.receive(m, end)
            moves_ready.look(m, end)
    for child in moves_process.children(m):
        if not moves_process.sleepers_of(m, child):
            m.add(f"{child} exit 0 &&")
            m.add(f"gone {child}")
            m.dropped_by(child)
    for end in m.dice.sample(m.ends, len(m.ends)):
        for ref in list(end.refs):
            moves_life.let_go(m, end, *ref)
        if not end.peer.closed and not end.peer.reader:
            moves_bytes.receive(m, end.peer)
            moves_ready.look(m, end.peer)


def make(seed, tolerant=False):
    plan = Plan(seed)
    m = model.Model(seed, tolerant, plan.limit)
    m.connect()
    if m.chance(0.3):
        m.connect()
    moves, weights = zip(*MOVES)
    for move in m.dice.choices(moves, weights, k=m.dice.randrange(15, 60)):
        move(m, m.dice.choice(m.ends))
    finish(m)
    item = script.Script(f"seed-{seed}")
    item.lines = m.lines
    item.environment = plan.environment
    item.ends_sitting = m.ends_sitting
    counted = any(e.witnesses and not e.kept_on_tcp and not e.peer.kept_on_tcp for e in m.ends)
    item.expect = "switched" if counted else "any"
    return item

# SPDX-License-Identifier: BSD-2-Clause
"""Moves of generated scripts: options, copies of descriptors, and the ends of connections."""


def duplicate(m, end):
    if end.closed or end.reader:
        return
    process, fd = m.dice.choice(end.refs)
    own = [r for r in end.refs if r[0] == process]
    who = m.awake(process)
    if len(own) > 1 and m.chance(0.5):
        let_go(m, end, *m.dice.choice(own))
        return
    if len(own) > 3:
        return
    name = m.name("d")
    kind = m.dice.randrange(4)
    if kind == 0:
        m.add(f"{who} open {name}")
        m.add(f"{who} dup2 {fd} {name}")
    elif kind == 1:
        m.add(f"{who} dupfd {fd} {name} {m.dice.choice((0, 20, 60))}")
    else:
        m.add(f"{who} dup {fd} {name}")
    end.refs.append((process, name))


def let_go(m, end, process, fd):
    """Closes one descriptor, in one of the ways there are."""
    who = m.awake(process)
    last = len(end.refs) == 1
    shared = len({p for p, _ in end.peer.refs}) > 1
    if last and end.waiting and shared and not m.open_questions:
        return  # a reset that one process is being told of at this moment may be shown to another that shares the end
    if last and end.waiting and end.peer.waiting:
        return  # a reset, and bytes on their way both ways: what arrives is open on TCP itself
    watched = any(s[0] == process for s in end.sets) and len([p for p, _ in end.refs if p == process]) == 1
    if watched and not last and not m.open_questions:
        return  # the kernel goes on to report a closed number of which other processes have duplicates
    kind = m.dice.randrange(12)
    if kind == 0:
        m.add(f"{who} sysclose {fd}")
    elif kind == 1:
        m.add(f"{who} closerange {fd} {fd}")
    elif kind == 2:
        m.add(f"{who} fclose {fd}")
    elif kind == 3:
        name = m.name("n")
        m.add(f"{who} open {name}")
        m.add(f"{who} dup2 {name} {fd}")
        m.add(f"{who} write {fd} {m.data(3)}")
        m.add(f"{who} stat {fd}")
        m.add(f"{who} close {name}")
        m.add(f"{who} close {fd}")
    else:
        m.add(f"{who} close {fd}")
    end.sets = [s for s in end.sets if s[2] != fd or s[0] != process]
    m.drop(end, process, fd)
    if m.chance(0.3):
        # Its number comes back for something else.
        name = m.name("n")
        m.add(f"{who} open {name}")
        m.add(f"{who} write {name} {m.data(9)}")
        m.add(f"{who} close {name}")


def close(m, end):
    if end.closed or end.reader or end.full or end.peer.full:
        return
    process, fd = m.dice.choice(end.refs)
    if len(end.refs) == 1:
        if (m.inq or len({p for p, _ in end.peer.refs}) > 1) and not m.open_questions:
            return
        if m.tolerant and (end.waiting or end.peer.waiting):
            return
        if end.waiting and m.chance(0.7):
            return
        if not m.tolerant and not end.waiting and not end.peer.waiting and m.chance(0.15):
            m.add(f"{m.awake(process)} set {fd} LINGER 0")
            end.reset = True
    let_go(m, end, process, fd)


def shut(m, end):
    if end.closed or end.peer.closed or end.reset:
        return
    actor, fd = m.ref(end)
    how = m.dice.choice(("WR", "WR", "WR", "WR", "RD", "RDWR"))
    if how != "WR" and (m.tolerant or end.peer.waiting or end.waiting):
        return
    if end.shut and how == "WR" and m.chance(0.5):
        return
    if m.inq and not m.open_questions:
        return
    if end.edges and (how != "WR" or end.shut) and not m.open_questions:
        return  # a shutdown that changes nothing for this set is an edge on TCP
    m.add(f"{actor} shutdown {fd} {how}")
    for key in [(p, name) for p, name, _ in end.sets if m.sets.get((p, name)) == "edge"]:
        # That our end has been acknowledged is an edge of its own, at a time of the peer's kernel's choice.
        if how != "RD":
            m.sets.pop(key, None)
    if how != "WR":
        end.shut_rd = True
        m.wake(end)
    if how != "RD":
        end.shut = True
        m.wake(end.peer)
    if how == "RDWR" and end.peer.shut:
        m.wake(end)


def after_the_end(m, end):
    """What is sent when it cannot arrive, and what is said of it."""
    if end.closed or m.tolerant or end.full:
        return
    actor, fd = m.ref(end)
    if end.shut or end.reset:
        m.add(f"{actor} {m.dice.choice(('send', 'sendmsg', 'sendto'))} {fd} {m.data(3)} {m.dice.choice(('0', 'NOSIGNAL'))}")
        m.add(f"{actor} signals")
    elif end.peer.closed and not end.waiting:
        m.add(f"{actor} send {fd} {m.data(3)}")
        m.add(f"{actor} until '1 {fd}:OUT,ERR,HUP,' poll 0 {fd}:OUT")
        end.reset = True
        m.add(f"{actor} get {fd} ERROR")


def options(m, end):
    if end.closed or end.reader:
        return
    actor, fd = m.ref(end)
    kind = m.dice.randrange(12)
    if kind == 0:
        end.nonblocking = not end.nonblocking
        m.add(f"{actor} nonblock {fd} {int(end.nonblocking)}{m.dice.choice(('', ' ioctl'))}")
    elif kind == 1:
        end.timeout = not end.timeout
        m.add(f"{actor} set {fd} RCVTIMEO {m.dice.choice((1, 3)) if end.timeout else 0}")
        m.add(f"{actor} get {fd} RCVTIMEO")
    elif kind == 2 and m.open_questions and not m.tolerant and not end.edges:
        # The kernel calls fewer bytes than that readable when its window is no larger than a segment that it has seen.
        end.lowat = 1 if end.lowat > 1 else m.dice.choice((2, 5, 100))
        m.add(f"{actor} set {fd} RCVLOWAT {end.lowat}")
        m.add(f"{actor} get {fd} RCVLOWAT")
    elif kind == 3:
        m.add(f"{actor} set {fd} SNDTIMEO {m.dice.choice((0, 1000))}")
        m.add(f"{actor} get {fd} SNDTIMEO")
    elif kind == 4:
        name = m.dice.choice(("NODELAY", "KEEPALIVE"))
        value = 1 if name == "NODELAY" else m.dice.choice((0, 1))
        m.add(f"{actor} set {fd} {name} {value}")
        m.add(f"{actor} get {fd} {name}")
    elif kind == 5 and not m.tolerant and (len(m.processes) == 2 and not end.ended() or m.open_questions):
        # Then nothing that takes the stream down: the kernel has not heard of it. And after the end it counts one more.
        m.inq = True
        m.add(f"{actor} set {fd} INQ {m.dice.choice((0, 1))}")
    elif kind == 6 and not (end.shut or end.ended()):
        m.add(f"{actor} info {fd}")
    elif kind == 7:
        m.add(f"{actor} names {fd}" if not end.ended() and not end.shut else f"{actor} stat {fd}")
    elif kind == 8:
        m.add(f"{actor} get {fd} {m.dice.choice(('TYPE', 'LINGER', 'KEEPALIVE', 'NODELAY'))}")
    elif kind == 9:
        m.add(f"{actor} stat {fd}")
    else:
        m.add(f"{actor} get {fd} ERROR")


MOVES = [(duplicate, 4), (close, 2), (shut, 2), (after_the_end, 2), (options, 7)]

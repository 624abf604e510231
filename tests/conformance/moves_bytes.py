# SPDX-License-Identifier: BSD-2-Clause
"""Moves of generated scripts: bytes sent and received, and sleeping readers."""
from model import Sleeper


def send(m, end):
    room = m.limit - end.peer.waiting
    if not end.can_send() or room < 1:
        return
    if m.chance(0.35):
        sleep(m, end.peer)
    actor, fd = m.ref(end)
    size = m.size(room)
    kind = m.dice.randrange(20)
    data = m.data(size)
    flags = m.dice.choice(("0", "NOSIGNAL", "DONTWAIT", "0", "EOR"))
    # One who takes as many messages as have come, or is told how many bytes, may wake after the first.
    several = not (end.peer.reader and (end.peer.reader.takes == 2 or m.inq))
    if kind < 2 and several and size * 3 <= room:
        m.add(f"{actor} sendmmsg {fd} {data}")
        size *= 3
    elif kind == 2:
        down = m.moves_down and not end.peer.edges and m.chance(0.4)
        m.add(f"{actor} {'spliceout' if down else 'sendfile'} {fd} {data}")
        if down and not end.warmed:
            end.kept_on_tcp = True
    elif kind < 5:
        m.add(f"{actor} sendto {fd} {data} {flags}")
    elif kind < 8:
        m.add(f"{actor} {m.dice.choice(('write', 'writev'))} {fd} {data}")
    elif kind == 8:
        m.add(f"{actor} writev {fd} {data} {m.dice.choice((1, 3, 9))}")
    elif kind < 12:
        m.add(f"{actor} sendmsg {fd} {data} {flags}")
    elif kind == 12:
        m.add(f"{actor} {m.dice.choice(('send', 'write', 'writev', 'sendmsg', 'sendto'))} {fd} ''")
        size = 0
    else:
        m.add(f"{actor} send {fd} {data} {flags}")
    end.peer.waiting += size
    if size and end.peer.waiting >= end.peer.lowat:
        m.wake(end.peer)
    elif size and end.peer.reader and end.peer.reader.takes == 0:
        m.wake(end.peer)


def sleep(m, end):
    """A thread waits for what has not come yet."""
    if end.closed or end.waiting or end.ended() or end.reader or end.lowat > 1 or len([e for e in m.ends if e.reader]) > 2:
        return
    process, fd = m.dice.choice(end.refs)
    actor = m.asleep(process)
    level = [s for s in end.sets if s[0] == process and m.sets.get((process, s[1])) == "level"]
    kind = m.dice.randrange(10)
    if kind < 5 and not end.nonblocking and not end.timeout:
        call = m.dice.choice((f"recv {fd} 1", f"read {fd} 1", f"readv {fd} 1", f"recv {fd} 1 WAITALL", f"recvmsg {fd} 1",
            f"recvfrom {fd} 1", f"recv {fd} 1 PEEK", f"recvmmsg {fd} 1 2 WAITFORONE", f"recv {fd} 1 TRUNC"))
        m.add(f"{actor} {call} &")
        end.reader = Sleeper(actor, end, 0 if "PEEK" in call else 1, True)
        if "recvmmsg" in call:
            end.reader.takes = 2  # or one, if no more has come
    elif kind < 7:
        m.add(f"{actor} {m.dice.choice(('poll', 'ppoll'))} 4000 {fd}:{m.dice.choice(('IN', 'IN|RDHUP', 'IN|PRI'))} &")
        end.reader = Sleeper(actor, end, 0, False)
    elif kind < 8:
        m.add(f"{actor} {m.dice.choice(('select', 'pselect'))} 4000 in={fd} ex={fd} &")
        end.reader = Sleeper(actor, end, 0, False)
    elif level and not m.others.get(process) and all(not e.waiting and not e.ended() and not e.reset for e in m.ends
            if not e.closed and any(s[0] == process and s[1] == level[0][1] for s in e.sets)):
        # Finite, as the model does not know every state that a set reports.
        m.add(f"{actor} {m.dice.choice(('wait', 'pwait', 'pwait2'))} {level[0][1]} 400 &")
        end.reader = Sleeper(actor, end, 0, False)


def two_readers(m, end):
    """Each of two sleeping threads gets a byte; which one of them which, is open."""
    if end.closed or end.waiting or end.ended() or end.reader or end.lowat > 1 or end.nonblocking or end.timeout:
        return
    if not end.peer.can_send() or any(e.reader for e in m.ends):
        return
    first, second = m.dice.choice(end.refs), m.dice.choice(end.refs)
    group = m.name("g")
    m.add(f"{first[0]}7 recv {first[1]} 1 &")
    m.add(f"{second[0]}8 {m.dice.choice(('recv', 'read'))} {second[1]} 1 &")
    actor, fd = m.ref(end.peer)
    m.add(f"{actor} send {fd} {m.data(2)}")
    m.add(f"{first[0]}7 ? %{group}")
    m.add(f"{second[0]}8 ? %{group}")


def receive(m, end):
    if end.closed or end.reader:
        return
    actor, fd = m.ref(end)
    if end.waiting < end.lowat:
        if end.ended() and not end.waiting:
            m.add(f"{actor} {m.dice.choice(('recv', 'read', 'readv', 'recvmsg', 'recvfrom'))} {fd} {m.size(99)}")
        elif end.timeout and end.lowat == 1 and not end.nonblocking and m.chance(0.5):
            m.add(f"{actor} {m.dice.choice(('recv', 'read', 'recvmsg'))} {fd} {m.size(99)}")
        elif not end.waiting:
            flags = "" if end.nonblocking and m.chance(0.5) else " DONTWAIT"
            m.add(f"{actor} {m.dice.choice(('recv', 'recvmsg', 'recvfrom'))} {fd} {m.size(5000)}{flags}")
        return
    size = m.size(end.waiting) if m.chance(0.8) else end.waiting
    if m.tolerant:
        if end.nonblocking or end.timeout:
            # A short read may come where the direction moved; nothing is lost.
            m.add(f"{actor} gather {fd} {size}")
            end.waiting -= size
            return
        m.add(f"{actor} {m.dice.choice(('recv', 'recvmsg', 'recvfrom', 'recv'))} {fd} {size} WAITALL")
        end.waiting -= size
        return
    asked = size if m.chance(0.7) else size + m.dice.randrange(100)
    took = min(asked, end.waiting)
    kind = m.dice.randrange(16)
    if kind < 2:
        m.add(f"{actor} {m.dice.choice(('recv', 'recvmsg', 'recvfrom'))} {fd} {asked} PEEK")
        took = 0
    elif kind < 4:
        m.add(f"{actor} {m.dice.choice(('recv', 'recvmsg'))} {fd} {took} WAITALL")
    elif kind < 6:
        m.add(f"{actor} {m.dice.choice(('read', 'readv', 'readchk', 'recvchk'))} {fd} {asked}")
    elif kind < 8:
        m.add(f"{actor} recvmsg {fd} {asked} {m.dice.choice(('0', 'DONTWAIT', 'TRUNC'))} {m.dice.choice((0, 0, 1, 5))}")
    elif kind == 8:
        m.add(f"{actor} recvfrom {fd} {asked}")
    elif kind == 9:
        count = m.dice.choice((1, 2, 3))
        m.add(f"{actor} recvmmsg {fd} {asked} {count} {m.dice.choice(('DONTWAIT', 'WAITFORONE'))}")
        took = min(asked * count, end.waiting)
    elif kind == 10:
        m.add(f"{actor} recv {fd} {asked} {m.dice.choice(('TRUNC', 'TRUNC|DONTWAIT', 'TRUNC|PEEK', 'PEEK|WAITALL|DONTWAIT'))}")
        if "PEEK" in m.lines[-1]:
            took = 0
    elif kind == 11:
        m.add(f"{actor} {m.dice.choice(('recv', 'read', 'recvmsg'))} {fd} 0")
        took = 0
    else:
        m.add(f"{actor} recv {fd} {asked} {m.dice.choice(('0', 'DONTWAIT'))}")
    end.waiting -= took


def fill(m, end):
    """The direction is filled until there is no room, looked at, and drained."""
    if not end.can_send() or not end.quiet() or end.nonblocking or m.tolerant or end.peer.reader or end.peer.lowat > 1:
        return
    if end.edges or end.peer.edges:
        return
    (actor, fd), (other, peer_fd) = m.ref(end), m.ref(end.peer)
    m.add(f"{actor} fill {fd} -> F{fd}")
    m.add(f"{actor} send {fd} {m.data(5)} DONTWAIT")
    m.add(f"{actor} poll 0 {fd}:IN|OUT")
    sleeper = m.chance(0.5)
    if sleeper:
        process, own = m.dice.choice(end.refs)
        m.add(f"{process}9 {m.dice.choice(('poll 4000 %s:OUT', 'select 4000 out=%s')) % own} &")
    m.add(f"{other} drain {peer_fd} = F{fd}")
    if sleeper:
        m.add(f"{process}9 ?")
    m.add(f"{actor} poll 1000 {fd}:OUT")


def big(m, end):
    """More than any buffer holds, the writer asleep in between."""
    if not end.can_send() or not end.quiet() or end.nonblocking or end.peer.nonblocking or end.peer.timeout or end.edges \
            or end.lowat + end.peer.lowat > 2:
        return
    process, fd = m.dice.choice(end.refs)
    other, peer_fd = m.ref(end.peer)
    size = m.dice.choice((100000, 300000, 1000000))
    m.add(f"{process}9 sendall {fd} {m.data(size)} &&")
    m.add(f"{other} recvall {peer_fd} {size}")
    m.add(f"{process}9 ?")


def amounts(m, end):
    if not end.closed and end.lowat == 1:
        actor, fd = m.ref(end)
        m.add(f"{actor} inq {fd}")


MOVES = [(send, 30), (receive, 30), (sleep, 5), (two_readers, 1), (fill, 0.3), (big, 0.4), (amounts, 4)]

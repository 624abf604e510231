# SPDX-License-Identifier: BSD-2-Clause
"""Moves of generated scripts: readiness, epoll sets, and what else a set may hold."""
POLLED = ("IN", "IN|OUT", "IN|OUT|RDHUP", "OUT", "RDHUP", "RDNORM|WRNORM", "IN|PRI", "0")


def look(m, end):
    if end.closed:
        return
    actor, fd = m.ref(end)
    kind = m.dice.randrange(8)
    mixed = [f"{name}:IN" for name, _ in m.others.get(actor[0], [])]
    mates = [f"{n}:{m.dice.choice(POLLED)}" for e in m.open_ends() if e is not end for p, n in e.refs if p == actor[0]]
    if kind < 3:
        more = " ".join(m.dice.sample(mixed + mates, m.dice.randrange(len(mixed + mates) + 1)))
        m.add(f"{actor} {m.dice.choice(('poll', 'ppoll'))} {m.dice.choice((0, 0, 0, 1))} {fd}:{m.dice.choice(POLLED)} {more}".rstrip())
    elif kind < 5:
        names = ",".join([fd] + [x.partition(":")[0] for x in m.dice.sample(mixed, m.dice.randrange(len(mixed) + 1))])
        m.add(f"{actor} {m.dice.choice(('select', 'pselect'))} {m.dice.choice((0, 0, 1))} in={names} out={fd} ex={names}")
    elif kind == 5 and end.waiting >= end.lowat and not end.reader:
        m.add(f"{actor} recv {fd} 1 PEEK")
    else:
        ask_set(m, end)


def usable(m, end):
    """The sets that have this end and may be asked: none of edges where random switches make some of their own."""
    return [s for s in end.sets if (s[0], s[1]) in m.sets and
        not ((m.tolerant or m.moves_down) and m.sets[s[0], s[1]] == "edge")]


def ask_set(m, end):
    sets = usable(m, end)
    if not sets:
        return
    process, name, _ = m.dice.choice(sets)
    if m.others.get(process) or sum(name == s[1] for e in m.ends for s in e.sets) > 1:
        # The kernel's descriptors get their turn so long after the last one, while streams are ready: see epoll_wait.c.
        m.add("sleep 1")
    most = m.dice.choice(("", "", "", " 32"))
    m.add(f"{m.awake(process)} {m.dice.choice(('wait', 'wait', 'pwait', 'pwait2'))} {name} {m.dice.choice((0, 0, 0, 1))}{most}")


def register(m, end):
    if end.closed:
        return
    process, fd = m.dice.choice(end.refs)
    who = m.awake(process)
    mine = [s for s in end.sets if s[0] == process and s[2] == fd and (process, s[1]) in m.sets]
    known = [name for (p, name) in m.sets if p == process]
    if not mine or m.chance(0.25) and len(end.sets) < 4:
        fresh = [name for name in known if all(s[1] != name for s in mine)]
        # Going up may be an edge of its own, so edges are asked of streams that are up; and by who holds it alone.
        edge = end.warmed and not m.tolerant and m.chance(0.5) and not end.reader and len(end.refs) == 1 and not end.full
        kind = "edge" if edge else "level"
        fresh = [name for name in fresh if m.sets[process, name] == kind]
        if fresh and m.chance(0.5):
            name = m.dice.choice(fresh)
        else:
            name = m.name("ET" if edge else "EL")
            m.add(f"{who} epoll {name}")
            m.sets[process, name] = kind
        events = m.dice.choice(("IN", "IN|RDHUP", "IN|OUT", "IN|OUT|RDHUP", "OUT", "RDHUP", "IN|ONESHOT", "IN|EXCLUSIVE",
            "IN|OUT|EXCLUSIVE", "0"))
        m.add(f"{who} ctl {name} add {fd} {events}{'|ET' if edge else ''}")
        end.sets.append((process, name, fd))
        end.edges |= edge
        return
    process, name, fd = m.dice.choice(mine)
    edge = "|ET" if m.sets[process, name] == "edge" else ""
    if m.chance(0.2):
        m.add(f"{who} ctl {name} del {fd}")
        end.sets.remove((process, name, fd))
    else:
        events = m.dice.choice(("IN", "OUT", "IN|OUT", "RDHUP", "0", "IN|ONESHOT", "IN|OUT|ONESHOT", "IN|EXCLUSIVE"))
        m.add(f"{who} ctl {name} mod {fd} {events}{edge}")
        if m.chance(0.7):
            ask_set(m, end)


def nest(m, end):
    """A set in a set: both are asked."""
    sets = [s for s in usable(m, end) if m.sets[s[0], s[1]] == "level"]
    if not sets or not m.open_questions:
        return  # a set may look readable from outside for nothing, while a stream of it is on TCP
    process, inner, _ = m.dice.choice(sets)
    who, outer = m.awake(process), m.name("EO")
    edge = "" if m.tolerant or m.moves_down else m.dice.choice(("", "|ET"))
    m.add(f"{who} epoll {outer}")
    m.add(f"{who} ctl {outer} add {inner} IN{edge}")
    for line in m.dice.sample((f"wait {outer} 0", f"poll 0 {inner}:IN", f"select 0 in={outer}", f"wait {inner} 0",
            f"wait {outer} 0"), m.dice.randrange(1, 5)):
        m.add(f"{who} {line}")
    if m.chance(0.5):
        m.add(f"{who} close {outer}")


def other(m, end):
    """Pipes, eventfds and timers beside the streams."""
    if end.closed:
        return
    process, _ = m.dice.choice(end.refs)
    who = m.awake(process)
    mine = m.others.setdefault(process, [])
    level = [name for (p, name), kind in m.sets.items() if p == process and kind == "level"]
    if len(mine) < 3 and m.chance(0.5):
        name = m.name("v")
        m.add(f"{who} eventfd {name} {m.dice.choice((0, 1))}")
        mine.append((name, "eventfd"))
        if level:
            m.add(f"{who} ctl {m.dice.choice(level)} add {name} {m.dice.choice(('IN', 'IN|OUT', 'IN|ET', 'IN|ONESHOT'))}")
    elif mine and not any(e.reader for e in m.ends):
        name, _ = m.dice.choice(mine)
        m.add(f"{who} {m.dice.choice(('bell %s', 'bell %s', 'read %s 8')) % name}")


def two_waiters(m, end):
    """Two threads of a process in one set; news that counts once wakes one of them."""
    sets = [s for s in usable(m, end) if m.sets[s[0], s[1]] == "level"]
    if not sets or end.waiting or end.ended() or end.lowat > 1 or not end.peer.can_send() or m.tolerant \
            or any(e.reader for e in m.ends):
        return
    process, name, fd = m.dice.choice(sets)
    if m.others.get(process) or sum(name == s[1] for e in m.ends for s in e.sets) > 1 or len(end.refs) > 1:
        return
    group, events = m.name("g"), m.dice.choice(("IN|ONESHOT", "IN|ET"))
    m.add(f"{m.awake(process)} ctl {name} del {fd}")
    m.add(f"{m.awake(process)} ctl {name} add {fd} {events}")
    m.add(f"{process}7 wait {name} 250 &")
    m.add(f"{process}8 wait {name} 250 &")
    actor, peer_fd = m.ref(end.peer)
    m.add(f"{actor} send {peer_fd} 1@1")
    end.waiting += 1
    m.add(f"{process}7 ? %{group}")
    m.add(f"{process}8 ? %{group}")
    m.add(f"{m.awake(process)} ctl {name} del {fd}")
    end.sets.remove((process, name, fd))


MOVES = [(look, 22), (register, 8), (nest, 1), (other, 1.5), (two_waiters, 0.3)]

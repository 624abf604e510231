# SPDX-License-Identifier: BSD-2-Clause
"""Moves of generated scripts: processes that share a connection, hand it on, and end; signals at sleepers."""
from model import Sleeper  # noqa: F401


def sleepers_of(m, process):
    return [e for e in m.ends if e.reader and e.reader.actor[0] == process]


def in_question(m):
    return m.inq and not m.open_questions


def fork(m, end):
    if end.closed or len(m.processes) > 4 or m.next_process > "K" or in_question(m):
        return
    process, _ = m.dice.choice(end.refs)
    child, m.next_process = m.next_process, chr(ord(m.next_process) + 1)
    m.add(f"{m.awake(process)} fork {child}")
    m.processes.append(child)
    m.handlers[child] = m.handlers.get(process)
    for other in m.open_ends():
        for p, fd in list(other.refs):
            if p == process:
                other.refs.append((child, fd))
        # Its copies of the sets are the same sets; they are left to the parent.


def children(m):
    return [p for p in m.processes if p not in "AB"]


def leave(m, end):
    """A child exits or is killed, with all that it holds."""
    if not children(m):
        return
    process = m.dice.choice(children(m))
    if sleepers_of(m, process) or any(e.full or e.peer.full for e in m.ends):
        return
    for e in m.open_ends():
        alone = all(p == process for p, _ in e.refs)
        if alone and e.waiting and not m.open_questions:
            return  # the peer gets an end where TCP resets: no process is left to say what it had not read
        if alone and (m.tolerant and (e.waiting or e.peer.waiting) or e.waiting and e.peer.waiting):
            return
    kind = m.dice.randrange(3)
    m.add(f"kill {process} KILL" if kind == 0 else f"{process} exit 0{' now' if kind == 1 else ''} &&")
    m.add(f"gone {process}")
    m.dropped_by(process)


def take_over(m, process):
    """What another image of this process, or another process, would have to take over is little enough."""
    held = [e for e in m.open_ends() if any(p == process for p, _ in e.refs)]
    return all(not e.waiting and not e.full and not e.peer.full and not e.edges for e in held) \
        and not sleepers_of(m, process) and not any(e.reader for e in held)


def execute(m, end):
    """Another image of the player, with or without the shim."""
    if end.closed or in_question(m):
        return
    process, _ = m.dice.choice(end.refs)
    if not take_over(m, process) or len(end.refs) > 1 and process not in children(m):
        return
    image = m.dice.choice(("", " -"))
    m.add(f"{m.awake(process)} exec {process}{image}")
    m.handlers.pop(process, None)
    for e in m.ends:
        e.witnesses.discard(process)  # another image counts anew
    if image:
        m.ends_sitting = True
        for e in m.open_ends():
            if any(p == process for p, _ in e.refs):
                e.kept_on_tcp = e.kept_on_tcp or not e.warmed
    # What is closed on exec: sets, eventfds, and copies that were made so.
    copies = {line.split()[3] for line in m.lines if " dupfd " in line}
    for e in m.ends:
        for ref in [r for r in e.refs if r[0] == process and r[1] in copies]:
            m.drop(e, *ref)
        e.sets = [s for s in e.sets if s[0] != process]
    for key in [k for k in m.sets if k[0] == process]:
        del m.sets[key]
    m.others.pop(process, None)


def spawn(m, end):
    """A shell has the connection as its input and output for a while."""
    if in_question(m) or end.closed or not end.can_send() or end.nonblocking or end.edges or end.peer.edges:
        return
    process, fd = m.dice.choice(end.refs)
    if not take_over(m, process):
        return
    how = m.dice.choice(("posix", "vfork", "fork", "system", "popen", "clone"))
    m.add(f"{m.awake(process)} spawn {fd} {how} 'echo hello'")
    end.peer.waiting += 6
    end.kept_on_tcp = end.kept_on_tcp or not end.warmed
    m.wake(end.peer)


def pass_on(m, end):
    """A descriptor goes to another process, which has not had it before."""
    if in_question(m) or end.closed or end.waiting or end.reader or end.full or end.peer.full or end.edges \
            or end.peer.edges:
        return
    process, fd = m.dice.choice(end.refs)
    taker = {"A": "B", "B": "A"}.get(process)
    if not taker or not all(p in m.processes for p in "AB"):
        return
    name = m.name("p")
    m.add(f"{m.awake(process)} passfd u {fd}")
    m.add(f"{m.awake(taker)} takefd u {name}")
    end.refs.append((taker, name))
    end.kept_on_tcp = end.kept_on_tcp or not end.warmed


def handle(m, end):
    """A handler for USR1, which is set while nobody sleeps: whose signal ends a sleep that began before is known to the
    kernel alone."""
    process = m.dice.choice(end.refs)[0] if end.refs else None
    if process and not sleepers_of(m, process):
        m.handlers[process] = m.dice.choice(("", "restart"))
        m.add(f"{m.awake(process)} sigaction USR1 {m.handlers[process]}".rstrip())


def signal(m, end):
    """USR1 at a thread that sleeps."""
    if not end.reader:
        return
    reader = end.reader
    process = reader.actor[0]
    if m.handlers.get(process) is None or m.chance(0.15):
        m.add(f"{reader.actor} cancel")
        reader.takes = 0
        m.wake(end)
        return
    m.add(f"{reader.actor} tkill USR1")
    if m.handlers[process] == "restart" and reader.restarts:
        m.add(f"{reader.actor} !")
    else:
        reader.takes = 0
        m.wake(end)
    if m.chance(0.5):
        m.add(f"{m.awake(process)} signals")


MOVES = [(fork, 0.8), (leave, 0.8), (execute, 0.25), (spawn, 0.2), (pass_on, 0.25), (handle, 2), (signal, 8)]

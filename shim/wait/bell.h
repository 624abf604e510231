/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Doorbells: what a peer does to wake one of our waiters, and all that it can do to it.
 *
 * The bell of a board slot is a datagram socket with an abstract name; its holder sleeps until it is readable. Peers are handed
 * nothing: they send an empty datagram to the name, each from a socket of its own for that pair of processes (nn_pair.voice), and do
 * not wait. So nobody but its owner can read a bell, or change a flag of it; a ringer never blocks on a bell, and a peer that hoards
 * datagrams unread fills the voice of its own pair. The name is random and readable in the board. Whoever learns it, from there or
 * from /proc/net/unix, can cause wake-ups for nothing and no more.
 *
 * The queue of a bell is short (net.unix.max_dgram_qlen, 10 on some systems), and anyone may fill it. A full one has been rung: the
 * send fails, and its reason lies in memory before the bell is next emptied (P1 before P3 in waiter.h). Hence the rule
 *
 *   Once an edge of a bell is taken, it is emptied, and memory looked at after that (by the same waiter or another of the
 *   same bell, who is told), before anybody sleeps on it; and at once when somebody does so already.
 *
 * Emptying costs as much as ringing, so it is put off until the waiter sleeps next (bell_heard, bell_settle): by then it has done what it
 * was woken for. In an epoll set with several sleepers, who takes the edge says so and then asks whether others sleep; who is
 * going to sleep counts itself and then asks whether the bell was heard: one of the two empties it.
 *
 * Who polls is told of a full queue in any case. An edge-triggered sleeper (epoll) is told of each datagram that gets
 * in. While the bell has an edge that nobody has taken, the set does not sleep; once it is taken the rule applies: what was refused
 * until the queue was seen empty is seen in memory, what comes later finds room and is an edge again.
 *
 * A process makes the bell of a slot when a waiter first sleeps in it, and keeps it for the slot's next holders, with whatever is still
 * in it: at worst they wake once for nothing. A child of fork closes its copies and makes its own, under other names: the slots are one
 * board's, but held by one process at a time, and the holder says in the slot which bell it has.
 *
 * Abstract names belong to a network namespace. A thread that has left that of the rendezvous makes no bell: nobody could ring it.
 */
#ifndef SHIM_BELL_H
#define SHIM_BELL_H

#include <stdbool.h>

struct nn_pair;

/* The descriptor that is readable when the slot's bell has been rung, made when there is none. For the holder of the slot, who
 * asks before it says that it sleeps. -errno: nobody can wake it. */
int bell_of(unsigned slot);

void bell_hush(unsigned slot);   /* empties it */
void bell_heard(unsigned slot);  /* somebody was told of it, and leaves emptying to ... */
bool bell_settle(unsigned slot); /* ... who sleeps next: true, it was heard and is empty now */

/* Makes the bell readable, with a new edge even when it is so already. */
void bell_ring_own(unsigned slot);

/* The same for a slot that may be held by another process of those that share the board; `pair`: one of theirs. */
void bell_ring_shared(const struct nn_pair *pair, unsigned slot);

/* Rings the bell of a peer's slot. False: not rung, and worth another try. */
bool bell_ring(const struct nn_pair *pair, unsigned slot);

void bells_fork_child(void);

#endif

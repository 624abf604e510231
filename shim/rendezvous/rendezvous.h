/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the two shims of one connection find and prove each other, without daemon, privilege or helper thread.
 *
 * Every process has a mailbox: a datagram socket with an abstract name of 128 random bits, made when first needed.
 * Abstract names reach exactly the processes of this network namespace, whatever their uid or container.
 *
 *   connector C                                acceptor A
 *   1 binds the connection's name
 *     (derived from its 4-tuple)
 *                      <- KNOCK, HELLO -  2 sends from its mailbox to the connection's name, HELLO with proof; KNOCK refused: C
 *                                           has no shim, or is not that far: tries again after twice as many calls, a few times
 *   3 verifies,
 *     opens an end      --- OPEN --->       to A's mailbox: 4-tuple, my end, proof, and my memory if A does not have it
 *                                         4 verifies, maps, opens an end
 *                      <-- ACCEPT ---       to C's mailbox: 4-tuple, my end, memory; A is paired
 *   5 maps: paired
 *
 * Nothing waits: each step is done by whatever thread makes the next call on a stream that is SEEKING, and that thread
 * empties the mailbox for all the streams of its process.
 *
 * The proof shows that the sender holds the socket that mirrors mine, without giving that socket away: an epoll
 * descriptor that watches that socket alone, with user data = hash(role, sender's mailbox name, recipient's mailbox name,
 * 4-tuple). The recipient reads its /proc/thread-self/fdinfo (socket inode and user data), compares the inode with what the
 * kernel says (inet_diag, else /proc/net/tcp{,6}) of the socket with the mirrored 4-tuple, and the data with the hash over
 * the names that the kernel vouches for (msg_name). So a third process that squats a name, relays or replays messages
 * gets nowhere, and neither end makes memory for a stranger. Before it believes ACCEPT, the connector asks the kernel
 * again whether the socket that HELLO proved is still there: the name of a dead process's mailbox may be taken.
 */
#ifndef SHIM_RENDEZVOUS_H
#define SHIM_RENDEZVOUS_H

#include "shim/core/stream.h"

/* Goes on with the rendezvous of `stream` (SEEKING) and with whatever the mailbox holds. Returns at once when another
 * thread is at it. Calls stream_paired() or stream_alone() when it comes to an end. A call costs at most a few system calls; the caller
 * rations them. */
void rendezvous_step(struct nn_stream *stream);

/* The stream goes away: drops what was begun. */
void rendezvous_abandon(struct nn_stream *stream);

/* A stream lets go of its pair (end freed by the caller); idle pairs with a dead peer are freed at the next pairing. */
void rendezvous_pair_put(struct nn_pair *pair);

/* This process's board (made with the mailbox, kept by the children it forks). NULL before the first rendezvous_step that got so far. */
struct board *rendezvous_board(void);

/* True when the socket `fd` is of the network namespace in which the board was made: that of its peers. */
bool rendezvous_is_home(int fd);

/* Sum of count(board, now) over the boards of all peers. */
unsigned rendezvous_count_on_peers(unsigned (*count)(const struct board *board, uint64_t now), uint64_t now);

/* Around fork: no thread is in the middle of a step. */
void rendezvous_fork_prepare(void);
void rendezvous_fork_parent(void);
void rendezvous_fork_child(void); /* forget mailbox and pending work; mark pairs inherited */

#endif

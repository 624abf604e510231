/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waiters and doorbells: how a thread (or an epoll set) sleeps until a peer has news, and how a peer wakes it.
 *
 * A waiter holds a slot of its board. It attaches the slot to the end blocks it waits on; the peers of those ends look
 * there after whatever they publish.
 *
 *   waiter                                        peer
 *   W1 asleep = n      (seq_cst)                  P1 publish tail, flags, epoch or head (seq_cst)
 *   W2 look again      (seq_cst loads)            P2 asleep ?                           (seq_cst load)
 *   W3 sleep on doorbell and descriptors          P3 n, and not yet rung for n: ring
 *
 * W1 before W2 and P1 before P2 in the one order of sequentially consistent operations: either W2 sees what P1
 * published, or P2 sees n. So no wake-up is lost, and none is sent to a waiter that is awake.
 */
#ifndef SHIM_WAITER_H
#define SHIM_WAITER_H

#include <stdbool.h>
#include <stdint.h>

#include "arena/arena.h"

struct nn_pair;

struct waiter {
	int slot;    /* -1: none; sleeps must be short */
	uint32_t process; /* that took it: a child forked while it was held has no right to it */
};

/* Takes a free slot of this process's board. Without a board or free slot waiter->slot is -1. */
void waiter_take(struct waiter *waiter, uint32_t self);
void waiter_drop(struct waiter *waiter);

/* What is readable when a peer has rung, to be asked for before the waiter falls asleep. It stays open when the waiter is dropped: take it out
 * of what lives longer. -1: none; sleeps must be short. */
int waiter_bell(const struct waiter *waiter);

/* Only marks the waiter as spinning (for the machine-wide bound), resp. not. */
void waiter_spins(const struct waiter *waiter, uint64_t now);

/* False when all places of the end are taken: then sleeps must be short. */
bool waiter_attach(const struct waiter *waiter, struct end_block *own);
void waiter_detach(const struct waiter *waiter, struct end_block *own);

/* W1. The caller looks again before it sleeps. Empties the bell if it was heard since: true, and rings for others who sleep
 * on it are gone as well. */
bool waiter_falls_asleep(const struct waiter *waiter);
void waiter_wakes(const struct waiter *waiter);

/* The number of the current sleep, 0 while awake; and awake again unless a newer sleep has begun since. For waiters shared by threads. */
uint64_t waiter_mark(const struct waiter *waiter);
void waiter_unmark(const struct waiter *waiter, uint64_t mark);

/* The bell was found readable: it is emptied before the next sleep, or by waiter_settle. See the rule in bell.h. */
void waiter_heard(const struct waiter *waiter);
void waiter_settle(const struct waiter *waiter);
void waiter_hush(const struct waiter *waiter); /* empties it in any case */

/* Rings one's own bell. */
void waiter_ring_own(const struct waiter *waiter);

/* The same for all that are attached to `own`, an end of the pair's, also in other processes that share it. */
void waiters_ring_own(const struct nn_pair *pair, const struct end_block *own);

/* P2, P3: after publishing, for every waiter attached to the peer's end. */
void doorbell_ring(struct nn_pair *pair, const struct end_block *peer);

#endif

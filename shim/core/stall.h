/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ring that is full, and a peer that does not read.
 *
 * The kernel takes several megabytes of a connection before a sender must wait, a ring takes one. A program may count on that without
 * knowing: one that sends all of a large request before it reads the first byte of the answer, to one that answers while it reads,
 * comes to an end on TCP, and would wait for ever on rings. So a sender that has found no room, and sees that nothing is read for a while, goes
 * on by TCP, and sends what lies unread in the ring there again. It goes up again as any other; who does so time and again, without having moved much in
 * between, stays on TCP for a while first.
 *
 * A while is short where the peer waits for room, too: then each is likely to wait for the other. Whoever sends looks for himself; for those who
 * wait for room in poll, select or an epoll set, the streams that were full are listed, and looked at by each such call, and before it sleeps.
 *
 * What is unread goes along as a process that ends then leaves it to the kernel, and whoever passes a descriptor away is free to. Where the
 * kernel has no room for it, but no way out shows for longer, it stays in the ring, for as long as both ends live.
 */
#ifndef SHIM_CORE_STALL_H
#define SHIM_CORE_STALL_H

#include "shim/core/stream.h"

/* A full ring of whose bytes nothing is read for so long counts as stalled, whatever its peer does. */
#define STALL_ALONE_NS 100000000u

/* Who waits for room looks this often. */
#define STALL_NS 5000000ull

/* A send has found no room. Who does not wait leaves that to others, who may be asleep since before. Under tx_lock. */
void stall_note(struct nn_stream *stream, bool waits);

/* Nanoseconds until a full ring counts as stalled, if nothing is read until then; 0: it does. Under tx_lock. */
uint64_t stall_left(struct nn_stream *stream);

/* The stream, which has stalled, sends by TCP, if the kernel has room for what is unread, or has stalled for long. False: it stays. Under
 * tx_lock. */
bool stall_leave(struct nn_stream *stream);

/* Has it stalled so often of late that it should not go up yet, or does the kernel still hold what was sent since? Under tx_lock. */
bool stall_rests(const struct nn_stream *stream);

/* Is there any stream that may stall? */
bool stall_any(void);

/* Before a sleep for readiness: what has stalled leaves its ring. How long there is until the next may, in ns, at most `left`. */
uint64_t stall_sweep(uint64_t left);

/* The child lists its streams anew. */
void stall_fork_child(void);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The switch: how one direction moves between TCP and rings.
 *
 * Sending end. Segment e+1 is published by {start, where} in its slot, then epoch = e+1.
 *
 *   state       means                            legal
 *   TCP         raw calls; tx_ring NULL          up: the peer is READY, has entered our newest segment, and no raw call is
 *                                                in flight. N = bytes the kernel took.
 *   RING        TAKEN; tail grows                grow (new ring at the tail; as up), down (any time; N = tail)
 *   REPLAYING   TAKEN; segment at F, where the   only: write [F, tail) to TCP, then TCP for good
 *               peer froze and wants outside, or
 *               its head, where that is further, or we leave or spill (then TCP for now)
 *
 * Receiving end. Obeys segments once READY, which needs that no raw call is in flight; then raw calls are the core's own and
 * never read beyond what the kernel held before the newest epoch was looked at: a segment that begins later cannot be in it.
 * It enters segment e when its head is at the start of e, and says so by acked = e.
 *
 * A peer killed between two stores leaves a segment unpublished: it was never begun.
 */
#ifndef SHIM_CORE_SWITCH_H
#define SHIM_CORE_SWITCH_H

#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/stream.h"

/* ---- the locks of the two directions; outcomes and jumps as in lock.h */
static inline enum lock_outcome tx_lock(struct nn_stream *stream)
{
	return lock_take_in(&stream->own->tx_lock, nn_self(), &stream->tx_frame);
}

static inline bool tx_trylock(struct nn_stream *stream)
{
	return lock_try_in(&stream->own->tx_lock, nn_self(), &stream->tx_frame);
}

static inline void tx_unlock(struct nn_stream *stream, enum lock_outcome lock)
{
	lock_drop_in(&stream->own->tx_lock, lock, &stream->tx_frame);
}

static inline enum lock_outcome rx_lock(struct nn_stream *stream)
{
	return lock_take_in(&stream->own->rx_lock, nn_self(), &stream->rx_frame);
}

static inline bool rx_trylock(struct nn_stream *stream)
{
	return lock_try_in(&stream->own->rx_lock, nn_self(), &stream->rx_frame);
}

static inline void rx_unlock(struct nn_stream *stream, enum lock_outcome lock)
{
	lock_drop_in(&stream->own->rx_lock, lock, &stream->rx_frame);
}

/* ---- receiving; all under rx_lock except the first */
void rx_try_ready(struct nn_stream *stream);

/* Where the current segment ends: the start of the next, UINT64_MAX when there is none yet. */
uint64_t rx_segment_end(const struct nn_stream *stream);

/* Enters the next segment when the head is at its start. False: there is none, or not yet. -> true: look again. Spoils the stream
 * when the peer describes an impossible one. */
bool rx_advance(struct nn_stream *stream);

/* Enters all segments that begin at the head. An honest peer waits for us after each change, so that there are few: one that
 * publishes without end does not hold us here. */
void rx_enter(struct nn_stream *stream);

/* The kernel has bytes for a stream that is on a ring: whose are they? */
void rx_check_stray(struct nn_stream *stream);

/* The last resort: the connection is reset, for both ends. */
void stream_reset(struct nn_stream *stream);

/* What the peer says is impossible: the connection ends, here as if reset. */
void rx_spoil(struct nn_stream *stream);

/* Another process may have moved the direction since: takes over what the end blocks say. */
void rx_reload(struct nn_stream *stream);

/* After rx_ring has become NULL: what the kernel has told meanwhile makes edges now. Needs no lock. */
void rx_ring_left(struct nn_stream *stream);

/* Everything that comes will come by TCP: calls are raw again. */
void rx_be_raw(struct nn_stream *stream, enum nn_reason reason);

/* Throws away what comes by TCP although it was read from a ring. True: nothing more to throw away. */
bool rx_drop_skipped(struct nn_stream *stream);

/* ---- sending; all under tx_lock except the first */

/* Moves up when that is due and possible. Takes the lock. */
void tx_try_up(struct nn_stream *stream);

/* A bigger ring, when allowed, for `left` bytes and as many again. True: there is room now. */
bool tx_grow(struct nn_stream *stream, uint64_t left);

/* Back to TCP: if the peer has followed the last change, or never to go up again. */
enum down { DOWN_IF_EASY, DOWN_FOR_GOOD };
void tx_down(struct nn_stream *stream, enum nn_reason reason, enum down how);

/* The same for good, with the bytes that the peer has not read, where the kernel has room for them: sent through TCP, so that the peer may
 * leave its end at any time as well. */
void tx_leave(struct nn_stream *stream, enum nn_reason reason);

/* On a ring that is not moved yet: goes on by TCP, and sends there again what is unread, so that no ring is needed any more. Unless `for_good` it may
 * go up again. False: not moved, the kernel has no room for that. */
bool tx_spill(struct nn_stream *stream, enum nn_reason reason, bool for_good);

/* The peer has asked for everything from its frozen head on by TCP: begins that, with what it has not read since. */
void tx_serve_outside(struct nn_stream *stream);

/* While replaying: sends more of it. True: done, the direction is on TCP. */
bool tx_replay_more(struct nn_stream *stream);

/* The bytes that the peer wants by TCP are owed even by who closes or leaves a stream. The kernel takes as many as its buffer holds;
 * where that is not all, and the peer does not read, the connection can only be reset (-> false). Takes the lock; waits briefly. */
bool tx_pay(struct nn_stream *stream);

/* For all streams of a process that ends, while nobody waits for long. */
void close_pay_all(void);

void tx_reload(struct nn_stream *stream); /* as rx_reload */
bool tx_moved(const struct nn_stream *stream); /* needs no lock */
void tx_follow(struct nn_stream *stream); /* the same, and epoll sets hear of it; not while one forks */

/* After OUTSIDE_TX, before a call of the kernel's that sends: what is sent again by TCP goes first. 0, or -errno of a send with these flags
 * that found no room. Takes the lock (send.c). */
long tx_wait_raw(struct nn_stream *stream, int flags);

/* True when the peer has asked (END_WANT_OUTSIDE) and we have not served it yet. After our FIN the kernel takes no more: then what was not
 * read stays readable in the ring, and nowhere else. */
static inline bool tx_outside_wanted(const struct nn_stream *stream)
{
	return stream->tx_ring && (atomic_load(&stream->peer->rx_flags) & END_WANT_OUTSIDE) &&
	       !(atomic_load_explicit(&stream->own->tx_flags, memory_order_relaxed) & END_FIN);
}

/* True when no option of the socket needs the kernel to see the bytes (filters, kTLS, time stamps, repair mode, ...). Also learns
 * SO_RCVLOWAT and TCP_INQ. */
bool stream_is_plain(struct nn_stream *stream);

/* To TCP for good: which directions, and whether it must have happened when the call returns. Unread bytes must come again
 * from a peer that may be busy elsewhere; OUTSIDE_MUST waits for it, and resets the connection when it does not answer: the last
 * resort. Without it the receiving direction follows when the peer does, and what is unread stays readable. Takes the locks. */
enum outside { OUTSIDE_TX = 1, OUTSIDE_RX = 2, OUTSIDE_BOTH = 3, OUTSIDE_MUST = 4 };
void stream_outside(struct nn_stream *stream, enum nn_reason reason, unsigned parts);

#endif

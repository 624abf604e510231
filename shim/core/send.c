/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * send(2) and its kin. While the direction is on TCP the call is the front end's to make; on the ring it is served here:
 * copy under tx_lock, publish by one store of the tail, look for sleepers.
 */
#include <errno.h>

#include "shim/core/chaos.h"
#include "shim/core/clock.h"
#include "shim/core/cursor.h"
#include "shim/core/error.h"
#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/stall.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"
#include "shim/wait/waiter.h"

/* Room in the ring from `tail` on; asks the peer only when what it knew is not enough. */
static uint64_t room(struct nn_stream *stream, uint64_t tail, uint64_t wanted)
{
	uint64_t size = stream->tx_mask + 1;
	uint64_t used = tail - stream->tx_head;
	/* Another process that shares the end may have written far beyond what we knew of the head. */
	if (used <= size && size - used >= wanted)
		return size - used;
	uint64_t head = atomic_load(&stream->peer->head);
	/* Copied, then checked: a head before the segment is a peer still draining TCP, one beyond the tail a lie. */
	if (head > stream->tx_head && head <= tail)
		stream->tx_head = head;
	used = tail - stream->tx_head;
	return used < size ? size - used : 0;
}

/* Copies `count` bytes behind the tail and publishes them. There is room. */
static void put(struct nn_stream *stream, struct cursor *from, uint64_t count)
{
	uint64_t tail = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	uint64_t place = tail & stream->tx_mask;
	uint64_t first = stream->tx_mask + 1 - place;
	if (first > count)
		first = count;
	cursor_gather(from, stream->tx_ring + place, first);
	if (count > first)
		cursor_gather(from, stream->tx_ring, count - first);
	atomic_store(&stream->own->tail, tail + count); /* P1 in waiter.h; pairs with rx_news and ring_read */
}

/* Copies and publishes what fits; 0 when full. Under tx_lock, on the ring. Half a ring at a time, so that the reader begins while we go on. */
static size_t ring_write(struct nn_stream *stream, struct cursor *from)
{
	size_t total = 0;
	while (from->left) {
		uint64_t most = (stream->tx_mask + 1) / 2;
		if (most > from->left)
			most = from->left;
		uint64_t count = room(stream, atomic_load_explicit(&stream->own->tail, memory_order_relaxed), most);
		if (count > most)
			count = most;
		if (!count)
			break;
		put(stream, from, count);
		total += count;
	}
	return total;
}

/* The peer will not read on from a ring: it closed, died, or asked for TCP. -> true: the direction may have moved. */
static bool serve_peer(struct nn_stream *stream)
{
	if (tx_outside_wanted(stream) && !stream->tx_replaying)
		tx_serve_outside(stream);
	if (stream->tx_replaying || !stream->tx_ring)
		return true;
	uint64_t flags = peer_tx_flags(stream);
	bool hup = atomic_load_explicit(&stream->kernel_hup, memory_order_relaxed);
	if ((flags & END_CLOSED) || (hup && !(flags & END_FIN))) {
		tx_down(stream, NN_REASON_PEER_CLOSED, DOWN_FOR_GOOD);
		return true;
	}
	return false;
}

/* The last send found no room: remembered for readiness. The ring of a child cannot grow: who does not wait is not refused, as the kernel
 * would have had room. */
static void mark_full(struct nn_stream *stream, int flags)
{
	bool waits = !stream_nonblocking(stream, flags);
	if (((stream->pair->inherited && !waits) || !stall_left(stream)) && stall_leave(stream))
		return;
	stall_note(stream, waits);
	atomic_store_explicit(&stream->tx_full, 1, memory_order_relaxed);
	tx_want_room(stream);
}

/* The last send fitted exactly: poll must not say that there is room for the next. */
static void mark_if_full(struct nn_stream *stream)
{
	if (room(stream, atomic_load_explicit(&stream->own->tail, memory_order_relaxed), 1) || tx_grow(stream, 1))
		return;
	atomic_store_explicit(&stream->tx_full, 1, memory_order_relaxed);
	stall_note(stream, false);
	tx_want_room(stream);
}

enum ring_outcome { RING_DONE, RING_LEFT /* on TCP now: the rest is the kernel's */ };

/* One call on the ring. *sent counts what was taken; *error -errno when it ends early. */
static enum ring_outcome ring_send(struct nn_stream *stream, struct cursor *from, int flags, size_t *sent, long *error)
{
	struct wait_call call = {.began = signals_ran()};
	for (;;) {
		if (stream_error(stream) || stream_reset_unseen(stream)) {
			/* What was taken counts; the error is for the next call. */
			int reset = *sent ? 0 : stream_take_error(stream);
			if (!*sent && (reset == EPIPE || !reset))
				return RING_LEFT; /* the kernel says so as well, with SIGPIPE */
			*error = -reset;
			return RING_DONE;
		}
		enum lock_outcome lock = tx_lock(stream);
		if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
			tx_follow(stream);
		if (!tx_taken(stream)) {
			tx_unlock(stream, lock);
			return RING_LEFT;
		}
		if (atomic_load_explicit(&stream->own->tx_flags, memory_order_relaxed) & END_FIN) {
			tx_unlock(stream, lock);
			return *sent ? RING_DONE : RING_LEFT; /* shut down: EPIPE and SIGPIPE are the kernel's to give */
		}
		if (lock == LOCK_NESTED) { /* after a fault in a call that sends: nothing can be sent before that goes on */
			if (!*sent)
				*error = stream_nonblocking(stream, flags) ? -EAGAIN : -EINTR;
			return RING_DONE;
		}
		bool moved = serve_peer(stream);
		size_t count = 0;
		if (!moved) {
			if (atomic_load_explicit(&stream->tx_full, memory_order_relaxed))
				tx_found_room(stream);
			count = ring_write(stream, from);
			if (from->left && tx_grow(stream, from->left))
				count += ring_write(stream, from);
			if (from->left && (peer_tx_flags(stream) & END_FIN))
				/* The kernel has said all it will of this peer: should it die now, only bytes on TCP would find out. */
				tx_down(stream, NN_REASON_PEER_CLOSED, DOWN_FOR_GOOD);
			else if (from->left)
				mark_full(stream, flags);
			else
				mark_if_full(stream);
			/* Pairs with rx_outside: asked while we wrote, the peer reads no ring any more. */
			if (tx_outside_wanted(stream) && !stream->tx_replaying)
				tx_serve_outside(stream);
		} else if (stream->tx_replaying && !tx_replay_more(stream)) {
			atomic_store(&stream->tx_full, 1); /* that it ends is news */
		}
		tx_unlock(stream, lock);
		if (count) {
			*sent += count;
			COUNT(stream->shown->tx.ring_bytes, count);
			stream_tell(stream);
		}
		if (!from->left)
			return RING_DONE;
		if (!tx_taken(stream))
			continue;
		if (stream_nonblocking(stream, flags)) {
			if (tx_news(stream))
				continue; /* room that came before we had said that we wait for it: nobody will tell us of that */
			if (!*sent)
				*error = -EAGAIN;
			return RING_DONE;
		}
		long outcome = stream_wait_tx(stream, &call);
		if (outcome < 0) {
			if (!*sent)
				*error = outcome;
			return RING_DONE;
		}
	}
}

/* The rest of a call goes to the kernel, as far as it takes it. */
static size_t send_rest(struct nn_stream *stream, struct cursor *from, int flags)
{
	size_t sent = 0;
	while (from->left) {
		struct iovec rest[64];
		struct msghdr message = {.msg_iov = rest, .msg_iovlen = (size_t)cursor_vector(from, rest, 64, from->left)};
		size_t asked = 0;
		for (size_t i = 0; i < message.msg_iovlen; i++)
			asked += rest[i].iov_len;
		/* After a part was taken, no signal tells of the end. */
		long outcome = sys_call3(SYS_sendmsg, stream->fd, &message, flags | MSG_NOSIGNAL);
		if (outcome <= 0)
			break;
		COUNT(stream->shown->tx.tcp_bytes, (uint64_t)outcome);
		sent += (size_t)outcome;
		if ((size_t)outcome < asked)
			break;
		cursor_skip(from, (size_t)outcome);
	}
	return sent;
}

/* One call while the direction is the core's. NN_RAW: it went down before a byte was taken. */
static int send_taken(struct nn_io *io, struct cursor *from, int flags)
{
	struct nn_stream *stream = io->stream;
	if (stream_look_due(stream))
		stream_look(stream, 0);
	size_t sent = 0;
	long error = 0;
	COUNT(stream->shown->tx.calls, 1);
	while (ring_send(stream, from, flags, &sent, &error) == RING_LEFT) {
		if (!sent)
			return NN_RAW;
		if (!raw_hold(stream, true))
			continue; /* up again already */
		/* Part of it is on its way: the rest must follow before we return, as the kernel would do. */
		sent += send_rest(stream, from, flags);
		raw_release(stream, true);
		break;
	}
	io->result = error ? error : (long)sent;
	if (!rx_taken(stream))
		stream_tick(stream);
	io_put(io);
	return NN_DONE;
}

long tx_wait_raw(struct nn_stream *stream, int flags)
{
	struct wait_call call = {.began = signals_ran()};
	if (!stream_is_paired(stream))
		return 0;
	for (;;) {
		enum lock_outcome lock = tx_lock(stream);
		if (lock == LOCK_TAKEN && atomic_load_explicit(&stream->shared, memory_order_relaxed))
			tx_follow(stream);
		if (lock == LOCK_TAKEN && stream->tx_replaying)
			tx_replay_more(stream);
		bool raw = !tx_taken(stream);
		tx_unlock(stream, lock);
		if (raw)
			return 0;
		if (stream_nonblocking(stream, flags))
			return -EAGAIN;
		if (lock == LOCK_NESTED)
			return -EINTR;
		long outcome = stream_wait_tx(stream, &call);
		if (outcome < 0)
			return outcome;
	}
}

int nn_send(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags)
{
	io->sending = true;
	io->counted = false;
	io->stream = stream_get(fd);
	if (!io->stream)
		return NN_RAW;
	struct nn_stream *stream = io->stream;
	if (flags & (MSG_OOB | MSG_FASTOPEN | MSG_ZEROCOPY))
		stream_outside(stream, flags & MSG_OOB ? NN_REASON_OOB : NN_REASON_CALL, OUTSIDE_TX);
	for (;;) {
		if (stream_is_paired(stream)) {
			chaos_tx(stream);
			if (!tx_taken(stream))
				tx_try_up(stream);
			if (tx_taken(stream)) {
				struct cursor from = cursor_begin(iov, count);
				if ((atomic_load_explicit(&stream->own->tx_flags, memory_order_relaxed) & END_FIN) || !from.left)
					break; /* shut down: EPIPE and SIGPIPE are the kernel's to give */
				if (send_taken(io, &from, flags) == NN_DONE)
					return NN_DONE;
				continue;
			}
		}
		if (raw_begin(io))
			break;
	}
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	return raw_call(io, fd, &message, flags);
}

int nn_sendmsg(struct nn_io *io, int fd, const struct msghdr *message, int flags)
{
	/* Control data on a TCP socket (time stamps, fast open, ...) is the kernel's business. */
	if (message->msg_controllen) {
		io->stream = stream_get(fd);
		io->sending = true;
		io->counted = false;
		if (!io->stream)
			return NN_RAW;
		stream_outside(io->stream, NN_REASON_CALL, OUTSIDE_TX);
		io->result = tx_wait_raw(io->stream, flags);
		if (io->result) {
			io_put(io);
			return NN_DONE;
		}
		raw_begin(io);
		return raw_call(io, fd, message, flags);
	}
	return nn_send(io, fd, message->msg_iov, (int)message->msg_iovlen, flags);
}

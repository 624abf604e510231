/* SPDX-License-Identifier: BSD-2-Clause */
/* The receiving half of switch.h, and going outside altogether. */
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#include "shim/core/clock.h"
#include "shim/core/epoll.h"
#include "shim/core/error.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/process.h"
#include "shim/core/signals.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"
#include "shim/rendezvous/rendezvous.h"
#include "shim/wait/waiter.h"

static void rx_reason(struct nn_stream *stream, enum nn_reason reason)
{
	atomic_store_explicit(&stream->shown->rx.reason, reason, memory_order_relaxed);
}

/* Bytes that the application has read from the kernel. No raw call may be in flight. -errno when the connection is not
 * plainly established (after a FIN the kernel's books count it). */
static int64_t kernel_gave(const struct nn_stream *stream)
{
	struct tcp_info before = {0}, after = {0};
	int waiting = 0;
	for (int tries = 0; tries < 16; tries++) {
		socklen_t length = sizeof before;
		long outcome = sys_call5(SYS_getsockopt, stream->fd, IPPROTO_TCP, TCP_INFO, &before, &length);
		if (outcome < 0)
			return outcome;
		outcome = sys_call3(SYS_ioctl, stream->fd, SIOCINQ, &waiting);
		if (outcome < 0)
			return outcome;
		length = sizeof after;
		sys_call5(SYS_getsockopt, stream->fd, IPPROTO_TCP, TCP_INFO, &after, &length);
		if (after.tcpi_state != 1)
			return -ENOTCONN;
		if (before.tcpi_bytes_received == after.tcpi_bytes_received)
			return (int64_t)(after.tcpi_bytes_received - (uint64_t)waiting);
	}
	return -EAGAIN;
}

void rx_try_ready(struct nn_stream *stream)
{
	uint32_t none = 0;
	if (stream->rx_final || stream->pair->inherited || stream_shut_rx(stream) ||
		stream_is_shared(stream) ||
		!atomic_compare_exchange_strong(&stream->raw_rx, &none, STREAM_TAKEN))
		return;
	enum lock_outcome lock = rx_lock(stream);
	int64_t given = stream_is_plain(stream) ? kernel_gave(stream) : -EOPNOTSUPP;
	if (given < 0 || !epoll_stream_can_move(stream)) {
		if (given != -EAGAIN) {
			stream->rx_final = true;
			atomic_store(&stream->stay_tx, 1);
			rx_reason(stream, given == -EOPNOTSUPP ? NN_REASON_OPTION : NN_REASON_UNSUPPORTED);
			nn_log_stream(stream, "stays on TCP", given == -EOPNOTSUPP ? NN_REASON_OPTION : NN_REASON_UNSUPPORTED);
			atomic_store(&stream->shown->tx.reason, atomic_load(&stream->shown->rx.reason));
		}
		atomic_store(&stream->raw_rx, 0);
		rx_unlock(stream, lock);
		return;
	}
	stream->rx_start = (uint64_t)given;
	stream->rx_ring = NULL;
	stream->rx_epoch = 0;
	atomic_store(&stream->own->head, (uint64_t)given);
	epoll_stream_moved(stream); /* before the first byte can come by ring */
	atomic_fetch_or(&stream->own->rx_flags, END_READY);
	rx_unlock(stream, lock);
	nn_log(LOG_DEBUG, "ready to receive", stream->fd);
}

uint64_t rx_segment_end(const struct nn_stream *stream)
{
	if (peer_epoch(stream) == stream->rx_epoch)
		return UINT64_MAX;
	uint64_t start = atomic_load(&stream->peer->segments[(stream->rx_epoch + 1) % END_SEGMENTS].start);
	return peer_holds(stream) ? start : UINT64_MAX;
}

void rx_ring_left(struct nn_stream *stream)
{
	uint32_t what = atomic_exchange(&stream->behind_ring, 0);
	if (what & EPOLLIN)
		atomic_fetch_add(&stream->kernel_in, 1);
	/* Else stream_look has counted it. */
	if ((what & EPOLLRDHUP) && (peer_tx_flags(stream) & END_FIN))
		atomic_fetch_add(&stream->kernel_end, 1);
}

void rx_spoil(struct nn_stream *stream)
{
	if (stream->rx_spoiled)
		return;
	nn_log(LOG_WARNING, "peer broke the shared-memory protocol, fd", stream->fd);
	stream->rx_spoiled = true;
	stream_set_error(stream, ECONNRESET);
	/* From here on the kernel gives the answers: an end to readers, EPIPE to writers. */
	sys_call2(SYS_shutdown, stream->fd, SHUT_RDWR);
	atomic_fetch_or(&stream->own->tx_flags, END_FIN);
	atomic_fetch_or(&stream->kernel_hup, HUP_END);
}

static bool spoiled(struct nn_stream *stream)
{
	rx_spoil(stream);
	return false;
}

/* The newest segment is outside, and no other will follow: the peer has said so, or knows that we want none. */
static bool is_last(const struct nn_stream *stream)
{
	return !stream->rx_ring && ((peer_tx_flags(stream) & END_FINAL) || (atomic_load(&stream->own->rx_flags) & END_WANT_OUTSIDE)) &&
	       peer_epoch(stream) == stream->rx_epoch;
}

bool rx_advance(struct nn_stream *stream)
{
	uint64_t epoch = peer_epoch(stream); /* pairs with publish */
	if (epoch == stream->rx_epoch || stream->rx_spoiled) {
		if (epoch && rx_taken(stream) && is_last(stream) && rx_drop_skipped(stream))
			rx_be_raw(stream, NN_REASON_PEER);
		if (!epoch && !stream->rx_final && rx_taken(stream) && !peer_holds(stream))
			rx_be_raw(stream, NN_REASON_NO_PEER); /* it has given up: no segment will ever come */
		return false;
	}
	if (epoch - stream->rx_epoch >= END_SEGMENTS)
		return spoiled(stream);
	if (!rx_drop_skipped(stream))
		return false; /* what comes twice belongs to the segment that we are in */
	uint64_t next = stream->rx_epoch + 1;
	const struct end_segment *segment = &stream->peer->segments[next % END_SEGMENTS];
	uint64_t start = atomic_load(&segment->start);
	uint64_t where = atomic_load(&segment->where);
	uint64_t tail = atomic_load(&stream->peer->tail);
	if (!peer_holds(stream))
		return false;
	if (start > tail)
		return spoiled(stream); /* no segment begins beyond what was published */
	uint64_t head = atomic_load_explicit(&stream->own->head, memory_order_relaxed);
	if (head < start)
		return false;
	uint64_t twice = head - start;
	if (twice) {
		/* Sent again because we asked, or because the peer leaves its rings; what we read from them meanwhile comes twice. */
		bool asked = (atomic_load(&stream->own->rx_flags) & END_WANT_OUTSIDE) && start >= atomic_load(&stream->own->frozen);
		if (where != SEGMENT_OUTSIDE || !(asked || stream->rx_ring))
			return spoiled(stream);
	}
	atomic_store(&stream->own->skip, twice);
	bool was_up = stream->rx_ring;
	if (where == SEGMENT_OUTSIDE) {
		stream->rx_ring = NULL;
		/* Bytes may have come by TCP before we looked at it: every epoll set looks again. */
		atomic_fetch_or(&stream->kernel_news, EPOLLIN);
	} else {
		unsigned log2 = (unsigned)(where & SEGMENT_LOG2_MASK);
		uint64_t offset = where & ~(uint64_t)SEGMENT_LOG2_MASK;
		if (!region_ring_valid(stream->pair->peer_length, offset, log2))
			return spoiled(stream);
		stream->rx_ring = (const uint8_t *)stream->pair->peer + offset;
		stream->rx_mask = (1ull << log2) - 1;
	}
	stream->rx_start = start;
	stream->rx_epoch = next;
	atomic_store(&stream->own->acked, next); /* pairs with peer_has_entered */
	bool is_up = stream->rx_ring;
	if (was_up && !is_up)
		rx_ring_left(stream);
	if (was_up != is_up) {
		atomic_store_explicit(&stream->shown->rx.up, is_up, memory_order_relaxed);
		rx_reason(stream, is_up ? NN_REASON_NONE : NN_REASON_PEER);
		nn_log_stream(stream, is_up ? "receives by shared memory" : "receives by TCP", is_up ? NN_REASON_NONE : NN_REASON_PEER);
		if (is_up)
			COUNT(stream->shown->rx.ups, 1);
		else
			COUNT(stream->shown->rx.downs, 1);
		COUNT_SHARED(*(is_up ? &nn_state->totals.ups : &nn_state->totals.downs), 1);
	}
	atomic_store_explicit(&stream->shown->rx.ring_size, is_up ? stream->rx_mask + 1 : 0, memory_order_relaxed);
	if (is_last(stream) && rx_drop_skipped(stream)) {
		rx_be_raw(stream, NN_REASON_PEER);
		return false;
	}
	return true;
}

void rx_enter(struct nn_stream *stream)
{
	for (unsigned i = 0; i < 2 * END_SEGMENTS && rx_advance(stream); i++)
		;
}

void rx_reload(struct nn_stream *stream)
{
	uint64_t acked = atomic_load(&stream->own->acked);
	if (acked == stream->rx_epoch)
		return;
	const struct end_segment *segment = &stream->peer->segments[acked % END_SEGMENTS];
	uint64_t where = atomic_load(&segment->where);
	unsigned log2 = (unsigned)(where & SEGMENT_LOG2_MASK);
	uint64_t offset = where & ~(uint64_t)SEGMENT_LOG2_MASK;
	stream->rx_epoch = acked;
	stream->rx_start = atomic_load(&segment->start);
	stream->rx_ring = NULL;
	atomic_fetch_or(&stream->kernel_news, EPOLLIN);
	if (where != SEGMENT_OUTSIDE && region_ring_valid(stream->pair->peer_length, offset, log2)) {
		stream->rx_ring = (const uint8_t *)stream->pair->peer + offset;
		stream->rx_mask = (1ull << log2) - 1;
	}
	if (!stream->rx_ring)
		rx_ring_left(stream);
}

/* How long a call that must have the stream on TCP waits for the peer. */
#define ANSWER_NS 500000000ull

/* The peer's newest segment is outside: nothing but TCP is left to read once it is entered. That it was asked for is known: where another
 * goes up at this moment all the same, it finds that out before it writes to the ring (tx_try_up). */
static bool answered(const struct nn_stream *stream)
{
	uint64_t epoch = peer_epoch(stream);
	return epoch != stream->rx_epoch &&
	       atomic_load(&stream->peer->segments[epoch % END_SEGMENTS].where) == SEGMENT_OUTSIDE;
}

/* Asks for everything that is not read yet by TCP. True: nothing is left in rings, and the direction is on TCP. Under rx_lock. */
static bool ask_outside(struct nn_stream *stream)
{
	struct end_block *own = stream->own;
	rx_enter(stream);
	uint64_t head = atomic_load(&own->head);
	if (!(atomic_load(&own->rx_flags) & END_WANT_OUTSIDE)) {
		atomic_store(&own->frozen, head);
		atomic_fetch_or(&own->rx_flags, END_WANT_OUTSIDE);
	}
	/*
	 * Nothing unread, and nothing read since it was first asked, which would come again: the peer need not be awake. It looks at the flag after everything it publishes (ring_send, tx_try_up), in
	 * the one order of sequentially consistent operations: either we see here what it published, or it sees the flag and
	 * sends that by TCP.
	 */
	if (!stream->rx_ring || (atomic_load(&stream->peer->tail) == head && atomic_load(&own->frozen) == head))
		return rx_segment_end(stream) == UINT64_MAX && !atomic_load(&own->skip);
	stream_tell(stream);
	return false;
}

void rx_be_raw(struct nn_stream *stream, enum nn_reason reason)
{
	if (stream->rx_ring || !stream->rx_final)
		nn_log_stream(stream, "receives by TCP", reason);
	stream->rx_final = true;
	stream->rx_ring = NULL;
	atomic_fetch_and(&stream->own->rx_flags, ~END_READY);
	atomic_fetch_and(&stream->raw_rx, ~STREAM_TAKEN);
	atomic_store_explicit(&stream->shown->rx.up, 0, memory_order_relaxed);
	rx_reason(stream, reason);
	atomic_fetch_or(&stream->kernel_news, EPOLLIN);
	epoll_stream_moved(stream);
}

bool rx_drop_skipped(struct nn_stream *stream)
{
	char nothing;
	for (uint64_t left; (left = atomic_load(&stream->own->skip));) {
		uint64_t piece = left < 1u << 20 ? left : 1u << 20;
		long dropped = sys_call6(SYS_recvfrom, stream->fd, &nothing, piece, MSG_TRUNC | MSG_DONTWAIT, NULL, NULL);
		if (dropped > 0)
			atomic_store(&stream->own->skip, left - (uint64_t)dropped);
		if (dropped == -EAGAIN || dropped == -EINTR)
			return false;
		if (dropped <= 0) {
			rx_spoil(stream); /* it died before it had sent all that again */
			return false;
		}
	}
	return true;
}

/* A peer in this very process may have nobody else to serve it. */
static void serve_own_peer(const struct nn_stream *stream)
{
	if (stream->pair->peer_pid != (uint32_t)nn_pid)
		return;
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *other = stream_hold(i);
		if (!other)
			continue;
		if (stream_is_paired(other) && other != stream && atomic_load(&other->own->cookie) == stream->peer_cookie)
			stream_serve(other);
		stream_put(other);
	}
}

/* Enters the segment that the peer has published in answer, wherever we stopped. False: not to be had, it had left its ring by
 * itself; the bytes between are in the ring, and will not come again. */
static bool enter_answer(struct nn_stream *stream)
{
	uint64_t epoch = atomic_load(&stream->peer->epoch);
	uint64_t start = atomic_load(&stream->peer->segments[epoch % END_SEGMENTS].start);
	/* No more than what was asked for: what was read since is dropped. */
	uint64_t head = atomic_load(&stream->own->head);
	if (start > head && stream->rx_ring)
		return false;
	/* After what is still to be dropped of the segment that we are in. */
	atomic_fetch_add(&stream->own->skip, head > start ? head - start : 0);
	stream->rx_epoch = epoch;
	atomic_store(&stream->own->acked, epoch);
	stream->rx_ring = NULL;
	return true;
}

/* True: the direction is raw. With `must` the lock is held for up to ANSWER_NS: nobody else may read meanwhile. */
static bool rx_outside(struct nn_stream *stream, enum nn_reason reason, bool must)
{
	enum lock_outcome lock = rx_lock(stream);
	if (atomic_load(&stream->shared))
		rx_reload(stream); /* another process may have moved it since we last looked */
	bool done = ask_outside(stream), entered = false;
	uint64_t deadline = must ? nn_now_ns() + ANSWER_NS : 0;
	while (!done && must && nn_now_ns() < deadline) {
		serve_own_peer(stream);
		if (tx_outside_wanted(stream) || stream->tx_replaying)
			stream_serve(stream); /* the peer may be waiting for the same */
		if (!entered)
			rx_enter(stream);
		if (!entered && answered(stream)) {
			if (!enter_answer(stream))
				break;
			entered = true;
		}
		/* What the peer sends again is read by whoever holds the socket next; what was read already must not be. It may have been
		 * outside before we asked. */
		if (entered || (!stream->rx_ring && rx_segment_end(stream) == UINT64_MAX))
			done = rx_drop_skipped(stream);
		else /* nothing unread, and nothing will come? */
			done = (peer_tx_flags(stream) & END_FIN) && atomic_load(&stream->peer->tail) == atomic_load(&stream->own->head);
		if (!done) {
			struct timespec nap = {0, 20000};
			sys_call2(SYS_nanosleep, &nap, NULL);
		}
	}
	if (done)
		rx_be_raw(stream, reason);
	rx_unlock(stream, lock);
	return done;
}

void stream_reset(struct nn_stream *stream)
{
	struct sockaddr nothing = {.sa_family = AF_UNSPEC};
	sys_call3(SYS_connect, stream->fd, &nothing, sizeof nothing);
	stream_set_error(stream, ECONNRESET);
}

void rx_check_stray(struct nn_stream *stream)
{
	int held = 0;
	if (!rx_trylock(stream))
		return;
	/* In this order: an honest peer publishes the segment before it sends its bytes. */
	if (stream->rx_ring && sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held) == 0 && held &&
		peer_epoch(stream) == stream->rx_epoch)
		rx_spoil(stream);
	rx_unlock(stream, LOCK_TAKEN);
}

static void receive_outside(struct nn_stream *stream, enum nn_reason reason, bool must)
{
	if (!rx_taken(stream)) {
		stream->rx_final = true;
		return;
	}
	if (!rx_outside(stream, reason, must) && must) {
		nn_log(LOG_WARNING, "peer did not take the stream back to TCP in time; resetting it, fd", stream->fd);
		stream_reset(stream);
	}
}

void stream_outside(struct nn_stream *stream, enum nn_reason reason, unsigned parts)
{
	if (!stream_is_paired(stream)) {
		rendezvous_abandon(stream);
		stream_alone(stream, reason);
		return;
	}
	/* Receiving first: once sending is on TCP, the peer may well block in a call of the kernel's, and serve nobody. */
	if (parts & OUTSIDE_RX)
		receive_outside(stream, reason, parts & OUTSIDE_MUST);
	if (parts & OUTSIDE_TX) {
		enum lock_outcome lock = tx_lock(stream);
		atomic_store(&stream->stay_tx, 1);
		if (tx_outside_wanted(stream) && !stream->tx_replaying)
			tx_serve_outside(stream);
		else if (!stream->tx_replaying)
			tx_leave(stream, reason);
		tx_unlock(stream, lock);
		if ((parts & OUTSIDE_MUST) && !tx_pay(stream)) {
			nn_log(LOG_WARNING, "peer did not take what it had not read by TCP in time; resetting it, fd", stream->fd);
			stream_reset(stream);
		}
	}
}

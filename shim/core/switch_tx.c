/* SPDX-License-Identifier: BSD-2-Clause */
/* The sending half of switch.h. */
#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>

#include "shim/core/clock.h"
#include "shim/core/epoll.h"
#include "shim/core/error.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/process.h"
#include "shim/core/signals.h"
#include "shim/core/stall.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/wait/waiter.h"

static void tx_reason(struct nn_stream *stream, enum nn_reason reason)
{
	atomic_store_explicit(&stream->shown->tx.reason, reason, memory_order_relaxed);
}

/* Bytes that the application has handed to the kernel, from the kernel's own books: acknowledged plus not yet. No raw
 * call may be in flight. -errno when the connection is not plainly established. */
static int64_t kernel_took(const struct nn_stream *stream)
{
	struct tcp_info before = {0}, after = {0};
	int queued = 0;
	for (int tries = 0; tries < 16; tries++) {
		socklen_t length = sizeof before;
		long outcome = sys_call5(SYS_getsockopt, stream->fd, IPPROTO_TCP, TCP_INFO, &before, &length);
		if (outcome < 0)
			return outcome;
		outcome = sys_call3(SYS_ioctl, stream->fd, SIOCOUTQ, &queued);
		if (outcome < 0)
			return outcome;
		length = sizeof after;
		sys_call5(SYS_getsockopt, stream->fd, IPPROTO_TCP, TCP_INFO, &after, &length);
		if (after.tcpi_state != 1 && after.tcpi_state != 8) /* ESTABLISHED, CLOSE_WAIT */
			return -ENOTCONN;
		/* Acknowledgements that came in between would be counted twice or not at all. */
		if (before.tcpi_bytes_acked == after.tcpi_bytes_acked)
			/* The connector's own SYN was acknowledged, too. */
			return (int64_t)(after.tcpi_bytes_acked + (uint64_t)queued - (stream->connector ? 1 : 0));
	}
	return -EAGAIN;
}

static void publish(struct nn_stream *stream, uint64_t start, uint64_t where)
{
	struct end_block *own = stream->own;
	uint64_t epoch = stream->tx_epoch + 1;
	struct end_segment *segment = &own->segments[epoch % END_SEGMENTS];
	atomic_store_explicit(&segment->start, start, memory_order_relaxed);
	atomic_store_explicit(&segment->where, where, memory_order_relaxed);
	stream->tx_epoch = epoch;
	stream->tx_start = start;
	stream->tx_head = start;
	atomic_store(&own->epoch, epoch); /* pairs with rx_advance and rx_segment_end */
}

static uint64_t ring_where(uint64_t offset, uint64_t bytes)
{
	return offset | (uint64_t)__builtin_ctzll(bytes);
}

static void use_ring(struct nn_stream *stream, uint64_t offset, uint64_t bytes)
{
	stream->tx_offset = offset;
	stream->tx_mask = bytes - 1;
	stream->tx_ring = (uint8_t *)stream->pair->own + offset;
	atomic_store_explicit(&stream->shown->tx.ring_size, bytes, memory_order_relaxed);
}

/* A handler may come as soon as it is free, and leave us by a jump: it is not to be freed again. */
static void free_ring(struct nn_stream *stream, uint64_t *which)
{
	uint64_t offset = *which;
	*which = 0;
	atomic_signal_fence(memory_order_seq_cst);
	if (offset)
		arena_ring_free(stream->pair->arena, offset);
}

static bool peer_is_in_newest(const struct nn_stream *stream)
{
	return atomic_load_explicit(&stream->peer->acked, memory_order_acquire) == stream->tx_epoch;
}

/* The peer has entered our newest segment, so another may follow; frees the ring before it. */
static bool peer_has_entered(struct nn_stream *stream)
{
	if (!peer_is_in_newest(stream))
		return false;
	free_ring(stream, &stream->tx_old_offset);
	return true;
}

static bool may_go_up(struct nn_stream *stream)
{
	return !atomic_load_explicit(&stream->stay_tx, memory_order_relaxed) && !stream->pair->inherited &&
	       (atomic_load(&stream->peer->rx_flags) & (END_READY | END_WANT_OUTSIDE)) == END_READY && peer_holds(stream) &&
	       !(atomic_load_explicit(&stream->own->tx_flags, memory_order_relaxed) & (END_FIN | END_FINAL)) &&
	       /* Until the receiving direction has moved once, epoll sets ask the kernel for room, which knows nothing of rings. */
	       (rx_taken(stream) || stream->rx_final) && !(peer_tx_flags(stream) & END_CLOSED) && !atomic_load(&stream->kernel_hup) &&
	       !stream_is_shared(stream);
}

void tx_try_up(struct nn_stream *stream)
{
	if (!may_go_up(stream))
		return;
	enum lock_outcome lock = tx_lock(stream);
	uint32_t none = 0;
	if (lock == LOCK_TAKEN && !tx_taken(stream) && !stall_rests(stream) && peer_has_entered(stream) &&
		atomic_compare_exchange_strong(&stream->raw_tx, &none, STREAM_TAKEN)) {
		int64_t taken = kernel_took(stream);
		if (taken >= 0)
			taken += (int64_t)stream->tx_by_ring;
		free_ring(stream, &stream->tx_offset); /* left when another had not been left yet; both are by now */
		uint64_t offset = taken < 0 ? 0 : arena_ring_alloc(stream->pair->arena, nn_config.ring_min);
		if (offset) {
			use_ring(stream, offset, nn_config.ring_min);
			atomic_store_explicit(&stream->own->tail, (uint64_t)taken, memory_order_relaxed);
			stream->tx_up_at = (uint64_t)taken;
			publish(stream, (uint64_t)taken, ring_where(offset, nn_config.ring_min));
			atomic_store_explicit(&stream->shown->tx.up, 1, memory_order_relaxed);
			COUNT(stream->shown->tx.ups, 1);
			COUNT_SHARED(nn_state->totals.ups, 1);
			tx_reason(stream, NN_REASON_NONE);
			nn_log_stream(stream, "sends by shared memory", NN_REASON_NONE);
			epoll_stream_moved(stream);
			if (tx_outside_wanted(stream))
				tx_serve_outside(stream);
		} else {
			atomic_store(&stream->raw_tx, 0);
			if (taken != -EAGAIN) {
				atomic_store(&stream->stay_tx, 1);
				enum nn_reason reason = taken < 0 ? NN_REASON_UNSUPPORTED : NN_REASON_NO_MEMORY;
				tx_reason(stream, reason);
				nn_log_stream(stream, "sends by TCP", reason);
			}
		}
	}
	tx_unlock(stream, lock);
}

bool tx_grow(struct nn_stream *stream, uint64_t left)
{
	uint64_t bytes = (stream->tx_mask + 1) * 4;
	while (bytes / 2 < left && bytes < nn_config.ring_max)
		bytes *= 2;
	if (bytes > nn_config.ring_max)
		bytes = nn_config.ring_max;
	if (bytes <= stream->tx_mask + 1 || stream->pair->inherited || !peer_has_entered(stream) ||
		(atomic_load(&stream->own->tx_flags) & END_FIN))
		return false;
	uint64_t offset = arena_ring_alloc(stream->pair->arena, bytes);
	if (!offset)
		return false;
	stream->tx_old_offset = stream->tx_offset;
	stream->tx_old_mask = stream->tx_mask;
	use_ring(stream, offset, bytes);
	publish(stream, atomic_load_explicit(&stream->own->tail, memory_order_relaxed), ring_where(offset, bytes));
	return true;
}

/* `end`: what was sent from here on is the kernel's as well. */
static void leave_ring(struct nn_stream *stream, enum nn_reason reason, bool for_good, uint64_t end)
{
	stream->tx_by_ring += end - stream->tx_up_at;
	/* What lies in the ring stays readable until the peer has entered the new segment. If it still has not entered
	 * the one before, that one's ring is leased until the stream closes. */
	if (!stream->tx_old_offset) {
		stream->tx_old_offset = stream->tx_offset;
		stream->tx_offset = 0;
	}
	stream->tx_ring = NULL;
	/* Who waits for room finds it on TCP. For others the change is no edge. */
	if (atomic_exchange(&stream->tx_full, 0))
		atomic_fetch_add(&stream->tx_edges, 1);
	atomic_store(&stream->expect_out, 1);
	if (for_good) {
		atomic_store(&stream->stay_tx, 1);
		atomic_fetch_or(&stream->own->tx_flags, END_FINAL);
	}
	atomic_store(&stream->own->space_at, 0);
	atomic_store_explicit(&stream->shown->tx.up, 0, memory_order_relaxed);
	atomic_store_explicit(&stream->shown->tx.ring_size, 0, memory_order_relaxed);
	COUNT(stream->shown->tx.downs, 1);
	COUNT_SHARED(nn_state->totals.downs, 1);
	tx_reason(stream, reason);
	nn_log_stream(stream, "sends by TCP", reason);
}

void tx_down(struct nn_stream *stream, enum nn_reason reason, enum down how)
{
	if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
		tx_follow(stream);
	if (!stream->tx_ring)
		return;
	if (how == DOWN_IF_EASY && (!peer_has_entered(stream) || stream->tx_old_offset))
		return; /* a change for pleasure waits until the peer has followed the last one */
	uint64_t tail = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	leave_ring(stream, reason, how == DOWN_FOR_GOOD, tail);
	atomic_store(&stream->own->replaying, 0); /* of one who died before he had published it */
	publish(stream, tail, SEGMENT_OUTSIDE);
	atomic_store_explicit(&stream->raw_tx, 0, memory_order_release);
	epoll_stream_moved(stream);
	stream_tell(stream);
	waiters_ring_own(stream->pair, stream->own);
}

/* Leaves the ring and sends again what it holds from there on: what lies before tx_start is in the old ring. */
static void replay_from(struct nn_stream *stream, uint64_t from, enum nn_reason reason, bool for_good)
{
	stream->tx_replay_from = from;
	stream->tx_replay_final = for_good;
	stream->tx_replay_split = stream->tx_start;
	stream->tx_replaying = true;
	atomic_store(&stream->own->replay, from);
	atomic_store(&stream->own->replaying, 1);
	stream->tx_replay_reason = (uint8_t)reason;
	/* Decided: who asked need not wait until the kernel has room for all of it, which may be when somebody reads. */
	if (for_good)
		atomic_fetch_or(&stream->own->tx_flags, END_FINAL);
	publish(stream, from, SEGMENT_OUTSIDE);
	if (!tx_replay_more(stream)) {
		epoll_stream_moved(stream); /* the kernel tells when there is room for more */
		waiters_ring_own(stream->pair, stream->own);
	}
}

/* Where what is unread in rings begins, not before `asked`. False: a lie, or not to be had any more. */
static bool unread_from(const struct nn_stream *stream, uint64_t asked, uint64_t *from)
{
	uint64_t tail = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	/* Who asked may have read on since, and we have written over what it had read. */
	uint64_t head = atomic_load(&stream->peer->head);
	/* The current ring holds [tx_start, tail); when the peer is still in the ring before, that one holds what comes before
	 * tx_start; when it is still on TCP before tx_start, the kernel does. */
	bool in_old_ring = stream->tx_old_offset && !peer_is_in_newest(stream);
	uint64_t oldest = in_old_ring && stream->tx_start > stream->tx_old_mask + 1 ? stream->tx_start - stream->tx_old_mask - 1
										      : 0;
	*from = head > asked ? head : asked;
	if (*from < stream->tx_start && !in_old_ring)
		*from = stream->tx_start;
	/* Only what was not read must still be there: a segment may be any number of rings long. */
	uint64_t in_current = *from > stream->tx_start ? *from : stream->tx_start;
	return *from <= tail && *from >= oldest && tail - in_current <= stream->tx_mask + 1;
}

void tx_serve_outside(struct nn_stream *stream)
{
	if (atomic_load_explicit(&stream->shared, memory_order_relaxed)) {
		tx_follow(stream);
		if (!stream->tx_ring)
			return; /* another process has */
	}
	uint64_t from;
	if (!unread_from(stream, atomic_load(&stream->peer->frozen), &from)) {
		/* As TCP would with a peer that lost its memory. */
		rx_spoil(stream);
		from = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	}
	replay_from(stream, from, NN_REASON_PEER, true);
}

/* Should this process die before all of it is sent again, its peer must not take the end of that for the end of all: until then the kernel
 * resets the connection. */
static void end_by_reset(struct nn_stream *stream, bool reset)
{
	struct linger now = {0}, none = {.l_onoff = 1};
	socklen_t length = sizeof now;
	if (stream->ends_by_reset == reset || sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, SO_LINGER, &now, &length) < 0)
		return;
	stream->ends_by_reset = reset;
	if (reset) {
		stream->linger = now;
		sys_call5(SYS_setsockopt, stream->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	} else if (now.l_onoff && !now.l_linger) { /* else the application has changed it */
		sys_call5(SYS_setsockopt, stream->fd, SOL_SOCKET, SO_LINGER, &stream->linger, sizeof stream->linger);
	}
}

bool tx_replay_more(struct nn_stream *stream)
{
	struct end_block *own = stream->own;
	uint64_t end = atomic_load_explicit(&own->tail, memory_order_relaxed);
	/* Who has closed has read all of it, or has said that he has not. */
	for (uint64_t next; (next = atomic_load(&own->replay)) < end && !(peer_tx_flags(stream) & END_CLOSED);) {
		bool old = next < stream->tx_replay_split;
		const uint8_t *ring = old ? (uint8_t *)stream->pair->own + stream->tx_old_offset : stream->tx_ring;
		uint64_t mask = old ? stream->tx_old_mask : stream->tx_mask;
		uint64_t at = next & mask;
		uint64_t count = (old ? stream->tx_replay_split : end) - next;
		if (count > mask + 1 - at)
			count = mask + 1 - at;
		long sent = sys_call6(SYS_sendto, stream->fd, ring + at, count, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		if (sent == -EAGAIN || sent == -EINTR) {
			end_by_reset(stream, true);
			return false;
		}
		if (sent < 0) { /* broken: the next call tells the application */
			stream_set_error(stream, (int)-sent);
			break;
		}
		atomic_store(&own->replay, next + (uint64_t)sent);
	}
	atomic_store(&own->replaying, 0);
	stream->tx_replaying = false;
	end_by_reset(stream, false);
	leave_ring(stream, (enum nn_reason)stream->tx_replay_reason, stream->tx_replay_final, stream->tx_replay_from);
	atomic_store_explicit(&stream->raw_tx, 0, memory_order_release);
	epoll_stream_moved(stream);
	stream_tell(stream);
	waiters_ring_own(stream->pair, own);
	return true;
}

/* How long one who leaves a stream waits for the kernel to take what the peer wants by TCP. */
#define PAY_NS 500000000ull

bool tx_pay(struct nn_stream *stream)
{
	uint64_t deadline = 0;
	while (tx_outside_wanted(stream) || stream->tx_replaying) {
		enum lock_outcome lock = tx_lock(stream);
		bool paid = lock == LOCK_NESTED;
		if (!paid && atomic_load_explicit(&stream->shared, memory_order_relaxed))
			tx_follow(stream);
		if (!paid && tx_outside_wanted(stream) && !stream->tx_replaying)
			tx_serve_outside(stream);
		else if (!paid && stream->tx_replaying)
			tx_replay_more(stream);
		paid |= !stream->tx_replaying;
		tx_unlock(stream, lock);
		uint64_t now = nn_now_ns();
		if (!deadline)
			deadline = now + PAY_NS;
		if (paid || now >= deadline)
			return paid;
		struct pollfd room = {.fd = stream->fd, .events = POLLOUT};
		struct timespec limit = {0, (long)(deadline - now)};
		sys_call5(SYS_ppoll, &room, 1, &limit, NULL, 8);
	}
	return true;
}

/* Does the kernel surely take so many bytes at once? Each may cost it two. */
static bool kernel_has_room(const struct nn_stream *stream, uint64_t bytes)
{
	uint32_t memory[SK_MEMINFO_VARS] = {0};
	socklen_t length = sizeof memory;
	return sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, SO_MEMINFO, memory, &length) == 0 &&
	       memory[SK_MEMINFO_WMEM_QUEUED] + 2 * bytes <= memory[SK_MEMINFO_SNDBUF];
}

bool tx_spill(struct nn_stream *stream, enum nn_reason reason, bool for_good)
{
	uint64_t from;
	if (!unread_from(stream, 0, &from) ||
		!kernel_has_room(stream, atomic_load_explicit(&stream->own->tail, memory_order_relaxed) - from))
		return false;
	replay_from(stream, from, reason, for_good);
	return true;
}

void tx_leave(struct nn_stream *stream, enum nn_reason reason)
{
	if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
		tx_follow(stream);
	uint64_t tail = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	uint64_t head = atomic_load(&stream->peer->head);
	if (stream->tx_ring && peer_has_entered(stream) && head >= stream->tx_start && head < tail && tail - head <= stream->tx_mask + 1 &&
		!(atomic_load_explicit(&stream->own->tx_flags, memory_order_relaxed) & END_FIN) && !(peer_tx_flags(stream) & END_CLOSED) &&
		kernel_has_room(stream, tail - head))
		replay_from(stream, head, reason, true);
	else
		tx_down(stream, reason, DOWN_FOR_GOOD);
}

/* The ring of a segment that we, or another process before us, published. */
static uint64_t segment_ring(const struct nn_stream *stream, uint64_t epoch, uint64_t *mask)
{
	uint64_t where = epoch ? atomic_load(&stream->own->segments[epoch % END_SEGMENTS].where) : SEGMENT_OUTSIDE;
	*mask = (1ull << (where & SEGMENT_LOG2_MASK)) - 1;
	return where & ~(uint64_t)SEGMENT_LOG2_MASK;
}

/* Only whoever made the pair changes rings, so this is another process: it frees none. */
static void reload_rings(struct nn_stream *stream, uint64_t epoch)
{
	uint64_t mask, offset = segment_ring(stream, epoch, &mask);
	stream->tx_old_offset = epoch > 1 ? segment_ring(stream, epoch - 1, &stream->tx_old_mask) : 0;
	use_ring(stream, offset, mask + 1);
}

bool tx_moved(const struct nn_stream *stream)
{
	return atomic_load_explicit(&stream->shared, memory_order_relaxed) &&
	       (atomic_load(&stream->own->epoch) != stream->tx_epoch ||
		       (stream->tx_replaying && !atomic_load(&stream->own->replaying)));
}

void tx_reload(struct nn_stream *stream)
{
	if (!tx_moved(stream))
		return;
	uint64_t epoch = atomic_load(&stream->own->epoch);
	const struct end_segment *segment = &stream->own->segments[epoch % END_SEGMENTS];
	bool outside = !epoch || atomic_load(&segment->where) == SEGMENT_OUTSIDE;
	stream->tx_epoch = epoch;
	stream->tx_start = stream->tx_head = atomic_load(&segment->start);
	stream->tx_replaying = outside && atomic_load(&stream->own->replaying);
	if (stream->tx_replaying) {
		reload_rings(stream, epoch - 1);
		stream->tx_replay_split = atomic_load(&stream->own->segments[(epoch - 1) % END_SEGMENTS].start);
		stream->tx_replay_reason = NN_REASON_PEER;
		stream->tx_replay_final = true;
	} else if (outside) {
		/* What the other process sent by which way is not known here: no way up any more. Rings stay until the stream
		 * closes. */
		stream->tx_ring = NULL;
		atomic_store(&stream->stay_tx, 1);
		atomic_store(&stream->raw_tx, 0);
		atomic_store_explicit(&stream->shown->tx.up, 0, memory_order_relaxed);
	} else {
		reload_rings(stream, epoch);
	}
}

void tx_follow(struct nn_stream *stream)
{
	bool by_ring = stream->tx_ring, replaying = stream->tx_replaying;
	tx_reload(stream);
	if (!stream->tx_replaying)
		end_by_reset(stream, false);
	if ((by_ring && !stream->tx_ring) || replaying != stream->tx_replaying)
		epoll_stream_moved(stream); /* room is the kernel's to tell from here on */
}

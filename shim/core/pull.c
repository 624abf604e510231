/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking bytes out of segments: rings and, while the direction is on TCP, the kernel. The head is committed by one
 * compare-and-swap, so that another process that shares the end, or a signal handler, in between only makes us start over.
 *
 * End of stream: the peer's END_FIN flag, or the kernel's FIN when the peer died without a word, and in both cases one
 * more look at tail and epoch afterwards: what was published before is visible by then.
 */
#include "shim/core/pull.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "shim/core/error.h"
#include "shim/core/process.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/wait/waiter.h"

/* After the head has moved from `before`: wakes a sender that waits for room, if this read made it. */
static void give_room(struct nn_stream *stream, uint64_t head)
{
	uint64_t space_at = atomic_load(&stream->peer->space_at);
	if (space_at && head >= space_at)
		stream_tell(stream);
}

/* Up to `to->left` bytes of the current ring segment. */
static long ring_read(struct nn_stream *stream, struct cursor *to, struct wish wish)
{
	for (;;) {
		uint64_t head = atomic_load_explicit(&stream->own->head, memory_order_relaxed);
		uint64_t tail = atomic_load(&stream->peer->tail); /* pairs with ring_write */
		uint64_t end = rx_segment_end(stream);
		if (tail < head) {
			rx_spoil(stream); /* bytes taken back */
			return PULL_NOTHING;
		}
		if (tail > end)
			tail = end;
		uint64_t count = tail - head;
		if (tail <= head)
			return PULL_NOTHING;
		if (count > stream->rx_mask + 1) {
			rx_spoil(stream); /* more than the ring holds */
			return PULL_NOTHING;
		}
		if (count > to->left)
			count = to->left;
		struct cursor at = *to;
		uint64_t place = head & stream->rx_mask;
		uint64_t first = stream->rx_mask + 1 - place;
		if (first > count)
			first = count;
		if (wish.discard) {
			cursor_skip(&at, count);
		} else {
			cursor_scatter(&at, stream->rx_ring + place, first);
			if (count > first)
				cursor_scatter(&at, stream->rx_ring, count - first);
		}
		if (wish.peek) {
			*to = at;
			return (long)count;
		}
		if (atomic_compare_exchange_strong(&stream->own->head, &head, head + count)) {
			*to = at;
			COUNT(stream->shown->rx.ring_bytes, count);
			give_room(stream, head + count);
			return (long)count;
		}
	}
}

/* Bytes of the current TCP segment, without waiting. */
static long tcp_read(struct nn_stream *stream, struct cursor *to, struct wish wish)
{
	for (;;) {
		if (!rx_drop_skipped(stream))
			return PULL_NOTHING;
		int held = 0;
		long outcome = sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held);
		if (outcome < 0)
			return outcome;
		/* What the kernel held before this look at the epoch was sent before the next segment began, or belongs to it
		 * when its start is known. */
		uint64_t head = atomic_load_explicit(&stream->own->head, memory_order_relaxed);
		uint64_t end = rx_segment_end(stream);
		uint64_t limit = end == UINT64_MAX ? UINT64_MAX : end > head ? end - head : 0;
		if (!limit)
			return PULL_NOTHING; /* the next segment begins here */
		if (limit > (uint64_t)held && held)
			limit = (uint64_t)held;
		if (!held) {
			/* Nothing, an end or an error: asking for one byte tells, and takes none that is not ours. */
			char byte;
			outcome = sys_call6(SYS_recvfrom, stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
			if (outcome == 1)
				continue; /* came in just now */
			if (outcome == -EAGAIN)
				return PULL_NOTHING;
			if (outcome == -ECONNRESET && stream_reset_told(stream))
				return PULL_END;
			stream_error_told(stream, outcome);
			if (outcome == 0) {
				stream_look(stream, 0);
				/* Bytes that a known next segment says went before it, and the kernel has none left: lost with a
				 * reset, else a lie. */
				if (rx_segment_end(stream) != UINT64_MAX && !stream_error(stream) && !stream_reset_told(stream))
					rx_spoil(stream);
				return PULL_END;
			}
			return outcome;
		}
		struct iovec pieces[64];
		struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)cursor_vector(to, pieces, 64, limit)};
		int flags = MSG_DONTWAIT | (wish.peek ? MSG_PEEK : 0) | (wish.discard ? MSG_TRUNC : 0);
		outcome = sys_call3(SYS_recvmsg, stream->fd, &message, flags);
		stream_error_told(stream, outcome);
		if (outcome <= 0)
			return outcome == -EAGAIN ? PULL_NOTHING : outcome == 0 ? PULL_END : outcome;
		cursor_skip(to, (size_t)outcome);
		if (!wish.peek) {
			atomic_fetch_add(&stream->own->head, (uint64_t)outcome);
			COUNT(stream->shown->rx.tcp_bytes, (uint64_t)outcome);
		}
		return outcome;
	}
}

/* Has everything that was or will be sent by ring been read? Looks at tail and epoch after the end was seen. */
static bool drained(struct nn_stream *stream)
{
	return peer_epoch(stream) == stream->rx_epoch &&
	       atomic_load(&stream->peer->tail) == atomic_load_explicit(&stream->own->head, memory_order_relaxed);
}

/* What the kernel holds behind the `before` bytes that are peeked at already, and lie where `whole` begins: they come again; and behind
 * `twice` more that it has been sent although they are, or were, in a ring. */
static long peek_kernel(struct nn_stream *stream, struct cursor whole, uint64_t before, uint64_t twice, struct cursor *to, uint64_t limit,
	bool discard)
{
	int held = 0;
	uint64_t epoch = peer_epoch(stream), known = before + twice;
	if (atomic_load(&stream->own->skip) || sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held) < 0 || (uint64_t)held <= known || peer_epoch(stream) != epoch)
		return 0;
	if (limit > (uint64_t)held - known)
		limit = (uint64_t)held - known;
	struct iovec pieces[64];
	int first = before ? cursor_vector(&whole, pieces, 31, before) : 0;
	uint64_t again = 0;
	for (int i = 0; i < first; i++)
		again += pieces[i].iov_len;
	if (again != before)
		return 0; /* in too many pieces */
	void *scratch = twice ? process_memory(twice) : NULL;
	if (twice && !scratch)
		return 0;
	if (twice)
		pieces[first++] = (struct iovec){scratch, twice};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)(first + cursor_vector(to, pieces + first, 32, limit))};
	long got = sys_call3(SYS_recvmsg, stream->fd, &message, MSG_PEEK | MSG_DONTWAIT | (discard ? MSG_TRUNC : 0));
	if (scratch)
		sys_call2(SYS_munmap, scratch, twice);
	if (got <= (long)known)
		return 0;
	cursor_skip(to, (uint64_t)got - known);
	return got - (long)known;
}

/* More to peek at behind the `got` bytes of the current segment: what lies in the segments that follow it without a gap. */
static long peek_further(struct nn_stream *stream, struct cursor whole, uint64_t got, struct cursor *to, bool discard)
{
	uint64_t newest = peer_epoch(stream), tail = atomic_load(&stream->peer->tail);
	uint64_t at = atomic_load_explicit(&stream->own->head, memory_order_relaxed) + got;
	long total = 0;
	bool kernel = false;
	for (uint64_t epoch = stream->rx_epoch + 1; to->left && epoch <= newest && newest - epoch < END_SEGMENTS - 1; epoch++) {
		const struct end_segment *segment = &stream->peer->segments[epoch % END_SEGMENTS];
		uint64_t start = atomic_load(&segment->start), where = atomic_load(&segment->where);
		uint64_t end = epoch == newest ? tail : atomic_load(&stream->peer->segments[(epoch + 1) % END_SEGMENTS].start);
		unsigned log2 = (unsigned)(where & SEGMENT_LOG2_MASK);
		uint64_t offset = where & ~(uint64_t)SEGMENT_LOG2_MASK;
		if (where != SEGMENT_OUTSIDE && end <= at)
			continue; /* all of it comes again by TCP */
		if (where == SEGMENT_OUTSIDE && !kernel && start <= at) {
			/* The kernel holds what comes after our ring, or after what it had of the current segment, up to where the next one was
			 * known to begin. */
			long more = peek_kernel(stream, whole, stream->rx_ring ? 0 : got, at - start, to, epoch == newest ? UINT64_MAX : end - at, discard);
			kernel = true;
			total += more;
			if (epoch != newest && (uint64_t)more == end - at) {
				at = end;
				continue;
			}
			break;
		}
		if (where == SEGMENT_OUTSIDE || start != at || !region_ring_valid(stream->pair->peer_length, offset, log2) ||
			end - start > 1ull << log2)
			break;
		at = end;
		uint64_t count = end - start < to->left ? end - start : to->left;
		const uint8_t *ring = (const uint8_t *)stream->pair->peer + offset;
		uint64_t place = start & ((1ull << log2) - 1);
		uint64_t first = (1ull << log2) - place < count ? (1ull << log2) - place : count;
		if (discard) {
			cursor_skip(to, count);
		} else {
			cursor_scatter(to, ring + place, first);
			cursor_scatter(to, ring, count - first);
		}
		total += (long)count;
		if (count < end - start)
			break;
	}
	return total;
}

static long peek(struct nn_stream *stream, struct cursor *to, struct wish wish)
{
	struct cursor whole = *to;
	long got = stream->rx_ring ? ring_read(stream, to, wish) : tcp_read(stream, to, wish);
	if (got <= 0 || !to->left)
		return got;
	/* All of the current segment? */
	uint64_t end = rx_segment_end(stream);
	uint64_t head = atomic_load_explicit(&stream->own->head, memory_order_relaxed);
	return end == head + (uint64_t)got ? got + peek_further(stream, whole, (uint64_t)got, to, wish.discard) : got;
}

static long error_or_end(struct nn_stream *stream)
{
	int error = stream_take_error(stream);
	return error ? -error : PULL_END;
}

long stream_pull(struct nn_stream *stream, struct cursor *to, struct wish wish)
{
	long total = 0;
	bool ended = false;
	for (unsigned entered = 0; to->left;) {
		if (stream->rx_spoiled) {
			if (total)
				return total;
			return error_or_end(stream);
		}
		long got = wish.peek ? peek(stream, to, wish) : stream->rx_ring ? ring_read(stream, to, wish) : tcp_read(stream, to, wish);
		if (got > 0) {
			total += got;
			if (wish.peek)
				break;
			continue;
		}
		if (got < PULL_END)
			return total ? total : got;
		if (entered++ < 2 * END_SEGMENTS && rx_advance(stream))
			continue;
		if (stream->rx_spoiled)
			continue;
		if (total || !rx_taken(stream))
			break;
		/* A reset is told after the bytes, and instead of the end, unless that had come before it. */
		if (!stream->rx_ring || drained(stream)) {
			if (stream_reset_unseen(stream) || stream_has_error(stream))
				return stream_reset_late(stream) ? PULL_END : error_or_end(stream);
			if (stream_error(stream)) { /* the kernel's, which knows what came first */
				char byte;
				long outcome = sys_call6(SYS_recvfrom, stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
				stream_error_told(stream, outcome);
				return outcome > 0 || outcome == -EAGAIN ? PULL_NOTHING : outcome ? outcome : PULL_END;
			}
		}
		if (got == PULL_END)
			return PULL_END;
		if (!stream->rx_ring)
			break;
		if (ended)
			return drained(stream) ? PULL_END : PULL_NOTHING;
		ended = (peer_tx_flags(stream) & END_FIN) || atomic_load(&stream->kernel_hup) || stream_shut_rx(stream);
		if (!ended)
			break;
	}
	return total;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recv(2) and its kin. Until the direction is READY the call is the front end's to make; then it is served here, segment
 * by segment: copy under rx_lock, commit by one compare-and-swap of the head.
 *
 * End of stream: the peer's END_FIN flag, or the kernel's FIN when the peer died without a word, and in both cases one
 * more look at tail and epoch afterwards: what was published before is visible by then.
 */
#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "shim/core/clock.h"
#include "shim/core/cursor.h"
#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"
#include "shim/wait/waiter.h"

#define LOOK_TICKS 500000u

enum { PULL_NOTHING = 0, PULL_END = -1 }; /* else bytes, or below PULL_END: -errno */

/* The direction is raw by now: the front end makes the call. */
#define GO_RAW LONG_MIN

static long receive(struct nn_stream *stream, const struct iovec *iov, int count, int flags);

/* How a call wants its bytes. */
struct wish {
	bool peek;    /* MSG_PEEK: leave them */
	bool discard; /* MSG_TRUNC: do not copy them */
};

/* After the head has moved from `before`: wakes a sender that waits for room, if this read made it. */
static void give_room(struct nn_stream *stream, uint64_t head)
{
	uint64_t space_at = atomic_load(&stream->peer->space_at);
	if (space_at && head >= space_at)
		doorbell_ring(stream->pair, stream->peer);
}

/* Up to `to->left` bytes of the current ring segment. */
static long ring_read(struct nn_stream *stream, struct cursor *to, struct wish wish)
{
	for (;;) {
		uint64_t head = atomic_load_explicit(&stream->own->head, memory_order_relaxed);
		uint64_t tail = atomic_load(&stream->peer->tail); /* pairs with ring_write */
		uint64_t end = rx_segment_end(stream);
		if (tail > end)
			tail = end;
		uint64_t count = tail - head;
		if (tail <= head)
			return PULL_NOTHING;
		if (count > stream->rx_mask + 1) {
			atomic_store(&stream->error, ECONNRESET); /* a lie: more than the ring holds */
			return -ECONNRESET;
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
			if (outcome == 0) {
				stream_look(stream);
				/* Bytes that a known next segment says went before it, and the kernel has none left: a lie. */
				return rx_segment_end(stream) == UINT64_MAX ? PULL_END : -ECONNRESET;
			}
			return outcome;
		}
		struct iovec pieces[64];
		struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)cursor_vector(to, pieces, 64, limit)};
		int flags = MSG_DONTWAIT | (wish.peek ? MSG_PEEK : 0) | (wish.discard ? MSG_TRUNC : 0);
		outcome = sys_call3(SYS_recvmsg, stream->fd, &message, flags);
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
	return atomic_load(&stream->peer->epoch) == stream->rx_epoch &&
	       atomic_load(&stream->peer->tail) == atomic_load_explicit(&stream->own->head, memory_order_relaxed);
}

static long peek_kernel(struct nn_stream *stream, struct cursor *to, uint64_t limit)
{
	int held = 0;
	uint64_t before = atomic_load(&stream->peer->epoch);
	if (stream->rx_skip || sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held) < 0 || !held || atomic_load(&stream->peer->epoch) != before)
		return 0;
	if (limit > (uint64_t)held)
		limit = (uint64_t)held;
	struct iovec pieces[64];
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)cursor_vector(to, pieces, 64, limit)};
	long got = sys_call3(SYS_recvmsg, stream->fd, &message, MSG_PEEK | MSG_DONTWAIT);
	if (got <= 0)
		return 0;
	cursor_skip(to, (size_t)got);
	return got;
}

/* More to peek at behind the current segment: what lies in the segments that follow it without a gap. */
static long peek_further(struct nn_stream *stream, struct cursor *to)
{
	uint64_t newest = atomic_load(&stream->peer->epoch), tail = atomic_load(&stream->peer->tail);
	long total = 0;
	bool kernel = false;
	for (uint64_t epoch = stream->rx_epoch + 1; to->left && epoch <= newest && newest - epoch < END_SEGMENTS - 1; epoch++) {
		const struct end_segment *segment = &stream->peer->segments[epoch % END_SEGMENTS];
		uint64_t start = atomic_load(&segment->start), where = atomic_load(&segment->where);
		uint64_t end = epoch == newest ? tail : atomic_load(&stream->peer->segments[(epoch + 1) % END_SEGMENTS].start);
		unsigned log2 = (unsigned)(where & SEGMENT_LOG2_MASK);
		uint64_t offset = where & ~(uint64_t)SEGMENT_LOG2_MASK;
		if (where == SEGMENT_OUTSIDE && stream->rx_ring && !kernel) {
			/* All that the kernel holds comes after our ring, up to where the next segment was known to begin. */
			long more = peek_kernel(stream, to, epoch == newest ? UINT64_MAX : end - start);
			kernel = true;
			total += more;
			if (epoch != newest && (uint64_t)more == end - start)
				continue;
			break;
		}
		if (where == SEGMENT_OUTSIDE || !region_ring_valid(stream->pair->peer_length, offset, log2) || end < start ||
			end - start > 1ull << log2)
			break;
		uint64_t count = end - start < to->left ? end - start : to->left;
		const uint8_t *ring = (const uint8_t *)stream->pair->peer + offset;
		uint64_t place = start & ((1ull << log2) - 1);
		uint64_t first = (1ull << log2) - place < count ? (1ull << log2) - place : count;
		cursor_scatter(to, ring + place, first);
		cursor_scatter(to, ring, count - first);
		total += (long)count;
		if (count < end - start)
			break;
	}
	return total;
}

static long peek(struct nn_stream *stream, struct cursor *to, struct wish wish)
{
	long got = stream->rx_ring ? ring_read(stream, to, wish) : tcp_read(stream, to, wish);
	if (got <= 0 || !to->left)
		return got;
	/* All of the current segment? */
	uint64_t end = rx_segment_end(stream);
	uint64_t head = atomic_load_explicit(&stream->own->head, memory_order_relaxed);
	return end == head + (uint64_t)got ? got + peek_further(stream, to) : got;
}

/* Whatever is there without waiting. Under rx_lock. */
static long pull(struct nn_stream *stream, struct cursor *to, struct wish wish, bool nested)
{
	long total = 0;
	bool ended = false;
	while (to->left) {
		long got = wish.peek ? peek(stream, to, wish) : stream->rx_ring ? ring_read(stream, to, wish) : tcp_read(stream, to, wish);
		if (got > 0) {
			total += got;
			if (wish.peek)
				break;
			continue;
		}
		if (got < PULL_END)
			return total ? total : got;
		if (!nested && rx_advance(stream))
			continue;
		if (total || !rx_taken(stream))
			break;
		if (got == PULL_END)
			return PULL_END;
		if ((atomic_load(&stream->error) || stream_reset_unseen(stream)) && drained(stream))
			return -stream_take_error(stream);
		if (!stream->rx_ring)
			break;
		if (ended)
			return drained(stream) ? PULL_END : PULL_NOTHING;
		ended = (peer_tx_flags(stream) & END_FIN) || atomic_load(&stream->kernel_hup) || atomic_load(&stream->rx_shut);
		if (!ended)
			break;
	}
	return total;
}

/* A call for no bytes waits for some all the same, and takes none. */
static long wait_for_any(struct nn_stream *stream, int flags)
{
	char byte;
	struct iovec one = {&byte, 1};
	long outcome = receive(stream, &one, 1, (flags & MSG_DONTWAIT) | MSG_PEEK);
	return outcome > 0 ? 0 : outcome;
}

/* The direction went raw in the middle of a call that wants more than it has. */
static long finish_raw(struct nn_stream *stream, struct cursor *to, size_t got, int flags)
{
	struct iovec pieces[64];
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)cursor_vector(to, pieces, 64, to->left)};
	int at_mark = 0; /* urgent data divides what one call returns */
	if (sys_call3(SYS_ioctl, stream->fd, SIOCATMARK, &at_mark) == 0 && at_mark)
		return (long)got;
	if (!(flags & MSG_WAITALL))
		flags |= MSG_DONTWAIT;
	long outcome = flags & MSG_PEEK ? 0 : sys_call3(SYS_recvmsg, stream->fd, &message, flags);
	if (outcome > 0)
		COUNT(stream->shown->rx.tcp_bytes, (uint64_t)outcome);
	return (long)got + (outcome > 0 ? outcome : 0);
}

/* One application call. */
static long receive(struct nn_stream *stream, const struct iovec *iov, int count, int flags)
{
	struct wish wish = {.peek = flags & MSG_PEEK, .discard = flags & MSG_TRUNC};
	struct cursor to = cursor_begin(iov, count);
	size_t total = to.left, got = 0;
	uint64_t deadline = 0;
	if (!total)
		return wait_for_any(stream, flags);
	COUNT(stream->shown->rx.calls, 1);
	for (;;) {
		enum lock_outcome lock = lock_take(&stream->own->rx_lock, nn_self());
		if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
			rx_reload(stream);
		if (!rx_taken(stream)) {
			lock_drop(&stream->own->rx_lock, lock);
			return got ? finish_raw(stream, &to, got, flags) : GO_RAW;
		}
		if (wish.peek) {
			to = cursor_begin(iov, count);
			got = 0;
		}
		long outcome = pull(stream, &to, wish, lock == LOCK_NESTED);
		lock_drop(&stream->own->rx_lock, lock);
		if (outcome > 0)
			got += (size_t)outcome;
		else if (outcome < 0)
			return got ? (long)got : outcome == PULL_END ? 0 : outcome;
		if (got && to.left && !rx_taken(stream))
			return finish_raw(stream, &to, got, flags);
		size_t lowat = (size_t)atomic_load_explicit(&stream->lowat, memory_order_relaxed);
		size_t target = flags & MSG_WAITALL ? total : lowat < total ? lowat : total;
		if (got >= target)
			return (long)got;
		if (!rx_taken(stream))
			continue;
		if (stream_nonblocking(stream, flags)) {
			if (!got && cpu_ticks() - atomic_load_explicit(&stream->looked_ns, memory_order_relaxed) > LOOK_TICKS) {
				bool before = atomic_load(&stream->kernel_hup);
				stream_look(stream);
				if (!before && atomic_load(&stream->kernel_hup))
					continue;
			}
			return got ? (long)got : -EAGAIN;
		}
		long waited = stream_wait_rx(stream, wish.peek ? target : target - got, &deadline);
		if (waited < 0)
			return got ? (long)got : waited;
	}
}

/* True: the core serves the call; else it is raw, and counted. */
static bool is_ours(struct nn_io *io, int flags)
{
	if (stream_is_paired(io->stream) && !rx_taken(io->stream) && !io->stream->rx_final)
		stream_tick(io->stream);
	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return false; /* not from the byte stream */
	return !raw_begin(io);
}

/* NN_RAW: the front end makes the call. */
static int serve(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags)
{
	io->sending = false;
	io->counted = false;
	io->stream = stream_get(fd);
	if (!io->stream)
		return NN_RAW;
	do {
		if (!is_ours(io, flags))
			return NN_RAW;
		io->result = receive(io->stream, iov, count, flags);
	} while (io->result == GO_RAW);
	return NN_DONE;
}

int nn_recv(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags)
{
	if (serve(io, fd, iov, count, flags) == NN_RAW)
		return NN_RAW;
	stream_put(io->stream);
	return NN_DONE;
}

/* TCP_INQ: what is left after the call, as the kernel would say in control data. */
static void put_inq(struct nn_stream *stream, struct msghdr *message, size_t room)
{
	if (!stream->want_inq || room < CMSG_SPACE(sizeof(int)) || !message->msg_control) {
		if (stream->want_inq)
			message->msg_flags |= MSG_CTRUNC;
		return;
	}
	struct nn_io io;
	int left = 0;
	if (nn_inq(&io, stream->fd, &left) == NN_RAW)
		return;
	/* As the kernel: an end not yet read counts as something to read. */
	if (!left && ((peer_tx_flags(stream) & END_FIN) || atomic_load(&stream->kernel_hup)))
		left = 1;
	struct cmsghdr *control = message->msg_control;
	control->cmsg_level = IPPROTO_TCP;
	control->cmsg_type = TCP_CM_INQ;
	control->cmsg_len = CMSG_LEN(sizeof left);
	memcpy(CMSG_DATA(control), &left, sizeof left);
	message->msg_controllen = CMSG_SPACE(sizeof left);
}

int nn_recvmsg(struct nn_io *io, int fd, struct msghdr *message, int flags)
{
	if (serve(io, fd, message->msg_iov, (int)message->msg_iovlen, flags) == NN_RAW)
		return NN_RAW;
	if (io->result >= 0) {
		size_t room = message->msg_controllen;
		message->msg_namelen = 0;
		message->msg_controllen = 0;
		message->msg_flags = 0;
		put_inq(io->stream, message, room);
	}
	stream_put(io->stream);
	return NN_DONE;
}

/* Bytes to be read: in the rings of this and the following segments, and in the kernel. */
static uint64_t waiting(const struct nn_stream *stream)
{
	int held = 0;
	uint64_t newest = atomic_load(&stream->peer->epoch), tail = atomic_load(&stream->peer->tail);
	uint64_t from = atomic_load(&stream->own->head), count = 0;
	if (!stream->rx_ring || newest != stream->rx_epoch)
		sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held);
	bool ring = stream->rx_ring;
	for (uint64_t epoch = stream->rx_epoch;; epoch++) {
		const struct end_segment *next = &stream->peer->segments[(epoch + 1) % END_SEGMENTS];
		uint64_t end = epoch == newest ? tail : atomic_load(&next->start);
		if (ring && end > from)
			count += end - from;
		if (epoch == newest || newest - epoch >= END_SEGMENTS)
			break;
		from = end;
		ring = atomic_load(&next->where) != SEGMENT_OUTSIDE;
	}
	return count + (uint64_t)held;
}

int nn_inq(struct nn_io *io, int fd, int *value)
{
	io->counted = false;
	io->sending = false;
	io->stream = stream_get(fd);
	if (!io->stream)
		return NN_RAW;
	struct nn_stream *stream = io->stream;
	io->stream = NULL;
	int outcome = NN_RAW;
	if (stream_is_paired(stream) && rx_taken(stream)) {
		enum lock_outcome lock = lock_take(&stream->own->rx_lock, nn_self());
		while (lock == LOCK_TAKEN && rx_advance(stream))
			;
		uint64_t count = waiting(stream);
		*value = count > INT32_MAX ? INT32_MAX : (int)count;
		io->result = 0;
		outcome = NN_DONE;
		lock_drop(&stream->own->rx_lock, lock);
	}
	stream_put(stream);
	return outcome;
}

int nn_outq(struct nn_io *io, int fd, int *value)
{
	struct nn_stream *stream = stream_get(fd);
	io->stream = NULL;
	io->counted = false;
	if (!stream)
		return NN_RAW;
	int outcome = NN_RAW;
	if (stream_is_paired(stream) && tx_taken(stream)) {
		/* What reached the ring has reached the peer's memory: acknowledged, in TCP's terms. */
		*value = 0;
		io->result = 0;
		outcome = NN_DONE;
	}
	stream_put(stream);
	return outcome;
}

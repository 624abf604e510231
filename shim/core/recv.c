/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recv(2) and its kin. Until the direction is READY the call is the front end's to make; then it is served here: pull what is
 * there (pull.c), and wait for more where the call blocks.
 */
#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "shim/core/clock.h"
#include "shim/core/cursor.h"
#include "shim/core/error.h"
#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/pull.h"
#include "shim/core/raw.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"
#include "shim/wait/waiter.h"

/* The direction is raw by now: the front end makes the call. */
#define GO_RAW LONG_MIN

static long receive(struct nn_stream *stream, const struct iovec *iov, int count, int flags);

/* A call for no bytes waits for some all the same, and takes none. */
static long wait_for_any(struct nn_stream *stream, int flags)
{
	char byte;
	struct iovec one = {&byte, 1};
	long outcome = receive(stream, &one, 1, (flags & MSG_DONTWAIT) | MSG_PEEK);
	return outcome > 0 ? 0 : outcome;
}

/* The direction went raw in the middle of a call that wants more than it has taken. */
static long finish_raw(struct nn_stream *stream, struct cursor *to, size_t got, int flags)
{
	int at_mark = 0; /* urgent data divides what one call returns */
	if (sys_call3(SYS_ioctl, stream->fd, SIOCATMARK, &at_mark) == 0 && at_mark)
		return (long)got;
	if (!(flags & MSG_WAITALL))
		flags |= MSG_DONTWAIT;
	while (to->left) {
		struct iovec pieces[64];
		struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)cursor_vector(to, pieces, 64, to->left)};
		size_t asked = 0;
		for (size_t i = 0; i < message.msg_iovlen; i++)
			asked += pieces[i].iov_len;
		long outcome = sys_call3(SYS_recvmsg, stream->fd, &message, flags);
		if (outcome <= 0)
			break;
		COUNT(stream->shown->rx.tcp_bytes, (uint64_t)outcome);
		got += (size_t)outcome;
		if ((size_t)outcome < asked)
			break;
		cursor_skip(to, (size_t)outcome);
	}
	return (long)got;
}

/* Are the `got` bytes that a call peeks at all the ring can hold, and `target` more? */
static bool beyond_ring(const struct nn_stream *stream, size_t got, size_t target)
{
	return stream->rx_ring && got < target && got > stream->rx_mask;
}

/* Bytes worth waking for, of a call that wants `target` and has `got`: no more than the ring holds before its sender must wait. A peeked
 * byte stays where it is: then one more than there are, and beyond the ring time alone tells. */
static uint64_t worth_waking(const struct nn_stream *stream, bool peek, size_t got, size_t target)
{
	if (peek && got && rx_segment_end(stream) != UINT64_MAX)
		return WANT_TIME;
	if (peek && beyond_ring(stream, got, target))
		return WANT_TIME;
	uint64_t half = stream->rx_ring ? stream->rx_mask / 2 + 1 : UINT64_MAX;
	uint64_t wanted = peek ? target : target - got;
	if (peek && got >= half)
		return got + 1;
	return wanted < half ? wanted : half;
}

/* One application call. */
static long receive(struct nn_stream *stream, const struct iovec *iov, int count, int flags)
{
	struct wish wish = {.peek = flags & MSG_PEEK, .discard = flags & MSG_TRUNC};
	struct cursor to = cursor_begin(iov, count);
	size_t total = to.left, got = 0;
	struct wait_call call = {.began = signals_ran()};
	if (!total)
		return wait_for_any(stream, flags);
	COUNT(stream->shown->rx.calls, 1);
	const size_t lowat = stream_lowat(stream), target = flags & MSG_WAITALL ? total : lowat < total ? lowat : total;
	for (;;) {
		enum lock_outcome lock = rx_lock(stream);
		if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
			rx_reload(stream);
		if (!rx_taken(stream)) {
			rx_unlock(stream, lock);
			return got && !wish.peek ? finish_raw(stream, &to, got, flags) : GO_RAW;
		}
		bool over = false; /* as known before the look at the bytes: all of them are there */
		if (wish.peek) {
			to = cursor_begin(iov, count);
			got = 0;
			over = (peer_tx_flags(stream) & END_FIN) || atomic_load(&stream->kernel_hup) || stream_shut_rx(stream);
		}
		/* After a fault in a call that reads, what is there is that one's. */
		long outcome = lock == LOCK_NESTED ? stream_nonblocking(stream, flags) ? -EAGAIN : -EINTR : stream_pull(stream, &to, wish);
		rx_unlock(stream, lock);
		if (outcome > 0)
			got += (size_t)outcome;
		else if (outcome < 0)
			return got ? (long)got : outcome == PULL_END ? 0 : outcome;
		if (got && to.left && !rx_taken(stream))
			return wish.peek ? GO_RAW : finish_raw(stream, &to, got, flags);
		if (got >= target || (got && over))
			return (long)got;
		if (!rx_taken(stream))
			continue;
		if (stream_nonblocking(stream, flags)) {
			if (!got && stream_look_due(stream)) {
				bool before = atomic_load(&stream->kernel_hup);
				stream_look(stream, 0);
				if (!before && atomic_load(&stream->kernel_hup))
					continue;
			}
			return got ? (long)got : -EAGAIN;
		}
		/* And its sender has found no room in a larger one? The kernel has more room for what nobody takes away. */
		if (wish.peek && beyond_ring(stream, got, target) && atomic_load(&stream->peer->space_at))
			stream_outside(stream, NN_REASON_CALL, OUTSIDE_RX);
		long waited = stream_wait_rx(stream, worth_waking(stream, wish.peek, got, target), &call);
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

/* Asleep in a call of the kernel's nobody goes on with what is to be sent again: a call that would wait does that here, until there is something
 * to receive. 0, or what the call returns. */
static long replay_first(struct nn_stream *stream, int flags)
{
	struct wait_call call = {.began = signals_ran()};
	int held = 0;
	while (!stream_nonblocking(stream, flags) && stream_serve(stream) && stream->tx_replaying && !rx_news(stream, 1) &&
		sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held) == 0 && !held) {
		long outcome = stream_wait_rx(stream, 1, &call);
		if (outcome < 0)
			return outcome;
	}
	return 0;
}

/* NN_RAW: the front end makes the call. */
static int serve(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags)
{
	io->sending = false;
	io->counted = false;
	io->stream = stream_get(fd);
	if (!io->stream)
		return NN_RAW;
	struct nn_stream *stream = io->stream;
	do {
		if (stream_is_paired(stream) && !rx_taken(stream) && (stream->tx_replaying || tx_outside_wanted(stream))) {
			io->result = replay_first(stream, flags);
			if (io->result < 0)
				return NN_DONE;
		}
		if (!is_ours(io, flags))
			return NN_RAW;
		io->result = receive(io->stream, iov, count, flags);
	} while (io->result == GO_RAW);
	return NN_DONE;
}

int nn_recv(struct nn_io *io, int fd, const struct iovec *iov, int count, int flags)
{
	if (serve(io, fd, iov, count, flags) == NN_RAW) {
		struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
		return io->stream ? raw_call(io, fd, &message, flags) : NN_RAW;
	}
	io_put(io);
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
	/* Raw by now: the last bytes of the call came by TCP. */
	if (nn_inq(&io, stream->fd, &left) == NN_RAW && sys_call3(SYS_ioctl, stream->fd, FIONREAD, &left) < 0)
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
		return io->stream ? raw_call(io, fd, message, flags) : NN_RAW;
	if (io->result >= 0) {
		size_t room = message->msg_controllen;
		message->msg_namelen = 0;
		message->msg_controllen = 0;
		message->msg_flags = 0;
		put_inq(io->stream, message, room);
	}
	io_put(io);
	return NN_DONE;
}

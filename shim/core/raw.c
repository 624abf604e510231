/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/raw.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "shim/core/error.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"

bool raw_hold(struct nn_stream *stream, bool sending)
{
	_Atomic uint32_t *raw = sending ? &stream->raw_tx : &stream->raw_rx;
	if (atomic_fetch_add(raw, 1) & STREAM_TAKEN) {
		atomic_fetch_sub(raw, 1);
		return false;
	}
	return true;
}

void raw_release(struct nn_stream *stream, bool sending)
{
	_Atomic uint32_t *raw = sending ? &stream->raw_tx : &stream->raw_rx;
	/* A fork child has begun to count anew; a call that its parent had in flight is none of its own. */
	uint32_t count = atomic_load(raw);
	while ((count & ~STREAM_TAKEN) && !atomic_compare_exchange_weak(raw, &count, count - 1))
		;
}

bool raw_begin(struct nn_io *io)
{
	struct nn_stream *stream = io->stream;
	io->counted = raw_hold(stream, io->sending);
	atomic_fetch_add_explicit(&stream->calls, 1, memory_order_relaxed);
	return io->counted;
}

/* A sender hears of it before he tries; but EPIPE, with its signal, the kernel has. */
static bool hears_of_error(struct nn_io *io)
{
	struct nn_stream *stream = io->stream;
	if (!io->sending || !(stream_has_error(stream) || (stream_is_paired(stream) && stream_reset_unseen(stream))))
		return false;
	io->result = -stream_take_error(stream);
	if (!io->result || io->result == -EPIPE)
		return false;
	nn_raw_done(io, io->result);
	return true;
}

/* A receiver hears of it after the bytes, where the kernel has nothing but the end; which is all he hears of a reset after the end. */
static long instead_of_end(struct nn_stream *stream)
{
	int held = 0;
	if (nn_confined || !stream_has_error(stream) || stream_reset_late(stream) || sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held) < 0 || held)
		return 0;
	return -stream_take_error(stream);
}

int raw_call(struct nn_io *io, int fd, const struct msghdr *message, int flags)
{
	struct nn_stream *stream = io->stream;
	if (hears_of_error(io))
		return NN_DONE;
	stream_told_again(stream);
	if (stream_is_at(stream, fd))
		return NN_RAW;
	long outcome = -EBADF;
	if (stream_is_open(stream))
		outcome = sys_call3(io->sending ? SYS_sendmsg : SYS_recvmsg, stream->fd, message, flags);
	io->result = nn_raw_done(io, outcome);
	return NN_DONE;
}

void io_put(struct nn_io *io)
{
	struct nn_stream *stream = io->stream;
	io->stream = NULL; /* first: see nn_abandon */
	stream_put(stream);
}

void nn_abandon(void *data)
{
	struct nn_io *io = data;
	if (!io->stream)
		return;
	if (io->counted)
		raw_release(io->stream, io->sending);
	io_put(io);
}

long nn_raw_done(struct nn_io *io, long outcome)
{
	struct nn_stream *stream = io->stream;
	if (!stream)
		return outcome;
	struct state_direction *shown = io->sending ? &stream->shown->tx : &stream->shown->rx;
	COUNT(shown->calls, 1);
	if (outcome == -EAGAIN && io->sending)
		atomic_store(&stream->expect_out, 0); /* from here on room is news */
	if (outcome == -ECONNRESET && !io->sending && stream_reset_told(stream))
		outcome = 0;
	stream_error_told(stream, outcome);
	if (outcome == 0 && !io->sending)
		outcome = instead_of_end(stream);
	if (outcome > 0) {
		COUNT(shown->tcp_bytes, (uint64_t)outcome);
		atomic_fetch_add_explicit(&stream->bytes, (uint64_t)outcome, memory_order_relaxed);
	}
	bool counted = io->counted;
	io->counted = false;
	if (counted)
		raw_release(stream, io->sending);
	if (atomic_load_explicit(&stream->fds, memory_order_relaxed)) /* not closed meanwhile */
		stream_tick(stream);
	io_put(io);
	return outcome;
}

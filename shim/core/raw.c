/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/raw.h"

#include <errno.h>

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

int raw_call(struct nn_io *io, int fd, const struct msghdr *message, int flags)
{
	struct nn_stream *stream = io->stream;
	if (stream_is_at(stream, fd))
		return NN_RAW;
	long outcome = -EBADF;
	if (stream_is_open(stream))
		outcome = sys_call3(io->sending ? SYS_sendmsg : SYS_recvmsg, stream->fd, message, flags);
	nn_raw_done(io, outcome);
	io->result = outcome;
	return NN_DONE;
}

void nn_raw_done(struct nn_io *io, long outcome)
{
	struct nn_stream *stream = io->stream;
	if (!stream)
		return;
	struct state_direction *shown = io->sending ? &stream->shown->tx : &stream->shown->rx;
	COUNT(shown->calls, 1);
	if (outcome == -EAGAIN && io->sending)
		atomic_store(&stream->expect_out, 0); /* from here on room is news */
	stream_error_told(stream, outcome);
	if (outcome > 0) {
		COUNT(shown->tcp_bytes, (uint64_t)outcome);
		atomic_fetch_add_explicit(&stream->bytes, (uint64_t)outcome, memory_order_relaxed);
	}
	if (io->counted)
		raw_release(stream, io->sending);
	io->counted = false;
	if (atomic_load_explicit(&stream->fds, memory_order_relaxed)) /* not closed meanwhile */
		stream_tick(stream);
	io->stream = NULL;
	stream_put(stream);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that move bytes between a stream and another descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"

#define PIECE 65536u
#define SPLICE_RAW LONG_MIN /* it has gone to TCP meanwhile */

/* sendfile from a file, in pieces through nn_send: one copy more than the kernel's, none of its wake-ups. */
static long send_file(int out, int in, off_t *offset, size_t count)
{
	off_t at = offset ? *offset : (off_t)sys_call3(SYS_lseek, in, 0, SEEK_CUR);
	if (at < 0)
		return -EINVAL;
	uint8_t *buffer = process_memory(PIECE);
	if (!buffer)
		return -ENOMEM;
	long total = 0, error = 0;
	while ((size_t)total < count) {
		size_t piece = count - (size_t)total < PIECE ? count - (size_t)total : PIECE;
		long got = sys_call4(SYS_pread64, in, buffer, piece, at);
		if (got <= 0) {
			error = got;
			break;
		}
		struct iovec iov = {buffer, (size_t)got};
		struct nn_io io = {.stream = NULL};
		struct nn_guard guard;
		long sent;
		guard_begin(&guard, nn_abandon, &io);
		if (nn_send(&io, out, &iov, 1, 0) == NN_RAW) {
			sent = nn_raw_done(&io, sys_call6(SYS_sendto, out, buffer, got, 0, NULL, 0));
		} else {
			sent = io.result;
		}
		guard_end(&guard);
		if (sent < 0) {
			error = sent;
			break;
		}
		total += sent;
		at += sent;
		if (sent < got)
			break; /* no room, and the socket does not block */
	}
	sys_call2(SYS_munmap, buffer, PIECE);
	if (total) {
		if (offset)
			*offset = at;
		else
			sys_call3(SYS_lseek, in, at, SEEK_SET);
	}
	return total ? total : error;
}

/* Bytes that a pipe takes without waiting, as far as can be known. */
static size_t pipe_room(int pipe)
{
	int held = 0;
	long size = sys_call2(SYS_fcntl, pipe, F_GETPIPE_SZ);
	if (size < 0 || sys_call3(SYS_ioctl, pipe, FIONREAD, &held) < 0 || held >= size)
		return 0;
	return (size_t)(size - held);
}

/* splice from a stream with bytes in its ring: shown to us by peeking, written to the pipe, and only then taken. */
static long splice_in(int in, int pipe, size_t count, unsigned flags)
{
	size_t room = pipe_room(pipe);
	if (!room && (flags & SPLICE_F_NONBLOCK))
		return -EAGAIN;
	if (room && count > room)
		count = room;
	if (count > PIECE)
		count = PIECE;
	uint8_t *buffer = process_memory(PIECE);
	if (!buffer)
		return -ENOMEM;
	struct iovec iov = {buffer, count};
	struct nn_io io = {.stream = NULL};
	struct nn_guard guard;
	int how = flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0;
	long got;
	guard_begin(&guard, nn_abandon, &io);
	if (nn_recv(&io, in, &iov, 1, MSG_PEEK | how) == NN_RAW) {
		nn_raw_done(&io, -EAGAIN);
		got = SPLICE_RAW;
	} else {
		got = io.result;
	}
	if (got > 0) {
		got = sys_call3(SYS_write, pipe, buffer, got);
		if (got > 0) {
			iov.iov_len = (size_t)got;
			if (nn_recv(&io, in, &iov, 1, MSG_TRUNC | MSG_DONTWAIT) == NN_RAW)
				nn_raw_done(&io, sys_call6(SYS_recvfrom, in, buffer, got, MSG_TRUNC | MSG_DONTWAIT, NULL, NULL));
		}
	}
	guard_end(&guard);
	sys_call2(SYS_munmap, buffer, PIECE);
	return got;
}

/* What the kernel does not refuse, nor answer at once. */
static bool splices(off_t *in_offset, int pipe, off_t *out_offset, size_t count, unsigned flags)
{
	const unsigned known = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;
	return count && !(flags & ~known) && !in_offset && !out_offset && sys_call2(SYS_fcntl, pipe, F_GETPIPE_SZ) >= 0 &&
	       (sys_call2(SYS_fcntl, pipe, F_GETFL) & O_ACCMODE) != O_RDONLY;
}

int nn_splice(struct nn_io *io, int in, off_t *in_offset, int out, off_t *out_offset, size_t count, unsigned flags)
{
	io->stream = NULL;
	io->counted = false;
	/* Pages change hands inside the kernel: such directions belong on TCP. */
	io->stream = stream_get(out);
	if (io->stream) {
		stream_outside(io->stream, NN_REASON_CALL, OUTSIDE_TX);
		io->result = tx_wait_raw(io->stream, flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0);
		io_put(io);
		if (io->result)
			return NN_DONE;
	}
	io->stream = stream_get(in);
	if (!io->stream)
		return NN_RAW;
	stream_outside(io->stream, NN_REASON_CALL, OUTSIDE_RX);
	bool in_ring = stream_is_paired(io->stream) && rx_taken(io->stream);
	io_put(io);
	if (!in_ring || !splices(in_offset, out, out_offset, count, flags))
		return NN_RAW;
	io->result = splice_in(in, out, count, flags);
	return io->result == SPLICE_RAW ? NN_RAW : NN_DONE;
}

int nn_sendfile(struct nn_io *io, int out, int in, off_t *offset, size_t count)
{
	io->sending = true;
	io->counted = false;
	io->stream = NULL;
	if (nn_kind_of(in) == NN_STREAM) {
		/* From a socket the kernel sends into a pipe only. */
		long mode = offset ? -ESPIPE : sys_call2(SYS_fcntl, out, F_GETFL);
		return mode < 0 ? NN_RAW : nn_splice(io, in, NULL, out, NULL, count, mode & O_NONBLOCK ? SPLICE_F_NONBLOCK : 0);
	}
	io->stream = stream_get(out);
	if (!io->stream)
		return NN_RAW;
	struct nn_stream *stream = io->stream;
	/* Only what can be read twice: a failed send must leave the source as it was. */
	bool seekable = sys_call3(SYS_lseek, in, 0, SEEK_CUR) >= 0;
	if (stream_is_paired(stream) && !seekable) {
		stream_outside(stream, NN_REASON_CALL, OUTSIDE_BOTH);
		io->result = tx_wait_raw(stream, 0);
		if (io->result) {
			stream_put(stream);
			return NN_DONE;
		}
	}
	for (;;) {
		if (stream_is_paired(stream)) {
			if (!tx_taken(stream))
				tx_try_up(stream);
			if (tx_taken(stream)) {
				if (!seekable || (atomic_load(&stream->own->tx_flags) & END_FIN))
					return NN_RAW;
				io->result = send_file(out, in, offset, count);
				stream_put(stream);
				return NN_DONE;
			}
		}
		if (raw_begin(io))
			return NN_RAW;
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that move bytes between a stream and another descriptor. */
#include <errno.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"

#define PIECE 65536u

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
		struct nn_io io;
		long sent;
		if (nn_send(&io, out, &iov, 1, 0) == NN_RAW) {
			sent = sys_call6(SYS_sendto, out, buffer, got, 0, NULL, 0);
			nn_raw_done(&io, sent);
		} else {
			sent = io.result;
		}
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

int nn_sendfile(struct nn_io *io, int out, int in, off_t *offset, size_t count)
{
	io->sending = true;
	io->counted = false;
	io->stream = stream_get(out);
	if (!io->stream)
		return NN_RAW;
	struct nn_stream *stream = io->stream;
	/* Only what can be read twice: a failed send must leave the source as it was. */
	bool seekable = sys_call3(SYS_lseek, in, 0, SEEK_CUR) >= 0;
	if (stream_is_paired(stream) && !seekable)
		stream_outside(stream, NN_REASON_CALL, OUTSIDE_BOTH);
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

int nn_splice(struct nn_io *io, int in, off_t *in_offset, int out, off_t *out_offset, size_t count, unsigned flags)
{
	(void)in_offset, (void)out_offset, (void)count, (void)flags;
	/* Pages change hands inside the kernel: such streams belong on TCP. */
	nn_stay_tcp(in, NN_REASON_CALL);
	nn_stay_tcp(out, NN_REASON_CALL);
	io->stream = NULL;
	io->counted = false;
	return NN_RAW;
}

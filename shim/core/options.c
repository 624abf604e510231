/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Socket options. The kernel keeps them all; a few mean that it must see the bytes, and then the stream stays on TCP, or
 * returns to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <string.h>

#include "shim/core/epoll.h"
#include "shim/core/error.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/wait/waiter.h"

/* Newer than some of the headers we build with. */
#define OPT_TCP_INQ 36
#define OPT_TCP_ULP 31
#define OPT_TCP_REPAIR 19
#define OPT_TCP_MD5SIG 14
#define OPT_TCP_MD5SIG_EXT 32
#define OPT_TCP_ZEROCOPY_RECEIVE 35

struct option {
	int level, name;
};

/* Options that need the kernel to see the bytes as soon as they are not zero. */
static const struct option kernel_only[] = {
	{SOL_SOCKET, SO_ATTACH_FILTER},
	{SOL_SOCKET, SO_ATTACH_BPF},
	{SOL_SOCKET, SO_PEEK_OFF},
	{SOL_SOCKET, SO_MAX_PACING_RATE},
	{SOL_SOCKET, SO_TIMESTAMP_OLD},
	{SOL_SOCKET, SO_TIMESTAMPNS_OLD},
	{SOL_SOCKET, SO_TIMESTAMPING_OLD},
	{SOL_SOCKET, SO_TIMESTAMP_NEW},
	{SOL_SOCKET, SO_TIMESTAMPNS_NEW},
	{SOL_SOCKET, SO_TIMESTAMPING_NEW},
	{SOL_SOCKET, SO_TXTIME},
	{IPPROTO_TCP, OPT_TCP_ULP},
	{IPPROTO_TCP, OPT_TCP_REPAIR},
	{IPPROTO_TCP, OPT_TCP_MD5SIG},
	{IPPROTO_TCP, OPT_TCP_MD5SIG_EXT},
};

static int64_t get(const struct nn_stream *stream, int level, int name)
{
	int64_t value = 0;
	socklen_t length = sizeof value;
	long outcome = sys_call5(SYS_getsockopt, stream->fd, level, name, &value, &length);
	if (outcome < 0)
		return outcome;
	return length == sizeof value ? value : (int64_t)(int32_t)value;
}

bool stream_is_plain(struct nn_stream *stream)
{
	/* What may have been set before we knew the socket, or inherited from the listener. */
	static const struct option asked[] = {{SOL_SOCKET, SO_TIMESTAMP_OLD}, {SOL_SOCKET, SO_TIMESTAMPNS_OLD},
		{SOL_SOCKET, SO_TIMESTAMPING_OLD}, {IPPROTO_TCP, OPT_TCP_REPAIR}};
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
		if (get(stream, asked[i].level, asked[i].name) > 0)
			return false;
	socklen_t length = 0; /* SO_GET_FILTER: number of instructions */
	if (sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, SO_GET_FILTER, NULL, &length) == 0 && length)
		return false;
	char ulp[16] = "";
	length = sizeof ulp;
	if (sys_call5(SYS_getsockopt, stream->fd, IPPROTO_TCP, OPT_TCP_ULP, ulp, &length) == 0 && length && ulp[0])
		return false;
	uint64_t pacing = ~0ull;
	length = sizeof pacing;
	if (sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pacing, &length) == 0 &&
		!(length == sizeof pacing ? pacing == ~0ull : (uint32_t)pacing == ~0u))
		return false;
	int peek_off = -1;
	length = sizeof peek_off;
	if (sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, SO_PEEK_OFF, &peek_off, &length) == 0 && peek_off >= 0)
		return false;
	if (sys_call2(SYS_fcntl, stream->fd, F_GETFL) & O_ASYNC)
		return false; /* signals of the kernel's tell of bytes */
	int64_t lowat = get(stream, SOL_SOCKET, SO_RCVLOWAT);
	atomic_store(&stream->own->lowat, lowat > 0 ? (uint32_t)lowat : 1);
	stream->want_inq = get(stream, IPPROTO_TCP, OPT_TCP_INQ) > 0;
	return true;
}

void nn_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return;
	int number = 0;
	if (value)
		memcpy(&number, value, length < sizeof number ? length : sizeof number);
	if (level == SOL_SOCKET && option == SO_RCVLOWAT) {
		if (stream_is_paired(stream)) { /* else it is asked for later */
			atomic_store(&stream->own->lowat, number > 0 ? (uint32_t)number : number < 0 ? INT32_MAX : 1);
			epoll_stream_touched(stream);
			waiters_ring_own(stream->pair, stream->own); /* as the kernel: less may be enough for who sleeps */
		}
	} else if (level == IPPROTO_TCP && option == OPT_TCP_INQ) {
		stream->want_inq = number;
	} else {
		for (size_t i = 0; i < sizeof kernel_only / sizeof *kernel_only; i++)
			if (kernel_only[i].level == level && kernel_only[i].name == option && (option == SO_PEEK_OFF && level == SOL_SOCKET ? number >= 0 : number))
				stream_outside(stream, NN_REASON_OPTION, OUTSIDE_BOTH);
	}
	stream_put(stream);
}

int nn_getsockopt(struct nn_io *io, int fd, int level, int option, void *value, socklen_t *length)
{
	io->stream = NULL;
	io->counted = false;
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return NN_RAW;
	int outcome = NN_RAW;
	if (level == SOL_SOCKET && option == SO_ERROR && value && length && *length) {
		stream_told_again(stream);
		int error = stream_is_paired(stream) ? stream_take_error(stream) : 0;
		if (error) {
			socklen_t bytes = *length < sizeof error ? *length : sizeof error;
			memcpy(value, &error, bytes);
			*length = bytes;
			io->result = 0;
			outcome = NN_DONE;
		}
	} else if (level == IPPROTO_TCP && option == OPT_TCP_ZEROCOPY_RECEIVE) {
		stream_outside(stream, NN_REASON_OPTION, OUTSIDE_BOTH);
	}
	stream_put(stream);
	return outcome;
}

void nn_stay_tcp(int fd, int reason)
{
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return;
	stream_outside(stream, (enum nn_reason)reason, OUTSIDE_BOTH);
	stream_put(stream);
}

void nn_unseen(int fd, bool sends)
{
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return;
	stream_outside(stream, NN_REASON_CALL, (sends ? OUTSIDE_TX : OUTSIDE_RX) | OUTSIDE_MUST);
	stream_put(stream);
}

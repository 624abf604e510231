/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/error.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <time.h>

#include "shim/core/clock.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"

static bool kernel_has_error(const struct nn_stream *stream)
{
	struct pollfd socket = {.fd = stream->fd};
	struct timespec none = {0, 0};
	return !nn_confined && stream_is_open(stream) && sys_call5(SYS_ppoll, &socket, 1, &none, NULL, 8) > 0 && (socket.revents & POLLERR);
}

int stream_error_in_kernel(const struct nn_stream *stream)
{
	if (kernel_has_error(stream))
		return ERROR_KERNEL;
	uint32_t expected = ERROR_KERNEL;
	atomic_compare_exchange_strong(&stream->own->error, &expected, 0);
	return 0;
}

/* Takes it from the kernel. */
static int kernel_error(const struct nn_stream *stream)
{
	int error = 0;
	socklen_t length = sizeof error;
	sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error;
}

void stream_look(struct nn_stream *stream, uint32_t revents)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof info;
	atomic_store_explicit(&stream->looked, cpu_ticks(), memory_order_relaxed);
	if (!stream_is_open(stream) ||
		sys_call5(SYS_getsockopt, stream->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return;
	enum { ESTABLISHED = 1, FIN_WAIT1 = 4, FIN_WAIT2 = 5, CLOSED = 7 };
	if (info.tcpi_state == ESTABLISHED || info.tcpi_state == FIN_WAIT1 || info.tcpi_state == FIN_WAIT2) {
		if (revents & POLLRDHUP) /* a process that shares the socket has done it, with a shim or without one */
			stream_set_shut_rx(stream);
		return;
	}
	uint64_t said = peer_tx_flags(stream); /* in memory, which makes edges of its own */
	bool edge = false;
	if (info.tcpi_state == CLOSED) {
		if (!stream_error(stream) && kernel_has_error(stream))
			stream_set_error(stream, ERROR_KERNEL);
		edge = !(atomic_fetch_or(&stream->kernel_hup, HUP_CLOSED) & HUP_CLOSED) && !(said & END_RESET);
	}
	bool first = !(atomic_fetch_or(&stream->kernel_hup, HUP_END) & HUP_END);
	if (edge || (first && !(said & END_FIN)))
		atomic_fetch_add(&stream->kernel_end, 1);
	if (!first)
		return;
	/* FIN without a word from its shim: the peer died. With unread bytes TCP would have sent RST. */
	if (!(peer_tx_flags(stream) & END_FIN) && stream->tx_ring &&
		atomic_load(&stream->own->tail) > atomic_load(&stream->peer->head)) {
		stream_set_error(stream, ECONNRESET);
		/* As after an RST, no more can be sent. */
		sys_call2(SYS_shutdown, stream->fd, SHUT_RDWR);
	}
}

bool stream_told_again(const struct nn_stream *stream)
{
	if (nn_confined || !stream_reset_told(stream))
		return false;
	if (stream_is_open(stream))
		kernel_error(stream);
	return true;
}

int stream_take_error(struct nn_stream *stream)
{
	int error = (int)atomic_exchange(&stream->own->error, 0);
	if (error == ERROR_KERNEL)
		error = kernel_error(stream);
	if (!error && stream_reset_unseen(stream))
		error = stream_reset_late(stream) && !(atomic_load(&stream->own->tx_flags) & END_FIN) ? EPIPE : ECONNRESET;
	if (error == ECONNRESET || error == EPIPE) {
		if (!stream_tell_reset(stream))
			return 0; /* another thread has */
		/* The kernel's RST carries the same news, now or in a moment: it must not be told twice. Whatever the peer does, from
		 * here on the kernel says what it says of a connection that is gone. */
		sys_call2(SYS_shutdown, stream->fd, SHUT_RDWR);
		kernel_error(stream);
	}
	return error;
}

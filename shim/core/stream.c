/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Life of a stream object: from accept or connect, through the rendezvous, to the last close.
 *
 * `users` counts the calls in progress plus one for the descriptors that name it; whoever takes it to zero frees the object.
 */
#include "shim/core/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/epoll.h"
#include "shim/core/hidden.h"
#include "shim/core/holders.h"
#include "shim/core/lease.h"
#include "shim/core/log.h"
#include "shim/core/process.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"
#include "shim/wait/waiter.h"

#define STREAMS STATE_STREAMS
#define STREAM_RESERVED 0xffu /* a phase: being made or freed */

static struct nn_stream *streams;
static _Atomic uint32_t top;
static _Atomic uint64_t free_slots; /* a stack: changes << 32 | 1 + index of the first, 0 none */

int streams_start(void)
{
	streams = process_table(STREAMS * sizeof *streams);
	return streams ? 0 : -ENOMEM;
}

struct nn_stream *stream_at(uint32_t index)
{
	return &streams[index];
}

uint32_t stream_top(void)
{
	return atomic_load(&top);
}

static uint64_t new_head(uint64_t head, uint32_t first)
{
	return ((head >> 32) + 1) << 32 | first;
}

/* The slots that are free again, the last one first: its memory is warm. */
static void push_free(struct nn_stream *stream)
{
	uint64_t head = atomic_load(&free_slots), next;
	do {
		atomic_store_explicit(&stream->next_free, (uint32_t)head, memory_order_relaxed);
		next = new_head(head, stream->index + 1);
	} while (!atomic_compare_exchange_weak(&free_slots, &head, next));
}

static struct nn_stream *pop_free(void)
{
	uint64_t head = atomic_load(&free_slots), next;
	do {
		if (!(uint32_t)head)
			return NULL;
		next = new_head(head, atomic_load_explicit(&streams[(uint32_t)head - 1].next_free, memory_order_relaxed));
	} while (!atomic_compare_exchange_weak(&free_slots, &head, next));
	return &streams[(uint32_t)head - 1];
}

/* One that was never used. */
static struct nn_stream *fresh_slot(void)
{
	uint32_t index = atomic_load(&top);
	do {
		if (index == STREAMS || !streams)
			return NULL;
	} while (!atomic_compare_exchange_weak(&top, &index, index + 1));
	atomic_store_explicit(&nn_state->stream_top, stream_top(), memory_order_relaxed);
	streams[index].index = index;
	return &streams[index];
}

static struct nn_stream *stream_alloc(void)
{
	struct nn_stream *stream = pop_free();
	if (!stream)
		stream = fresh_slot();
	if (stream)
		atomic_store(&stream->phase, STREAM_RESERVED);
	return stream;
}

struct nn_stream *stream_get(int fd)
{
	for (;;) {
		uint32_t entry = fd_entry(fd);
		if (entry >> NN_KIND_SHIFT != NN_STREAM)
			return NULL;
		struct nn_stream *stream = &streams[entry & (STREAMS - 1)];
		atomic_fetch_add_explicit(&stream->users, 1, memory_order_acquire);
		if (fd_entry(fd) == entry)
			return stream;
		stream_put(stream); /* closed in between */
	}
}

struct nn_stream *stream_hold(uint32_t index)
{
	struct nn_stream *stream = &streams[index];
	atomic_fetch_add(&stream->users, 1);
	/* While a descriptor names it the descriptors' own hold is counted, so that ours is not the first. */
	if (atomic_load(&stream->fds))
		return stream;
	stream_put(stream);
	return NULL;
}

bool stream_is_kernels(const struct nn_stream *stream)
{
	uint32_t phase = atomic_load_explicit(&stream->phase, memory_order_acquire);
	/* Confined, what its peer may say of it in memory counts no more. */
	return phase == STREAM_ALONE || (phase == STREAM_PAIRED && nn_confined && stream->rx_final && !tx_taken(stream));
}

bool stream_is_at(const struct nn_stream *stream, int fd)
{
	return fd_entry(fd) == ((uint32_t)NN_STREAM << NN_KIND_SHIFT | stream->index);
}

bool stream_is_open(const struct nn_stream *stream)
{
	return stream->kept || stream_is_at(stream, stream->fd);
}

static void set_reason(struct nn_stream *stream, enum nn_reason reason)
{
	atomic_store_explicit(&stream->shown->tx.reason, reason, memory_order_relaxed);
	atomic_store_explicit(&stream->shown->rx.reason, reason, memory_order_relaxed);
}

/* Begins to track `fd`, a socket made when nn_forks() was `forks`. */
static void track(int fd, bool connector, uint32_t forks)
{
	if (nn_confined || nn_in_vfork_child() || process_show_state() < 0)
		return;
	struct nn_stream *stream = stream_alloc();
	if (!stream)
		return;
	uint32_t index = stream->index;
	/* A stale stream_get may hold a user count for a moment: keep that word, set all others. */
	size_t keep = offsetof(struct nn_stream, fds);
	memset((char *)stream + keep, 0, sizeof *stream - keep);
	stream->fd = fd;
	stream->connector = connector;
	atomic_store(&stream->spin_rx, ~0u); /* until it has shown otherwise */
	atomic_store(&stream->spin_tx, ~0u);
	atomic_store(&stream->fds, 1);
	stream->shown = &nn_state->streams[index];
	memset(stream->shown, 0, sizeof *stream->shown);
	stream->shown->fd = fd;
	stream->shown->connector = connector;
	set_reason(stream, NN_REASON_SHORT);
	atomic_store_explicit(&stream->shown->in_use, 1, memory_order_release);
	COUNT_SHARED(nn_state->totals.connections, 1);
	atomic_fetch_add(&stream->users, 1);
	atomic_store(&stream->phase, STREAM_YOUNG);
	/* Pairs with nn_fork_prepare: a fork from here on finds the stream; one before, since there was the socket, is seen here. */
	if (nn_forks() != forks)
		holders_fork_missed(stream);
	fd_set_entry(fd, NN_STREAM, index);
}

void nn_made_socket(int fd, int domain, int type, int protocol, uint32_t forks)
{
	if (fd < 0 || !nn_fds || nn_in_vfork_child())
		return;
	nn_appeared(fd);
	bool tcp = (domain == AF_INET || domain == AF_INET6) && (type & 0xf) == SOCK_STREAM &&
		   (protocol == 0 || protocol == IPPROTO_TCP);
	uint32_t hint = tcp ? FD_TCP_SOCKET | (forks & FD_FORKS_MASK) << FD_FORKS_SHIFT : 0;
	/* Only where it changes something: the line may not be ours. */
	if (fd_entry(fd) != hint)
		fd_set_entry(fd, NN_NONE, hint);
}

/* nn_forks() when the socket was made, which has become a connection's end; where that was not seen, now. */
static uint32_t forks_at_socket(int fd)
{
	uint32_t hint = fd_entry(fd), now = nn_forks();
	if (!(hint & FD_TCP_SOCKET))
		return now;
	return (hint >> FD_FORKS_SHIFT) == (now & FD_FORKS_MASK) ? now : now - 1;
}

static bool is_tcp(int fd)
{
	int protocol = 0;
	socklen_t length = sizeof protocol;
	return sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_TCP;
}

void stream_adopt(int fd)
{
	if (nn_confined || nn_kind_of(fd) != NN_NONE || !is_tcp(fd))
		return;
	struct tcp_info info = {0};
	socklen_t length = sizeof info;
	enum { SYN_SENT = 2, CLOSED = 7 };
	if (sys_call5(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
		(info.tcpi_state == CLOSED || info.tcpi_state == SYN_SENT))
		track(fd, true, forks_at_socket(fd));
}

void nn_listening(int fd)
{
	if (nn_confined || nn_in_vfork_child())
		return; /* in the latter the number is another one's in our parent */
	if (nn_kind_of(fd) == NN_STREAM)
		nn_appeared(fd); /* adopted too early: it will not connect */
	if (nn_kind_of(fd) == NN_NONE && is_tcp(fd)) {
		int domain = 0;
		socklen_t length = sizeof domain;
		if (sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
			(domain == AF_INET || domain == AF_INET6))
			fd_set_entry(fd, NN_LISTENER, 0);
	}
}

void nn_accepted(int listener, int fd, uint32_t forks)
{
	if (nn_kind_of(fd) != NN_NONE)
		nn_appeared(fd);
	if (nn_kind_of(listener) == NN_NONE)
		nn_listening(listener); /* inherited: we have not seen its listen() */
	if (nn_kind_of(listener) == NN_LISTENER)
		track(fd, false, forks);
}

void nn_connecting(int fd, const struct sockaddr *address, socklen_t length)
{
	if (length < sizeof address->sa_family || !address)
		return;
	struct nn_stream *stream = stream_get(fd);
	if (stream) {
		/* A second connect: asks for the outcome of the first, or (AF_UNSPEC) dissolves the connection. */
		if (address->sa_family == AF_UNSPEC)
			nn_stay_tcp(fd, NN_REASON_CALL);
		stream_put(stream);
	}
}

void nn_connected(int fd, long outcome)
{
	/* A connection that stays short must not pay for a question to the kernel: a hint will do, stream_tick asks later. */
	if (!nn_confined && (outcome == 0 || outcome == -EINPROGRESS || outcome == -EINTR) && nn_kind_of(fd) == NN_NONE &&
		((fd_entry(fd) & FD_TCP_SOCKET) || is_tcp(fd)))
		track(fd, true, forks_at_socket(fd));
}

void stream_alone(struct nn_stream *stream, enum nn_reason reason)
{
	uint32_t phase = STREAM_YOUNG;
	if (!atomic_compare_exchange_strong(&stream->phase, &phase, STREAM_ALONE) &&
		(phase != STREAM_SEEKING || !atomic_compare_exchange_strong(&stream->phase, &phase, STREAM_ALONE)))
		return;
	set_reason(stream, reason);
	nn_log_stream(stream, "stays on TCP", reason);
}

void stream_paired(struct nn_stream *stream, struct nn_pair *pair, unsigned own_end, unsigned peer_end, uint64_t peer_cookie)
{
	stream->pair = pair;
	stream->own = &pair->own->ends[own_end];
	stream->peer = &pair->peer->ends[peer_end];
	stream->own_end = own_end;
	stream->peer_end = peer_end;
	stream->peer_cookie = peer_cookie;
	atomic_store(&stream->shown->peer_pid, pair->peer_pid);
	set_reason(stream, NN_REASON_NOT_READY);
	if (atomic_load(&stream->tx_shut))
		atomic_fetch_or(&stream->own->tx_flags, END_FIN);
	/* Another thread may have decided for TCP, or closed it, just now. */
	uint32_t phase = STREAM_SEEKING;
	if (!atomic_compare_exchange_strong(&stream->phase, &phase, STREAM_PAIRED)) {
		stream->pair = NULL;
		stream->own = NULL;
		arena_end_free(pair->arena, own_end);
		rendezvous_pair_put(pair);
		return;
	}
	/* Pairs with nn_shutdown: one of us sees the other. */
	if (atomic_load(&stream->tx_shut))
		atomic_fetch_or(&stream->own->tx_flags, END_FIN);
	COUNT_SHARED(nn_state->totals.streams, 1);
	nn_log_stream(stream, "the peer has a shim", NN_REASON_NONE);
	lease_sweep();
}

/* Enough calls or bytes to be worth it? And nobody else holds the socket? */
static bool worth_it(const struct nn_stream *stream)
{
	if (atomic_load_explicit(&stream->calls, memory_order_relaxed) < nn_config.after_calls &&
		atomic_load_explicit(&stream->bytes, memory_order_relaxed) < nn_config.after_bytes)
		return false;
	if (stream_is_shared(stream)) {
		set_reason((struct nn_stream *)stream, NN_REASON_SHARED);
		return false;
	}
	return true;
}

void stream_tick(struct nn_stream *stream)
{
	if (nn_confined)
		return;
	if (stream_is_shared(stream))
		holders_look(stream);
	switch (atomic_load_explicit(&stream->phase, memory_order_acquire)) {
	case STREAM_YOUNG: {
		uint32_t phase = STREAM_YOUNG;
		if (!worth_it(stream) || !atomic_compare_exchange_strong(&stream->phase, &phase, STREAM_SEEKING))
			return;
		if (!is_tcp(stream->fd)) { /* the hint of nn_connected was stale */
			stream_alone(stream, NN_REASON_UNSUPPORTED);
			return;
		}
		set_reason(stream, NN_REASON_SEARCHING);
	}
		/* fall through */
	case STREAM_SEEKING:
		if (atomic_load_explicit(&stream->calls, memory_order_relaxed) >= stream->next_try)
			rendezvous_step(stream);
		if (!stream_is_paired(stream))
			return;
		/* fall through */
	case STREAM_PAIRED:
		if (!rx_taken(stream))
			rx_try_ready(stream);
		return;
	default:
		return;
	}
}

bool stream_nonblocking(struct nn_stream *stream, int flags)
{
	enum { UNKNOWN, BLOCKS, DOES_NOT };
	if (flags & MSG_DONTWAIT)
		return true;
	/* Who shares the open file with us may change it unseen. */
	uint32_t mode = atomic_load_explicit(&stream->mode, memory_order_relaxed);
	if (mode == UNKNOWN || atomic_load_explicit(&stream->shared, memory_order_relaxed)) {
		mode = sys_call2(SYS_fcntl, stream->fd, F_GETFL) & O_NONBLOCK ? DOES_NOT : BLOCKS;
		atomic_store_explicit(&stream->mode, mode, memory_order_relaxed);
	}
	return mode == DOES_NOT;
}

void nn_flags_changed(int fd)
{
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return;
	atomic_store(&stream->mode, 0);
	stream_put(stream);
}

void stream_set_shut_rx(struct nn_stream *stream)
{
	atomic_store(&stream->rx_shut, 1);
	if (stream_is_paired(stream))
		atomic_fetch_or(&stream->own->rx_flags, END_SHUT);
}

void stream_tell(struct nn_stream *stream)
{
	if (atomic_load(&stream->peer->rx_flags) & END_WANT_ACTIVITY) {
		uint32_t group = stream->own_end / ACTIVITY_GROUP;
		atomic_fetch_add(&stream->pair->own->activity[group], 1);
		atomic_fetch_add(&stream->pair->own->activity_top[group / ACTIVITY_FAN], 1);
	}
	doorbell_ring(stream->pair, stream->peer);
}

/* Adds what a closed connection did to the totals. */
static void settle(struct nn_stream *stream)
{
	struct state_totals *totals = &nn_state->totals;
	struct state_stream *shown = stream->shown;
	atomic_store_explicit(&shown->in_use, 0, memory_order_release);
	COUNT_SHARED(totals->tx_ring, atomic_load(&shown->tx.ring_bytes));
	COUNT_SHARED(totals->rx_ring, atomic_load(&shown->rx.ring_bytes));
	COUNT_SHARED(totals->tx_tcp, atomic_load(&shown->tx.tcp_bytes));
	COUNT_SHARED(totals->rx_tcp, atomic_load(&shown->rx.tcp_bytes));
	uint32_t reason = atomic_load(&shown->tx.reason);
	if (reason < NN_REASONS)
		COUNT_SHARED(totals->reasons[reason], 1);
}

#define CLAIMED (1u << 30) /* in `users`: somebody frees it */

static bool is_over(const struct nn_stream *stream)
{
	uint32_t phase = atomic_load(&stream->phase);
	return phase != STREAM_FREE && phase != STREAM_RESERVED && !atomic_load(&stream->fds);
}

/* True: nobody uses the stream, and nobody else will free it. Since it had no user a stale stream_get may have come and gone, and
 * freed it, and the slot may be in use again: then it has users, or is RESERVED, or has descriptors. */
static bool claim(struct nn_stream *stream)
{
	do {
		uint32_t none = 0;
		if (!atomic_compare_exchange_strong(&stream->users, &none, CLAIMED))
			return false; /* its put comes here */
		if (is_over(stream))
			return true;
		/* Whose put came meanwhile has left it to us. */
	} while (atomic_fetch_sub(&stream->users, CLAIMED) == CLAIMED && is_over(stream));
	return false;
}

static void stream_free(struct nn_stream *stream)
{
	if (!claim(stream))
		return;
	atomic_store(&stream->phase, STREAM_RESERVED);
	rendezvous_abandon(stream);
	epoll_stream_gone(stream);
	settle(stream);
	if (stream->pair) {
		stream_farewell(stream);
		lease_begin(stream);
		rendezvous_pair_put(stream->pair);
	}
	if (stream->kept) {
		hidden_unwatch(&stream->fd);
		hidden_close(stream->fd);
		stream->kept = false;
	}
	stream->pair = NULL;
	atomic_store_explicit(&stream->phase, STREAM_FREE, memory_order_release);
	atomic_fetch_sub(&stream->users, CLAIMED);
	push_free(stream);
}

void stream_put(struct nn_stream *stream)
{
	if (atomic_fetch_sub_explicit(&stream->users, 1, memory_order_acq_rel) == 1)
		stream_free(stream);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * close(2), shutdown(2) and everything that makes a descriptor number mean something else.
 *
 * The last close in the last process that holds the socket tells the peer before the kernel does: END_FIN | END_CLOSED, and, when bytes
 * lie unread, END_RESET with a reset by the kernel (SO_LINGER 0), which is what TCP does. A process that dies says nothing;
 * its peers learn from the kernel's FIN or RST.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "shim/core/clock.h"
#include "shim/core/epoll.h"
#include "shim/core/hidden.h"
#include "shim/core/holders.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"
#include "shim/wait/waiter.h"

static void say(struct nn_stream *stream, uint64_t flags)
{
	enum lock_outcome lock = tx_lock(stream);
	atomic_fetch_or(&stream->own->tx_flags, flags); /* after the tail: pairs with drained() in pull.c */
	tx_unlock(stream, lock);
	stream_tell(stream);
}

void close_pay_all(void)
{
	bool paid = true;
	for (uint32_t i = 0; i < stream_top() && paid; i++) {
		struct nn_stream *stream = stream_hold(i);
		if (!stream)
			continue;
		paid = !stream_is_paired(stream) || !atomic_load(&stream->fds) || tx_pay(stream);
		stream_put(stream);
	}
}

static void linger_no_time(int fd)
{
	struct linger linger = {.l_onoff = 1};
	sys_call5(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* What comes by TCP once more has been read. */
static void drop_what_came_twice(struct nn_stream *stream)
{
	if (!rx_taken(stream) || !rx_trylock(stream))
		return;
	if (atomic_load(&stream->shared))
		rx_reload(stream);
	rx_enter(stream);
	if (atomic_load(&stream->own->skip))
		rx_drop_skipped(stream);
	rx_unlock(stream, LOCK_TAKEN);
}

/* Has the peer sent what nobody has read? It may lie in the kernel, in the ring that is read from, or in one that is not entered
 * yet, as what was sent before it is unread as well. */
static bool unread(struct nn_stream *stream, int fd)
{
	int held = 0;
	drop_what_came_twice(stream);
	if (sys_call3(SYS_ioctl, fd, FIONREAD, &held) == 0 && held)
		return true;
	if (!rx_taken(stream))
		return false;
	const struct end_segment *newest = &stream->peer->segments[peer_epoch(stream) % END_SEGMENTS];
	bool outside = atomic_load(&newest->where) == SEGMENT_OUTSIDE;
	return atomic_load(outside ? &newest->start : &stream->peer->tail) > atomic_load(&stream->own->head);
}

/* Would the kernel reset the connection rather than end it? Unread bytes, or SO_LINGER with no time. */
static bool resets(struct nn_stream *stream, int fd)
{
	struct linger linger = {0};
	socklen_t length = sizeof linger;
	if (atomic_load(&stream->heirs))
		return false; /* what lies unread is theirs */
	if ((atomic_load(&stream->own->tx_flags) & END_FIN) && (peer_tx_flags(stream) & END_FIN))
		return false; /* both directions have ended: there is nothing left to reset */
	if (unread(stream, fd)) {
		linger_no_time(fd);
		return true;
	}
	return sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_LINGER, &linger, &length) == 0 && linger.l_onoff && !linger.l_linger;
}

/* Says good-bye: to the peer's shim before the kernel does. */
static void farewell(struct nn_stream *stream, uint64_t flags)
{
	/* Confined, it was on TCP before, and the kernel's end says all there is to say. */
	if (nn_confined || atomic_exchange(&stream->left, 1))
		return;
	atomic_fetch_or(&stream->own->rx_flags, END_DONE);
	if (atomic_load(&stream->heirs))
		return; /* they found it on its way back to TCP, and may go on: when it ends the kernel says */
	if ((flags & END_RESET) && (atomic_load(&stream->own->tx_flags) & END_FIN))
		flags |= END_RESET_LATE;
	say(stream, END_FIN | END_CLOSED | flags);
}

void stream_farewell(struct nn_stream *stream)
{
	if (stream->own && !stream->shared_at_close)
		farewell(stream, stream->kept && resets(stream, stream->fd) ? END_RESET : 0);
}

/* The last descriptor of this process on the stream goes. */
static void last_close(struct nn_stream *stream, int fd)
{
	rendezvous_abandon(stream);
	bool paid = !stream_is_paired(stream) || tx_pay(stream);
	stream->shared_at_close = holders_leave(stream);
	if (stream->shared_at_close || !stream_is_paired(stream))
		return; /* other processes go on with it */
	if (!paid) {
		nn_log(LOG_WARNING, "the kernel did not take what the peer had not read in time; resetting the connection, fd", fd);
		if (atomic_load(&stream->heirs))
			stream_reset(stream); /* they cannot send it: no gap for them, rather no connection */
		else
			linger_no_time(fd);
	}
	/* A call in progress in another thread keeps the socket open, here as in the kernel: the last to leave says it. */
	if (atomic_load(&stream->users) > 2)
		return;
	if (!nn_confined)
		farewell(stream, !paid || resets(stream, fd) ? END_RESET : 0);
}

/*
 * A system call holds the socket until it returns, whatever becomes of the number: a call of ours that is in progress in another thread,
 * and makes several, needs a descriptor for it that stays. Before the last number goes. -1: no call, or no descriptor.
 */
static int keep(const struct nn_stream *stream, int fd)
{
	enum { OURS = 2 }; /* the descriptors' own hold, and the caller's */
	if (atomic_load(&stream->fds) > 1 || atomic_load(&stream->users) <= OURS || !stream_is_paired(stream))
		return -1;
	int kept = hidden_copy(fd);
	return kept < 0 ? -1 : kept;
}

/* The number `fd` is no longer the stream's, but others are. */
static void use_other(struct nn_stream *stream, int fd)
{
	if (stream->fd != fd)
		return;
	for (int other = 0; other < fd_top(); other++)
		if (stream_is_at(stream, other)) {
			stream->fd = other;
			break;
		}
}

/* Takes the number out of the tables. The caller closes it, and afterwards puts the stream returned (or NULL). */
static struct nn_stream *detach(int fd)
{
	uint32_t entry = fd_entry(fd);
	switch (entry >> NN_KIND_SHIFT) {
	case NN_STREAM: {
		struct nn_stream *stream = stream_get(fd);
		if (!stream)
			return NULL;
		uint32_t expected = entry;
		int kept = keep(stream, fd);
		if (!atomic_compare_exchange_strong(&nn_fds[fd], &expected, 0)) {
			hidden_close(kept);
			stream_put(stream); /* another thread closes it as well */
			return NULL;
		}
		if (atomic_fetch_sub(&stream->fds, 1) == 1) {
			if (kept >= 0) {
				stream->fd = kept;
				stream->kept = true;
				hidden_watch(&stream->fd);
				waiters_ring_own(stream->pair, stream->own); /* who sleeps, sleeps on the number */
			}
			last_close(stream, fd);
			if (kept < 0)
				stream->fd = -1; /* what has the number next is not to be touched */
			stream_put(stream); /* the descriptors' own hold */
		} else {
			hidden_close(kept);
			use_other(stream, fd);
		}
		return stream;
	}
	case NN_SET:
		fd_clear(fd);
		epoll_set_closed(entry & ((1u << NN_KIND_SHIFT) - 1));
		return NULL;
	case NN_LISTENER:
		fd_clear(fd);
		return NULL;
	default:
		return NULL;
	}
}

long nn_close(int fd)
{
	enum nn_kind kind = nn_kind_of(fd);
	if (kind == NN_HIDDEN)
		return -EBADF;
	if (kind == NN_NONE || nn_in_vfork_child())
		return sys_call1(SYS_close, fd);
	struct nn_stream *stream = detach(fd);
	long outcome = sys_call1(SYS_close, fd);
	if (stream)
		stream_put(stream);
	return outcome;
}

void nn_let_go(int fd)
{
	if (nn_kind_of(fd) == NN_HIDDEN) {
		hidden_evict(fd);
		return;
	}
	if (nn_kind_of(fd) == NN_NONE || nn_in_vfork_child())
		return;
	struct nn_stream *stream = detach(fd);
	if (stream)
		stream_put(stream);
}

void nn_appeared(int fd)
{
	/* The number is fresh from the kernel, so what we knew under it was closed by a call we did not see. */
	if (nn_kind_of(fd) == NN_NONE || nn_in_vfork_child())
		return;
	if (nn_kind_of(fd) == NN_HIDDEN) {
		fd_clear(fd);
		return;
	}
	nn_log(LOG_DEBUG, "closed behind our back:", fd);
	struct nn_stream *stream = stream_get(fd);
	if (stream && stream_is_paired(stream) && atomic_load(&stream->fds) == 1)
		atomic_fetch_or(&stream->kernel_hup, HUP_END); /* and do not touch the newcomer's socket options */
	if (stream) {
		fd_clear(fd);
		if (atomic_fetch_sub(&stream->fds, 1) == 1) {
			rendezvous_abandon(stream);
			stream->shared_at_close = holders_leave(stream);
			if (stream_is_paired(stream) && !stream->shared_at_close)
				farewell(stream, 0);
			stream->fd = -1; /* calls in progress must not touch the newcomer */
			stream_put(stream);
		} else {
			use_other(stream, fd);
		}
		stream_put(stream);
	} else {
		detach(fd);
	}
}

void nn_dissolved(int fd)
{
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return;
	bool alone = atomic_load(&stream->fds) == 1 && !atomic_load(&stream->regs) && !stream_is_shared(stream);
	if (alone)
		nn_appeared(fd); /* as if it were another socket */
	stream_put(stream);
}

void nn_duplicated(int old, int fd)
{
	if (nn_in_vfork_child())
		return;
	uint32_t entry = fd_entry(old);
	if (fd_entry(fd))
		nn_appeared(fd);
	switch (entry >> NN_KIND_SHIFT) {
	case NN_STREAM: {
		struct nn_stream *stream = stream_get(old);
		if (!stream)
			return;
		atomic_fetch_add(&stream->fds, 1);
		fd_set_entry(fd, NN_STREAM, stream->index);
		stream_put(stream);
		return;
	}
	case NN_SET:
		epoll_set_duplicated(entry & ((1u << NN_KIND_SHIFT) - 1));
		fd_set_entry(fd, NN_SET, entry & ((1u << NN_KIND_SHIFT) - 1));
		return;
	case NN_LISTENER:
		fd_set_entry(fd, NN_LISTENER, 0);
		return;
	default:
		return;
	}
}

void nn_taken(int fd)
{
	uint64_t cookie, other;
	socklen_t length = sizeof cookie;
	nn_appeared(fd);
	if (sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0)
		return;
	for (int old = 0; old < fd_top(); old++) {
		if (nn_kind_of(old) != NN_STREAM)
			continue;
		length = sizeof other;
		if (sys_call5(SYS_getsockopt, old, SOL_SOCKET, SO_COOKIE, &other, &length) == 0 && other == cookie) {
			nn_duplicated(old, fd);
			return;
		}
	}
}

long nn_close_range(unsigned first, unsigned last, unsigned flags)
{
	if (flags & ~(unsigned)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || first > last)
		return sys_call3(SYS_close_range, first, last, flags);
	if (!nn_fds || (flags & CLOSE_RANGE_CLOEXEC) || nn_in_vfork_child())
		return sys_call3(SYS_close_range, first, last, flags);
	/* Ours stay; the application's go, tracked ones with what belongs to it. */
	unsigned end = last < NN_FD_MAX - 1 ? last : NN_FD_MAX - 1;
	unsigned from = first;
	unsigned top = hidden_top() > (unsigned)fd_top() ? hidden_top() : (unsigned)fd_top();
	for (unsigned fd = first; fd <= end && fd < top; fd++) {
		enum nn_kind kind = nn_kind_of((int)fd);
		if (kind == NN_NONE)
			continue;
		if (kind != NN_HIDDEN) {
			nn_close((int)fd);
			continue;
		}
		if (fd > from)
			sys_call3(SYS_close_range, from, fd - 1, flags);
		from = fd + 1;
	}
	return from <= last ? sys_call3(SYS_close_range, from, last, flags) : 0;
}

long nn_shutdown(int fd, int how)
{
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return sys_call2(SYS_shutdown, fd, how);
	if (how == SHUT_WR || how == SHUT_RDWR) {
		/* The peer must have heard of it in memory before the kernel's FIN, or it takes that for our death. */
		atomic_store(&stream->tx_shut, 1);
		if (stream_is_paired(stream)) {
			if (!tx_pay(stream))
				stream_reset(stream); /* rather than an end before all bytes */
			say(stream, END_FIN);
			waiters_ring_own(stream->pair, stream->own); /* who waits for room waits no longer */
		}
	}
	long outcome = sys_call2(SYS_shutdown, fd, how);
	if (outcome < 0 && !stream_is_paired(stream))
		atomic_store(&stream->tx_shut, 0); /* not connected: nothing was shut */
	if (outcome == 0 && (how == SHUT_RD || how == SHUT_RDWR)) {
		stream_set_shut_rx(stream);
		epoll_stream_moved(stream);
	}
	epoll_stream_touched(stream);
	stream_put(stream);
	return outcome;
}

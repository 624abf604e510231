/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork, exec, spawn, and passing descriptors away.
 *
 * After fork both processes hold every socket. What moves bytes lies in shared memory (end blocks, rings, boards), so a stream
 * that is on its rings goes on for both; each end's locks work across processes. What is private (the stream object, the tables) the child gets as
 * a copy. Streams that are not yet up wait until one process alone holds them: see holders.h.
 *
 * Other threads may be anywhere when one forks, and the child has their half-done work without them. So what they change in
 * several steps is at rest while fork takes its copy, or is read anew by the child:
 *
 *   rendezvous, table of sets, state, heap,
 *   hidden descriptors                       their locks are held across fork. Whoever holds one of them is done
 *                                            in a few system calls and never waits for one that stands before it in this list
 *   a direction's way up                     held off by a counted raw call: both processes find it up, or neither
 *   private copies of segments               read again from the end block, by the child
 *   bytes sent again, or dropped             counted in the end block
 *   leases, signalfds in use                 the child has none; they are the parent's
 *   a stream being made or freed             stays in the child as it is: a slot that nobody uses
 *   locks in end blocks                      lie in shared memory and name their thread, which lives on in the parent
 *
 * A handler that forks in the middle of its own thread's section does not wait for that one's lock; its child must not come
 * back to the section. In the midst of a fork no handler of its thread runs.
 *
 * A new program image without our memory cannot use rings: streams whose descriptors survive exec go back to TCP first.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "shim/core/epoll.h"
#include "shim/core/holders.h"
#include "shim/core/hidden.h"
#include "shim/core/lease.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/set.h"
#include "shim/core/signals.h"
#include "shim/core/stall.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"
#include "shim/wait/bell.h"

static bool alive(const struct nn_stream *stream)
{
	uint32_t phase = atomic_load(&stream->phase);
	return phase >= STREAM_YOUNG && phase <= STREAM_ALONE && atomic_load(&stream->fds);
}

/* ---- seccomp ---------------------------------------------------------------------------------------------------------- */

_Atomic bool nn_confined, nn_filtered;
static bool retired; /* and the kernel has all that we had: fork has nothing to prepare, either */

/* The kernel's from here on, as if it had never been one of ours. False: it must stay known. */
static bool forget(int fd)
{
	enum nn_kind kind = nn_kind_of(fd);
	if (kind == NN_LISTENER || (kind == NN_SET && epoll_set_is_plain(fd_entry(fd) & ((1u << NN_KIND_SHIFT) - 1))))
		fd_clear(fd);
	if (kind != NN_STREAM)
		return nn_kind_of(fd) != NN_SET;
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return true;
	bool kernels = stream_is_kernels(stream);
	if (kernels && !stream_is_paired(stream) && !atomic_load(&stream->regs))
		nn_let_go(fd);
	stream_put(stream);
	return kernels;
}

void nn_confine(void)
{
	if (!nn_fds || atomic_exchange(&nn_confined, true))
		return;
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *stream = stream_hold(i);
		if (!stream)
			continue;
		stream_outside(stream, NN_REASON_CALL, OUTSIDE_BOTH);
		stream_put(stream);
	}
	bool all = true;
	for (int fd = 0; fd < fd_top(); fd++)
		all &= forget(fd);
	retired = all;
	nn_finish(); /* later the report may not be opened, */
	nn_config.log_fd = -1; /* nor a line be written */
	atomic_store(&nn_filtered, true);
}

/* ---- fork ------------------------------------------------------------------------------------------------------------- */

static _Atomic uint32_t forks_seen;

uint32_t nn_forks(void)
{
	return atomic_load(&forks_seen);
}

static bool table_interrupted; /* under the table's lock: it was our thread's before fork */
static struct signals_section fork_section; /* of the thread that forks; under the locks */

/* No direction begins to go up before hold_off is undone, and none is about to. */
static void hold_off(struct nn_stream *stream)
{
	stream->held_off = (uint8_t)(raw_hold(stream, true) | raw_hold(stream, false) << 1);
}

static void let_on(struct nn_stream *stream)
{
	if (stream->held_off & 1)
		raw_release(stream, true);
	if (stream->held_off & 2)
		raw_release(stream, false);
	stream->held_off = 0;
}

void nn_fork_prepare(void)
{
	if (!nn_fds || retired)
		return;
	struct signals_section section = signals_section_begin();
	rendezvous_fork_prepare();
	enum lock_outcome table = lock_take(&table_lock, nn_self());
	table_interrupted = table == LOCK_NESTED;
	fork_section = section;
	process_fork_prepare();
	arena_fork_prepare();
	holders_fork_begin();
	atomic_fetch_add(&forks_seen, 1); /* before the look at the streams: pairs with track() */
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *stream = stream_at(i);
		stream->held_off = 0;
		if (!alive(stream))
			continue;
		hold_off(stream);
		holders_fork_stream(stream);
		atomic_store(&stream->shared, 1);
	}
	process_fork_copy();
	hidden_fork_prepare(); /* the last to be locked, the first to be released: what comes after in the child hides descriptors */
}

void nn_fork_parent(bool failed)
{
	if (!nn_fds || retired)
		return;
	hidden_fork_done();
	holders_fork_end(failed);
	atomic_fetch_add(&forks_seen, 1);
	for (uint32_t i = 0; i < stream_top(); i++) {
		let_on(stream_at(i));
		if (!failed && alive(stream_at(i)) && !atomic_load(&stream_at(i)->shared))
			holders_fork_missed(stream_at(i));
	}
	arena_fork_parent();
	process_fork_parent();
	struct signals_section section = fork_section;
	lock_drop(&table_lock, table_interrupted ? LOCK_NESTED : LOCK_TAKEN);
	rendezvous_fork_parent();
	signals_section_end(section);
}

/* Another thread of the parent may have been in the middle of these. When it still is, the first call that gets the lock reads
 * them, as no segment has this number. */
static void reload(struct nn_stream *stream)
{
	stream->tx_epoch = UINT64_MAX;
	if (tx_trylock(stream)) {
		tx_reload(stream);
		tx_unlock(stream, LOCK_TAKEN);
	}
	stream->rx_epoch = UINT64_MAX;
	if (rx_trylock(stream)) {
		rx_reload(stream);
		rx_unlock(stream, LOCK_TAKEN);
	}
}

void nn_fork_child(void)
{
	if (!nn_fds || retired)
		return;
	hidden_fork_done();
	arena_fork_child();
	process_renew_state();
	holders_fork_child();
	/* Only the thread that forked is left: no call is in flight any more. */
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *stream = stream_at(i);
		if (stream->kept) { /* for a call of the parent's */
			hidden_close(stream->fd);
			stream->kept = false;
		}
		if (stream->shown) /* another thread may have been faster than the copy */
			atomic_store(&stream->shown->in_use, alive(stream));
		if (!alive(stream))
			continue;
		if (!atomic_load(&stream->shared))
			holders_fork_missed(stream);
		atomic_store(&stream->users, 1);
		atomic_store(&stream->raw_tx, atomic_load(&stream->raw_tx) & STREAM_TAKEN);
		atomic_store(&stream->raw_rx, atomic_load(&stream->raw_rx) & STREAM_TAKEN);
		if (atomic_load(&stream->phase) == STREAM_SEEKING)
			atomic_store(&stream->phase, STREAM_YOUNG);
		stream->next_try = 0;
		if (stream_is_paired(stream))
			reload(stream);
	}
	lease_fork_child();
	rendezvous_fork_child();
	bells_fork_child();
	lock_drop(&table_lock, table_interrupted ? LOCK_NESTED : LOCK_TAKEN);
	epoll_fork_child();
	stall_fork_child();
	signals_section_end(fork_section);
}

/* ---- exec ------------------------------------------------------------------------------------------------------------- */

/* Which open descriptors the next program would inherit. */
static void leave_to_heirs(unsigned parts)
{
	for (int fd = 0; fd < fd_top(); fd++) {
		if (nn_kind_of(fd) != NN_STREAM || (sys_call2(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC))
			continue;
		struct nn_stream *stream = stream_get(fd);
		if (!stream)
			continue;
		/* Standard streams are inherited to be used; others mostly by accident, and a connection that others hold as well is not
		 * reset for that. */
		bool meant = fd <= 2 || !holders_others(stream);
		if (!(parts & OUTSIDE_MUST))
			atomic_store(&stream->heirs, true); /* and so may we */
		stream_outside(stream, NN_REASON_EXEC, meant ? parts : parts & ~(unsigned)OUTSIDE_MUST);
		stream_put(stream);
	}
}

/* Lets go of the sockets that exec closes, or takes them back. */
static void count_closing(void (*how)(struct nn_stream *stream))
{
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *stream = stream_at(i);
		if (alive(stream) && atomic_load(&stream->others) && (sys_call2(SYS_fcntl, stream->fd, F_GETFD) & FD_CLOEXEC))
			how(stream);
	}
}

static void leave(struct nn_stream *stream)
{
	holders_leave(stream);
}

void nn_exec(void)
{
	if (!nn_state)
		return;
	leave_to_heirs(OUTSIDE_BOTH | OUTSIDE_MUST);
	if (!nn_in_vfork_child())
		count_closing(leave);
}

void nn_exec_failed(void)
{
	if (nn_state && !nn_in_vfork_child())
		count_closing(holders_return);
}

void nn_spawning(void)
{
	atomic_store(&nn_spawned, true);
	/* We live on: what the heir would miss we still can read. */
	if (nn_state)
		leave_to_heirs(OUTSIDE_BOTH);
}

/* ---- single descriptors ----------------------------------------------------------------------------------------------- */

static bool is_address(const struct sockaddr_storage *address, const struct sockaddr_in6 *known)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	if (address->ss_family == AF_INET)
		return v4->sin_port == known->sin6_port && !memcmp(&v4->sin_addr, &known->sin6_addr.s6_addr[12], sizeof v4->sin_addr);
	return address->ss_family == AF_INET6 && v6->sin6_port == known->sin6_port &&
	       !memcmp(&v6->sin6_addr, &known->sin6_addr, sizeof v6->sin6_addr);
}

/* Is the calling process's `fd` the stream's socket? The child of vfork has its parent's tables and descriptors of its own. */
static bool is_its_socket(const struct nn_stream *stream, int fd)
{
	struct sockaddr_storage local, remote;
	socklen_t length = sizeof local;
	if (sys_call3(SYS_getsockname, fd, &local, &length) < 0)
		return false;
	length = sizeof remote;
	return sys_call3(SYS_getpeername, fd, &remote, &length) == 0 && is_address(&local, &stream->local) &&
	       is_address(&remote, &stream->remote);
}

static void passing(int fd, enum nn_reason reason)
{
	if (nn_kind_of(fd) == NN_SET)
		epoll_set_exposed(fd_entry(fd) & ((1u << NN_KIND_SHIFT) - 1));
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return;
	bool mine = !nn_in_vfork_child();
	if (!mine && !stream_is_paired(stream))
		stream_alone(stream, reason); /* the search for its peer, with descriptors of our parent's, ends by itself */
	else if (mine || (is_its_socket(stream, fd) && is_its_socket(stream, stream->fd))) {
		atomic_store(&stream->heirs, true); /* what lies unread when we close it is theirs */
		stream_outside(stream, reason, OUTSIDE_BOTH | OUTSIDE_MUST);
	}
	stream_put(stream);
}

void nn_passing(int fd)
{
	passing(fd, NN_REASON_PASSED);
}

void nn_inheriting(int fd)
{
	passing(fd, NN_REASON_EXEC);
}

void nn_inheriting_any(void)
{
	for (int fd = 0; fd < fd_top(); fd++)
		if (nn_kind_of(fd) == NN_STREAM)
			passing(fd, NN_REASON_EXEC);
}

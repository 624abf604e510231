/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork, exec, spawn, and passing descriptors away.
 *
 * After fork both processes hold every socket. What moves bytes lies in shared memory (end blocks, rings, boards), so a stream
 * that is on its rings goes on for both; each end's locks work across processes. What is private (the stream object, the tables) the child gets as
 * a copy. Streams that are not yet up wait until one process alone holds them: `sharers` counts, in memory shared by the family.
 *
 * A new program image without our memory cannot use rings: streams whose descriptors survive exec go back to TCP first.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "shim/core/epoll.h"
#include "shim/core/hidden.h"
#include "shim/core/lease.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"
#include "shim/wait/bell.h"

#define SHARERS (STATE_STREAMS)

static _Atomic uint32_t *sharers; /* SHARERS counters, 0 = free; inherited by all descendants */
static uint32_t next_sharer;

static _Atomic uint32_t *new_sharer(void)
{
	if (!sharers) {
		void *memory = (void *)sys_call6(SYS_mmap, NULL, SHARERS * sizeof *sharers, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (sys_failed(memory))
			return NULL;
		sharers = memory;
	}
	for (uint32_t i = 0; i < SHARERS; i++) {
		_Atomic uint32_t *counter = &sharers[next_sharer++ % SHARERS];
		uint32_t nobody = 0;
		if (atomic_compare_exchange_strong(counter, &nobody, 1))
			return counter;
	}
	return NULL;
}

static bool alive(const struct nn_stream *stream)
{
	uint32_t phase = atomic_load(&stream->phase);
	return phase >= STREAM_YOUNG && phase <= STREAM_ALONE && atomic_load(&stream->fds);
}

/* The last to be locked, the first to be released: what comes after in the child hides descriptors. */
static void prepare_hidden(void)
{
	if (nn_fds)
		hidden_fork_prepare();
}

static void release_hidden(void)
{
	if (nn_fds)
		hidden_fork_done();
}

void nn_fork_prepare(void)
{
	if (!nn_state) {
		prepare_hidden();
		return;
	}
	arena_fork_prepare();
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *stream = stream_at(i);
		if (!alive(stream))
			continue;
		if (!stream->sharers)
			stream->sharers = new_sharer();
		if (stream->sharers)
			atomic_fetch_add(stream->sharers, 1);
		atomic_store(&stream->shared, 1);
	}
	prepare_hidden();
}

void nn_fork_parent(bool failed)
{
	release_hidden();
	if (!nn_state)
		return;
	arena_fork_parent();
	for (uint32_t i = 0; failed && i < stream_top(); i++)
		if (alive(stream_at(i)) && stream_at(i)->sharers)
			atomic_fetch_sub(stream_at(i)->sharers, 1);
}

void nn_fork_child(void)
{
	release_hidden();
	if (!nn_state) {
		process_renew_state();
		return;
	}
	arena_fork_child();
	process_renew_state();
	/* Only the thread that forked is left: no call is in flight any more. */
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *stream = stream_at(i);
		if (!alive(stream))
			continue;
		atomic_store(&stream->users, 1);
		atomic_store(&stream->raw_tx, atomic_load(&stream->raw_tx) & STREAM_TAKEN);
		atomic_store(&stream->raw_rx, atomic_load(&stream->raw_rx) & STREAM_TAKEN);
		if (atomic_load(&stream->phase) == STREAM_SEEKING)
			atomic_store(&stream->phase, STREAM_YOUNG);
		stream->next_try = 0;
	}
	lease_fork_child();
	rendezvous_fork_child();
	bells_fork_child();
	epoll_fork_child();
}

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
		bool meant = fd <= 2 || !stream->sharers || atomic_load(stream->sharers) < 2;
		stream_outside(stream, NN_REASON_EXEC, meant ? parts : parts & ~(unsigned)OUTSIDE_MUST);
		stream_put(stream);
	}
}

/* Counts this process out of (-1) or back into (+1) the sockets that exec closes. */
static void count_closing(int change)
{
	for (uint32_t i = 0; i < stream_top(); i++) {
		struct nn_stream *stream = stream_at(i);
		if (alive(stream) && stream->sharers && (sys_call2(SYS_fcntl, stream->fd, F_GETFD) & FD_CLOEXEC))
			atomic_fetch_add(stream->sharers, (uint32_t)change);
	}
}

void nn_exec(void)
{
	if (!nn_state)
		return;
	leave_to_heirs(OUTSIDE_BOTH | OUTSIDE_MUST);
	if (!nn_in_vfork_child())
		count_closing(-1);
}

void nn_exec_failed(void)
{
	if (nn_state && !nn_in_vfork_child())
		count_closing(+1);
}

void nn_spawning(void)
{
	atomic_store(&nn_spawned, true);
	/* We live on: what the heir would miss we still can read. */
	if (nn_state)
		leave_to_heirs(OUTSIDE_BOTH);
}

void nn_passing(int fd)
{
	if (nn_kind_of(fd) == NN_SET)
		epoll_set_exposed(fd_entry(fd) & ((1u << NN_KIND_SHIFT) - 1));
	struct nn_stream *stream = stream_get(fd);
	if (!stream)
		return;
	stream_outside(stream, NN_REASON_PASSED, OUTSIDE_BOTH | OUTSIDE_MUST);
	stream_put(stream);
}

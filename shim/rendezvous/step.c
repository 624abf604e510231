/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way in. One lock for all of the rendezvous, waited for by fork alone: who finds it taken (by another thread, or by the
 * code that its signal handler interrupted) goes on with the application's call, and tries again at a later one.
 */
#include "shim/rendezvous/rendezvous.h"

#include <errno.h>
#include <string.h>

#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/rendezvous/private.h"

#define LEARN_TRIES 10u

static _Atomic uint32_t lock;
static _Atomic uint32_t forking; /* threads that wait for it, or hold it, to fork: nobody else begins a step */
static _Atomic unsigned last_count;

static bool enter(void)
{
	return !atomic_load_explicit(&lock, memory_order_relaxed) && !atomic_load_explicit(&forking, memory_order_relaxed) &&
	       lock_try(&lock, nn_self());
}

static void leave(void)
{
	diag_close();
	do {
		seek_reap();
		lock_drop(&lock, LOCK_TAKEN);
		/* Pairs with rendezvous_abandon, which pushes first and tries the lock then: one of us sees the other. */
	} while (seek_gone_pending() && enter());
}

/* The stream's entry, made at its first step. NULL: not now. */
static struct seek *entry_of(struct nn_stream *stream)
{
	struct seek *seek = seek_of(stream);
	int error;

	if (seek)
		return seek;
	error = tuple_learn(stream);
	if (error) {
		/* A connect() still in progress, or a connection that has ended. */
		if (error == -ENOTCONN && stream->tries < LEARN_TRIES)
			stream->next_try = atomic_load_explicit(&stream->calls, memory_order_relaxed) + (1u << stream->tries++);
		else
			stream_alone(stream, error == -ENOTCONN ? NN_REASON_NO_PEER : NN_REASON_UNSUPPORTED);
		return NULL;
	}
	stream->tries = 0;
	/* Who looks at a connection that stays on TCP wants to know which it is. */
	stream->shown->local = stream->local;
	stream->shown->remote = stream->remote;
	if (memcmp(&stream->local, &stream->remote, sizeof(stream->local)) == 0) {
		stream_alone(stream, NN_REASON_SELF);
		return NULL;
	}
	seek = seek_add(stream);
	if (!seek) {
		stream_alone(stream, NN_REASON_NO_MEMORY);
		return NULL;
	}
	/* Another thread may be closing the last descriptor: it takes `fds` to zero and abandons the stream then. Either it
	 * finds the entry (the exchange in seek_detach), or we find no descriptor. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load(&stream->fds)) {
		seek_free(seek);
		return NULL;
	}
	return seek;
}

void rendezvous_step(struct nn_stream *stream)
{
	struct nn_stream *held[MAILBOX_BATCH];
	unsigned count;

	if (!enter())
		return;
	seek_reap();
	if (atomic_load_explicit(&stream->phase, memory_order_acquire) == STREAM_SEEKING && entry_of(stream)) {
		struct seek *seek;

		/* Who knocks again may have said HELLO before, to a peer that answers only now. */
		seek = seek_of(stream);
		if (seeks_waiting() || (seek && seek->state == SEEK_KNOCKING && stream->tries))
			hear_mailbox();
		seek = seek_of(stream);
		if (seek)
			protocol_step(seek);
	}
	count = hear_take_held(held);
	leave();
	while (count)
		stream_put(held[--count]);
}

void rendezvous_abandon(struct nn_stream *stream)
{
	seek_detach(stream);
	if (seek_gone_pending() && enter())
		leave();
}

unsigned rendezvous_count_on_peers(unsigned (*count)(const struct board *board, uint64_t now), uint64_t now)
{
	unsigned sum;

	if (!enter())
		return atomic_load_explicit(&last_count, memory_order_relaxed);
	sum = pairs_count(count, now);
	atomic_store_explicit(&last_count, sum, memory_order_relaxed);
	leave();
	return sum;
}

static bool interrupted; /* under the lock: it was our thread's before fork */

void rendezvous_fork_prepare(void)
{
	atomic_fetch_add(&forking, 1);
	interrupted = lock_take(&lock, nn_self()) == LOCK_NESTED;
}

void rendezvous_fork_parent(void)
{
	bool ours = !interrupted;

	atomic_fetch_sub(&forking, 1);
	if (ours)
		leave();
}

void rendezvous_fork_child(void)
{
	struct nn_stream *held[MAILBOX_BATCH];

	atomic_store(&forking, 0);
	atomic_store(&lock, nn_self());
	hear_take_held(held); /* users are counted anew */
	diag_close();
	mailbox_forget();
	seeks_forked();
	pairs_forked();
	lock_drop(&lock, interrupted ? LOCK_NESTED : LOCK_TAKEN);
	atomic_store(&lock, 0);
}

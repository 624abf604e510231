/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/stall.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "shim/core/clock.h"
#include "shim/core/process.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/wait/waiter.h"

/* On a busy machine a peer that only waits for its turn on a processor reads nothing for some time slices. */
#define ALONE_NS STALL_ALONE_NS
#define BOTH_NS 20000000u /* the peer waits for room, too */
#define CHILD_NS 200000000u /* for who does not come back, for whatever reason */
#define MUCH (16u << 20) /* bytes after which a stall counts as the first */
#define FEW 2u           /* after so many it goes up as soon as it can; then it rests, longer each time: */
#define REST_NS 50000000ull
#define DOUBLED 8u       /* times, at most */

static _Atomic uint32_t listed; /* 1 + index of the first stream, 0: none */

/* False: it is already. */
static bool list(struct nn_stream *stream)
{
	if (atomic_exchange(&stream->stall_listed, true))
		return false;
	uint32_t first = atomic_load(&listed);
	do
		atomic_store(&stream->stall_next, first);
	while (!atomic_compare_exchange_weak(&listed, &first, stream->index + 1));
	return true;
}

/* True: it was not listed before. */
static bool note(struct nn_stream *stream)
{
	uint64_t head = atomic_load(&stream->peer->head);
	if (!stream->stall_at || stream->stall_head != head) {
		stream->stall_head = head;
		stream->stall_at = nn_now_ns();
	}
	return list(stream);
}

void stall_note(struct nn_stream *stream, bool waits)
{
	if (note(stream) && !waits)
		waiters_ring_own(stream->pair, stream->own);
}

uint64_t stall_left(struct nn_stream *stream)
{
	note(stream);
	uint64_t limit = stream->pair->inherited ? CHILD_NS : atomic_load(&stream->peer->space_at) ? BOTH_NS : ALONE_NS;
	uint64_t passed = nn_now_ns() - stream->stall_at;
	return passed < limit ? limit - passed : 0;
}

bool stall_leave(struct nn_stream *stream)
{
	uint64_t tail = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	if (!tx_spill(stream, NN_REASON_STALLED, stream->pair->inherited)) { /* a child has no way up again */
		if (!stream->stall_at || nn_now_ns() - stream->stall_at < CHILD_NS)
			return false;
		/* With a small SO_SNDBUF there may never be the room. */
		tx_down(stream, NN_REASON_STALLED, DOWN_FOR_GOOD);
	}
	stream->stall_at = 0;
	uint32_t stalls = stream->stalls && tail - stream->stalled_at < MUCH ? stream->stalls + 1 : 1;
	stream->stalls = stalls;
	stream->stalled_at = tail;
	stream->stall_until = stalls <= FEW ? 0 : nn_now_ns() + (REST_NS << (stalls - FEW < DOUBLED ? stalls - FEW : DOUBLED));
	return true;
}

bool stall_rests(const struct nn_stream *stream)
{
	int queued = 0;
	if (!stream->stalls)
		return false;
	/* What the kernel holds takes the room of what is unread, should we or our peer have to leave the ring. */
	return (stream->stall_until && nn_now_ns() < stream->stall_until) ||
	       (sys_call3(SYS_ioctl, stream->fd, SIOCOUTQ, &queued) == 0 && queued);
}

/* True: it may stall yet. */
static bool look_at(struct nn_stream *stream, uint64_t *left)
{
	if (!stream_is_paired(stream) || !atomic_load(&stream->tx_full))
		return false;
	if (!tx_trylock(stream)) { /* somebody sends */
		if (*left > BOTH_NS)
			*left = BOTH_NS;
		return true;
	}
	tx_follow(stream);
	/* After FIN the kernel takes nothing more. */
	bool full = stream->tx_ring && !stream->tx_replaying && !tx_outside_wanted(stream) && atomic_load(&stream->tx_full) &&
		    !(atomic_load(&stream->own->tx_flags) & END_FIN);
	uint64_t until = full ? stall_left(stream) : 0;
	if (full && !until && !stall_leave(stream))
		until = ALONE_NS;
	tx_unlock(stream, LOCK_TAKEN);
	if (until && until < *left)
		*left = until;
	return until;
}

bool stall_any(void)
{
	return atomic_load_explicit(&listed, memory_order_relaxed);
}

uint64_t stall_sweep(uint64_t left)
{
	if (!stall_any())
		return left;
	for (uint32_t at = atomic_exchange(&listed, 0); at;) {
		uint32_t index = at - 1;
		struct nn_stream *stream = stream_at(index);
		at = atomic_load(&stream->stall_next);
		atomic_store(&stream->stall_listed, false); /* first: who finds it full from here on lists it himself */
		stream = stream_hold(index);
		if (!stream)
			continue;
		if (look_at(stream, &left))
			list(stream);
		stream_put(stream);
	}
	return left;
}

void stall_fork_child(void)
{
	atomic_store(&listed, 0);
	for (uint32_t i = 0; i < stream_top(); i++) {
		atomic_store(&stream_at(i)->stall_listed, false);
		if (atomic_load(&stream_at(i)->tx_full))
			list(stream_at(i));
	}
}

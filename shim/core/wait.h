/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting for one stream in a blocking call. */
#ifndef SHIM_CORE_WAIT_H
#define SHIM_CORE_WAIT_H

#include "shim/core/signals.h"
#include "shim/core/stream.h"
#include "shim/wait/waiter.h"

/* Something to do for a receiver: bytes, an end, a segment, an error, a wish of the peer's. Cheap: looks at memory only. */
bool rx_news(const struct nn_stream *stream, uint64_t wanted);
/* Room, or an end. */
bool tx_news(const struct nn_stream *stream);

#define WANT_TIME UINT64_MAX /* nothing that memory shows is worth waking for: look again in a moment */

/* One call of the application's, and all its waits. */
struct wait_call {
	struct nn_ran began; /* signals_ran(), then */
	uint64_t deadline;   /* by SO_RCVTIMEO or SO_SNDTIMEO; 0: not asked for yet */
};

/* Waits until there may be news. `wanted`: bytes worth waking for. 0: look again; -EINTR; -EAGAIN: SO_RCVTIMEO or SO_SNDTIMEO ran
 * out. */
long stream_wait_rx(struct nn_stream *stream, uint64_t wanted, struct wait_call *call);
long stream_wait_tx(struct nn_stream *stream, struct wait_call *call);

/* Around whatever waits: see struct nn_guard. */
static inline void guard_begin(struct nn_guard *guard, void (*undo)(void *), void *data)
{
	guard->undo = undo;
	guard->data = data;
	guard->done = false;
	if (nn_front.guard)
		nn_front.guard(guard);
}

static inline void guard_end(struct nn_guard *guard)
{
	if (nn_front.unguard)
		nn_front.unguard(guard);
}

/* A waiter whom no doorbell reaches looks for itself this often. */
#define BLIND_NS 1000000ull

#define NS_IN_S 1000000000ull

/* Serves a peer that asked for TCP (END_WANT_OUTSIDE) while we wait for something else. False: another thread
 * has the direction just now. */
bool stream_serve(struct nn_stream *stream);

/* After a send that found no room: is there some by now? Then that is an edge, once. */
bool tx_found_room(struct nn_stream *stream);

/* Says that a sender waits for room: the peer wakes whoever is attached once half of the ring is free. */
void tx_want_room(struct nn_stream *stream);

#endif

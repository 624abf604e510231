/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/readiness.h"

#include "shim/core/error.h"
#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/switch.h"
#include "shim/core/wait.h"

static bool segment_due(const struct nn_stream *stream)
{
	return rx_taken(stream) && !stream->rx_spoiled &&
	       rx_segment_end(stream) <= atomic_load_explicit(&stream->own->head, memory_order_relaxed);
}

/* Another process has moved it. */
static bool moved(const struct nn_stream *stream)
{
	return tx_moved(stream) || (atomic_load_explicit(&stream->shared, memory_order_relaxed) &&
				   atomic_load(&stream->own->acked) != stream->rx_epoch);
}

bool stream_due(const struct nn_stream *stream)
{
	return stream_is_paired(stream) && (segment_due(stream) || tx_outside_wanted(stream) || stream->tx_replaying || moved(stream));
}

static bool follow(struct nn_stream *stream)
{
	bool tx = tx_trylock(stream);
	if (tx) {
		tx_follow(stream);
		tx_unlock(stream, LOCK_TAKEN);
	}
	bool rx = rx_trylock(stream);
	if (rx) {
		rx_reload(stream);
		rx_unlock(stream, LOCK_TAKEN);
	}
	return tx && rx;
}

bool stream_service(struct nn_stream *stream)
{
	if (!stream_is_paired(stream))
		return true;
	if (moved(stream) && !follow(stream))
		return false;
	bool served = !(tx_outside_wanted(stream) || stream->tx_replaying) || stream_serve(stream);
	if (!segment_due(stream))
		return served;
	if (!rx_trylock(stream))
		return false;
	if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
		rx_reload(stream);
	rx_enter(stream);
	rx_unlock(stream, LOCK_TAKEN);
	return served;
}

static void receiving(struct nn_stream *stream, struct readiness *state)
{
	state->ask |= POLLPRI; /* urgent data goes by TCP */
	bool over = atomic_load_explicit(&stream->kernel_hup, memory_order_relaxed);
	uint64_t flags = peer_tx_flags(stream);
	if (!stream->rx_ring) {
		state->ask |= READY_IN | POLLRDHUP;
		return;
	}
	uint64_t tail = atomic_load(&stream->peer->tail);
	uint64_t waiting = tail - atomic_load_explicit(&stream->own->head, memory_order_relaxed);
	uint64_t lowat = stream_lowat(stream);
	if (waiting && (waiting >= lowat || waiting > stream->rx_mask / 2))
		state->ready |= READY_IN;
	if ((flags & END_FIN) || over)
		state->ready |= READY_IN | POLLRDHUP;
	if (stream_shut_rx(stream))
		state->ready |= READY_IN | POLLRDHUP;
}

static void sending(struct nn_stream *stream, struct readiness *state)
{
	if (stream->tx_replaying)
		return; /* room is for what is sent again */
	if (!stream->tx_ring) {
		state->ask |= READY_OUT;
		return;
	}
	/* In another process the last send may have found no room, too. */
	if (atomic_load_explicit(&stream->shared, memory_order_relaxed) && atomic_load(&stream->own->space_at))
		atomic_store(&stream->tx_full, 1);
	if (!atomic_load_explicit(&stream->tx_full, memory_order_relaxed) || tx_found_room(stream))
		state->ready |= READY_OUT;
}

struct readiness stream_readiness(struct nn_stream *stream)
{
	struct readiness state = {0};
	if (!stream_is_paired(stream)) {
		state.ask = ~0u;
		return state;
	}
	if (rx_taken(stream))
		receiving(stream, &state);
	else
		state.ask |= READY_IN | POLLPRI | POLLRDHUP;
	if (tx_taken(stream))
		sending(stream, &state);
	else
		state.ask |= READY_OUT;
	bool sent_all = atomic_load_explicit(&stream->own->tx_flags, memory_order_relaxed) & END_FIN;
	if (sent_all && (state.ready & POLLRDHUP))
		state.ready |= POLLHUP;
	if (stream_error(stream) || stream_reset_unseen(stream))
		state.ready |= READY_IN | READY_OUT | POLLERR | POLLHUP | POLLRDHUP;
	else if (stream_reset_told(stream))
		state.ready |= READY_IN | READY_OUT | POLLHUP | POLLRDHUP; /* no error any more, and nothing else either */
	return state;
}

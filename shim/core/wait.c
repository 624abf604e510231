/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A blocking call on one stream: spin on memory, then sleep on doorbell and TCP connection both (bytes and ends that come by
 * TCP, time-outs and signals wake the same sleep).
 */
#include "shim/core/wait.h"

#include <errno.h>

#include "shim/core/clock.h"
#include "shim/core/error.h"
#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/signals.h"
#include "shim/core/switch.h"
#include "shim/core/stall.h"
#include "shim/core/sys.h"
#include "shim/wait/spin.h"
#include "shim/wait/waiter.h"

/* One stream's sleep. */
struct stream_sleep {
	struct nn_guard guard;
	struct waiter waiter;
	struct nn_stream *stream;
	struct signals_sleep signals; /* of a call that restarts */
	struct signals_hold hold;     /* of one with a time limit */
};

#define QUICK_LOOKS 48 /* about a microsecond */

static bool ended(const struct nn_stream *stream)
{
	return stream_error(stream) || atomic_load(&stream->kernel_hup);
}

bool rx_news(const struct nn_stream *stream, uint64_t wanted)
{
	if (wanted == WANT_TIME)
		return stream_shut_rx(stream) || ended(stream);
	if (stream->rx_ring) {
		uint64_t waiting = atomic_load(&stream->peer->tail) - atomic_load_explicit(&stream->own->head, memory_order_relaxed);
		if (waiting && waiting >= wanted)
			return true;
		if (peer_tx_flags(stream) & END_FIN)
			return true;
	}
	/* A next segment is news where it begins; before that, on TCP, only the kernel has news. */
	return rx_segment_end(stream) <= atomic_load_explicit(&stream->own->head, memory_order_relaxed) ||
	       (stream->rx_ring && peer_epoch(stream) != stream->rx_epoch) ||
	       (tx_outside_wanted(stream) && !stream->tx_replaying) ||
	       stream_shut_rx(stream) || ended(stream);
}

bool tx_news(const struct nn_stream *stream)
{
	if (tx_moved(stream))
		return true;
	if (stream->tx_replaying) /* the kernel has the news */
		return stream_error(stream);
	/* After the peer's FIN the kernel says nothing when it dies: who waits for room sends by TCP, see ring_send. */
	if (!stream->tx_ring || tx_outside_wanted(stream) || (peer_tx_flags(stream) & (END_CLOSED | END_FIN)) ||
		(atomic_load_explicit(&stream->own->tx_flags, memory_order_relaxed) & END_FIN))
		return true;
	uint64_t tail = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	uint64_t head = atomic_load(&stream->peer->head);
	if (head < stream->tx_start)
		head = stream->tx_start;
	return tail - head <= (stream->tx_mask + 1) / 2 || stream_error(stream) ||
	       atomic_load(&stream->kernel_hup);
}

bool tx_found_room(struct nn_stream *stream)
{
	uint64_t space_at = atomic_load(&stream->own->space_at);
	if (!tx_news(stream))
		return false;
	if (atomic_exchange(&stream->tx_full, 0))
		atomic_fetch_add(&stream->tx_edges, 1);
	/* Unless another thread waits for room anew: it has found none after we found some. */
	atomic_compare_exchange_strong(&stream->own->space_at, &space_at, 0);
	return true;
}

void nn_guard_undo(void *data)
{
	struct nn_guard *guard = data;
	if (!atomic_exchange(&guard->done, true))
		guard->undo(guard->data);
}

/* Who has called holds the stream, and has a guard for that. */
static void undo(void *data)
{
	struct stream_sleep *whole = data;
	signals_wake(&whole->signals, false);
	signals_release(&whole->hold, 0);
	waiter_detach(&whole->waiter, whole->stream->own);
	waiter_drop(&whole->waiter);
}

void tx_want_room(struct nn_stream *stream)
{
	uint64_t tail = atomic_load_explicit(&stream->own->tail, memory_order_relaxed);
	atomic_store(&stream->own->space_at, tail - (stream->tx_mask + 1) / 2);
}

bool stream_serve(struct nn_stream *stream)
{
	if (!tx_trylock(stream))
		return false;
	if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
		tx_follow(stream);
	if (tx_outside_wanted(stream) && !stream->tx_replaying)
		tx_serve_outside(stream);
	else if (stream->tx_replaying)
		tx_replay_more(stream);
	tx_unlock(stream, LOCK_TAKEN);
	return true;
}

/* SO_RCVTIMEO or SO_SNDTIMEO in ns, 0: none. */
static uint64_t own_timeout(const struct nn_stream *stream, int option)
{
	struct {
		int64_t seconds, micros;
	} limit = {0};
	socklen_t length = sizeof limit;
	if (sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, option, &limit, &length) < 0)
		return 0;
	return (uint64_t)limit.seconds * NS_IN_S + (uint64_t)limit.micros * 1000;
}

static bool news(const struct nn_stream *stream, bool sending, uint64_t wanted)
{
	return sending ? tx_news(stream) : rx_news(stream, wanted);
}

/* ppoll of the first two of three entries, as the socket call sleeps that it stands for: one without a time limit goes on
 * after a handler with SA_RESTART (then 0 or more). */
static long sleep_restarting(struct stream_sleep *whole, struct pollfd fds[3], struct timespec *limit)
{
	struct signals_sleep *signals = &whole->signals;
	long outcome = signals_fall_asleep(signals, limit);
	fds[2] = (struct pollfd){.fd = signals->fd, .events = POLLIN};
	if (outcome < 0) {
		signals_wake(signals, false);
		return outcome;
	}
	outcome = nn_front.ppoll(fds, signals->fd >= 0 ? 3 : 2, limit, signals->held ? &signals->mask : NULL, &whole->guard);
	if (signals_wake(signals, outcome > 0 && (fds[2].revents & POLLNVAL)))
		return -EINTR;
	return outcome == -EINTR && !signals_interrupted(signals) ? 0 : outcome;
}

/* The same for one with a time limit: no handler lets it go on. */
static long sleep_limited(struct stream_sleep *whole, struct pollfd fds[2], struct timespec *limit)
{
	struct signals_hold *hold = &whole->hold;
	long outcome = signals_hold(hold, whole->signals.began, limit);
	if (outcome < 0)
		return outcome;
	outcome = nn_front.ppoll(fds, 2, limit, hold->held ? &hold->mask : NULL, &whole->guard);
	return signals_release(hold, outcome);
}

/* Sleeps until doorbell, kernel, time-out or signal. */
static long sleep_once(struct stream_sleep *whole, bool sending, uint64_t wanted, uint64_t limit_ns)
{
	struct nn_stream *stream = whole->stream;
	struct waiter *waiter = &whole->waiter;
	const bool restarts = limit_ns == UINT64_MAX; /* with SO_RCVTIMEO or SO_SNDTIMEO no handler does */
	const int bell = waiter_bell(waiter);
	bool heard = waiter_attach(waiter, stream->own) && bell >= 0;
	if (sending && stream->tx_ring)
		tx_want_room(stream);
	long outcome = 0;
	waiter_falls_asleep(waiter);
	if (!news(stream, sending, wanted)) { /* W2 */
		struct pollfd fds[3] = {{.fd = stream->fd}, {.fd = bell, .events = POLLIN}};
		if (!sending)
			fds[0].events = wanted == WANT_TIME ? POLLRDHUP : POLLIN | POLLRDHUP;
		else if (!stream->tx_replaying && !atomic_load(&stream->kernel_hup) && !stream_shut_rx(stream))
			fds[0].events = POLLRDHUP;
		if (stream->tx_replaying)
			fds[0].events |= POLLOUT;
		const bool deaf = sending && stream_shut_rx(stream); /* the peer's FIN makes no difference to the kernel */
		if ((!heard || deaf || wanted == WANT_TIME) && limit_ns > BLIND_NS)
			limit_ns = BLIND_NS;
		if (sending && stream->tx_ring && !stream->tx_replaying && limit_ns > STALL_NS)
			limit_ns = STALL_NS; /* and look whether it is read */
		struct timespec limit = limit_ns == UINT64_MAX ? SIGNALS_NO_LIMIT : (struct timespec){(time_t)(limit_ns / NS_IN_S), (long)(limit_ns % NS_IN_S)};
		if (restarts)
			outcome = sleep_restarting(whole, fds, &limit);
		else
			outcome = sleep_limited(whole, fds, &limit);
		waiter_wakes(waiter);
		if (outcome > 0) {
			if (fds[1].revents)
				waiter_heard(waiter);
			if (fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR))
				stream_look(stream, (uint32_t)fds[0].revents);
			else if (fds[0].revents & POLLIN && stream->rx_ring)
				rx_check_stray(stream);
		}
		else if (outcome == 0 && deaf)
			stream_look(stream, 0);
		if (outcome > 0)
			outcome = 0;
	} else {
		waiter_wakes(waiter);
	}
	waiter_detach(waiter, stream->own);
	return outcome;
}

static long stream_wait(struct nn_stream *stream, bool sending, uint64_t wanted, struct wait_call *call)
{
	uint64_t *deadline = &call->deadline;
	/* What comes at once needs no bookkeeping. */
	bool memory = sending ? stream->tx_ring && !stream->tx_replaying : stream->rx_ring && wanted != WANT_TIME;
	for (unsigned i = 0; i < QUICK_LOOKS && memory && nn_config.spin_ns; i++) {
		if (news(stream, sending, wanted) && stream_is_open(stream))
			return 0;
		cpu_relax();
	}
	struct stream_sleep whole = {.waiter = {.slot = -1}, .stream = stream,
		.signals = {.began = call->began, .fd = -1, .place = -1}};
	struct waiter *waiter = &whole.waiter;
	guard_begin(&whole.guard, undo, &whole);
	waiter_take(waiter, nn_self());
	long outcome = 0;
	struct spin spin;
	bool turn = memory && spin_begin(&spin, waiter, sending ? &stream->spin_tx : &stream->spin_rx, call->began);
	bool found = news(stream, sending, wanted);
	while (!found && turn) {
		turn = spin_turn(&spin);
		found = news(stream, sending, wanted);
	}
	struct nn_ran came = {0, 0};
	if (memory)
		came = spin_end(&spin, found);
	if (came.interrupting) {
		outcome = -EINTR;
	} else if (!found) {
		if (!*deadline) {
			uint64_t limit = own_timeout(stream, sending ? SO_SNDTIMEO_OLD : SO_RCVTIMEO_OLD);
			*deadline = limit ? nn_now_ns() + limit : UINT64_MAX;
		}
		uint64_t now = *deadline == UINT64_MAX ? 0 : nn_now_ns();
		if (came.restarting && *deadline != UINT64_MAX)
			outcome = -EINTR; /* as none restarts with a time limit */
		else if (*deadline <= now)
			outcome = -EAGAIN;
		else
			outcome = sleep_once(&whole, sending, wanted, *deadline == UINT64_MAX ? UINT64_MAX : *deadline - now);
	}
	waiter_drop(waiter);
	guard_end(&whole.guard);
	if (tx_outside_wanted(stream) || stream->tx_replaying)
		stream_serve(stream);
	/* Closed by another thread meanwhile, and no copy of the socket to be had: there is no sleeping on it again. */
	if (outcome == 0 && !stream_is_open(stream) && !news(stream, sending, wanted))
		return -EBADF;
	return outcome;
}

long stream_wait_rx(struct nn_stream *stream, uint64_t wanted, struct wait_call *call)
{
	return stream_wait(stream, false, wanted, call);
}

long stream_wait_tx(struct nn_stream *stream, struct wait_call *call)
{
	return stream_wait(stream, true, 0, call);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/collect.h"

#include "shim/core/active.h"
#include "shim/core/epoll.h"
#include "shim/core/error.h"
#include "shim/core/process.h"
#include "shim/core/readiness.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"

/* What the kernel says of a stream's TCP connection, for the directions that are on TCP or have ended. */
static uint32_t kernel_readiness(struct nn_stream *stream, const struct readiness *state)
{
	bool over = atomic_load_explicit(&stream->kernel_hup, memory_order_relaxed);
	if (!atomic_load_explicit(&stream->kernel_news, memory_order_relaxed) && !over)
		return 0;
	uint32_t ask = state->ask | (over ? POLLRDHUP : 0);
	atomic_store(&stream->kernel_news, 0); /* what comes from now on is news again */
	struct pollfd fd = {.fd = stream->fd, .events = (short)ask};
	static const struct timespec none = {0, 0};
	struct timespec limit = none;
	if (sys_call5(SYS_ppoll, &fd, 1, &limit, NULL, 8) <= 0)
		return 0;
	if ((fd.revents & POLLERR) && stream_told_again(stream))
		fd.revents &= ~POLLERR;
	if (fd.revents)
		atomic_store(&stream->kernel_news, 1);
	return (uint32_t)(unsigned short)fd.revents & (ask | POLLERR | POLLHUP);
}

/* All that can make an edge, as it is now. As in the kernel, bytes are one only for who asked for bytes, and room for who asked
 * for room; an end is one for all. Of ends in a direction that is on TCP the kernel tells. */
struct edges {
	uint64_t tail, flags;
	uint32_t in, out, end, room;
};

static struct edges edges_now(struct nn_stream *stream)
{
	struct edges now = {
		.tail = atomic_load(&stream->peer->tail),
		.in = atomic_load(&stream->kernel_in),
		.out = atomic_load(&stream->kernel_out),
		.end = atomic_load(&stream->kernel_end),
	};
	if (stream->rx_ring)
		now.flags = (peer_tx_flags(stream) & (END_FIN | END_RESET)) | (atomic_load(&stream->own->tx_flags) & END_FIN) << 32;
	return now;
}

static bool edge_since(const struct nn_reg *reg, const struct edges *now)
{
	bool bytes = now->tail != reg->seen_tail || now->in != reg->seen_in;
	bool room = now->out != reg->seen_out || now->room != reg->seen_room;
	return reg->fresh || now->flags != reg->seen_flags || now->end != reg->seen_end || (bytes && (reg->events & READY_IN)) ||
	       (room && (reg->events & READY_OUT));
}

static void edges_seen(struct nn_reg *reg, const struct edges *now)
{
	reg->fresh = false;
	reg->seen_tail = now->tail;
	reg->seen_flags = now->flags;
	reg->seen_in = now->in;
	reg->seen_out = now->out;
	reg->seen_end = now->end;
	reg->seen_room = now->room;
}

/* The events to report for one registration, 0: none. Peeking, an edge stays one. Under the set's lock. */
static uint32_t reg_events(struct nn_reg *reg, bool peek)
{
	if (reg->disabled)
		return 0;
	struct nn_stream *stream = stream_at(reg->stream);
	/* What is seen here is an edge the next time only if it has changed again; room is what readiness finds. */
	struct edges now = edges_now(stream);
	struct readiness state = stream_readiness(stream);
	now.room = atomic_load(&stream->tx_edges);
	uint32_t mask = state.ready;
	if (state.ask || atomic_load_explicit(&stream->kernel_hup, memory_order_relaxed))
		mask |= kernel_readiness(stream, &state);
	mask &= reg->events | EPOLLERR | EPOLLHUP;
	if (!mask)
		return 0;
	if (reg->events & EPOLLET) {
		if (!edge_since(reg, &now))
			return 0;
		if (!peek)
			edges_seen(reg, &now);
	}
	return mask;
}

/* What is due on the registration's stream. Under the set's lock, which is let go meanwhile: afterwards the registration may be gone. False:
 * not now. */
static bool service(struct nn_set *set, const struct nn_reg *reg)
{
	uint32_t index = reg->stream;
	if (!stream_due(stream_at(index)))
		return true;
	lock_drop(&set->lock, LOCK_TAKEN);
	struct nn_stream *stream = stream_hold(index);
	bool served = !stream || stream_service(stream);
	if (stream)
		stream_put(stream);
	lock_take(&set->lock, nn_self());
	return served;
}

/* The events to report now, 0: none. The registration has been reported by that. */
static uint32_t report(struct nn_reg *reg)
{
	uint32_t mask = reg_events(reg, false);
	if (mask && (reg->events & EPOLLONESHOT))
		reg->disabled = true;
	return mask;
}

static int collect_all(struct nn_set *set, struct epoll_event *events, int max, bool *unsure)
{
	int count = 0;
	uint32_t at = set->cursor;
	for (uint32_t i = 0; i < set->managed_count && count < max; i++, at++) {
		if (at >= set->managed_count)
			at = 0;
		*unsure |= !service(set, reg_at(set->managed[at]));
		if (at >= set->managed_count)
			continue;
		struct nn_reg *reg = reg_at(set->managed[at]);
		if (reg->told == set->collection)
			continue;
		events[count].events = report(reg);
		events[count].data.u64 = reg->data;
		if (!events[count].events)
			continue;
		reg->told = set->collection;
		count++;
	}
	if (count == max)
		set->cursor = at; /* the others are served first the next time */
	return count;
}

/* Of a large set: only those that may have news. What is ready by level stays in the queue, behind the others. */
static int collect_active(struct nn_set *set, struct epoll_event *events, int max, bool *unsure)
{
	int count = 0;
	for (uint32_t left = active_look(set); left && count < max; left--) {
		struct nn_reg *reg = active_take(set);
		if (!reg)
			continue;
		bool served = service(set, reg);
		*unsure |= !served;
		if (!reg->in_use || !reg->managed || !reg->hot || reg->set != set_index(set))
			continue;
		bool told = reg->told == set->collection;
		uint32_t mask = told ? 0 : report(reg);
		if (told || !served || (mask && !(reg->events & (EPOLLET | EPOLLONESHOT))) || stream_due(stream_at(reg->stream)))
			active_keep(set, reg);
		else
			active_cool(reg);
		if (!mask)
			continue;
		reg->told = set->collection;
		events[count].events = mask;
		events[count++].data.u64 = reg->data;
	}
	return count;
}

static int collect_once(struct nn_set *set, struct epoll_event *events, int max, bool *unsure)
{
	return set->active ? collect_active(set, events, max, unsure) : collect_all(set, events, max, unsure);
}

int set_collect(struct nn_set *set, struct epoll_event *events, int max, bool *unsure)
{
	*unsure = false;
	if (!set->managed_count)
		return 0;
	int count = 0;
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	if (lock == LOCK_TAKEN) {
		set->collection++;
		count = collect_once(set, events, max, unsure);
		/* What was sent before what was found, on a connection that had nothing yet when it was looked at: the kernel would not tell of
		 * the later one alone. */
		if (count && count < max && set->managed_count > (uint32_t)count)
			count += collect_once(set, events + count, max - count, unsure);
	}
	lock_drop(&set->lock, lock);
	return count;
}

/* Those that are to be looked at, by number; NULL: gone since. */
static struct nn_reg *nth(struct nn_set *set, uint32_t at)
{
	if (set->active)
		return active_peek(set, at);
	return at < set->managed_count ? reg_at(set->managed[at]) : NULL;
}

static bool any_ready(struct nn_set *set)
{
	bool any = false;
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	uint32_t count = set->active ? active_look(set) : set->managed_count;
	for (uint32_t i = 0; i < count && !any; i++) {
		struct nn_reg *reg = nth(set, i);
		if (reg && lock == LOCK_TAKEN) {
			any = !service(set, reg);
			reg = nth(set, i);
		}
		any |= reg && reg_events(reg, true);
	}
	lock_drop(&set->lock, lock);
	return any;
}

/*
 * Others watch the set's descriptor in the kernel (set.h): its bell must be readable exactly when something is ready. One that
 * rings already is left alone, so that an edge is seen once; else silenced first, asleep for the peers, then one more look.
 */
void set_settle_bell(struct nn_set *set)
{
	if (!set->exposed || set->waiter.slot < 0)
		return;
	if (any_ready(set)) {
		struct pollfd bell = {.fd = waiter_bell(&set->waiter), .events = POLLIN};
		struct timespec none = {0, 0};
		if (sys_call5(SYS_ppoll, &bell, 1, &none, NULL, 8) <= 0)
			waiter_ring_own(&set->waiter);
		return;
	}
	waiter_hush(&set->waiter);
	waiter_falls_asleep(&set->waiter);
	if (any_ready(set))
		waiter_ring_own(&set->waiter);
}

void epoll_set_exposed(uint32_t index)
{
	struct nn_set *set = set_at(index);
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	bool first = !set->exposed;
	set->exposed = true;
	lock_drop(&set->lock, lock);
	if (set->waiter.slot < 0)
		return;
	if (!first) {
		set_settle_bell(set);
		return;
	}
	struct epoll_event level = {.events = EPOLLIN, .data.u64 = key_of(KEY_BELL)};
	sys_call4(SYS_epoll_ctl, set->epfd, EPOLL_CTL_MOD, waiter_bell(&set->waiter), &level);
	set_settle_bell(set);
}

int set_sift(struct nn_set *set, struct epoll_event *events, int count, bool *ours)
{
	int kept = 0;
	enum lock_outcome lock = lock_take(&set->lock, nn_self()); /* registrations stay what they are */
	for (int i = 0; i < count; i++) {
		uint32_t index;
		uint64_t data = events[i].data.u64;
		if (!key_index(data, &index)) {
			events[kept++] = events[i];
			continue;
		}
		*ours = true;
		if (index == KEY_BELL) {
			/* Level-triggered it rings until settle_bell finds nothing ready. */
			if (!set->exposed)
				waiter_heard(&set->waiter);
			continue;
		}
		if (index >= REGS)
			continue;
		struct nn_reg *reg = reg_at(index);
		if (!reg->in_use || reg->set != set_index(set))
			continue;
		if (!reg->managed) {
			/* Not ours to tell yet: only that it has fired. */
			reg->disabled = reg->events & EPOLLONESHOT;
			events[kept] = events[i];
			events[kept++].data.u64 = reg->data;
			continue;
		}
		struct nn_stream *stream = stream_at(reg->stream);
		uint32_t what = events[i].events;
		active_heat(set, reg);
		atomic_fetch_or(&stream->kernel_news, what);
		if (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			stream_look(stream, what);
		/* An edge for the application. Of what is behind a ring, when that is left. */
		if (__atomic_load_n(&stream->rx_ring, __ATOMIC_RELAXED))
			atomic_fetch_or(&stream->behind_ring, what & (EPOLLIN | EPOLLRDHUP));
		else if (what & EPOLLIN)
			atomic_fetch_add(&stream->kernel_in, 1);
		if (!__atomic_load_n(&stream->rx_ring, __ATOMIC_SEQ_CST))
			rx_ring_left(stream); /* by another thread, just now */
		if (what & EPOLLPRI)
			atomic_fetch_add(&stream->kernel_end, 1);
		if (!tx_taken(stream) && (what & EPOLLOUT) && !atomic_exchange(&stream->expect_out, 0))
			atomic_fetch_add(&stream->kernel_out, 1);
	}
	lock_drop(&set->lock, lock);
	return kept;
}
